"""The vocabulary of these tests: a vault, its callers, what they ask for and how they are refused."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import grpc
import pytest
from contract import ROOT, RPCS, SERVICES, request_type, v1
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

BIN = Path(sys.executable).parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
TRESOR = Path(os.environ.get("TRESOR_BIN", TARGET / "debug/tresor")).absolute()

# The vault and its command line read variables of this prefix; what the caller of the tests has set must not matter.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("TRESOR_")}
# For `tresor serve`: other tests keep the machine and its disk busy meanwhile.
PATIENT = {"TRESOR_SERVER_LONGEST_WAIT": "1s", "TRESOR_AUDIT_TIMEOUT": "20s"}

# Seconds. Far more than anything here takes, so that a busy machine fails no test.
TIMEOUT = 30


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Waits until the condition yields something true, and returns that."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited {TIMEOUT} s in vain for {what}")


def free_port() -> int:
    """A port of the loopback interface that nobody listens on, and none that the system could give to whoever connects next: those
    are above 32767."""
    while True:
        port = random.randrange(10_000, 30_000)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def run(
    *command: str | Path, stdin: str | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, whatever that is."""
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=TIMEOUT, cwd=ROOT, env=ENVIRONMENT | (env or {})
    )


class Tresor:
    """A vault of its own: `tresor dev` in a directory, on free ports of the loopback interface."""

    def __init__(self, directory: Path, **env: str) -> None:
        self.directory = directory
        self.data = directory / "data"
        self.pki = self.data / "pki"
        self.host, self.port, self.health_port = "127.0.0.1", free_port(), free_port()
        self.metrics_port = free_port()
        self.env = ENVIRONMENT | PATIENT | env
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self._clients: list[Client] = []

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def spawn(self) -> subprocess.Popen[bytes]:
        """Starts the process and does not wait for it."""
        self.starts += 1
        listeners = ["--listen", f"{self.host}:{self.port}", "--health-listen", f"{self.host}:{self.health_port}"]
        with self._output("stdout").open("wb") as stdout, self._output("stderr").open("wb") as stderr:
            self.process = subprocess.Popen(
                [TRESOR, "dev", "--data-dir", self.data, *listeners, "--metrics-listen", f"{self.host}:{self.metrics_port}"],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=ROOT,
                env=self.env,
            )
        return self.process

    def start(self) -> Tresor:
        """Starts it and waits until it says that it is ready."""
        self.spawn()
        wait_for(self._is_ready, "the line `ready`")
        self.operator = self.client("operator")
        self.order_service = self.client("order-service")
        return self

    def stop(self) -> None:
        """Asks it to end, and insists that it ends well."""
        self._end(signal.SIGTERM)
        assert self.process.returncode == 0, self.stderr
        assert "panicked" not in self.stderr
        self.process = None

    def kill(self) -> None:
        """Ends it without asking."""
        self._end(signal.SIGKILL)
        self.process = None

    def fails_to_start(self) -> str:
        """Starts it, insists that it refuses with one line for people, and returns that line."""
        process = self.spawn()
        code = process.wait(TIMEOUT)
        self.process = None
        lines = self.stderr.strip().splitlines()
        assert code not in (0, 101), f"exit code {code}: {self.stderr}"
        assert len(lines) == 1, self.stderr
        assert "ready" not in self.stdout.splitlines()
        return lines[0]

    def client(self, name: str | None, **changes: Any) -> Client:
        """A client with the certificate of that name; with none, one without certificate."""
        identity = {"certificate": self.pki / f"{name}.pem", "key": self.pki / f"{name}.key"} if name else {}
        client = Client(self.address, **({"ca": self.pki / "ca.pem"} | identity | changes))
        self._clients.append(client)
        return client

    def metrics(self, accept: str = "") -> str:
        """What is counted, in the form that `accept` asks for."""
        request = Request(f"http://{self.host}:{self.metrics_port}/metrics", headers={"accept": accept} if accept else {})
        with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT) as answer:
            return answer.read().decode()

    @property
    def stdout(self) -> str:
        return self._output("stdout").read_text()

    @property
    def stderr(self) -> str:
        return self._output("stderr").read_text()

    def _output(self, name: str) -> Path:
        return self.directory / f"{name}-{self.starts}"

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.stderr}"
        return "ready" in self.stdout.splitlines()

    def _end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        try:
            self.process.wait(TIMEOUT)
        finally:
            self.process.kill()
        for client in self._clients:
            client.channel.close()
        self._clients.clear()

    def __enter__(self) -> Tresor:
        self.directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process:
            self.stop()


class Client:
    """A caller: every RPC of the three services as a method that takes the request or its fields."""

    def __init__(self, address: str, ca: Path, certificate: Path | None = None, key: Path | None = None) -> None:
        files = [path and path.read_bytes() for path in (ca, key, certificate)]
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(*files), options)
        stubs = {service: stub(self.channel) for service, stub in SERVICES.items()}
        for name, rpc in RPCS.items():
            stub = stubs[rpc.containing_service.full_name]
            call = _stream if rpc.client_streaming else _call
            setattr(self, name, partial(call, getattr(stub, name), request_type(name)))

    def save(self, tenant: str, provider: str = "dat", scope: Message | None = None, **secret: Any) -> Message:
        """Saves a credential with made-up content, of which `secret` names what matters."""
        kind = {"mail_account": mail_account(**secret)} if provider == "email" else {"login": login(**secret)}
        return self.PutCredential(ref=ref(tenant, provider, scope), **kind)

    def assign(self, tenant: str, provider: str, mode: str, **more: Any) -> Message:
        """Chooses the assignment mode, such as `PER_OFFICE`."""
        mode = v1.AssignmentMode.Value(f"ASSIGNMENT_MODE_{mode}")
        return self.SetAssignment(tenant=tenant, provider=provider, mode=mode, **more)

    def resolve(self, tenant: str, provider: str = "dat", **more: Any) -> Message:
        """Resolves for an order; ids such as `office_id` are the order's, all else is the request's."""
        ids = {name: more.pop(name) for name in list(more) if name.endswith("_id")}
        return self.ResolveForOrder(tenant=tenant, provider=provider, order=order(**ids), **more)

    def revision(self) -> int:
        """The store's newest revision."""
        return self.GetStatus().revision


def _call(rpc: Callable, request: type[Message], message: Message | None = None, /, **fields: Any) -> Any:
    return rpc(request(**fields) if message is None else message, timeout=TIMEOUT)


def _stream(rpc: Callable, request: type[Message], /, *messages: Message, **fields: Any) -> Any:
    return rpc(iter(messages or [request(**fields)]), timeout=TIMEOUT)


@dataclass(frozen=True)
class Refusal:
    """Why a call failed, as the rich error model tells it."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str]
    # What is wrong with which field.
    fields: dict[str, str]
    can_be_retried: bool

    @staticmethod
    def of(error: grpc.RpcError) -> Refusal:
        status = status_pb2.Status.FromString(dict(error.trailing_metadata()).get("grpc-status-details-bin", b""))
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        can_be_retried = False
        for detail in status.details:
            detail.Unpack(info)
            detail.Unpack(bad)
            can_be_retried |= detail.Unpack(retry)
        if status.details:
            assert info.domain == "credentials.dynarex"
            assert (status.code, status.message) == (error.code().value[0], error.details())
        return Refusal(
            code=error.code(),
            message=error.details(),
            reason=info.reason,
            metadata=dict(info.metadata),
            fields={violation.field: violation.description for violation in bad.field_violations},
            can_be_retried=can_be_retried,
        )

    def is_(self, code: str, reason: str) -> bool:
        return (self.code.name, self.reason) == (code, reason)


def refused(call: Callable, *args: Any, **fields: Any) -> Refusal:
    """Insists that the call fails, and returns how."""
    with pytest.raises(grpc.RpcError) as raised:
        answer = call(*args, **fields)
        if isinstance(answer, Iterator):
            next(answer)
    return Refusal.of(raised.value)


GENERAL = v1.Scope(general={})


def office(id: str) -> Message:
    return v1.Scope(office_id=id)


def appraiser(id: str) -> Message:
    return v1.Scope(appraiser_id=id)


def user(id: str) -> Message:
    return v1.Scope(user_id=id)


def ref(tenant: str, provider: str = "dat", scope: Message | None = None) -> Message:
    """A credential's name; general unless a scope is given."""
    return v1.CredentialRef(tenant=tenant, provider=provider, scope=scope or GENERAL)


def order(**ids: str) -> Message:
    return v1.Order(**{"order_id": "2026-0815"} | ids)


def login(**fields: str) -> Message:
    return v1.Login(**{"customer_number": "1234567", "username": "myuser", "password": "password"} | fields)


def mail_account(**fields: Any) -> Message:
    usual = {
        "host": "smtp.example.com",
        "port": 587,
        "security": v1.MAIL_SECURITY_STARTTLS,
        "username": "leipzig@example.com",
        "from_address": "leipzig@example.com",
        "from_name": "Büro Leipzig",
    }
    auth = {} if "oauth2" in fields else {"password": "password"}
    return v1.MailAccount(**usual | auth | fields)


def oauth2(**fields: Any) -> Message:
    usual = {"token_url": "https://login.example.com/token", "client_id": "client", "client_secret": "secret"}
    return v1.OAuth2Client(**usual | fields)


def dat_signature(*parts: str) -> str:
    """DAT's customerSignature over number, login, password and, time-limited, the time frame."""
    return hashlib.sha256(":".join(parts).encode()).hexdigest().upper()


def base64url(text: str) -> bytes:
    """Decodes base64url without padding, as JOSE writes it."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
