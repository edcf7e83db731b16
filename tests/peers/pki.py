"""An authority for a deployment: a server's certificate and those of its callers, with the files that they are read from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from certificates import DAY, NOW, Holder, Plan, authority, dns, name, uris
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from support import Client

PEM = serialization.Encoding.PEM
SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


@dataclass(frozen=True)
class Issued:
    """What a Secret of type kubernetes.io/tls holds, as cert-manager fills it."""

    certificate: bytes
    key: bytes
    ca: bytes

    def write(self, folder: Path) -> Issued:
        """Writes tls.crt, tls.key and ca.crt."""
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in (("tls.crt", self.certificate), ("tls.key", self.key), ("ca.crt", self.ca)):
            (folder / file).write_bytes(content)
        return self


class Pki:
    def __init__(self) -> None:
        self.authority = authority("authority of a deployment")

    @property
    def ca(self) -> bytes:
        return self.authority.certificate.public_bytes(PEM)

    def server(self, *names: str) -> Issued:
        return self._issue(Plan(subject=name(names[0]), names=dns(*names), purposes=SERVER))

    def client(self, spiffe_id: str) -> Issued:
        return self._issue(Plan(subject=name("client"), names=uris(spiffe_id)))

    def caller(self, folder: Path, port: int, spiffe_id: str) -> Client:
        """Somebody who calls the server behind that port of the loopback interface."""
        self.client(spiffe_id).write(folder)
        return Client(f"localhost:{port}", ca=folder / "ca.crt", certificate=folder / "tls.crt", key=folder / "tls.key")

    def _issue(self, plan: Plan) -> Issued:
        holder: Holder = replace(plan, ends=NOW + 30 * DAY).issued_by(self.authority)
        key = holder.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return Issued(b"".join(each.public_bytes(PEM) for each in holder.chain), key, self.ca)
