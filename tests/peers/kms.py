"""A KMS v2 plugin for Kubernetes, as other people's code: grpcio on a unix socket, AES-GCM by `cryptography`."""

from __future__ import annotations

import importlib
import os
import sys
from concurrent import futures
from pathlib import Path

import grpc
from contract import ROOT, STUBS
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from grpc_tools import protoc


def _generate() -> None:
    # From its own folder: the path of Kubernetes has a dot in it, which no Python module can have.
    folder, out = ROOT / "proto/k8s.io/kms/apis/v2", STUBS / "kms"
    out.mkdir(parents=True, exist_ok=True)
    options = [f"-I{folder}", f"--python_out={out}", f"--grpc_python_out={out}"]
    if protoc.main(["protoc", *options, "api.proto"]) != 0:
        raise RuntimeError("protoc refuses the contract of KMS plugins; its reason is above")
    sys.path.insert(0, str(out))


_generate()
api = importlib.import_module("api_pb2")
services = importlib.import_module("api_pb2_grpc")

NONCE = "nonce.kms.example"


class Kms(services.KeyManagementServiceServicer):
    """Its keys outlive its process, as those of an HSM do."""

    def __init__(self) -> None:
        self.keys = {"key-1": AESGCM.generate_key(256)}
        self.key_id = "key-1"

    def rotate(self) -> None:
        """Makes another key; the older ones go on decrypting."""
        self.key_id = f"key-{len(self.keys) + 1}"
        self.keys[self.key_id] = AESGCM.generate_key(256)

    def Status(self, request: api.StatusRequest, context: grpc.ServicerContext) -> api.StatusResponse:
        return api.StatusResponse(version="v2", healthz="ok", key_id=self.key_id)

    def Encrypt(self, request: api.EncryptRequest, context: grpc.ServicerContext) -> api.EncryptResponse:
        nonce = os.urandom(12)
        ciphertext = AESGCM(self.keys[self.key_id]).encrypt(nonce, request.plaintext, None)
        return api.EncryptResponse(ciphertext=ciphertext, key_id=self.key_id, annotations={NONCE: nonce})

    def Decrypt(self, request: api.DecryptRequest, context: grpc.ServicerContext) -> api.DecryptResponse:
        try:
            key = AESGCM(self.keys[request.key_id])
            return api.DecryptResponse(plaintext=key.decrypt(request.annotations[NONCE], request.ciphertext, None))
        except (InvalidTag, KeyError):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "this was not encrypted here")


class Plugin:
    """The process of a plugin, which comes and goes."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.kms = Kms()
        self.server: grpc.Server | None = None

    def start(self) -> None:
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        services.add_KeyManagementServiceServicer_to_server(self.kms, self.server)
        self.server.add_insecure_port(f"unix:{self.socket}")
        self.server.start()

    def stop(self) -> None:
        if self.server:
            self.server.stop(None).wait()
            self.server = None
            self.socket.unlink(missing_ok=True)
