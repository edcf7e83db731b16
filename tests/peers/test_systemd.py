"""The Debian package and its unit: installed by dpkg on a throw-away copy of this machine, then started as the unit says."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from container import Container, Described, Mount
from contract import ROOT
from pki import Pki
from provisions import cargo_deb, debian, systemd_analyze
from support import TRESOR, wait_for

UNIT = ROOT / "deploy/systemd/tresor.service"
OPERATOR = "spiffe://dynarex.local/operator"
ORDER_SERVICE = "spiffe://dynarex.local/order-service"
CREDENTIALS = "/run/credentials/tresor.service"


class Unit:
    """What a unit file says: the values of a key, in their order."""

    def __init__(self, text: str) -> None:
        self._settings = [line.split("=", 1) for line in text.splitlines() if re.match(r"[A-Za-z]+=", line)]

    def all(self, key: str) -> list[str]:
        return [value for name, value in self._settings if name == key]

    def one(self, key: str) -> str:
        (value,) = self.all(key)
        return value

    def system_calls(self) -> list[str]:
        """What SystemCallFilter= lets through, group by group, as systemd would work it out."""
        allowed: list[str] = []
        for value in self.all("SystemCallFilter"):
            is_denied = value.startswith("~")
            for call in _expanded(value.lstrip("~").split()):
                if is_denied and call in allowed:
                    allowed.remove(call)
                elif not is_denied and call not in allowed:
                    allowed.append(call)
        return allowed


def _expanded(names: list[str]) -> list[str]:
    calls = []
    for name in names:
        if not name.startswith("@"):
            calls.append(name)
            continue
        listed = subprocess.run([systemd_analyze(), "syscall-filter", name], capture_output=True, text=True, check=True)
        members = [line.strip() for line in listed.stdout.splitlines()[1:]]
        calls += _expanded([member for member in members if member and not member.startswith("#")])
    return calls


class Machine:
    """A copy of this machine that is thrown away: what is changed in it is changed nowhere else."""

    def __init__(self, directory: Path) -> None:
        self.root, upper, work = (directory / name for name in ("machine", "upper", "work"))
        for folder in (self.root, upper, work):
            folder.mkdir()
        options = f"lowerdir=/,upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.root], check=True)

    def run(self, *command: str) -> str:
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        done = subprocess.run(["chroot", self.root, *command], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def user(self) -> tuple[int, int]:
        """The ids of user and group of the service."""
        line = next(line for line in self.path("/etc/passwd").read_text().splitlines() if line.startswith("tresor:"))
        return int(line.split(":")[2]), int(line.split(":")[3])

    def remove(self) -> None:
        subprocess.run(["umount", self.root], check=True)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package, of the program that the other tests have."""
    folder = tmp_path_factory.mktemp("package")
    program = folder / "tresor"
    subprocess.run(["strip", "--strip-debug", "-o", program, TRESOR], check=True)
    # The manifest names what a release build leaves.
    release = folder / "target/release"
    release.mkdir(parents=True)
    program.rename(release / "tresor")
    made = subprocess.run(
        [cargo_deb(), "--no-build", "--no-strip", "--fast", "--output", folder / "tresor.deb"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"CARGO_TARGET_DIR": str(folder / "target")},
    )
    assert made.returncode == 0, made.stderr
    return folder / "tresor.deb"


@contextlib.contextmanager
def installed(package: Path, directory: Path) -> Iterator[Machine]:
    """A machine on which the package is installed."""
    systemd_analyze()
    machine = Machine(directory)
    try:
        machine.path("/tmp").mkdir(exist_ok=True)
        (machine.path("/tmp") / "tresor.deb").write_bytes(package.read_bytes())
        machine.run("dpkg", "--install", "/tmp/tresor.deb")
        yield machine
    finally:
        machine.remove()


@pytest.fixture(scope="module")
def machine(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with installed(package, tmp_path_factory.mktemp("debian")) as machine:
        yield machine


def test_the_package_has_what_a_service_needs_where_debian_wants_it(package: Path) -> None:
    listed = subprocess.run([debian("dpkg-deb", "dpkg"), "--contents", package], capture_output=True, text=True, check=True)
    files = {line.split()[5].removeprefix("."): line.split()[0] for line in listed.stdout.splitlines()}
    assert files["/usr/bin/tresor"] == "-rwxr-xr-x"
    assert {"/usr/lib/sysusers.d/tresor.conf", "/etc/tresor/tresor.toml", "/etc/tresor/policy.toml"} <= files.keys()
    assert any(name.endswith("lib/systemd/system/tresor.service") for name in files)
    assert {"/usr/share/doc/tresor/copyright", "/usr/share/doc/tresor/OPERATIONS.md"} <= files.keys()
    # What whoever is paged reads, and what pages them, where docs/METRICS.md says that it is.
    pages = {f"/usr/share/doc/tresor/runbook/{page.name}" for page in (ROOT / "docs/runbook").glob("*.md")}
    assert len(pages) >= 28 and pages <= files.keys()
    for name in ("alerts.yml", "dashboard.json"):
        assert f"/usr/share/tresor/observability/{name}" in files
    # Nothing of it is a key.
    assert not any(name.endswith(".key") for name in files)
    fields = subprocess.run(["dpkg-deb", "--field", package], capture_output=True, text=True, check=True).stdout
    assert "Package: tresor\n" in fields and "libc6" in fields and "systemd" in fields


def test_installing_it_makes_a_user_and_a_key_of_roots_alone(machine: Machine) -> None:
    user, group = machine.user()
    assert 0 < user < 1000
    key = machine.path("/etc/tresor/kek.key").stat()
    assert (key.st_uid, stat.S_IMODE(key.st_mode)) == (0, 0o600)
    for name in ("/etc/tresor", "/etc/tresor/tls"):
        folder = machine.path(name).stat()
        assert (folder.st_uid, folder.st_gid, stat.S_IMODE(folder.st_mode)) == (0, group, 0o750)
    # It is not started: it has no certificate yet.
    assert not machine.path("/etc/systemd/system/multi-user.target.wants/tresor.service").exists()


def test_installing_it_again_keeps_the_key_and_what_was_configured(machine: Machine) -> None:
    key = machine.path("/etc/tresor/kek.key").read_bytes()
    policy = machine.path("/etc/tresor/policy.toml")
    changed = policy.read_text() + "# mine\n"
    policy.write_text(changed)
    machine.run("dpkg", "--install", "--force-confold", "/tmp/tresor.deb")
    assert machine.path("/etc/tresor/kek.key").read_bytes() == key
    assert policy.read_text() == changed


def test_a_purge_leaves_what_nobody_gets_back_and_nothing_else_of_its_own(package: Path, tmp_path: Path) -> None:
    with installed(package, tmp_path) as machine:
        key = machine.path("/etc/tresor/kek.key").read_bytes()
        kept = {"/var/lib/tresor/store/db": b"records", "/var/lib/tresor/audit/log": b"lines", "/etc/tresor/tls/server.key": b"mine"}
        for name, content in kept.items():
            machine.path(name).parent.mkdir(parents=True, exist_ok=True)
            machine.path(name).write_bytes(content)
        packed = machine.run("dpkg", "--listfiles", "tresor").split()
        files = [name for name in packed if machine.path(name).is_file()]
        assert {"/usr/bin/tresor", "/etc/tresor/tresor.toml", "/etc/tresor/policy.toml"} <= set(files)
        machine.run("dpkg", "--purge", "tresor")
        assert [name for name in files if machine.path(name).exists()] == []
        left = [path for path in machine.path("/etc/tresor").rglob("*") if path.is_file()]
        assert sorted(path.name for path in left) == ["kek.key", "server.key"]
        assert {name: machine.path(name).read_bytes() for name in kept} == kept
        assert machine.path("/etc/tresor/kek.key").read_bytes() == key
        # And whoever installs it again goes on with that key.
        machine.run("dpkg", "--install", "/tmp/tresor.deb")
        assert machine.path("/etc/tresor/kek.key").read_bytes() == key
        assert machine.path("/etc/tresor/tresor.toml").exists()


def test_the_unit_is_right_and_closed(machine: Machine) -> None:
    analyze = systemd_analyze()
    verified = subprocess.run(
        [analyze, "verify", "--recursive-errors=no", "tresor.service", f"--root={machine.root}"],
        capture_output=True,
        text=True,
    )
    assert (verified.returncode, verified.stderr) == (0, ""), verified.stderr
    judged = subprocess.run([analyze, "security", "--offline=true", UNIT], capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout
    exposure = re.search(r"Overall exposure level for tresor.service: ([0-9.]+)", judged.stdout)
    (promised,) = re.findall(r"`systemd-analyze security tresor` says ([0-9.]+\d)", (ROOT / "deploy/README.md").read_text())
    assert float(exposure[1]) <= float(promised) <= 2.0


class Service:
    """The installed service, started with what its unit says, by somebody who listens as systemd does."""

    def __init__(self, machine: Machine, directory: Path, watchdog: float | None = None) -> None:
        self.machine = machine
        self.directory = directory
        self.unit = Unit(UNIT.read_text())
        self.user, self.group = machine.user()
        self.pki = Pki()
        self._certify()
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify = directory / "notify"
        self._notify.mkdir()
        self.notified.bind(str(self._notify / "socket"))
        (self._notify / "socket").chmod(0o666)
        self.notified.setblocking(False)
        self._credentials = directory / "credentials"
        self._credentials.mkdir()
        self.state = directory / "state"
        self.state.mkdir(mode=0o700)
        os.chown(self.state, self.user, self.group)
        seconds = watchdog or float(self.unit.one("WatchdogSec").removesuffix("s"))
        self.watchdog = int(seconds * 1_000_000)

    def _certify(self) -> None:
        issued = self.pki.server("vault.example", "localhost")
        folder = self.machine.path("/etc/tresor/tls")
        for file, content in (("server.pem", issued.certificate), ("server.key", issued.key), ("client-ca.pem", issued.ca)):
            (folder / file).write_bytes(content)
            os.chown(folder / file, 0, self.group)
            (folder / file).chmod(0o640)

    def load_credential(self, owner: int, mode: int, acl: bool = False) -> None:
        """LoadCredential=: the file named there, in a folder of the service's own."""
        name, source = self.unit.one("LoadCredential").split(":")
        copy = self._credentials / name
        copy.unlink(missing_ok=True)
        copy.write_bytes(self.machine.path(source).read_bytes())
        os.chown(copy, owner, 0 if owner == 0 else self.group)
        copy.chmod(mode)
        os.chown(self._credentials, self.user if not acl else 0, 0)
        self._credentials.chmod(0o500 if not acl else 0o755)
        if acl:
            # As systemd does where the file system knows access lists: version 2; owner, this user, group, mask, others.
            entries = [(0x01, 4, -1), (0x02, 4, self.user), (0x04, 0, -1), (0x10, 4, -1), (0x20, 0, -1)]
            packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
            os.setxattr(copy, "system.posix_acl_access", packed)

    def start(self) -> Container:
        environment = dict(variable.split("=", 1) for variable in self.unit.all("Environment"))
        environment = {name: value.replace("%d", CREDENTIALS) for name, value in environment.items()}
        told = {"NOTIFY_SOCKET": "/run/systemd-notify/socket", "WATCHDOG_USEC": str(self.watchdog)}
        described = Described(
            root=self.machine.root,
            args=self.unit.one("ExecStart").split(),
            env=environment | told | {"CREDENTIALS_DIRECTORY": CREDENTIALS},
            user=self.user,
            group=self.group,
            mounts=[
                Mount(self._credentials, CREDENTIALS),
                Mount(self._notify, "/run/systemd-notify", writable=True),
                Mount(self.state, "/var/lib/tresor", writable=True),
            ],
            directory=self.directory,
            system_calls=self.unit.system_calls(),
        )
        self.running = Container(described).start()
        return self.running

    def hears(self, *wanted: str) -> list[str]:
        """What it is told, up to a message that begins with one of these."""
        heard: list[str] = []

        def is_there() -> bool:
            try:
                heard.extend(self.notified.recv(4096).decode().splitlines())
            except BlockingIOError:
                assert self.running.is_running(), self.running.output
            return any(line.startswith(wanted) for line in heard)

        wait_for(is_there, f"{wanted}; so far: {heard}")
        return heard


@pytest.fixture
def service(machine: Machine, tmp_path: Path) -> Iterator[Service]:
    service = Service(machine, tmp_path, watchdog=0.4)
    yield service
    service.notified.close()


def test_the_service_says_when_it_is_ready_alive_reloading_and_ending(service: Service) -> None:
    service.load_credential(owner=service.user, mode=0o400)
    with service.start() as running:
        heard = service.hears("READY=1")
        assert "WATCHDOG=1" in heard + service.hears("WATCHDOG=1")
        service.hears("WATCHDOG=1")
        operator = service.pki.caller(service.directory / "operator", running.forward(8443), OPERATOR)
        operator.save("firm", password="kept")
        running.signal(signal.SIGHUP)
        reloaded = service.hears("RELOADING=1")
        assert any(line.startswith("MONOTONIC_USEC=") for line in reloaded)
        service.hears("READY=1")
        running.signal(signal.SIGTERM)
        service.hears("STOPPING=1")
        assert running.wait() == 0, running.output


def test_the_units_filter_leaves_the_vault_its_own_sandbox(service: Service) -> None:
    # Memory is locked where there is no limit, which not every machine for tests lets anybody have.
    assert service.unit.one("LimitMEMLOCK") == "infinity"
    assert {"mlockall", "prlimit64"} <= set(service.unit.system_calls())
    service.load_credential(owner=service.user, mode=0o400)
    with service.start() as running:
        running.says('"message":"hardened"')
        for measure in ("file_sandbox", "system_call_filter"):
            assert f'"{measure}":"on"' in running.output
        order_service = service.pki.caller(service.directory / "orders", running.forward(8443), ORDER_SERVICE)
        operator = service.pki.caller(service.directory / "operator", running.forward(8443), OPERATOR)
        operator.save("firm", password="kept")
        assert order_service.resolve("firm").credential.login.password == "kept"
        wait_for(lambda: list(service.state.glob("backups/tresor-*.backup")), "the first backup")
        assert running.stop() == 0, running.output


@pytest.mark.parametrize("acl", [False, True], ids=["chown", "access-list"])
def test_the_key_is_taken_as_each_version_of_systemd_hands_it_over(service: Service, acl: bool) -> None:
    if acl:
        service.load_credential(owner=0, mode=0o400, acl=True)
    else:
        service.load_credential(owner=service.user, mode=0o400)
    with service.start() as running:
        service.hears("READY=1")
        assert running.stop() == 0, running.output
    # The original is out of the service's reach.
    assert stat.S_IMODE(service.machine.path("/etc/tresor/kek.key").stat().st_mode) == 0o600


def test_a_service_that_cannot_start_says_why_and_is_not_ready(service: Service) -> None:
    service.load_credential(owner=service.user, mode=0o644)
    with service.start() as running:
        assert running.wait() != 0
        assert f"chmod 600 {CREDENTIALS}/kek.key" in running.output
    with pytest.raises(BlockingIOError):
        service.notified.recv(1)
