"""Certificates that somebody made to get in, or to get in as somebody else."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from certificates import (
    AUTHORITY,
    DAY,
    DNS,
    MAIL,
    MD5_WITH_RSA,
    NOW,
    OPERATOR,
    OTHER,
    SHA1_WITH_RSA,
    URI,
    Holder,
    Plan,
    authority,
    dns,
    name,
    p256,
    raw,
    rsa_of,
    signed_over,
    uris,
    usage,
)
from contract import RPCS
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from hostile import Attacker, context_of, others_are_served, tls
from support import Tresor

Outcomes = set[tuple[int | None, str]]

# The vault has ended the handshake, and said so in an alert.
NO_HANDSHAKE: Outcomes = set()
NO_IDENTITY: Outcomes = {(16, "NO_IDENTITY")}
NOT_GRANTED: Outcomes = {(7, "NOT_GRANTED")}


@pytest.fixture(scope="module")
def root() -> Holder:
    """The authority that the vault trusts. It may have authorities below it."""
    return authority("Dynarex root")


@pytest.fixture(scope="module")
def vault(root: Holder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tresor]:
    """A vault with that authority in place of one that it makes itself."""
    with Tresor(tmp_path_factory.mktemp("certificates")) as vault:
        vault.pki.mkdir(parents=True)
        root.write(vault.pki / "ca")
        yield vault.start()


def is_alerted(vault: Tresor, context: ssl.SSLContext) -> bool:
    """Whether the vault answers a handshake with an alert. In TLS 1.3 it comes when the client is done with its part."""
    try:
        with tls(vault, None, context) as connection:
            # The vault's settings come unasked. To say something first could break the connection before the alert is read.
            assert connection.recv(1), "closed without an alert"
            return False
    except ssl.SSLError as error:
        assert "ALERT" in (error.reason or ""), error
        return True


def outcomes(vault: Tresor, certificate: Path, key: Path) -> Outcomes:
    """What all the calls of the three services give to one who shows this certificate: codes and reasons."""
    context = context_of(vault, certificate, key)
    if is_alerted(vault, context):
        return NO_HANDSHAKE
    with Attacker(tls(vault, None, context)) as impostor:
        streams = dict(zip(RPCS, range(1, 1000, 2), strict=False))
        impostor.push(b"".join(impostor.call(stream, rpc) for rpc, stream in streams.items()))
        answers = [impostor.answer(stream) for stream in streams.values()]
    assert len(impostor.answers) == len(RPCS)
    return {(answer.code, answer.reason) for answer in answers}


def is_the_operator(vault: Tresor, holder: Holder, path: Path) -> bool:
    """Whether the vault takes that one for its operator."""
    with Attacker(tls(vault, None, context_of(vault, *holder.write(path)))) as client:
        return client.ask(1, "GetStatus").code == 0


def spelt(identity: str) -> Plan:
    """A certificate with that URI."""
    return Plan(names=raw((URI, identity.encode())))


def constrained(root: Holder, **constraints: list) -> Holder:
    """An authority below the root that may only issue certificates for certain names."""
    subtrees = {"permitted_subtrees": None, "excluded_subtrees": None} | constraints
    return authority("constrained", root, critical=(x509.NameConstraints(**subtrees),))


def by_rsa(root: Holder) -> Holder:
    """A certificate of an authority that signs with RSA over SHA-256."""
    return Plan().issued_by(authority("RSA", root, key=rsa_of(2048), more=()))


# How each is made by one who may have the root issue it.
REFUSED_IN_THE_HANDSHAKE: dict[str, Callable[[Holder], Holder]] = {
    "signed by itself": lambda root: Plan().issued_by(None),
    "signed by itself, with the name of the root": lambda root: Plan(subject=root.certificate.subject).issued_by(None),
    "by an authority with the root's name": lambda root: Plan().issued_by(authority("Dynarex root")),
    "by an authority with the root's name and key identifier": lambda root: Plan().issued_by(
        authority("Dynarex root", more=(root.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value,))
    ),
    "expired": lambda root: Plan(begins=NOW - 2 * DAY, ends=NOW - DAY).issued_by(root),
    "expired a minute ago": lambda root: Plan(ends=NOW - DAY / 1440).issued_by(root),
    "not yet valid": lambda root: Plan(begins=NOW + DAY, ends=NOW + 2 * DAY).issued_by(root),
    "valid never": lambda root: Plan(begins=NOW - DAY, ends=NOW - DAY).issued_by(root),
    "for a server": lambda root: Plan(
        purposes=x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    ).issued_by(root),
    "for signing code": lambda root: Plan(
        purposes=x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
    ).issued_by(root),
    "for any purpose": lambda root: Plan(
        purposes=x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
    ).issued_by(root),
    "an authority's": lambda root: Plan(constraints=AUTHORITY).issued_by(root),
    "the root's own": lambda root: root,
    "by a client": lambda root: Plan().issued_by(Plan().issued_by(root)),
    "by a client that may sign certificates": lambda root: Plan().issued_by(
        Plan(usage=usage("key_cert_sign")).issued_by(root)
    ),
    "by an authority that has expired": lambda root: Plan().issued_by(
        authority("below", root, begins=NOW - 2 * DAY, ends=NOW - DAY)
    ),
    "by an authority for servers": lambda root: Plan().issued_by(
        authority("below", root, purposes=x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]))
    ),
    "too far below": lambda root: Plan().issued_by(
        authority("lower", authority("low", root, constraints=x509.BasicConstraints(ca=True, path_length=0)))
    ),
    "with a DNS name outside its authority's": lambda root: Plan(names=dns("operator.dynarex.local")).issued_by(
        constrained(root, permitted_subtrees=[x509.DNSName("example.com")])
    ),
    "with a DNS name excluded by its authority": lambda root: Plan(names=dns("operator.dynarex.local")).issued_by(
        constrained(root, excluded_subtrees=[x509.DNSName("dynarex.local")])
    ),
    "with a URI outside its authority's": lambda root: Plan().issued_by(
        constrained(root, permitted_subtrees=[x509.UniformResourceIdentifier("example.com")])
    ),
    "with a URI excluded by its authority": lambda root: Plan().issued_by(
        constrained(root, excluded_subtrees=[x509.UniformResourceIdentifier("dynarex.local")])
    ),
    "with an address outside its authority's": lambda root: Plan(
        names=x509.SubjectAlternativeName(
            [x509.UniformResourceIdentifier(OPERATOR), x509.IPAddress(ip_address("127.0.0.1"))]
        )
    ).issued_by(constrained(root, permitted_subtrees=[x509.IPAddress(ip_network("10.0.0.0/8"))])),
    "with a critical extension that nobody knows": lambda root: Plan(
        critical=(x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00"),)
    ).issued_by(root),
    "bytes after the alternative names": lambda root: Plan(
        names=raw((URI, OPERATOR.encode()), tail=b"\x05\x00")
    ).issued_by(root),
    "RSA with 1024 bits": lambda root: Plan(key=rsa_of(1024)).issued_by(root),
    "signed over SHA-224": lambda root: Plan(hash=hashes.SHA224).issued_by(root),
    "signed over SHA-1": lambda root: signed_over(by_rsa(root), SHA1_WITH_RSA, hashes.SHA1()),
    "signed over MD5": lambda root: signed_over(by_rsa(root), MD5_WITH_RSA, hashes.MD5()),
}

# They are the root's, and whom they are for cannot be told for sure.
REFUSED_BY_THE_GATE: dict[str, Plan] = {
    "two URIs": Plan(names=uris(OPERATOR, "spiffe://dynarex.local/nobody")),
    "two URIs, the better one last": Plan(names=uris("spiffe://dynarex.local/nobody", OPERATOR)),
    "the same URI twice": Plan(names=uris(OPERATOR, OPERATOR)),
    "a web address beside the URI": Plan(names=uris("https://dynarex.local/", OPERATOR)),
    "upper case in the scheme": spelt("SPIFFE://dynarex.local/operator"),
    "upper case in the trust domain": spelt("spiffe://Dynarex.local/operator"),
    "a percent sign": spelt("spiffe://dynarex.local/%6Fperator"),
    "an encoded slash": spelt("spiffe://dynarex.local/x%2F..%2Foperator"),
    "a slash at the end": spelt(f"{OPERATOR}/"),
    "a query": spelt(f"{OPERATOR}?"),
    "a fragment": spelt(f"{OPERATOR}#x"),
    "a port": spelt("spiffe://dynarex.local:443/operator"),
    "a user": spelt("spiffe://root@dynarex.local/operator"),
    "an IDN": spelt("spiffe://dynаrex.local/operator"),
    "a dot at the end of the trust domain and an empty segment": spelt("spiffe://dynarex.local.//operator"),
    "a way up": spelt("spiffe://dynarex.local/nobody/../operator"),
    "a way to where it is": spelt("spiffe://dynarex.local/./operator"),
    "another trust domain": spelt("spiffe://dynarex.locaI/operator".lower()),
    "a trust domain below": spelt("spiffe://x.dynarex.local/operator"),
    "two slashes": spelt("spiffe://dynarex.local//operator"),
    "a backslash": spelt("spiffe://dynarex.local\\operator"),
    "a space at the end": spelt(f"{OPERATOR} "),
    "a space at the beginning": spelt(f" {OPERATOR}"),
    "a line break": spelt(f"{OPERATOR}\n"),
    "no path": spelt("spiffe://dynarex.local"),
    "no trust domain": spelt("spiffe:///operator"),
    "another scheme": spelt("https://dynarex.local/operator"),
    # CVE-2009-2408: what ends at NUL for one reader goes on for another.
    "NUL and more in the URI": spelt(f"{OPERATOR}\0.example.com"),
    "NUL at the end of the URI": spelt(f"{OPERATOR}\0"),
    "NUL in the DNS name": Plan(names=raw((DNS, b"operator\0.example.com"))),
    "a URI that is not ASCII": Plan(names=raw((URI, b"spiffe://dynarex.local/operator\xff"))),
    "an empty URI": Plan(names=raw((URI, b""))),
    "the URI as a DNS name": Plan(names=raw((DNS, OPERATOR.encode()))),
    "the URI as a mail address": Plan(names=raw((MAIL, OPERATOR.encode()))),
    "the URI as some other name": Plan(
        names=raw((OTHER, bytes.fromhex("06032a0304") + bytes([0xA0, 33, 0x0C, 31]) + OPERATOR.encode()))
    ),
    "the URI in the common name alone": Plan(subject=name(OPERATOR), names=None),
    "the URI among the issuer's alternative names": Plan(
        names=None, more=(x509.IssuerAlternativeName([x509.UniformResourceIdentifier(OPERATOR)]),)
    ),
    "a common name alone": Plan(names=None),
    "no name whatsoever": Plan(subject=x509.Name([]), names=None),
    "an address alone": Plan(names=x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])),
    "two DNS names": Plan(names=dns("operator", "order-service")),
    "a wildcard": Plan(names=dns("*.dynarex.local")),
    "a wildcard for everything": Plan(names=dns("*")),
    "a DNS name in upper case": Plan(names=dns("OPERATOR")),
    "a DNS name with a dot at its end": Plan(names=dns("operator.")),
    "a malformed name beside the URI": Plan(names=raw((URI, OPERATOR.encode()), (0x87, b"\x7f\x00"))),
    "a key on a curve of 192 bits": Plan(key=lambda: ec.generate_private_key(ec.SECP192R1())),
    "a key on Bitcoin's curve": Plan(key=lambda: ec.generate_private_key(ec.SECP256K1())),
    "the right to sign certificates": Plan(usage=usage("digital_signature", "key_cert_sign")),
    "the right to sign revocation lists": Plan(usage=usage("digital_signature", "crl_sign")),
}

# Well-formed, the root's, and somebody else.
SOMEBODY_ELSE: dict[str, Plan] = {
    "a longer name": spelt(f"{OPERATOR}s"),
    "a name below": spelt(f"{OPERATOR}/below"),
    "another case": spelt("spiffe://dynarex.local/Operator"),
    "a DNS name like it": Plan(names=dns("operator")),
    "a URI first, the operator as a DNS name": Plan(
        names=raw((URI, b"spiffe://dynarex.local/nobody"), (DNS, b"operator"))
    ),
    "the operator's common name": Plan(subject=name(OPERATOR), names=uris("spiffe://dynarex.local/nobody")),
}

GOOD: dict[str, Callable[[Holder], Holder]] = {
    "P-256": lambda root: Plan().issued_by(root),
    "P-384": lambda root: Plan(key=lambda: ec.generate_private_key(ec.SECP384R1())).issued_by(root),
    "Ed25519": lambda root: Plan(key=ed25519.Ed25519PrivateKey.generate).issued_by(root),
    "RSA with 2048 bits": lambda root: Plan(key=rsa_of(2048)).issued_by(root),
    "by an authority that signs with RSA": by_rsa,
    "by an authority that signs with RSA-PSS": lambda root: Plan(
        padding=padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    ).issued_by(by_rsa(root).issuer),
    "for clients and servers": lambda root: Plan(
        purposes=x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    ).issued_by(root),
    "without constraints and usage": lambda root: Plan(constraints=None, usage=None).issued_by(root),
    "without a purpose, so for every one": lambda root: Plan(purposes=None).issued_by(root),
    "by authorities below": lambda root: Plan().issued_by(authority("lower", authority("low", root))),
    "with DNS names beside the URI": lambda root: Plan(
        names=x509.SubjectAlternativeName(
            [x509.UniformResourceIdentifier(OPERATOR), x509.DNSName("a.example.com"), x509.DNSName("b.example.com")]
        )
    ).issued_by(root),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_good_certificate_of_the_operator_is_the_operators(
    vault: Tresor, root: Holder, tmp_path: Path, case: str
) -> None:
    assert is_the_operator(vault, GOOD[case](root), tmp_path / "good")


@pytest.mark.parametrize("case", REFUSED_IN_THE_HANDSHAKE)
def test_a_certificate_that_is_not_in_order_does_not_get_through_the_handshake(
    vault: Tresor, root: Holder, tmp_path: Path, case: str
) -> None:
    made = REFUSED_IN_THE_HANDSHAKE[case](root)
    assert outcomes(vault, *made.write(tmp_path / "forged")) == NO_HANDSHAKE


@pytest.mark.parametrize("case", REFUSED_BY_THE_GATE)
def test_a_certificate_that_could_be_misread_is_nobodys(
    vault: Tresor, root: Holder, tmp_path: Path, case: str
) -> None:
    made = REFUSED_BY_THE_GATE[case].issued_by(root)
    assert outcomes(vault, *made.write(tmp_path / "odd")) == NO_IDENTITY


@pytest.mark.parametrize("case", SOMEBODY_ELSE)
def test_a_name_like_the_operators_is_somebody_elses(vault: Tresor, root: Holder, tmp_path: Path, case: str) -> None:
    made = SOMEBODY_ELSE[case].issued_by(root)
    assert outcomes(vault, *made.write(tmp_path / "other")) == NOT_GRANTED


def test_an_authority_that_may_not_sign_certificates_vouches_for_nobody(
    vault: Tresor, root: Holder, tmp_path: Path
) -> None:
    powerless = authority("powerless", root, usage=usage("digital_signature"))
    files = Plan().issued_by(powerless).write(tmp_path / "powerless")
    assert outcomes(vault, *files) == NO_IDENTITY


def test_an_authority_that_is_not_shown_is_not_looked_for(vault: Tresor, root: Holder, tmp_path: Path) -> None:
    made = Plan().issued_by(authority("below", root))
    assert is_the_operator(vault, made, tmp_path / "whole")
    alone = made.write(tmp_path / "alone", [made.certificate])
    assert outcomes(vault, *alone) == NO_HANDSHAKE


def test_a_chain_in_which_one_can_go_round_for_ever_costs_little(vault: Tresor, root: Holder, tmp_path: Path) -> None:
    """Each of these authorities could have been issued by each other, and none was by the root (RUSTSEC-2023-0052)."""
    key = p256()
    ring = Holder(authority("ring", key=lambda: key).certificate, key, None)
    rounds = [authority("ring", ring, key=lambda: key).certificate for _ in range(60)]
    made = Plan().issued_by(ring)
    files = made.write(tmp_path / "ring", [made.certificate, *rounds])
    with others_are_served(vault):
        for _ in range(20):
            assert outcomes(vault, *files) == NO_HANDSHAKE


def test_bad_certificates_in_great_number_keep_nobody_out(vault: Tresor, root: Holder, tmp_path: Path) -> None:
    forged = Plan().issued_by(authority("Dynarex root")).write(tmp_path / "forged")
    lines = vault.stderr.count("TLS handshake failed")
    begun = time.monotonic()
    with others_are_served(vault):
        for _ in range(300):
            assert outcomes(vault, *forged) == NO_HANDSHAKE
    # Nor do they fill the disk with what the log says of them.
    assert vault.stderr.count("TLS handshake failed") - lines <= 10 * (time.monotonic() - begun + 2)
