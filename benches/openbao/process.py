"""Processes that end with the run, and what the operating system says of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Seconds that a process may take to end when it is asked to.
PATIENCE = 20


class Process:
    """A process. It is asked to end when the `with` is over, and killed if it does not."""

    def __init__(self, *command: str | Path, **options: Any) -> None:
        self._child = subprocess.Popen(command, **options)

    @property
    def child(self) -> subprocess.Popen[Any]:
        return self._child

    def cpu_seconds(self) -> float:
        """User and system time of all threads so far: proc(5), fields 14 and 15."""
        stat = Path(f"/proc/{self._child.pid}/stat").read_text()
        # The name before it may hold anything.
        fields = stat.rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def has_ended(self) -> bool:
        return self._child.poll() is not None

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.terminate()
        try:
            self._child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
