"""Requests at full speed: h2load, whose answers are checked, since it takes refusals and half answers for successes."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Done:
    """What was answered, and within how many seconds."""

    requests: int
    seconds: float


class H2load:
    """Connections to a server, each a process with a list of addresses that begins elsewhere: no two of them are about the
    same secret at the same time."""

    def __init__(self, directory: Path, urls: list[str], token: str, body: bytes, connections: int) -> None:
        self._token = token
        self._body = directory / "body"
        self._body.write_bytes(body)
        self._lists = []
        for number in range(connections):
            begin = number * len(urls) // connections
            urls_from_there = directory / f"urls-{number}"
            urls_from_there.write_text("\n".join(urls[begin:] + urls[:begin]))
            self._lists.append(urls_from_there)

    def read(self, streams: int, seconds: float, least_bytes: int) -> Done:
        """Reads for so long; each answer must have so many bytes at least."""
        return self._run(self._lists, [f"-D{round(seconds * 1000)}ms", f"-m{streams}"], least_bytes)

    def write(self, streams: int, seconds: float) -> Done:
        return self._run(self._lists, [f"-D{round(seconds * 1000)}ms", f"-m{streams}", f"-d{self._body}"], 1)

    def write_each_once(self, count: int) -> Done:
        done = self._run(self._lists[:1], [f"-n{count}", "-m64", f"-d{self._body}"], 1)
        if done.requests != count:
            raise RuntimeError(f"h2load: {done.requests} of {count} secrets were written")
        return done

    def _run(self, lists: list[Path], options: list[str], least_bytes: int) -> Done:
        command = ["h2load", "-c1", "-t1", f"-Hx-vault-token: {self._token}", "-Hcontent-type: application/json", *options]
        running = [
            subprocess.Popen([*command, f"-i{urls}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for urls in lists
        ]
        try:
            done = [judged(process.communicate()[0], least_bytes) for process in running]
        finally:
            for process in running:
                process.kill()
                process.wait()
        return Done(sum(one.requests for one in done), max(one.seconds for one in done))


def judged(said: str, least_bytes: int) -> Done:
    """What h2load says, if every request that was answered was answered well."""

    def found(pattern: str) -> re.Match[str]:
        match = re.search(pattern, said)
        if match is None:
            raise RuntimeError(f"h2load says something else than it used to:\n{said}")
        return match

    seconds = found(r"finished in ([\d.]+)(ms|us|s)")
    done = int(found(r"(\d+) done, ")[1])
    good, others = int(found(r"status codes: (\d+) 2xx")[1]), found(r"2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx")
    failed = found(r"(\d+) failed, (\d+) errored, (\d+) timeout")
    data = found(r", [\d.]+[KMG]?B \((\d+)\) data")
    # A status comes before its body, so one more than are done may have it.
    if done == 0 or good < done or any(map(int, others.groups())) or any(map(int, failed.groups())):
        raise RuntimeError(f"h2load: not every request was answered well:\n{said}")
    if int(data[1]) < done * least_bytes:
        raise RuntimeError(f"h2load: answers have less than {least_bytes} bytes:\n{said}")
    scale = {"s": 1.0, "ms": 1e-3, "us": 1e-6}[seconds[2]]
    return Done(done, float(seconds[1]) * scale)
