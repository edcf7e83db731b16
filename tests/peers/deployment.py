"""A deployment as an operator makes it: `tresor init`, certificates of the firm's own authority, `tresor serve`."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from certificates import DAY, NOW, Holder, Plan, authority, dns, uris
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from support import TRESOR, Tresor, run

SERVER = replace(Plan(), names=dns("localhost"), purposes=x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]))
ORDER_SERVICE = "spiffe://dynarex.local/order-service"


class Configured(Tresor):
    """`tresor serve` with a configuration file."""

    configuration: Path

    def spawn(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        with self._output("stdout").open("wb") as stdout, self._output("stderr").open("wb") as stderr:
            self.process = subprocess.Popen(
                [TRESOR, "serve", "--config", self.configuration],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=self.env,
            )
        return self.process

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.stderr}"
        return '"serving"' in self.stderr


class Deployment(Configured):
    """A vault that serves what `tresor init` has made in a folder."""

    def __init__(self, directory: Path, **env: str) -> None:
        super().__init__(directory)
        self.env |= {
            "TRESOR_SERVER_LISTEN": f"{self.host}:{self.port}",
            "TRESOR_SERVER_HEALTH_LISTEN": f"{self.host}:{self.health_port}",
            "TRESOR_METRICS_LISTEN": "off",
        } | env
        # What the server says is beside its folder, which is the operator's.
        self.folder = directory / "etc"
        self.pki = self.folder / ".tresor"
        self.configuration = self.folder / "tresor.toml"

    def make(self) -> Deployment:
        """Makes keys, configuration, policy and certificates."""
        done = run(TRESOR, "init", self.folder)
        assert done.returncode == 0, done.stderr
        self.authority = authority("the firm's own")
        for folder in (self.folder / "tls", self.pki):
            folder.mkdir(mode=0o700)
        SERVER.issued_by(self.authority).write(self.folder / "tls/server")
        self.authority.write(self.pki / "ca")
        (self.pki / "ca.key").unlink()
        (self.folder / "tls/client-ca.pem").write_bytes((self.pki / "ca.pem").read_bytes())
        Plan().issued_by(self.authority).write(self.pki / "operator")
        self.order_service_holder = Plan(names=uris(ORDER_SERVICE)).issued_by(self.authority)
        self.order_service_holder.write(self.pki / "order-service")
        return self

    def configure(self, section: str, line: str) -> None:
        """Adds a line to a section of the configuration."""
        text = self.configuration.read_text()
        assert text.count(f"[{section}]\n") == 1
        self.configuration.write_text(text.replace(f"[{section}]\n", f"[{section}]\n{line}\n"))


def revocation_list(issuer: Holder, *revoked: Holder) -> bytes:
    """A list, in PEM, of what an authority has revoked."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(NOW - DAY)
        .next_update(NOW + 10 * DAY)
        .add_extension(x509.CRLNumber(1 + len(revoked)), critical=False)
    )
    for holder in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(holder.certificate.serial_number).revocation_date(NOW)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
