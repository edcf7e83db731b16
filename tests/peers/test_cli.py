"""The operator's command line, as the real binary, against a running vault."""

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import termios
from pathlib import Path

import pytest
from joserfc.jwk import KeySet
from support import TIMEOUT, TRESOR, Client, Tresor, free_port, office, run, wait_for

DONE, USAGE, INVALID, NOT_FOUND, DENIED, CONFLICT, UNAVAILABLE, GAPS = 0, 2, 3, 4, 5, 6, 7, 8


class Cli:
    """`tresor` with the connection options of one caller."""

    def __init__(self, tresor: Tresor, caller: str = "operator") -> None:
        pki = tresor.pki
        self.identity = ["--ca", pki / "ca.pem", "--cert", pki / f"{caller}.pem", "--key", pki / f"{caller}.key"]
        self.server = f"https://{tresor.address}"

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return run(TRESOR, *arguments, "--server", self.server, *self.identity, "--timeout", "30s", stdin=stdin)

    def does(self, *arguments: str, stdin: str | None = None) -> str:
        """What it prints when it does what it is told."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == DONE, done.stderr
        return done.stdout

    def tells(self, *arguments: str, stdin: str | None = None) -> dict:
        """The same for programs."""
        return json.loads(self.does(*arguments, "--output", "json", stdin=stdin))

    def fails(self, code: int, *arguments: str, stdin: str | None = None) -> str:
        """What it says when it ends with that exit code."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        assert not done.stdout
        assert done.stderr.startswith("error: ")
        return done.stderr


@pytest.fixture
def cli(tresor: Tresor) -> Cli:
    return Cli(tresor)


def test_status_is_shown(cli: Cli, operator: Client) -> None:
    assert "sled" in cli.does("status")
    status = cli.tells("status")
    assert (status["store"], status["sealed"]) == ("sled", False)
    assert status["revision"] == operator.revision()


def test_the_public_keys_are_printed_so_that_a_backup_is_verified_without_the_server(
    cli: Cli, operator: Client, tmp_path: Path
) -> None:
    jwks, backup = tmp_path / "keys.json", tmp_path / "vault.backup"
    jwks.write_text(cli.does("jwks"))
    assert KeySet.import_key_set(json.loads(jwks.read_text())).keys
    assert cli.tells("jwks") == json.loads(operator.GetSigningKeys().jwks)
    cli.does("backup", str(backup))
    verified = run(TRESOR, "backup", "verify", backup, "--jwks", jwks)
    assert verified.returncode == DONE, verified.stderr


def test_the_samples_credential_is_shown_without_its_secret(cli: Cli, operator: Client) -> None:
    path = "demo/dat/office/leipzig"
    password = operator.resolve("demo", office_id="leipzig").credential.login.password
    table = cli.does("credential", "get", path)
    assert path in table
    found = cli.tells("credential", "get", path)["credential"]
    assert found["path"] == path
    assert found["state"] == "enabled"
    assert password not in table + json.dumps(found)


def test_a_password_comes_in_through_standard_input(cli: Cli, operator: Client, tenant: str) -> None:
    path = f"{tenant}/dat/office/leipzig"
    put = ["credential", "put", path, "--customer-number", "1234567", "--username", "myuser", "--password-stdin"]
    saved = cli.tells(*put, "--note", "by hand", stdin="Pä$$ wört€\n")
    assert (saved["credential"]["path"], saved["credential"]["version"]) == (path, 1)
    assert saved["warnings"] == []
    operator.assign(tenant, "dat", "PER_OFFICE")
    assert operator.resolve(tenant, office_id="leipzig").credential.login.password == "Pä$$ wört€"

    warned = cli.run(*put, "--expected-version", "1", stdin=" spaced ")
    assert warned.returncode == DONE
    assert "PASSWORD_SURROUNDED_BY_WHITE_SPACE" in warned.stderr
    assert "VERSION_MISMATCH" in cli.fails(CONFLICT, *put, "--expected-version", "1", stdin="again")


def test_who_ends_it_at_a_prompt_gets_the_terminals_echo_back(cli: Cli, tenant: str) -> None:
    keyboard, terminal = pty.openpty()

    def echoes() -> bool:
        return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)

    put = [TRESOR, "credential", "put", f"{tenant}/wom/general", "--username", "me", "--server", cli.server, *cli.identity]
    process = subprocess.Popen(
        put,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    try:
        said = b""
        while b"password: " not in said:
            readable, _, _ = select.select([keyboard], [], [], TIMEOUT)
            assert readable, said
            said += os.read(keyboard, 1024)
        wait_for(lambda: not echoes(), "a terminal without echo")
        os.write(keyboard, b"half a passw\x03")
        assert process.wait(TIMEOUT) == -signal.SIGINT
        assert echoes()
    finally:
        process.kill()
        process.wait()
        os.close(keyboard)
        os.close(terminal)


def test_an_order_is_resolved(cli: Cli, operator: Client, tresor: Tresor) -> None:
    resolve = ["resolve", "demo", "dat", "--order", "2026-0815", "--office", "leipzig"]
    expected = operator.resolve("demo", office_id="leipzig").credential
    for caller in [cli, Cli(tresor, "order-service")]:
        answer = caller.tells(*resolve)
        assert answer["credential"]["path"] == "demo/dat/office/leipzig"
        assert answer["credential"]["login"]["username"] == expected.login.username
        assert answer["resolution"]["mode"] == "per-office"


def test_a_whole_life_of_a_credential_goes_by_command(cli: Cli, operator: Client, tenant: str) -> None:
    path = f"{tenant}/wom/general"
    for password in ["one", "two"]:
        cli.does("credential", "put", path, "--username", "myuser", "--password-stdin", stdin=password)
    assert [found["version"] for found in cli.tells("credential", "versions", path)["versions"]] == [2, 1]
    cli.does("credential", "rollback", path, "--to-version", "1")
    assert operator.resolve(tenant, "wom").credential.login.password == "one"
    for command, state in [
        ("disable", "disabled"),
        ("enable", "enabled"),
        ("delete", "deleted"),
        ("undelete", "enabled"),
    ]:
        cli.does("credential", command, path)
        assert cli.tells("credential", "get", path)["credential"]["state"] == state
    assert [found["path"] for found in cli.tells("credential", "list", tenant)["credentials"]] == [path]
    cli.does("credential", "delete", path)
    cli.does("credential", "purge", path, "--confirm", path)
    cli.fails(NOT_FOUND, "credential", "get", path)


def test_assignments_go_by_command(cli: Cli, operator: Client, tenant: str) -> None:
    operator.save(tenant, "dat", office("leipzig"))
    cli.does("assignment", "set", tenant, "dat", "--mode", "per-office", "--fallback-to-general")
    chosen = cli.tells("assignment", "get", tenant, "dat")["assignment"]
    assert (chosen["mode"], chosen["fallback_to_general"], chosen["is_default"]) == ("per-office", True, False)
    assert len(cli.tells("assignment", "list", tenant)["assignments"]) == 11
    explained = cli.tells("explain", tenant, "dat", "--order", "1", "--office", "leipzig")
    assert explained["resolution"]["rule"] == 3
    assert len(cli.tells("provider", "list")["providers"]) == 11


def test_gaps_in_the_coverage_have_their_own_exit_code(cli: Cli, operator: Client, tenant: str) -> None:
    operator.save(tenant, "dat", office("leipzig"))
    operator.assign(tenant, "dat", "PER_OFFICE")
    coverage = ["coverage", tenant, "--provider", "dat", "--office", "leipzig"]
    assert cli.tells(*coverage) == {"gaps": []}
    gaps = cli.run(*coverage, "--office", "halle")
    assert gaps.returncode == GAPS
    assert "halle" in gaps.stdout


def test_exit_codes_tell_what_went_wrong(cli: Cli, tresor: Tresor, tenant: str) -> None:
    resolve = ["resolve", tenant, "dat", "--order", "1"]
    assert "CREDENTIAL_NOT_CONFIGURED" in cli.fails(NOT_FOUND, *resolve)
    cli.fails(NOT_FOUND, "credential", "get", f"{tenant}/dat/general")
    cli.fails(INVALID, "resolve", tenant, "nobody", "--order", "1")
    put = ["credential", "put", f"{tenant}/dat/general", "--customer-number", "1", "--username", "", "--password-stdin"]
    refusal = cli.fails(INVALID, *put, stdin="password")
    assert "login.customer_number" in refusal and "login.username" in refusal
    assert "NOT_GRANTED" in Cli(tresor, "order-service").fails(DENIED, "credential", "get", "demo/dat/general")
    assert cli.run("credential", "get", "no path").returncode == USAGE
    assert cli.run("no-such-command").returncode == USAGE
    cli.server = f"https://localhost:{free_port()}"
    assert "nothing listens there" in cli.fails(UNAVAILABLE, "status")


def test_cve_2026_55102_no_failure_of_the_command_line_shows_a_secret(
    cli: Cli, tresor: Tresor, operator: Client, tenant: str
) -> None:
    """A JavaScript client of another vault threw errors that held the request, its token and its secrets."""
    path, secret = f"{tenant}/dat/general", "Zq-never-shown-Kw"
    put = ["credential", "put", path, "--customer-number", "1234567", "--username", "myuser", "--password-stdin"]
    # Everything that a program can be asked to tell about itself.
    talkative = {"RUST_LOG": "trace", "RUST_BACKTRACE": "full"}
    mistakes = [
        [*put, "--expected-version", "7"],
        [*put, "--note", "n" * 300],
        ["credential", "put", f"{tenant}/nobody/general", *put[3:]],
        [*put, "--timeout", "1ms"],
        [*put, "--ca", tresor.pki / "operator.key"],
        [*put, "--server", f"https://localhost:{free_port()}"],
        [*put, "--server", f"https://127.0.0.1:{tresor.health_port}"],
    ]
    for arguments in mistakes:
        identity = [] if "--ca" in arguments else cli.identity
        server = [] if "--server" in arguments else ["--server", cli.server]
        done = run(TRESOR, *arguments, *server, *identity, stdin=f"{secret}\n", env=talkative)
        assert done.returncode != DONE
        shown = done.stdout + done.stderr
        assert shown and secret not in shown, shown

    operator.save(tenant, password=secret, customer_signature=f"{secret}-signature")
    order_service = Cli(tresor, "order-service")
    for form in ["table", "json"]:
        shown = order_service.run("resolve", tenant, "dat", "--order", "1", "--output", form)
        assert shown.returncode == DONE
        assert secret not in shown.stdout + shown.stderr
    asked_for = order_service.does("resolve", tenant, "dat", "--order", "1", "--show-secrets")
    assert secret in asked_for


def test_cve_2026_77285_a_resolve_that_fails_in_part_shows_no_secret_of_the_rest(
    tresor: Tresor, operator: Client, tenant: str
) -> None:
    """The agent of another vault wrote what it had fetched to its standard output when it could not go on."""
    secret = "Zq-fetched-already-Kw"
    operator.save(tenant, password=secret)
    failed = Cli(tresor, "order-service").run("resolve", tenant, "dat", "wom", "--order", "1")
    assert failed.returncode == NOT_FOUND
    assert secret not in failed.stdout + failed.stderr


def test_help_completions_and_version_need_no_server() -> None:
    for arguments in [["--help"], ["--version"], ["completions", "bash"], ["credential", "put", "--help"]]:
        done = run(TRESOR, *arguments)
        assert done.returncode == DONE and done.stdout
