"""The vault, as the load generator serves and calls it: `cargo bench --bench load -- turns`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from process import Process

ROOT = Path(__file__).resolve().parents[2]
LOAD = ["cargo", "bench", "--quiet", "--bench", "load", "--"]


def deployment(credentials: int) -> Path:
    """The folder of a deployment with so many credentials. It is made if it is not there, and so is the load generator."""
    made = subprocess.run(
        [*LOAD, "store", f"--credentials={credentials}"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return Path(made.stdout.strip())


class Vault(Process):
    """Serves and is called when it is told to."""

    def __init__(self, credentials: int, connections: int, streams: int, seconds: float) -> None:
        shape = [f"--connections={connections}", f"--streams={streams}", f"--turn={round(seconds * 1000)}ms"]
        command = [*LOAD, "turns", f"--credentials={credentials}", *shape]
        super().__init__(*command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def turn(self, case: str) -> dict[str, float]:
        """Calls for as long as a turn is: how often `per_second`, and the server's `server_cpu` in microseconds a call."""
        self.child.stdin.write(f"{case}\n")
        self.child.stdin.flush()
        if line := self.child.stdout.readline():
            return json.loads(line)
        raise RuntimeError(f"the load generator has ended; it was to {case}")

    def __exit__(self, *exception: object) -> None:
        # It ends with its input, and its server with it.
        self.child.stdin.close()
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            super().__exit__(*exception)
