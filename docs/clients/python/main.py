"""python main.py TENANT PROVIDER: for each line `ORDER OFFICE` on standard input, tells which credential the order gets.

It logs in nowhere, and prints no secret.
"""

import sys
from functools import partial

from dynarex.credentials.v1.common_pb2 import Order
from vault import Forged, Refusal, Vault

say = partial(print, flush=True)


def main(tenant: str, provider: str) -> None:
    with Vault.from_environment(on_change=lambda what: say(f"changed: {what}")) as vault:
        for line in sys.stdin:
            order_id, office_id = line.split()
            try:
                found = vault.credential(tenant, provider, Order(order_id=order_id, office_id=office_id))
            except Refusal as refusal:
                say(f"{order_id}: {what_to_do(refusal)}")
            except Forged as forged:
                say(f"{order_id}: FORGED: {forged}")
            else:
                # Here an order service logs in with `found.secret`.
                say(f"{order_id}: {found.path} v{found.version} from the {'cache' if found.from_cache else 'vault'}")


def what_to_do(refusal: Refusal) -> str:
    """Programs go by the reason; the text is for people."""
    match refusal.reason:
        case "CREDENTIAL_NOT_CONFIGURED" | "CREDENTIAL_DISABLED" | "CREDENTIAL_EXPIRED":
            return f"{refusal.reason}: an administrator has to see to {refusal.metadata['path']}"
        case "ORDER_LACKS_OFFICE" | "ORDER_LACKS_APPRAISER" | "ORDER_LACKS_USER":
            return f"{refusal.reason}: the order has to say more"
        case _:
            return str(refusal)


if __name__ == "__main__":
    main(*sys.argv[1:])
