"""The image, built by buildah from deploy/Dockerfile: its last stage as it stands, from a static program of the usual test build."""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from contract import ROOT
from provisions import KEPT, buildah
from support import TARGET

# Seconds since 1970. Any will do: it is the one time that an image has.
EPOCH = "1700000000"


def _run(*command: str | Path, at: Path = ROOT, **env: str) -> str:
    done = subprocess.run(command, cwd=at, capture_output=True, text=True, env=os.environ | env)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


@functools.cache
def _storage() -> list[str | Path]:
    """A place of our own, which begins empty."""
    storage = KEPT / "containers"
    shutil.rmtree(storage, ignore_errors=True)
    # As files, not as layers that the kernel puts together: that works on every file system.
    return ["--root", storage / "root", "--runroot", storage / "run", "--storage-driver", "vfs"]


def _buildah(*command: str | Path) -> str:
    return _run(buildah(), *_storage(), *command)


@functools.cache
def context() -> Path:
    """What a build gets to see of the repository: all that `.dockerignore` lets through, and nothing else."""
    containerfile = KEPT / "context.Dockerfile"
    containerfile.write_text("FROM scratch\nCOPY . /src\n")
    seen = _buildah("build", "--file", containerfile, "--no-cache", "--quiet", ".").strip()
    mounted = Path(_buildah("mount", _buildah("from", "--pull-never", seen).strip()).strip())
    # Always in the same place, so that cargo knows it again. Outside of the target folder: of what is within, cargo notes where it is,
    # and would then look there whether our own files have changed.
    place = hashlib.sha256(str(TARGET.resolve()).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"tresor-context-{place}"
    shutil.rmtree(folder, ignore_errors=True)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(mounted / "src", folder, symlinks=True)
    return folder


@functools.cache
def assembled(name: str = "assembled") -> Path:
    """What the first stage leaves to the last, made by the same script of the same files, without optimisation."""
    folder = KEPT / name / "image"
    try:
        _run("deploy/image/assemble", folder, "dev", at=context(), CARGO_TARGET_DIR=str(TARGET))
    finally:
        # The other tests have the program that it has taken the place of: both are kept, so this compiles nothing.
        _run("cargo", "build", "--quiet", "--bin", "tresor", CARGO_TARGET_DIR=str(TARGET))
    return folder


def buildah_build() -> list[str | Path]:
    """How buildah is told to build here: with its own storage, and what the first stage would leave."""
    return [buildah(), *_storage(), "build", "--build-context", f"build={assembled().parent}"]


def described(name: str) -> dict:
    """What an image says about itself, as an engine of Docker's kind reads it."""
    return json.loads(_buildah("inspect", "--type", "image", name))["Docker"]


def build(name: str, format: str = "docker", of: Path | None = None) -> str:
    """Builds it: its id. What OCI calls an image has no health check; Docker's names the machine that it was made on."""
    folder = (of or assembled()).parent
    last_stage = ["--format", format, "--timestamp", EPOCH, "--build-context", f"build={folder}"]
    labels = ["--build-arg", "VERSION=0.0.0-test", "--build-arg", "REVISION=0123456"]
    described = ["--file", "deploy/Dockerfile", "--tag", name, "--no-cache", "--quiet"]
    return _buildah("build", *last_stage, *labels, *described, ".").strip()


@functools.cache
def image() -> str:
    return build("tresor-test")


@functools.cache
def configuration() -> dict:
    """What the image says about itself."""
    return described(image())


@functools.cache
def root() -> Path:
    """Its files, for containers to be started from."""
    container = _buildah("from", "--pull-never", image()).strip()
    return Path(_buildah("mount", container).strip())


def fresh_root(directory: Path) -> Path:
    """The same for one container, which gets its mount points there."""
    _run("cp", "--archive", "--reflink=auto", root(), directory / "root")
    return directory / "root"
