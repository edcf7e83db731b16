"""An order service: each minute it asks the vault for the credential of an order, and says which one it got.

It shows what matters for a caller in a cluster: its own certificate, read anew for each connection because cert-manager renews it; a
deadline for each call; another try where the vault says that one makes sense; and no secret in its output.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import grpc
from dynarex.credentials.v1 import common_pb2, resolver_pb2, resolver_pb2_grpc

# Seconds. The vault answers within milliseconds or says why not.
DEADLINE = 2
PAUSE = 60
RETRY = 2


def channel() -> grpc.Channel:
    folder = Path(os.environ["TLS_FOLDER"])
    ca, key, certificate = ((folder / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt"))
    return grpc.secure_channel(os.environ["TRESOR_ADDRESS"], grpc.ssl_channel_credentials(ca, key, certificate))


def resolve(tenant: str, provider: str, order: common_pb2.Order) -> resolver_pb2.ResolveForOrderResponse:
    with channel() as open_channel:
        resolver = resolver_pb2_grpc.CredentialResolverStub(open_channel)
        request = resolver_pb2.ResolveForOrderRequest(tenant=tenant, provider=provider, order=order)
        return resolver.ResolveForOrder(request, timeout=DEADLINE)


def main() -> None:
    arguments = argparse.ArgumentParser()
    for name in ("tenant", "provider", "order", "office"):
        arguments.add_argument(f"--{name}", required=True)
    chosen = arguments.parse_args()
    order = common_pb2.Order(order_id=chosen.order, office_id=chosen.office)
    while True:
        try:
            answer = resolve(chosen.tenant, chosen.provider, order)
        except grpc.RpcError as error:
            print(f"order {chosen.order}: {error.code().name}: {error.details()}", file=sys.stderr, flush=True)
            time.sleep(RETRY if error.code() is grpc.StatusCode.UNAVAILABLE else PAUSE)
            continue
        # Here the order would go to the provider, with answer.credential.login. What is logged is which one it was.
        credential = answer.credential
        print(f"order {chosen.order}: version {credential.version}, good for {credential.cache_for.seconds} s", flush=True)
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
