"""Certificates change and expire while gRPC's own clients are connected."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from certificates import Holder, Plan, authority, dns, uris
from contract import v1
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID
from hostile import context_of, tcp, tls
from support import Client, Refusal, Tresor, ref, refused, wait_for

ORDER_SERVICE = "spiffe://dynarex.local/order-service"
OPERATOR = "spiffe://dynarex.local/operator"


def put(path: Path, content: bytes) -> None:
    """Puts a file in the place of another in one step."""
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    beside.chmod(0o600)
    beside.rename(path)


def pem(holder: Holder) -> bytes:
    return holder.certificate.public_bytes(serialization.Encoding.PEM)


def ours(vault: Tresor) -> Holder:
    """The authority that the vault has made for itself."""
    certificate = x509.load_pem_x509_certificate((vault.pki / "ca.pem").read_bytes())
    key = serialization.load_pem_private_key((vault.pki / "ca.key").read_bytes(), None)
    return Holder(certificate, key, None)


def client(vault: Tresor, holder: Holder, path: Path, ca: Path) -> Client:
    certificate, key = holder.write(path)
    return vault.client("operator", ca=ca, certificate=certificate, key=key)


def events(watcher: Client) -> Iterator:
    """Follows the changes of `firm`; the vault knows of it when this returns."""
    changes = watcher.WatchChanges(tenant="firm")
    changes.initial_metadata()
    return changes


def end_of(changes: Iterator) -> Refusal:
    with pytest.raises(grpc.RpcError) as raised:
        next(changes)
    return Refusal.of(raised.value)


def test_authorities_come_and_go_and_only_the_connections_of_those_that_go_end(own: Tresor, tmp_path: Path) -> None:
    own.start()
    ca = tmp_path / "ca.pem"
    ca.write_bytes((own.pki / "ca.pem").read_bytes())
    other = authority("another authority")
    newcomer = Plan(names=uris(OPERATOR)).issued_by(other)
    assert refused(client(own, newcomer, tmp_path / "early", ca).GetStatus).code is grpc.StatusCode.UNAVAILABLE
    kept = events(own.order_service)

    put(own.pki / "ca.pem", ca.read_bytes() + pem(other))
    wait_for(lambda: "reloaded" in own.stderr, "the new authority")
    guest = client(own, newcomer, tmp_path / "guest", ca)
    assert guest.GetStatus().revision > 0
    guests = events(guest)
    guest.save("firm")
    assert next(kept).event.ref == ref("firm")
    assert next(guests).event.ref == ref("firm")

    put(own.pki / "ca.pem", ca.read_bytes())
    assert end_of(guests).is_("UNAUTHENTICATED", "IDENTITY_EXPIRED")
    assert refused(guest.GetStatus).code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE)
    own.operator.SetCredentialState(ref=ref("firm"), state=v1.CREDENTIAL_STATE_DISABLED)
    assert next(kept).event.kind == v1.ChangeEvent.KIND_STATE_CHANGED


def test_a_renewed_server_certificate_is_shown_to_the_next_client(own: Tresor, tmp_path: Path) -> None:
    own.start()
    kept = events(own.order_service)
    for_servers = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    renewed = Plan(names=dns("localhost"), purposes=for_servers).issued_by(ours(own))
    certificate, key = renewed.write(tmp_path / "server")

    def shown() -> x509.Certificate:
        with tls(own, "operator") as connection:
            return x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))

    # Not at once, so that what is looked at in between does not fit together.
    put(own.pki / "server.pem", certificate.read_bytes())
    wait_for(lambda: "the key is that of another certificate" in own.stderr, "the refusal of half a pair")
    assert shown() != renewed.certificate
    put(own.pki / "server.key", key.read_bytes())
    wait_for(lambda: shown() == renewed.certificate, "the new certificate")
    own.operator.save("firm")
    assert next(kept).event.ref == ref("firm")


def test_cve_2026_40264_a_connection_does_not_outlive_its_certificate(own: Tresor, tmp_path: Path) -> None:
    own.start()
    ends = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=3)
    short = Plan(names=uris(ORDER_SERVICE), ends=ends).issued_by(ours(own))
    short = client(own, short, tmp_path / "short", own.pki / "ca.pem")
    assert short.ListProviders().providers
    assert end_of(events(short)).is_("UNAUTHENTICATED", "IDENTITY_EXPIRED")
    assert datetime.datetime.now(datetime.timezone.utc) >= ends
    assert refused(short.ListProviders).code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE)
    assert own.order_service.ListProviders().providers


def test_no_session_is_resumed(tresor: Tresor) -> None:
    context = context_of(tresor, "operator")

    def connect(session: ssl.SSLSession | None) -> ssl.SSLSession | None:
        with context.wrap_socket(tcp(tresor), server_hostname="localhost", session=session) as connection:
            # The server's settings have come, so a ticket would have come before them.
            assert connection.recv(1)
            assert not connection.session_reused
            return connection.session

    first = connect(None)
    assert first is not None and not first.has_ticket
    # Without a ticket there is nothing to resume by; a client that tries nevertheless does a whole handshake.
    connect(first)
