"""A KMS v2 plugin for Kubernetes, as other people's code: within a test's process, or as the program `PROGRAM`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from contract import ROOT, STUBS
from grpc_tools import protoc

if TYPE_CHECKING:
    import grpc

PROGRAM = Path(__file__).with_name("kms_plugin.py")
# Where the program finds the code of its contract.
GENERATED = STUBS / "kms"


def _generate() -> None:
    # From its own folder: the path of Kubernetes has a dot in it, which no Python module can have.
    folder = ROOT / "proto/k8s.io/kms/apis/v2"
    GENERATED.mkdir(parents=True, exist_ok=True)
    options = [f"-I{folder}", f"--python_out={GENERATED}", f"--grpc_python_out={GENERATED}"]
    if protoc.main(["protoc", *options, "api.proto"]) != 0:
        raise RuntimeError("protoc refuses the contract of KMS plugins; its reason is above")
    sys.path.insert(0, str(GENERATED))


_generate()
_program = importlib.import_module("kms_plugin")


class Plugin:
    """A plugin, which comes and goes."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.kms = _program.Kms()
        self.server: grpc.Server | None = None

    def start(self) -> None:
        self.server = _program.serving(self.kms, self.socket)

    def stop(self) -> None:
        if self.server:
            self.server.stop(None).wait()
            self.server = None
            self.socket.unlink(missing_ok=True)
