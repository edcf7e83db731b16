"""`deploy/optimise`, with a toolchain that only notes what it is asked for: the real one takes twenty minutes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from contract import ROOT

TOOLS = {
    "rustc": """
        case "$1" in
          --version) echo 'host: some-host'; echo 'LLVM version: 77.1.2' ;;
          --print) echo /nowhere/lib ;;
        esac""",
    # The program that it builds has the flags in it; one that is called counts, if there is anything to count.
    "cargo": """
        echo "$* TRESOR_BIN=${TRESOR_BIN:-}" >>"$CARGO_TARGET_DIR/asked"
        for last; do :; done
        case "$1" in
          build) mkdir -p "$last/some-host/release" && echo "$RUSTFLAGS" >"$last/some-host/release/tresor" ;;
          bench) [ -z "$COUNTS" ] || { mkdir "$CARGO_TARGET_DIR/optimise/counted" && echo "$COUNTS" >"$CARGO_TARGET_DIR/optimise/counted/1.profraw"; } ;;
        esac""",
    "llvm-profdata-77": """
        cat "$3"/*.profraw >"${2#--output=}" """,
}


class Toolchain:
    def __init__(self, folder: Path) -> None:
        self.tools, self.target = folder / "tools", folder / "target"
        self.tools.mkdir()
        self.target.mkdir()
        for name, script in TOOLS.items():
            tool = self.tools / name
            tool.write_text(f"#!/bin/sh\n{script}\n")
            tool.chmod(0o755)

    def optimise(self, counts: str, target: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.tools}:{os.defpath}",
            "CARGO_TARGET_DIR": target or str(self.target),
            "COUNTS": counts,
            "RUSTFLAGS": "-Cmine",
        }
        return subprocess.run([ROOT / "deploy/optimise"], env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def toolchain(tmp_path: Path) -> Toolchain:
    return Toolchain(tmp_path)


def test_a_program_is_built_with_what_the_same_program_has_counted(toolchain: Toolchain) -> None:
    for counts in ["once", "again"]:
        done = toolchain.optimise(counts)
        assert done.returncode == 0, done.stderr
        optimised = toolchain.target / "optimised/tresor"
        assert done.stdout.splitlines()[-1] == str(optimised)
        profile = toolchain.target / "optimise/tresor.profdata"
        assert optimised.read_text() == f"-Cmine -Cprofile-use={profile}\n"
        # Nothing of what was counted before.
        assert profile.read_text() == f"{counts}\n"
    counting, training, using = (toolchain.target / "asked").read_text().splitlines()[:3]
    scratch = toolchain.target / "optimise"
    assert counting.replace(str(scratch / "counting"), str(scratch / "using")) == using
    assert f"-- train TRESOR_BIN={scratch}/counting/some-host/release/tresor" in training
    counter = scratch / "counting/some-host/release/tresor"
    assert counter.read_text() == f"-Cmine -Cprofile-generate={scratch}/counted\n"


def test_a_target_directory_may_be_relative(toolchain: Toolchain) -> None:
    done = toolchain.optimise("once", target=os.path.relpath(toolchain.target, ROOT))
    assert done.returncode == 0, done.stderr
    flags = (toolchain.target / "optimised/tresor").read_text()
    assert flags == f"-Cmine -Cprofile-use={toolchain.target}/optimise/tresor.profdata\n"


def test_a_program_that_has_counted_nothing_is_no_reason_to_build_another(toolchain: Toolchain) -> None:
    done = toolchain.optimise("")
    assert done.returncode == 1
    assert f"the vault has not written what it has counted into {toolchain.target}/optimise/counted" in done.stderr
    assert not (toolchain.target / "optimised").exists()


def test_without_the_compilers_tools_it_says_which_are_missing_before_it_builds(toolchain: Toolchain) -> None:
    (toolchain.tools / "llvm-profdata-77").unlink()
    done = toolchain.optimise("some")
    assert done.returncode == 1
    assert "rustup component add llvm-tools" in done.stderr and "apt-get install llvm-77" in done.stderr
    assert not (toolchain.target / "asked").exists()
