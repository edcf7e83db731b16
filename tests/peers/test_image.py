"""The image of deploy/Dockerfile: what is in it, and that it serves as nobody in particular, with nothing to write to."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import image
import pytest
from console import Document, Shell
from container import Container, Described, Mount
from contract import ROOT
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from names import NameServer
from pki import Pki
from provisions import debian
from support import TARGET, TRESOR, run

NOBODY = 65532
OPERATOR = "spiffe://dynarex.local/operator"
ORDER_SERVICE = "spiffe://dynarex.local/order-service"


def test_it_holds_one_program_and_nothing_that_could_run_another() -> None:
    root = image.root()
    files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())
    assert files == ["usr/bin/tresor", "usr/share/doc/tresor/LICENSE", "usr/share/doc/tresor/sbom.cdx.json"]
    # Nothing belongs to the user that it runs as, so nothing of it can be changed.
    assert {(path.stat().st_uid, path.stat().st_mode & 0o022) for path in root.rglob("*")} == {(0, 0)}
    linkage = subprocess.run(["ldd", root / "usr/bin/tresor"], capture_output=True, text=True)
    assert "statically linked" in linkage.stdout + linkage.stderr


def test_it_says_what_it_is_and_how_it_is_run() -> None:
    config = image.configuration()["config"]
    assert config["User"] == f"{NOBODY}:{NOBODY}"
    assert config["Entrypoint"] == ["/usr/bin/tresor"]
    assert config["Cmd"] == ["serve", "--config", "/etc/tresor/tresor.toml"]
    assert config["Healthcheck"]["Test"] == ["CMD", "/usr/bin/tresor", "health", "--timeout", "2s"]
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert labels["version"] == "0.0.0-test"
    assert labels["revision"] == "0123456"
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
    assert (labels["description"], labels["licenses"]) == (manifest["description"], manifest["license"])


def test_the_same_program_twice_makes_the_same_image() -> None:
    once, again = image.assembled(), image.assembled("assembled-again")
    assert once != again
    assert image.build("tresor-test-oci", "oci", once) == image.build("tresor-test-oci-again", "oci", again)
    # It would not be if one byte were another.
    licence = again / "usr/share/doc/tresor/LICENSE"
    licence.write_text(licence.read_text() + "\n")
    assert image.build("tresor-test-oci", "oci", once) != image.build("tresor-test-oci-again", "oci", again)


def test_building_it_leaves_cargo_looking_at_our_own_files() -> None:
    """Else a build after the tests would find nothing changed, whatever was. Of files in its target folder cargo notes where they are,
    of others where they are in their package."""
    context = image.context()
    assert TARGET.resolve() not in context.resolve().parents
    image.assembled()
    noted = [path.read_bytes() for path in (TARGET / "debug/.fingerprint").glob("tresor-*/dep-*")]
    assert any(b"src/server/gate.rs" in files for files in noted)
    assert not any(context.name.encode() in files for files in noted)


def test_a_build_is_as_small_as_the_readme_says_or_fails() -> None:
    (promised,) = re.findall(r"`FROM scratch`, less than (\d+) MB", (ROOT / "README.md").read_text())
    script = (ROOT / "deploy/image/assemble").read_text()
    assert f"release) limit={promised}000000 ;;" in script
    assert script.endswith('\ndeploy/image/fits "$root" "$limit"\n')
    files = {path: path.stat().st_size for path in image.root().rglob("*") if path.is_file()}
    # Next to the program there is nearly nothing, whatever it was compiled with.
    assert sum(files.values()) - files[image.root() / "usr/bin/tresor"] < 1_000_000
    size = sum(files.values())
    fits = ROOT / "deploy/image/fits"
    assert run(fits, image.root(), str(size)).returncode == 0
    refused = run(fits, image.root(), str(size - 1))
    assert refused.returncode == 1 and "usr/bin/tresor" in refused.stderr


def test_its_bill_of_materials_names_every_crate_that_is_linked() -> None:
    text = (image.root() / "usr/share/doc/tresor/sbom.cdx.json").read_text()
    bill = json.loads(text)
    # One component of each shape and licence: the validator takes its time for every one.
    kinds = {(*each, each["licenses"][0]["expression"]): each for each in bill["components"]}
    some = json.dumps(bill | {"components": list(kinds.values()), "dependencies": bill["dependencies"][:5]})
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(some) is None
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    locked = {(each["name"], each["version"]): each.get("checksum") for each in lock}
    named = {(each["name"], each["version"]): each["hashes"][0]["content"] for each in bill["components"]}
    assert named.items() <= locked.items()
    names = {name for name, _ in named}
    assert manifest["dependencies"].keys() | {"tokio-macros", "aws-lc-sys", "h2"} <= names
    # What only tests or builds it; and what nobody has switched on.
    assert not {"proptest", "protox", "ring"} & names
    assert all(each["licenses"] for each in bill["components"])
    refs = {each["ref"]: set(each["dependsOn"]) for each in bill["dependencies"]}
    assert "pkg:cargo/rustls" in " ".join(refs[bill["metadata"]["component"]["bom-ref"]])
    assert all(needed <= refs.keys() for needed in refs.values())


class Serving:
    """The image, started as its own configuration says, with files that root has prepared for it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pki = Pki()
        config = image.configuration()["config"]
        described = Described(
            root=image.fresh_root(directory),
            args=config["Entrypoint"] + config["Cmd"],
            env=dict(variable.split("=", 1) for variable in config["Env"] or []),
            user=NOBODY,
            group=NOBODY,
            mounts=[
                Mount(self._files(), "/etc/tresor"),
                Mount(self._volume("data"), "/var/lib/tresor", writable=True),
                Mount(self._hosts(), "/etc/hosts"),
                Mount(self._resolver(), "/etc/resolv.conf"),
            ],
            directory=directory,
        )
        self.container = Container(described)

    def _files(self) -> Path:
        folder = self.directory / "etc"
        made = run(TRESOR, "init", folder)
        assert made.returncode == 0, made.stderr
        text = (folder / "tresor.toml").read_text()
        for name, path in (("data", "/var/lib/tresor/store"), ("audit", "/var/lib/tresor/audit")):
            assert f'= "{name}"' in text
            text = text.replace(f'= "{name}"', f'= "{path}"')
        (folder / "tresor.toml").write_text(text)
        issued = self.pki.server("vault.example", "localhost")
        for file, content in (("server.pem", issued.certificate), ("server.key", issued.key), ("client-ca.pem", issued.ca)):
            (folder / "tls").mkdir(exist_ok=True)
            (folder / "tls" / file).write_bytes(content)
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, 0, NOBODY)
            path.chmod(0o750 if path.is_dir() else 0o440)
        return folder

    def _volume(self, name: str) -> Path:
        folder = self.directory / name
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)
        return folder

    def _hosts(self) -> Path:
        file = self.directory / "hosts"
        file.write_text("127.0.0.1 localhost from-hosts\n")
        return file

    def _resolver(self) -> Path:
        file = self.directory / "resolv.conf"
        file.write_text("nameserver 127.0.0.1\noptions attempts:1 timeout:2\n")
        return file


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    serving = Serving(tmp_path_factory.mktemp("image"))
    with serving.container:
        serving.container.start()
        serving.container.says('"message":"serving"')
        yield serving


def test_it_serves_as_nobody_with_a_root_file_system_that_is_read_only(serving: Serving) -> None:
    port = serving.container.forward(8443)
    operator = serving.pki.caller(serving.directory / "operator", port, OPERATOR)
    order_service = serving.pki.caller(serving.directory / "order-service", port, ORDER_SERVICE)
    operator.save("firm", password="kept")
    assert order_service.resolve("firm").credential.login.password == "kept"
    status = Path(f"/proc/{serving.container.pid}/status").read_text()
    said = dict(line.split(":\t", 1) for line in status.splitlines())
    assert said["Uid"].split() == [str(NOBODY)] * 4
    assert int(said["CapEff"], 16) == int(said["CapBnd"], 16) == 0
    # Its own sandbox is on within the container's.
    assert '"system_call_filter":"on"' in serving.container.output
    assert '"file_sandbox":"on"' in serving.container.output


def test_its_health_check_passes(serving: Serving) -> None:
    checked = serving.container.run(*image.configuration()["config"]["Healthcheck"]["Test"][1:])
    assert (checked.returncode, checked.stdout.strip()) == (0, "serving"), checked.stderr


@pytest.mark.parametrize("name", ["localhost", "from-hosts", "from-a-name-server.example"])
def test_a_static_program_finds_hosts_by_their_names(serving: Serving, name: str) -> None:
    with NameServer(serving.container.pid, {"from-a-name-server.example": "127.0.0.1"}):
        checked = serving.container.run("/usr/bin/tresor", "health", "--address", f"http://{name}:8086")
    assert checked.returncode == 0, checked.stderr


GUIDE = Document("deploy/README.md")
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]


def test_the_command_that_runs_it_gives_it_what_it_gets_here(serving: Serving, tmp_path: Path) -> None:
    shell, asked = Shell(tmp_path), tmp_path / "asked"
    shell.stand_in("docker", f'#!/bin/sh\nprintf "%s\\n" "$@" > {asked}\n')
    shell.run(GUIDE.block("run"))
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("--read-only", action="store_true")
    for option in ("--cap-drop", "--security-opt", "--publish"):
        parser.add_argument(option)
    parser.add_argument("--volume", action="append")
    parser.add_argument("image")
    said = parser.parse_args(asked.read_text().splitlines())
    # What `Described` gives every container.
    assert (said.command, said.read_only, said.cap_drop, said.security_opt) == ("run", True, "ALL", "no-new-privileges")
    assert said.image == f"tresor:{VERSION}" and f"--tag {said.image} ." in (ROOT / "README.md").read_text()
    assert f"{said.publish.partition(':')[2]}/tcp" in image.configuration()["config"]["ExposedPorts"]
    mounted = {place: options != ["ro"] for _, place, *options in (volume.split(":") for volume in said.volume)}
    # An engine has files of its own for names.
    names = {"/etc/hosts", "/etc/resolv.conf"}
    here = serving.container.described.mounts
    assert mounted == {mount.target: mount.writable for mount in here if mount.target not in names}


def test_the_command_that_builds_the_same_image_again_builds_it(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    build = shlex.join(map(str, image.buildah_build()))
    # Its first stage would come from a registry. The command is meant for the root of the repository.
    shell.stand_in("buildah", f'#!/bin/sh\ncd {ROOT}\n[ "$1" = build ] && shift && exec {build} "$@"\n')
    shell.stand_in("git", f"#!/bin/sh\nexec {debian('git')} -c safe.directory='*' -C {ROOT} \"$@\"\n")
    shell.run(GUIDE.block("reproducible"))
    described = image.described(f"tresor:{VERSION}")
    labels = described["config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == VERSION
    assert re.fullmatch("[0-9a-f]{40}", labels["org.opencontainers.image.revision"])
    assert described["config"]["User"] == f"{NOBODY}:{NOBODY}"


def test_it_ends_well_when_the_engine_asks(serving: Serving) -> None:
    assert image.configuration()["config"]["StopSignal"] == f"SIG{signal.SIGTERM.name.removeprefix('SIG')}"
    assert serving.container.stop() == 0, serving.container.output
    assert '"message":"stopped"' in serving.container.output
