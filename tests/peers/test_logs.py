"""What the log looks like, on a terminal and in a pipe."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest
from deployment import Deployment
from support import TIMEOUT, TRESOR, wait_for

SAID = "serving"
OPERATOR = "dynarex.credentials.v1.VaultOperator"


def said_on(deployment: Deployment, end: int, stderr: int, **env: str) -> str:
    """What a vault says whose standard error is `stderr`, the other end of which is `end`, from its start to its end."""
    process = subprocess.Popen(
        [TRESOR, "serve", "--config", deployment.configuration],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        env=deployment.env | env,
    )
    os.close(stderr)
    said = b""
    while more := read(end):
        said += more
        if SAID.encode() in said:
            process.send_signal(signal.SIGTERM)
    os.close(end)
    assert process.wait(TIMEOUT) == 0, said
    return said.decode()


def read(end: int) -> bytes:
    try:
        return os.read(end, 65536)
    except OSError:
        # Of a terminal whose other end is closed.
        return b""


@pytest.mark.parametrize("where", ["terminal", "pipe"])
@pytest.mark.parametrize("log_format", ["auto", "text", "json"])
def test_the_log_is_for_people_on_a_terminal_and_for_collectors_in_a_pipe(
    tmp_path: Path, log_format: str, where: str
) -> None:
    with Deployment(tmp_path / "own") as deployment:
        deployment.make()
        end, stderr = pty.openpty() if where == "terminal" else os.pipe()
        env = {"TRESOR_LOG_FORMAT": log_format, "TERM": "xterm-256color"}
        lines = said_on(deployment, end, stderr, **env).splitlines()
    is_json = log_format == "json" or (log_format, where) == ("auto", "pipe")
    assert len(lines) > 3
    if is_json:
        assert {"timestamp", "level", "message"} <= set.intersection(*(set(json.loads(line)) for line in lines))
        return
    assert not any(line.startswith("{") for line in lines), lines
    has_colour = any("\x1b[" in line for line in lines)
    assert has_colour == (where == "terminal"), lines
    assert any("INFO" in line and SAID in line for line in lines), lines


def test_a_line_about_a_call_has_the_id_of_its_request(tmp_path: Path) -> None:
    with Deployment(tmp_path / "own", RUST_LOG="info,tresor::call=debug") as deployment:
        deployment.make().start()
        ask = deployment.operator.channel.unary_unary(f"/{OPERATOR}/GetStatus")
        ask(b"", timeout=TIMEOUT, metadata=[("x-request-id", "order-7.3")])

        def calls() -> list[dict]:
            lines = [json.loads(line) for line in deployment.stderr.splitlines()]
            return [line for line in lines if line["target"] == "tresor::call" and line.get("request_id") == "order-7.3"]

        assert [call["method"] for call in wait_for(calls, "the line of the call")] == ["GetStatus"]
