"""The clients of `docs/clients/`, as somebody runs them who has copied them, against the vault and against whoever plays it."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from clients import CLIENTS, COMMANDS, NODE, PEERS, SECRET, Program, Signer, StandIn, clients_of, node_environment, typescript
from contract import ROOT, STUBS
from google.protobuf.duration_pb2 import Duration
from joserfc import jws
from joserfc.jwk import OctKey
from support import ENVIRONMENT, Client, Tresor, base64url, free_port, office, wait_for

UNAVAILABLE, EXHAUSTED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "language" in metafunc.fixturenames:
        metafunc.parametrize("language", list(COMMANDS))


def of_order_service(tresor: Tresor) -> tuple[str, tuple[Path, Path, Path]]:
    """Where the vault is, and what its order service needs."""
    pki = tresor.pki
    return tresor.address, (pki / "ca.pem", pki / "order-service.pem", pki / "order-service.key")


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path) as stand_in:
        yield stand_in


@pytest.fixture
def program(language: str, stand_in: StandIn) -> Iterator[Program]:
    """The client of the one who plays the vault."""
    stand_in.start()
    with Program(language, stand_in.address, stand_in.files, "demo") as program:
        yield program


def lines_about(operator: Client, tenant: str, order: str) -> int:
    """How many resolves for an order the audit log has: as many as there were calls."""
    return len(list(operator.ReadAudit(tenant=tenant, order_id=order, method="ResolveForOrder")))


def test_an_answer_is_kept_until_something_changes(
    language: str, tresor: Tresor, operator: Client, tenant: str
) -> None:
    operator.save(tenant, scope=office("leipzig"), password=SECRET)
    operator.assign(tenant, "dat", "PER_OFFICE", fallback_to_general=True)
    path = f"{tenant}/dat/office/leipzig"
    with Program(language, *of_order_service(tresor), tenant) as program:
        assert program.ask("one") == f"{path} v1 from the vault"
        assert program.ask("one") == f"{path} v1 from the cache"
        assert lines_about(operator, tenant, "one") == 1
        # Another order is asked for, so that it has its line.
        assert program.ask("two") == f"{path} v1 from the vault"
        assert lines_about(operator, tenant, "two") == 1

        operator.save(tenant, scope=office("leipzig"), password=SECRET)
        program.sees(f"{tenant}/dat")
        assert program.ask("one") == f"{path} v2 from the vault"
        assert program.ask("one") == f"{path} v2 from the cache"
        assert lines_about(operator, tenant, "one") == 2

        # An order that got the general one gets its office's as soon as there is one.
        operator.save(tenant, password=SECRET)
        program.sees(f"{tenant}/dat", 2)
        assert program.ask("three", "halle") == f"{tenant}/dat/general v1 from the vault"
        operator.save(tenant, scope=office("halle"), password=SECRET)
        program.sees(f"{tenant}/dat", 3)
        assert program.ask("three", "halle") == f"{tenant}/dat/office/halle v1 from the vault"

        # Another provider's changes are nobody's business here.
        operator.save(tenant, "wom")
        program.sees(f"{tenant}/wom")
        assert program.ask("three", "halle") == f"{tenant}/dat/office/halle v1 from the cache"
        assert SECRET not in program.end()


def test_a_refusal_is_told_by_its_reason_and_is_no_answer_to_keep(
    language: str, tresor: Tresor, operator: Client, tenant: str
) -> None:
    operator.assign(tenant, "dat", "PER_OFFICE")
    with Program(language, *of_order_service(tresor), tenant) as program:
        missing = f"{tenant}/dat/office/leipzig"
        expected = f"CREDENTIAL_NOT_CONFIGURED: an administrator has to see to {missing}"
        assert program.ask("one") == expected
        assert lines_about(operator, tenant, "one") == 1
        operator.save(tenant, scope=office("leipzig"))
        assert program.ask("one") == f"{missing} v1 from the vault"


def test_a_client_goes_on_when_the_vault_was_restarted(language: str, own: Tresor) -> None:
    own.start()
    path = "demo/dat/office/leipzig"
    with Program(language, *of_order_service(own), "demo") as program:
        assert program.ask("one") == f"{path} v1 from the vault"
        own.stop()
        # What may be kept is given while nobody answers.
        assert program.ask("one") == f"{path} v1 from the cache"
        own.start()
        own.operator.save("demo", scope=office("leipzig"))
        # The watch begins again where it broke; what was kept would be given for longer than this waits.
        wait_for(lambda: program.ask("one") == f"{path} v2 from the vault", "the new version")
        assert program.ask("one") == f"{path} v2 from the cache"


def test_a_call_waits_for_a_vault_that_is_about_to_start(language: str, stand_in: StandIn) -> None:
    with Program(language, stand_in.address, stand_in.files, "demo") as program:
        program.tell("one")
        stand_in.start()
        # On a machine that is busy the deadline may pass before.
        assert wait_for(lambda: "from the vault" in program.answer("one") or program.tell("one"), "an answer")


def test_the_deadline_holds_where_nobody_answers_and_where_nobody_is(stand_in: StandIn) -> None:
    nobody = f"localhost:{free_port()}"
    with (
        socket.create_server(("127.0.0.1", stand_in.port)),
        clients_of(list(COMMANDS), stand_in.address, stand_in.files, "demo") as held_up,
        clients_of(list(COMMANDS), nobody, stand_in.files, "demo") as alone,
    ):
        begun = time.monotonic()
        for program in held_up + alone:
            program.tell("one")
        for program in held_up + alone:
            assert program.answer("one").startswith("DEADLINE_EXCEEDED")
        assert time.monotonic() - begun >= 5


def test_what_is_unavailable_is_tried_again(program: Program, stand_in: StandIn) -> None:
    stand_in.refusals = [(UNAVAILABLE, "STORE_UNAVAILABLE", 1.0)] * 2
    assert program.ask("one").endswith("from the vault")
    assert stand_in.calls["ResolveForOrder"] == 3


def test_a_quota_is_waited_for_if_there_is_time(program: Program, stand_in: StandIn) -> None:
    stand_in.refusals = [(EXHAUSTED, "QUOTA_EXCEEDED", 0.3)]
    begun = time.monotonic()
    assert program.ask("one").endswith("from the vault")
    assert time.monotonic() - begun >= 0.3
    assert stand_in.calls["ResolveForOrder"] == 2

    stand_in.refusals = [(EXHAUSTED, "QUOTA_EXCEEDED", 3600.0)]
    assert program.ask("two") == "RESOURCE_EXHAUSTED QUOTA_EXCEEDED: in words"
    assert stand_in.calls["ResolveForOrder"] == 3


def test_what_would_be_refused_again_is_not_tried_again(program: Program, stand_in: StandIn) -> None:
    refusals = [
        ("NOT_FOUND", "CREDENTIAL_NOT_CONFIGURED"),
        ("FAILED_PRECONDITION", "CREDENTIAL_DISABLED"),
        ("FAILED_PRECONDITION", "ORDER_LACKS_OFFICE"),
        ("INVALID_ARGUMENT", "INVALID_FIELD"),
        ("PERMISSION_DENIED", "NOT_GRANTED"),
        ("UNAUTHENTICATED", "IDENTITY_EXPIRED"),
        ("DATA_LOSS", "CORRUPT_RECORD"),
        ("INTERNAL", ""),
    ]
    for calls, (code, reason) in enumerate(refusals, 1):
        # Not even where somebody says when to try again.
        stand_in.refusals = [(grpc.StatusCode[code], reason, 0.1)]
        assert (reason or code) in program.ask("one")
        assert stand_in.calls["ResolveForOrder"] == calls


def changed_payload(signer: Signer) -> Callable[[dict], str]:
    def token(payload: dict) -> str:
        header, _, tag = signer.sign(payload).split(".")
        _, other, _ = signer.sign(payload | {"version": 2}).split(".")
        return f"{header}.{other}.{tag}"

    return token


def unsigned(signer: Signer) -> Callable[[dict], str]:
    def token(payload: dict) -> str:
        _, body, _ = signer.sign(payload).split(".")
        # {"alg":"none"}
        return f"eyJhbGciOiJub25lIn0.{body}."

    return token


def by_public_key_as_secret(signer: Signer) -> Callable[[dict], str]:
    """The old trick: the public key is taken for the secret of another algorithm."""
    secret = OctKey.import_key(base64url(signer.key.as_dict(private=False)["x"]))
    header = {"alg": "HS256", "kid": signer.kid, "typ": "dynarex-credential+jws"}
    return lambda payload: jws.serialize_compact(header, json.dumps(payload), secret, algorithms=["HS256"])


FORGERIES: dict[str, Callable[[Signer], Callable[[dict], str]]] = {
    "a changed payload": changed_payload,
    "another key under the right name": lambda signer: lambda payload: Signer().sign(payload, kid=signer.kid),
    "a key that the vault does not have": lambda signer: Signer().sign,
    "no signature": unsigned,
    "the public key as a secret": by_public_key_as_secret,
    "a receipt's type": lambda signer: lambda payload: signer.sign(payload, typ="dynarex-receipt+jwt"),
    "another tenant's": lambda signer: lambda payload: signer.sign(payload | {"tenant": "other"}),
    "another provider's": lambda signer: lambda payload: signer.sign(payload | {"provider": "wom"}),
    "nothing": lambda signer: lambda payload: "",
    "no token": lambda signer: lambda payload: "a.b",
}


def test_a_forged_answer_is_refused_and_not_kept(program: Program, stand_in: StandIn) -> None:
    for number, (kind, forge) in enumerate(FORGERIES.items()):
        stand_in.token = forge(stand_in.signer)
        answer = program.ask(f"order-{number}")
        assert answer.startswith("FORGED: "), kind
    stand_in.token = None
    assert program.ask("order-0").endswith("v1 from the vault")
    assert SECRET not in program.end()


def test_forged_names_of_keys_do_not_make_it_read_the_keys_each_time(program: Program, stand_in: StandIn) -> None:
    begun = time.monotonic()
    for number in range(50):
        stand_in.token = Signer().sign
        assert program.ask(f"order-{number}").startswith("FORGED: ")
    # At most once a second.
    assert stand_in.calls["GetSigningKeys"] <= 2 + time.monotonic() - begun


def test_a_new_signing_key_is_fetched_when_an_answer_names_it(program: Program, stand_in: StandIn) -> None:
    for number in range(3):
        assert program.ask(f"order-{number}").endswith("from the vault")
    assert stand_in.calls["GetSigningKeys"] == 1
    stand_in.signer = Signer()
    stand_in.published.append(stand_in.signer.key)
    # The keys were read less than a second ago, so they may not be read at once.
    wait_for(lambda: program.ask("new").endswith("from the vault"), "the new key")
    assert stand_in.calls["GetSigningKeys"] == 2


def test_a_watch_begins_with_the_first_answer_and_goes_on_where_it_broke(program: Program, stand_in: StandIn) -> None:
    program.ask("one")
    stand_in.is_watched()
    assert stand_in.watched_from == [10]
    stand_in.change("demo")
    program.sees("demo/dat")
    stand_in.end_watch()
    stand_in.is_watched(2)
    assert stand_in.watched_from == [10, 11]
    assert program.ask("one").endswith("from the vault")
    stand_in.change("demo")
    program.sees("demo/dat", 2)
    assert program.ask("one").endswith("from the vault")
    assert program.ask("one").endswith("from the cache")


def test_what_was_missed_drops_everything_of_the_tenant(program: Program, stand_in: StandIn) -> None:
    program.ask("one")
    stand_in.is_watched()
    # Changes of other providers drop nothing.
    stand_in.change("demo", provider="wom")
    program.sees("demo/wom")
    assert program.ask("one").endswith("from the cache")
    stand_in.change("demo", "RESYNC")
    program.sees("demo")
    assert program.ask("one").endswith("from the vault")
    assert program.ask("one").endswith("from the cache")
    stand_in.change("demo")
    program.sees("demo/dat")
    # After a restore the vault counts from an older revision, and answers are kept all the same.
    stand_in.revision = 3
    stand_in.change("demo", "RESYNC")
    program.sees("demo", 2)
    assert program.ask("one").endswith("from the vault")
    assert program.ask("one").endswith("from the cache")


def test_an_answer_is_kept_no_longer_than_it_may_be(program: Program, stand_in: StandIn) -> None:
    stand_in.cache_for = Duration()
    for calls in (1, 2):
        assert program.ask("one").endswith("from the vault")
        assert stand_in.calls["ResolveForOrder"] == calls
    stand_in.cache_for = Duration(nanos=200_000_000)
    assert program.ask("two").endswith("from the vault")
    wait_for(lambda: program.ask("two").endswith("from the vault"), "the end of what is kept")


def test_an_answer_from_before_a_change_is_not_kept(program: Program, stand_in: StandIn) -> None:
    program.ask("one")
    stand_in.is_watched()
    stand_in.change("demo")
    program.sees("demo/dat")
    stand_in.revision = 10
    # It was under way while the change was told.
    assert program.ask("two").endswith("from the vault")
    assert program.ask("two").endswith("from the vault")
    stand_in.revision = 11
    assert program.ask("two").endswith("from the vault")
    assert program.ask("two").endswith("from the cache")


def test_no_print_of_a_credential_shows_what_is_in_it() -> None:
    shown = f"from vault import Credential; print(Credential('demo/dat/general', 1, {{'password': '{SECRET}'}}))"
    folder = typescript()[-1].parent
    secret = f'{{ password: "{SECRET}" }}'
    script = f'import {{ Credential }} from "./vault.ts"; console.log(new Credential("demo/dat/general", 1, {secret}))'
    for command, place in [
        ([sys.executable, "-c", shown], CLIENTS / "python"),
        ([NODE / "bin/node", "--input-type=module", "--eval", script], folder),
    ]:
        environment = ENVIRONMENT | {"PYTHONPATH": str(STUBS)}
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, env=environment)
        assert "demo/dat/general" in done.stdout, done.stderr
        assert SECRET not in done.stdout + done.stderr


def test_the_types_of_the_typescript_client_are_right() -> None:
    typescript()
    compiler = [NODE / "bin/node", PEERS / "typescript/node_modules/typescript/bin/tsc", "--project", PEERS / "typescript"]
    done = subprocess.run(compiler, capture_output=True, text=True, env=node_environment())
    assert done.returncode == 0, done.stdout


def test_the_packages_of_the_python_client_are_those_it_is_tested_with() -> None:
    pinned = (ROOT / "tests/peers/requirements.txt").read_text().splitlines()
    wanted = (CLIENTS / "python/requirements.txt").read_text().splitlines()
    assert wanted and set(wanted) <= set(pinned)


def test_what_the_page_quotes_of_a_client_is_in_the_client() -> None:
    page = (ROOT / "docs/CLIENTS.md").read_text()
    quotes = re.findall(r"<!-- from: (\S+) -->\n```\w+\n(.*?)```", page, re.DOTALL)
    assert {Path(file).parts[1] for file, _ in quotes} == {folder.name for folder in CLIENTS.iterdir() if folder.is_dir()}
    for file, quote in quotes:
        source = (ROOT / "docs" / file).read_text()
        # A line with nothing but three dots stands for what is left out.
        for part in re.split(r"^\s*(?://|#) …\n", quote, flags=re.MULTILINE):
            assert part.strip() and part in source, f"{file} lacks:\n{part}"
