"""The life of the process: what it keeps over restarts and crashes, and when it refuses to start."""

import base64
import hashlib
import os
import re
import socket
from pathlib import Path

import pytest
from support import Tresor, login, office, ref, v1


def snapshot(directory: Path) -> dict[str, str]:
    """Every file below a directory with the hash of its content."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def store_file(tresor: Tresor) -> Path:
    (file,) = tresor.data.rglob("db")
    return file


def key_file(tresor: Tresor) -> Path:
    """The file with the key-encryption key: the one key outside of the PKI."""
    (file,) = (path for path in tresor.data.rglob("*.key") if tresor.pki not in path.parents)
    return file


def test_a_second_start_keeps_everything(own: Tresor) -> None:
    own.start()
    saved = own.operator.save("firm", "dat", office("leipzig"), password="kept")
    own.operator.assign("firm", "dat", "PER_OFFICE")
    own.operator.DeleteCredential(ref=ref("demo", "dat", office("leipzig")))
    before = own.order_service.resolve("firm", office_id="leipzig")
    keys = own.order_service.GetSigningKeys()
    own.stop()

    own.start()
    after = own.order_service.resolve("firm", office_id="leipzig", min_revision=saved.revision)
    assert after == before
    assert after.credential.login.password == "kept"
    assert own.order_service.GetSigningKeys() == keys
    # The sample is loaded once: what was deleted stays deleted.
    found = own.operator.GetCredential(ref=ref("demo", "dat", office("leipzig"))).credential
    assert found.state == v1.CREDENTIAL_STATE_DELETED


def test_clients_keep_their_certificates_over_a_restart(own: Tresor) -> None:
    own.start()
    before = snapshot(own.pki)
    own.stop()
    own.start()
    assert snapshot(own.pki) == before


def test_a_watch_that_a_restart_broke_misses_nothing(own: Tresor) -> None:
    own.start()
    before = own.operator.revision()
    saved = own.operator.save("firm")
    own.stop()
    own.start()
    event = next(own.operator.WatchChanges(tenant="firm", from_revision=before)).event
    assert (event.kind, event.revision) == (v1.ChangeEvent.KIND_SAVED, saved.revision) or (
        event.kind == v1.ChangeEvent.KIND_RESYNC and event.ref == v1.CredentialRef(tenant="firm")
    )


def test_an_acknowledged_write_survives_a_kill(own: Tresor) -> None:
    acknowledged = {}
    for life in range(3):
        own.start()
        for number in range(20):
            name = f"office-{number % 10}"
            acknowledged[name] = own.operator.save("firm", "wom", office(name), password=f"{life}-{number}")
        own.kill()
    own.start()
    for name, saved in acknowledged.items():
        found = own.operator.GetCredential(ref=ref("firm", "wom", office(name))).credential
        assert found == saved.credential
    own.operator.assign("firm", "wom", "PER_OFFICE")
    assert own.operator.resolve("firm", "wom", office_id="office-9").credential.login.password == "2-19"


def test_a_watch_does_not_hold_up_the_end(own: Tresor) -> None:
    own.start()
    watch = own.operator.WatchChanges(tenant="demo")
    watch.initial_metadata()
    own.stop()


@pytest.mark.parametrize("listener", ["port", "health_port"])
def test_a_port_in_use_is_named_and_nothing_is_written(own: Tresor, listener: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        setattr(own, listener, port)
        assert str(port) in own.fails_to_start()
    assert not snapshot(own.data)


def test_only_the_loopback_interface_is_served(own: Tresor) -> None:
    own.host = "0.0.0.0"
    assert "loopback" in own.fails_to_start()
    assert not snapshot(own.data)


def test_two_processes_do_not_share_a_directory(tresor: Tresor, tmp_path: Path) -> None:
    with Tresor(tmp_path) as second:
        second.data = tresor.data
        files = set(snapshot(tresor.data))
        line = second.fails_to_start()
    assert str(tresor.data) in line
    assert set(snapshot(tresor.data)) == files
    assert tresor.operator.GetStatus().revision > 0


def test_another_key_opens_nothing_and_changes_nothing(own: Tresor) -> None:
    own.start()
    own.operator.save("firm", password="still there")
    revision = own.operator.revision()
    own.stop()
    key = key_file(own)
    right = key.read_bytes()
    key.write_bytes(other_key())
    before = without_housekeeping(snapshot(own.data))
    assert "was wrapped by the key-encryption key" in own.fails_to_start()
    assert without_housekeeping(snapshot(own.data)) == before

    key.write_bytes(right)
    own.start()
    assert own.operator.revision() == revision
    assert own.operator.resolve("firm").credential.login.password == "still there"


def other_key() -> bytes:
    return base64.b64encode(os.urandom(32)) + b"\n"


def without_housekeeping(files: dict[str, str]) -> dict[str, str]:
    """sled moves its log's end and its snapshot at each start; what it holds shows in the revision."""
    return {path: content for path, content in files.items() if not re.match(r"store/(db|snap\.)", path)}


def test_a_key_that_is_none_or_that_others_may_read_is_refused(own: Tresor) -> None:
    own.start()
    own.stop()
    key = key_file(own)
    right = key.read_bytes()
    key.chmod(0o644)
    assert f"chmod 600 {key}" in own.fails_to_start()
    key.chmod(0o600)
    for broken in [b"", b"short", right[:-7]]:
        key.write_bytes(broken)
        before = snapshot(own.data)
        assert str(key) in own.fails_to_start()
        assert snapshot(own.data) == before
    key.write_bytes(right)
    own.start()


@pytest.mark.parametrize("part", [0, 0.1, 0.5, 0.9])
def test_a_truncated_store_is_refused_and_left_as_it_is(own: Tresor, part: float) -> None:
    own.start()
    for number in range(60):
        own.operator.PutCredential(
            ref=ref("firm", "wom", office(f"office-{number}")), login=login(password=str(number) * 2000)
        )
    own.stop()
    file = store_file(own)
    with file.open("r+b") as store:
        store.truncate(int(file.stat().st_size * part))
    before = snapshot(own.data)
    assert str(file.parent) in own.fails_to_start()
    assert snapshot(own.data) == before


def test_a_store_that_is_gone_while_its_keys_are_there_is_not_replaced_by_an_empty_one(own: Tresor) -> None:
    own.start()
    own.stop()
    store_file(own).unlink()
    before = snapshot(own.data)
    own.fails_to_start()
    assert snapshot(own.data) == before
