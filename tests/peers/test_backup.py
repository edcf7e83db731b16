"""A backup, as somebody sees it who has its description, the public keys and no program of ours."""

import base64
import hashlib
import json
import re
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace

import grpc_tools
import pytest
from contract import ROOT, v1
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc
from joserfc import jws
from joserfc.jwk import KeySet
from support import TRESOR, Client, Tresor, login, mail_account, office, ref, refused, run

FIRST_LINE = b"tresor backup 1\n"
PASSWORD = "Planted-in-a-backup-7d1f"


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The messages of `backup.proto`."""
    described = tmp_path_factory.mktemp("backup") / "descriptors"
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    options = [f"-I{ROOT / 'proto'}", f"-I{well_known}", f"--descriptor_set_out={described}"]
    assert protoc.main(["protoc", *options, "tresor/backup/v1/backup.proto"]) == 0
    files = descriptor_pb2.FileDescriptorSet.FromString(described.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    names = [message.name for message in files.file[0].message_type]
    classes = {name: pool.FindMessageTypeByName(f"tresor.backup.v1.{name}") for name in names}
    return SimpleNamespace(**{name: message_factory.GetMessageClass(found) for name, found in classes.items()})


def backup_of(operator: Client) -> bytes:
    return b"".join(answer.chunk for answer in operator.Backup())


def test_the_digests_and_the_signature_can_be_checked_with_other_peoples_tools(
    operator: Client, tenant: str, messages: SimpleNamespace
) -> None:
    operator.save(tenant, scope=office("leipzig"))
    content = backup_of(operator)
    assert content.startswith(FIRST_LINE)
    place, parts, end_of_header = len(FIRST_LINE), [], 0
    while place < len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        parts.append(messages.Frame.FromString(content[place + 4 : place + 4 + length]))
        place += 4 + length
        end_of_header = end_of_header or place
    assert place == len(content)
    kinds = [part.WhichOneof("part") for part in parts]
    assert kinds == ["header", *["chunk"] * (len(parts) - 2), "trailer"]
    digest = hashlib.sha256(content[:end_of_header]).digest()
    for number, part in enumerate(parts[1:-1], 1):
        assert part.chunk.number == number
        digest = hashlib.sha256(digest + number.to_bytes(8, "big") + part.chunk.data).digest()
        assert part.chunk.digest == digest
    trailer = parts[-1].trailer
    said = messages.Statement.FromString(trailer.statement)
    assert (said.digest, said.chunks, said.id) == (digest, len(parts) - 2, parts[0].header.id)
    assert said.revision <= operator.revision()
    header, _, tag = trailer.signature.split(".")
    payload = base64.urlsafe_b64encode(trailer.statement).rstrip(b"=").decode()
    keys = KeySet.import_key_set(json.loads(operator.GetSigningKeys().jwks))
    verified = jws.deserialize_compact(f"{header}.{payload}.{tag}", keys, algorithms=["EdDSA"])
    assert verified.protected["typ"] == "tresor-backup+jws"
    assert verified.payload == trailer.statement


def test_a_backup_holds_no_secret(operator: Client, tenant: str) -> None:
    operator.PutCredential(ref=ref(tenant, "dat"), login=login(username=PASSWORD, password=PASSWORD), note=PASSWORD)
    operator.PutCredential(ref=ref(tenant, "email"), mail_account=mail_account(password=PASSWORD))
    content = backup_of(operator)
    assert PASSWORD.encode() not in content


def test_who_runs_no_vault_gets_no_backup_and_checks_nothing(order_service: Client) -> None:
    for call in (order_service.Backup, order_service.CheckStore):
        assert refused(lambda call=call: list(call())).is_("PERMISSION_DENIED", "NOT_GRANTED")


def test_a_check_tells_how_far_it_is_and_that_it_is_done(operator: Client, tenant: str) -> None:
    operator.save(tenant)
    seen = list(operator.CheckStore())
    assert seen[-1].WhichOneof("seen") == "records"
    assert {answer.WhichOneof("seen") for answer in seen[:-1]} == {"records_so_far"}
    assert isinstance(seen[-1], v1.CheckStoreResponse) and seen[-1].records >= 4


def test_a_folder_is_filled_and_keeps_the_newest(tresor: Tresor, operator: Client, tenant: str, tmp_path: Path) -> None:
    def back_up(*arguments: str | Path) -> CompletedProcess[str]:
        return run(TRESOR, "backup", *arguments, "--server", f"https://{tresor.address}", "--dev-dir", tresor.data)

    (tmp_path / "notes.txt").write_text("mine")
    revisions = []
    for _ in range(3):
        revisions.append(operator.save(tenant).revision)
        done = back_up(tmp_path, "--keep", "2", "--output", "json")
        assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[0] == "notes.txt" and len(names) == 3
    assert all(int(re.search(r"-r(\d+)[.]backup", name)[1]) >= revision for name, revision in zip(names[1:], revisions[1:]))
    assert told["file"] == str(tmp_path / names[-1])
    assert [Path(removed).name < names[1] for removed in told["removed"]] == [True]
    verified = run(TRESOR, "backup", "verify", told["file"], "--server", f"https://{tresor.address}", "--dev-dir", tresor.data)
    assert verified.returncode == 0, verified.stderr
    # What would be removed beside a file that was named, nobody has said.
    refused = back_up(tmp_path / "one.backup", "--keep", "2")
    assert refused.returncode == 2 and "is no folder" in refused.stderr
    assert not (tmp_path / "one.backup").exists()
