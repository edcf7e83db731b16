"""The vault beside OpenBao: what a read and a write cost the server.

Both serve the same number of credentials, over TLS 1.3, with an audit log. They take turns in short slices, so that the machine's
drift meets both. What is compared is above all the CPU time that the operating system counts for the server, since the
load generators differ: h2load calls OpenBao; it cannot show a client certificate, which the vault asks for.

Ratios are medians over the rounds, each of two slices that followed each other. An OpenBao read is compared with a resolve, which
also chooses the credential and hands out its signature.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from h2load import Done, H2load
from openbao import OpenBao
from vault import ROOT, Vault, deployment

CONNECTIONS = 8
# About what a credential of the vault's store has.
SECRET = {"customer_number": "1234567", "username": "appraiser-1234", "password": "correct-horse-battery-staple"}


@dataclass
class Slice:
    """What was seen in one slice."""

    per_second: float
    # Of the server, per request.
    cpu_microseconds: float


@dataclass
class Target:
    """A ratio that is good enough, and one that is aimed at."""

    name: str
    at_least: float
    aim: float
    measured: float

    @property
    def verdict(self) -> str:
        return "aim met" if self.measured >= self.aim else "met" if self.measured >= self.at_least else "NOT MET"


def main() -> int:
    arguments = parsed()
    if shutil.which("h2load") is None:
        print("h2load is missing; on Debian: apt-get install nghttp2-client", file=sys.stderr)
        return 2
    # So that what was started ends, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    made = deployment(arguments.credentials)
    (ROOT / "target").mkdir(exist_ok=True)
    # On the disk on which the vault's store is, too: both sync it.
    with tempfile.TemporaryDirectory(prefix="openbao-", dir=ROOT / "target") as folder, OpenBao(
        Path(folder), made / "tls"
    ) as openbao, Vault(
        arguments.credentials, CONNECTIONS, CONNECTIONS, arguments.slice
    ) as vault:
        rows = measured(arguments, Path(folder), openbao, vault)
    targets = judged(rows)
    if arguments.json:
        report = {
            "credentials": arguments.credentials,
            "rows": {name: [asdict(one) for one in slices] for name, slices in rows.items()},
            "targets": [asdict(target) | {"verdict": target.verdict} for target in targets],
        }
        print(json.dumps(report, indent=2))
    else:
        show(arguments.credentials, rows, targets)
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benches/openbao/run", description=__doc__.split("\n")[0])
    parser.add_argument("--credentials", type=int, default=10_000, help="how many each of them holds (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each takes its turns (default: %(default)s)")
    parser.add_argument("--slice", type=float, default=3.0, help="seconds of a turn (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    arguments = parser.parse_args()
    if arguments.credentials < 1 or arguments.rounds < 1 or not 0.1 <= arguments.slice <= 60:
        parser.error("there must be a credential, a round, and a slice of 0.1 to 60 seconds")
    return arguments


def measured(arguments: argparse.Namespace, folder: Path, openbao: OpenBao, vault: Vault) -> dict[str, list[Slice]]:
    urls = [openbao.url(f"secret/data/bench/{number}") for number in range(arguments.credentials)]
    body = json.dumps({"data": SECRET}).encode()
    h2load = H2load(folder, urls, openbao.token, body, CONNECTIONS)
    began = time.monotonic()
    h2load.write_each_once(len(urls))
    print(f"loaded {len(urls)} secrets into OpenBao in {time.monotonic() - began:.0f} s", file=sys.stderr)
    answer = openbao.read("secret/data/bench/0")
    if json.loads(answer)["data"]["data"] != SECRET:
        raise RuntimeError("OpenBao does not hold what was written")

    def of_openbao(done: Done, cpu_before: float) -> Slice:
        cpu = openbao.cpu_seconds() - cpu_before
        return Slice(done.requests / done.seconds, cpu * 1e6 / done.requests)

    def of_vault(case: str) -> Slice:
        seen = vault.turn(case)
        return Slice(seen["per_second"], seen["server_cpu"])

    # Times in an answer have as many digits as they need.
    least = len(answer) - 16
    turns = {
        "OpenBao, KV v2 read": lambda: of_openbao(
            cpu_before=openbao.cpu_seconds(), done=h2load.read(CONNECTIONS, arguments.slice, least)
        ),
        "vault, ResolveForOrder": lambda: of_vault("resolve"),
        "OpenBao, KV v2 write": lambda: of_openbao(
            cpu_before=openbao.cpu_seconds(), done=h2load.write(CONNECTIONS, arguments.slice)
        ),
        "vault, PutCredential": lambda: of_vault("save"),
    }
    # These do not count: caches and buffers are cold.
    for turn in turns.values():
        turn()
    rows: dict[str, list[Slice]] = {name: [] for name in turns}
    for number in range(arguments.rounds):
        for name, turn in turns.items():
            rows[name].append(turn())
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
    return rows


def judged(rows: dict[str, list[Slice]]) -> list[Target]:
    read, resolve, write, save = rows.values()
    cpu = [theirs.cpu_microseconds / ours.cpu_microseconds for theirs, ours in zip(read, resolve)]
    writes = [ours.per_second / theirs.per_second for theirs, ours in zip(write, save)]
    return [
        Target("server CPU of an OpenBao read ÷ of a resolve", 50, 75, median(cpu)),
        Target("durable saves/s ÷ OpenBao writes/s, 64 clients each", 12, 20, median(writes)),
    ]


def show(credentials: int, rows: dict[str, list[Slice]], targets: list[Target]) -> None:
    print(f"{credentials} credentials, {CONNECTIONS} connections × {CONNECTIONS} streams, medians\n")
    print(f"{'':<26}{'requests/s':>12}{'server CPU µs':>16}")
    for name, slices in rows.items():
        per_second = median(one.per_second for one in slices)
        cpu = median(one.cpu_microseconds for one in slices)
        print(f"{name:<26}{per_second:>12,.0f}{cpu:>16,.1f}")
    print(f"\n{'':<54}{'measured':>10}{'target':>9}{'aim':>7}")
    for target in targets:
        figures = f"{target.measured:>10.1f}{'≥ ' + f'{target.at_least:g}':>9}{target.aim:>7g}"
        print(f"{target.name:<54}{figures}  {target.verdict}")


if __name__ == "__main__":
    sys.exit(main())
