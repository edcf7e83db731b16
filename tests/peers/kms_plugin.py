"""A KMS v2 plugin for Kubernetes: grpcio on a unix socket, AES-GCM by `cryptography`. As a program it takes `--listen=SOCKET`."""

from __future__ import annotations

import argparse
import os
from concurrent import futures
from pathlib import Path

import api_pb2 as api
import api_pb2_grpc as services
import grpc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

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


def serving(kms: Kms, socket: Path) -> grpc.Server:
    """A server that has begun to listen."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    services.add_KeyManagementServiceServicer_to_server(kms, server)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    return server


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", type=Path, required=True)
    serving(Kms(), parser.parse_args().listen).wait_for_termination()


if __name__ == "__main__":
    main()
