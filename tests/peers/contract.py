"""The wire contract as Python sees it: generated from `proto/` when imported, gathered in one namespace."""

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import grpc_tools
from google.protobuf.message import Message
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]
STUBS = ROOT / "target/peers/stubs"
FILES = [f"dynarex/credentials/v1/{name}.proto" for name in ("common", "resolver", "admin", "operator")]


def _generate() -> None:
    STUBS.mkdir(parents=True, exist_ok=True)
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    options = [f"-I{ROOT / 'proto'}", f"-I{well_known}", f"--python_out={STUBS}", f"--grpc_python_out={STUBS}"]
    if protoc.main(["protoc", *options, *FILES]) != 0:
        raise RuntimeError("protoc refuses the contract; its reason is above")
    sys.path.insert(0, str(STUBS))


_generate()
_modules = [importlib.import_module(file.removesuffix(".proto").replace("/", ".") + "_pb2") for file in FILES]
_stubs = [importlib.import_module(f"{module.__name__}_grpc") for module in _modules]

# Every message and enum value of `dynarex.credentials.v1`.
v1 = SimpleNamespace(**{name: value for module in _modules for name, value in vars(module).items() if name[0] != "_"})

# Every service by its full name, and the stub class to call it with.
SERVICES = {
    service.full_name: getattr(stubs, f"{service.name}Stub")
    for module, stubs in zip(_modules, _stubs, strict=True)
    for service in module.DESCRIPTOR.services_by_name.values()
}

# Every RPC by its name, which no two services share.
RPCS = {
    rpc.name: rpc
    for module in _modules
    for service in module.DESCRIPTOR.services_by_name.values()
    for rpc in service.methods
}


def request_type(rpc: str) -> type[Message]:
    """The message that the RPC takes."""
    return getattr(v1, RPCS[rpc].input_type.name)
