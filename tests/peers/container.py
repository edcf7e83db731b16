"""Containers, as a kubelet or systemd would start them: a root file system, mounts, a user, a network of their own; run by crun.

What a test describes is what runs: nothing is added to the arguments, the environment or the files. Ports are those of the
container's own network; `Container.forward` leads to them, as `kubectl port-forward` does.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import signal
import socket
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

from provisions import crun
from support import TIMEOUT, wait_for

_numbers = itertools.count(1)
CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Mount:
    """A file or a folder of this machine, at a place in the container."""

    source: Path
    target: str
    writable: bool = False


@dataclass
class Described:
    """A container to be started."""

    root: Path
    args: list[str]
    env: dict[str, str] = field(default_factory=dict)
    user: int = 0
    group: int = 0
    groups: list[int] = field(default_factory=list)
    mounts: list[Mount] = field(default_factory=list)
    # Where the container's own files are (its log); a folder that is there.
    directory: Path = Path()
    # The container in whose network this one is; else it has its own, with nothing but a loopback interface.
    beside: Container | None = None
    # The system calls that it may make, if not all.
    system_calls: list[str] | None = None

    def configuration(self) -> dict:
        """What an OCI runtime is told. No capability, no new privileges, nothing to write to but what is mounted."""
        network = {"type": "network"} | ({"path": f"/proc/{self.beside.pid}/ns/net"} if self.beside else {})
        own = ["pid", "ipc", "uts", "mount"]
        linux = {
            "namespaces": [{"type": kind} for kind in own] + [network],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        }
        if self.system_calls is not None:
            linux["seccomp"] = {
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{"names": self.system_calls, "action": "SCMP_ACT_ALLOW"}],
            }
        return {
            "ociVersion": "1.0.2",
            "root": {"path": str(self.root), "readonly": True},
            "process": {
                "args": self.args,
                "cwd": "/",
                "env": [f"{name}={value}" for name, value in self.env.items()],
                "user": {"uid": self.user, "gid": self.group, "additionalGids": self.groups},
                "capabilities": {},
                "noNewPrivileges": True,
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro", "nosuid"]},
                {
                    "destination": "/dev",
                    "type": "tmpfs",
                    "source": "tmpfs",
                    "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
                },
                *(
                    {
                        "destination": mount.target,
                        "type": "bind",
                        "source": str(mount.source),
                        "options": ["rbind", "nosuid", "nodev", "rw" if mount.writable else "ro"],
                    }
                    for mount in self.mounts
                ),
            ],
            "linux": linux,
        }


class Container:
    """A container that runs, until it ends or is ended. As a context manager it ends with its block."""

    def __init__(self, described: Described) -> None:
        self.described = described
        self.id = f"tresor-test-{os.getpid()}-{next(_numbers)}"
        self.bundle = described.directory / self.id
        self.log = self.bundle / "log"
        self.pid = 0
        self._forwards: dict[int, _Forward] = {}
        self._state = self.bundle / "state"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Container:
        """Starts it and waits until its process is there."""
        self.bundle.mkdir(parents=True)
        (self.bundle / "config.json").write_text(json.dumps(self.described.configuration()))
        pid_file = self.bundle / "pid"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._crun("run", "--bundle", self.bundle, "--pid-file", pid_file, self.id),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_for(lambda: self._process.poll() is not None or (pid_file.exists() and pid_file.read_text()), "crun")
        self.pid = int(pid_file.read_text() or 0) if pid_file.exists() else 0
        return self

    @property
    def output(self) -> str:
        """What it has written, to standard output and standard error."""
        return self.log.read_text()

    def says(self, what: str) -> None:
        """Waits until it has said that."""

        def has_said() -> bool:
            if what in self.output:
                return True
            assert self.is_running(), f"ended with {self._process.returncode}: {self.output}"
            return False

        wait_for(has_said, f"{what!r}")

    def is_running(self) -> bool:
        return self._process.poll() is None

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a program in it, as its user."""
        return subprocess.run(self._crun("exec", self.id, *command), capture_output=True, text=True, timeout=TIMEOUT)

    def wait(self) -> int:
        """Waits until it has ended by itself: its exit code."""
        return self._process.wait(TIMEOUT)

    def signal(self, what: signal.Signals) -> None:
        subprocess.run(self._crun("kill", self.id, str(int(what))), check=True, capture_output=True)

    def stop(self, grace: float = TIMEOUT) -> int:
        """Asks it to end, waits so many seconds, then ends it: its exit code."""
        try:
            if self.is_running():
                self.signal(signal.SIGTERM)
                return self._process.wait(grace)
            return self._process.returncode
        finally:
            self.remove()

    def remove(self) -> None:
        """Ends it without asking. What it has mounted stays."""
        if self._process and self._process.poll() is None:
            subprocess.run(self._crun("kill", self.id, "KILL"), capture_output=True)
            self._process.wait(TIMEOUT)
        for forward in self._forwards.values():
            forward.close()
        self._forwards.clear()
        subprocess.run(self._crun("delete", "--force", self.id), capture_output=True)

    def forward(self, port: int) -> int:
        """A port of this machine's loopback interface that leads to the container's."""
        if port not in self._forwards:
            self._forwards[port] = _Forward(self.pid, port)
        return self._forwards[port].port

    def _crun(self, *command: str | Path) -> list[str | Path]:
        # Without control groups, which it would refuse to look at where both versions are mounted.
        hide = 'mount -t tmpfs tmpfs /sys/fs/cgroup && exec "$@"'
        crun_here = [crun(), "--root", self._state, "--cgroup-manager", "disabled", *command]
        return ["unshare", "--mount", "sh", "-c", hide, "sh", *crun_here]

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Network:
    """The network of a process."""

    def __init__(self, pid: int) -> None:
        self._file = open(f"/proc/{pid}/ns/net")

    def enter(self) -> None:
        """From now on this thread, and no other, makes its sockets there."""
        with self._file as network:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(network.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "the container's network cannot be entered")


class _Forward:
    """Takes connections on this machine and makes them anew in a container's network."""

    def __init__(self, pid: int, port: int) -> None:
        self._inside = port
        self._network = Network(pid)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        self._network.enter()
        while True:
            try:
                outside, _ = self._listener.accept()
            except OSError:
                return
            try:
                inside = socket.create_connection(("127.0.0.1", self._inside))
            except OSError:
                outside.close()
                continue
            threading.Thread(target=_carry, args=(outside, inside), daemon=True).start()


def _carry(outside: socket.socket, inside: socket.socket) -> None:
    """Both ways, until both ends have said that they are done or one is gone."""
    with outside, inside:
        back = threading.Thread(target=_pump, args=(inside, outside), daemon=True)
        back.start()
        _pump(outside, inside)
        back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while part := source.recv(65536):
            sink.sendall(part)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
