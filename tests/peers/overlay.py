"""The vault of an overlay, started as its manifests say."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from container import Container
from kubelet import Cluster, Pod, probe, rendered
from support import TRESOR, Client, run, wait_for


class Vault:
    """The vault of an overlay, in a container that the StatefulSet describes."""

    def __init__(self, overlay: str, directory: Path, secrets: dict[str, dict[str, bytes]] | None = None) -> None:
        """With what an operator makes by hand: these Secrets, or a new key."""
        secrets = secrets or {"tresor-kek": {"kek.key": _new_key(directory)}}
        self.cluster = Cluster(rendered(f"overlays/{overlay}"), directory, secrets)
        self.pod: Pod = self.cluster.pod("StatefulSet", "tresor")
        self.container: Container | None = None

    def start(self) -> Vault:
        self.container = self.pod.start()
        wait_for(lambda: self.passes("startupProbe"), "the startup probe")
        return self

    def passes(self, name: str) -> bool:
        assert self.container.is_running(), self.container.output
        return probe(self.container, self.pod.container[name])

    def metrics(self) -> str:
        """What Prometheus reads."""
        (port,) = (port["containerPort"] for port in self.pod.container["ports"] if port["name"] == "metrics")
        with urllib.request.urlopen(f"http://127.0.0.1:{self.container.forward(port)}/metrics") as answer:
            return answer.read().decode()

    def caller(self, secret: str) -> Client:
        """Somebody with the certificate in that Secret, through a port that leads to the pod."""
        files = self.cluster.secrets[secret]
        folder = self.cluster.directory / secret
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return Client(
            f"localhost:{self.container.forward(8443)}",
            ca=folder / "ca.crt",
            certificate=folder / "tls.crt",
            key=folder / "tls.key",
        )


def _new_key(directory: Path) -> bytes:
    made = run(TRESOR, "init", directory / "made")
    assert made.returncode == 0, made.stderr
    return (directory / "made/kek.key").read_bytes()
