"""The vocabulary of the tests about certificates: an authority that issues whatever it is asked for."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

# Whom every impostor would like to be: the policy lets it do everything.
OPERATOR = "spiffe://dynarex.local/operator"

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)

CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
NO_AUTHORITY = x509.BasicConstraints(ca=False, path_length=None)
AUTHORITY = x509.BasicConstraints(ca=True, path_length=None)


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def uris(*texts: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(text) for text in texts])


def dns(*texts: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(text) for text in texts])


def der(tag: int, content: bytes) -> bytes:
    """A DER element of less than 64 KiB."""
    length = len(content).to_bytes(2, "big")
    return bytes([tag]) + (length[1:] if len(content) < 128 else b"\x82" + length) + content


# Kinds of alternative names, as they are tagged in DER.
OTHER, MAIL, DNS, URI = 0xA0, 0x81, 0x82, 0x86


def raw(*names: tuple[int, bytes], tail: bytes = b"") -> x509.UnrecognizedExtension:
    """Alternative names that no library would write."""
    content = b"".join(der(tag, octets) for tag, octets in names)
    return x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.17"), der(0x30, content) + tail)


def usage(*names: str) -> x509.KeyUsage:
    every = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    every += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    return x509.KeyUsage(**{each: each in names for each in every})


def p256() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


def rsa_of(bits: int) -> Callable[[], Any]:
    return lambda: rsa.generate_private_key(65537, bits)


@dataclass(frozen=True)
class Holder:
    """Somebody with a key and a certificate for it."""

    certificate: x509.Certificate
    key: Any
    issuer: Holder | None

    @property
    def chain(self) -> list[x509.Certificate]:
        """What a client shows: its certificate and those above it, without the one that is signed by itself."""
        above = self.issuer.chain if self.issuer and self.issuer.issuer else []
        return [self.certificate, *above]

    def write(self, path: Path, chain: list[x509.Certificate] | None = None) -> tuple[Path, Path]:
        """Writes what it shows, and its key: the names of the two files."""
        certificate, key = path.with_name(f"{path.name}.pem"), path.with_name(f"{path.name}.key")
        pem = serialization.Encoding.PEM
        certificate.write_bytes(b"".join(each.public_bytes(pem) for each in chain or self.chain))
        key.touch(0o600)
        key.write_bytes(
            self.key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        return certificate, key


@dataclass(frozen=True)
class Plan:
    """What a certificate is to say. As it stands: that it is a proper one of the operator."""

    subject: x509.Name = name("operator")
    names: Any = uris(OPERATOR)
    constraints: Any = NO_AUTHORITY
    usage: Any = usage("digital_signature")
    purposes: Any = CLIENT
    more: tuple[Any, ...] = ()
    critical: tuple[Any, ...] = ()
    begins: datetime.datetime = NOW - DAY
    ends: datetime.datetime = NOW + DAY
    key: Callable[[], Any] = p256
    padding: Any = None
    hash: Callable[[], Any] = hashes.SHA256

    def issued_by(self, issuer: Holder | None) -> Holder:
        """Makes it; without an issuer it is signed by itself."""
        key = self.key()
        signer = issuer.key if issuer else key
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(issuer.certificate.subject if issuer else self.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.begins)
            .not_valid_after(self.ends)
        )
        extensions = [self.names, self.constraints, self.usage, self.purposes, *self.more, *self.critical]
        for extension in filter(None, extensions):
            builder = builder.add_extension(extension, critical=extension in self.critical)
        digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else self.hash()
        return Holder(builder.sign(signer, digest, rsa_padding=self.padding), key, issuer)


def authority(common_name: str, issuer: Holder | None = None, **changes: Any) -> Holder:
    """Somebody who may issue certificates, and further authorities."""
    key = p256()
    plan = Plan(
        subject=name(common_name),
        names=None,
        constraints=AUTHORITY,
        usage=usage("key_cert_sign", "crl_sign"),
        purposes=None,
        more=(x509.SubjectKeyIdentifier.from_public_key(key.public_key()),),
        ends=NOW + 100 * DAY,
        key=lambda: key,
    )
    return replace(plan, **changes).issued_by(issuer)


# The last byte of what signatures with RSA are called (PKCS #1): sha256WithRSAEncryption, and what nobody takes any more.
SHA256_WITH_RSA, SHA1_WITH_RSA, MD5_WITH_RSA = (bytes.fromhex("06092a864886f70d0101") + last for last in (b"\x0b", b"\x05", b"\x04"))


def signed_over(holder: Holder, called: bytes, digest: hashes.HashAlgorithm) -> Holder:
    """The same certificate of an RSA authority, signed over a digest that no library would take for it today."""
    content = holder.certificate.tbs_certificate_bytes.replace(SHA256_WITH_RSA, called)
    signature = holder.issuer.key.sign(content, padding.PKCS1v15(), digest)
    algorithm = der(0x30, called + b"\x05\x00")
    whole = der(0x30, content + algorithm + der(0x03, b"\x00" + signature))
    return replace(holder, certificate=x509.load_der_x509_certificate(whole))
