"""Keys in a KMS: a real `tresor serve` and a KMS v2 plugin in somebody else's language."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from contract import ROOT
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from deployment import Configured
from grpc_health.v1 import health_pb2, health_pb2_grpc
from kms import Plugin
from support import TRESOR, Tresor, base64url, refused, run, wait_for

POLICY = ROOT / "deploy/dev/policy.toml"


class Served(Configured):
    """`tresor serve` whose key-encryption key is in a KMS."""

    def __init__(self, directory: Path, plugin: Plugin, **env: str) -> None:
        super().__init__(directory, **env)
        self.plugin = plugin

    def configure(self, certificates: Path) -> None:
        self.pki = certificates
        self.configuration = self.directory / "tresor.toml"
        self.configuration.write_text(
            f"[server]\nlisten = '{self.host}:{self.port}'\nhealth_listen = '{self.host}:{self.health_port}'\n"
            f"certificate = '{certificates}/server.pem'\nprivate_key = '{certificates}/server.key'\n"
            f"client_ca = '{certificates}/ca.pem'\ntrust_domains = ['dynarex.local']\n[store]\npath = 'store'\n"
            f"[keys]\nkms_socket = '{self.plugin.socket}'\n"
            f"[policy]\nfile = '{POLICY}'\n[metrics]\nlisten = 'off'\n[audit]\ndirectory = 'audit'\n"
        )

    def _is_ready(self) -> bool:
        return super()._is_ready() or '"listening, and sealed"' in self.stderr

    def is_serving(self) -> bool:
        """What the kubelet is told."""
        with grpc.insecure_channel(f"{self.host}:{self.health_port}") as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        return answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Plugin]:
    plugin = Plugin(tmp_path / "kms.sock")
    yield plugin
    plugin.stop()


@pytest.fixture
def served(tresor: Tresor, tmp_path: Path, plugin: Plugin) -> Iterator[Served]:
    """A vault of the test's own, not yet started."""
    with Served(tmp_path / "served", plugin) as served:
        served.configure(tresor.pki)
        yield served


def test_a_vault_is_sealed_until_its_kms_is_there(served: Served, plugin: Plugin) -> None:
    served.start()
    status = served.operator.GetStatus()
    assert status.sealed
    assert str(plugin.socket) in status.sealed_reason
    assert not served.is_serving()
    for call in (
        lambda: served.order_service.resolve("firm"),
        lambda: served.operator.save("firm"),
        lambda: served.operator.RewrapKeys(),
    ):
        refusal = refused(call)
        assert refusal.is_("UNAVAILABLE", "SEALED")
        assert refusal.can_be_retried
        assert str(plugin.socket) not in refusal.message
    # Whoever may not ask learns nothing, not even that.
    assert refused(served.order_service.GetStatus).is_("PERMISSION_DENIED", "NOT_GRANTED")

    plugin.start()
    wait_for(served.is_serving, "the vault to open by itself")
    served.operator.save("firm", password="kept")
    assert served.order_service.resolve("firm").credential.login.password == "kept"
    status = served.operator.GetStatus()
    assert (status.sealed, status.sealed_reason, status.kek_id) == (False, "", "kms:key-1")
    served.stop()

    # The same once more with something to unwrap.
    plugin.stop()
    served.start()
    assert served.operator.GetStatus().sealed
    plugin.start()
    wait_for(served.is_serving, "the vault to open by itself")
    assert served.order_service.resolve("firm").credential.login.password == "kept"


def test_what_has_its_keys_goes_on_without_the_kms(served: Served, plugin: Plugin) -> None:
    plugin.start()
    served.start()
    served.operator.save("firm", password="old")
    plugin.stop()
    served.operator.save("firm", password="new")
    assert served.order_service.resolve("firm").credential.login.password == "new"
    refusal = refused(served.operator.save, "another")
    assert refusal.is_("UNAVAILABLE", "SEALED")
    assert refusal.can_be_retried
    status = served.operator.GetStatus()
    assert not status.sealed
    assert str(plugin.socket) in status.wrapping.trouble
    assert served.is_serving()
    plugin.start()
    wait_for(lambda: _is_saved(served), "the first save of a new tenant")


def _is_saved(served: Served) -> bool:
    try:
        served.operator.save("another")
    except grpc.RpcError:
        return False
    return True


def test_keys_move_to_the_newest_key_of_the_kms(served: Served, plugin: Plugin) -> None:
    plugin.start()
    served.start()
    served.operator.save("firm", password="kept")
    plugin.kms.rotate()
    assert served.operator.RewrapKeys().keys == 2
    wait_for(lambda: not served.operator.GetStatus().HasField("rewrap"), "every key to be wrapped anew")
    status = served.operator.GetStatus()
    assert (status.kek_id, status.wrapping.wrapped_by_another) == ("kms:key-2", 0)
    served.stop()
    # The old key is needed no more.
    del plugin.kms.keys["key-1"]
    served.start()
    assert served.order_service.resolve("firm").credential.login.password == "kept"


def test_a_kms_with_other_keys_opens_nothing(served: Served, plugin: Plugin) -> None:
    plugin.start()
    served.start()
    served.operator.save("firm", password="kept")
    served.stop()
    right = dict(plugin.kms.keys)
    plugin.kms.keys["key-1"] = bytes(32)
    served.start()
    status = served.operator.GetStatus()
    assert status.sealed
    assert "Decrypt of what key-1 has wrapped fails" in status.sealed_reason
    plugin.kms.keys.update(right)
    wait_for(served.is_serving, "the vault to open by itself")
    assert served.order_service.resolve("firm").credential.login.password == "kept"


def test_a_recovery_key_is_one_that_other_libraries_know(tmp_path: Path) -> None:
    file = tmp_path / "recovery.key"
    made = run(TRESOR, "recovery", "keygen", file, "--output", "json")
    assert made.returncode == 0, made.stderr
    public = json.loads(made.stdout)["public_key"].removeprefix("recovery-x25519:")
    secret = file.read_text().strip().removeprefix("recovery-secret-x25519:")
    private = X25519PrivateKey.from_private_bytes(base64url(secret))
    assert private.public_key().public_bytes_raw() == base64url(public)
    assert file.stat().st_mode & 0o777 == 0o600
