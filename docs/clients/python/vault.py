"""Credentials from Tresor: asked for with a deadline, asked for again where that helps, verified, kept while they may be."""

from __future__ import annotations

import json
import os
import random
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
from dynarex.credentials.v1.common_pb2 import Order
from dynarex.credentials.v1.resolver_pb2 import (
    ChangeEvent,
    GetSigningKeysRequest,
    ResolveForOrderRequest,
    WatchChangesRequest,
)
from dynarex.credentials.v1.resolver_pb2_grpc import CredentialResolverStub
from google.rpc import error_details_pb2, status_pb2
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import Key, KeySet

# RFC 9864 would have it called Ed25519; the vault writes the name that all libraries know.
warnings.filterwarnings("ignore", "EdDSA is deprecated via RFC 9864")

# Seconds that a credential may take, everything that is tried again included.
DEADLINE = 5.0
# Seconds between two readings of the signing keys, so that nobody makes us read them for each forged answer.
KEYS_AT_MOST_EVERY = 1.0
# Seconds before a watch that broke begins again: the first pause, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 30.0

# A call waits for the connection, and what failed with UNAVAILABLE is tried again: each call of this service only reads.
SERVICE_CONFIG = {
    "methodConfig": [{
        "name": [{"service": "dynarex.credentials.v1.CredentialResolver"}],
        "waitForReady": True,
        "retryPolicy": {
            "maxAttempts": 5,
            "initialBackoff": "0.2s",
            "maxBackoff": "2s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        },
    }],
    # When half of the calls fail, no more are tried again.
    "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
}
CHANNEL = [
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Finds a connection on which nothing comes any more, such as after a change of the network.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


class Refusal(Exception):
    """The vault hands nothing out: why, in words for programs (`code`, `reason`) and for people."""

    def __init__(self, error: grpc.RpcError) -> None:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        self.retry_after: float | None = None
        for detail in status_pb2.Status.FromString(details).details:
            detail.Unpack(info)
            if detail.Unpack(retry):
                self.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
        self.code, self.reason, self.metadata = error.code().name, info.reason, dict(info.metadata)
        super().__init__(f"{self.code} {self.reason}".strip() + f": {error.details()}")


class Forged(Exception):
    """An answer that the vault has not signed as it came."""


@dataclass(frozen=True)
class Credential:
    """What an order logs in with."""

    path: str
    version: int
    # `login` or `mail_account`, as docs/DOMAIN.md says; never printed.
    secret: dict[str, Any] = field(repr=False)
    from_cache: bool = False


class Vault:
    """The vault, as an order service sees it. It may be used by any number of threads."""

    def __init__(
        self, address: str, ca: Path, certificate: Path, key: Path, on_change: Callable[[str], None] = lambda what: None
    ) -> None:
        identity = grpc.ssl_channel_credentials(ca.read_bytes(), key.read_bytes(), certificate.read_bytes())
        self._channel = grpc.secure_channel(address, identity, CHANNEL)
        self._stub = CredentialResolverStub(self._channel)
        self._keys = SigningKeys(lambda: self._call(self._stub.GetSigningKeys, GetSigningKeysRequest()).jwks)
        self._cache = Cache()
        self._on_change = on_change
        self._watched: set[str] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    @staticmethod
    def from_environment(**more: Any) -> Vault:
        """As the command line does: TRESOR_SERVER, TRESOR_CA, TRESOR_CERT, TRESOR_KEY, else a `tresor dev` in this folder."""
        pki = Path("tresor-dev/pki")
        server = os.environ.get("TRESOR_SERVER", "https://localhost:8443")
        files = {"TRESOR_CA": "ca.pem", "TRESOR_CERT": "order-service.pem", "TRESOR_KEY": "order-service.key"}
        paths = [Path(os.environ.get(name, pki / file)) for name, file in files.items()]
        return Vault(server.removeprefix("https://"), *paths, **more)

    def credential(self, tenant: str, provider: str, order: Order) -> Credential:
        """The credential that the order gets of this provider.

        Raises Refusal and Forged.
        """
        # The order's id is a part of it: each order asks once, so that the audit log has a line for each.
        question = (tenant, provider, order.SerializeToString(deterministic=True))
        if kept := self._cache.get(question):
            return replace(kept, from_cache=True)
        request = ResolveForOrderRequest(tenant=tenant, provider=provider, order=order)
        answer = self._call(self._stub.ResolveForOrder, request)
        credential = self._verified(request, answer.credential.signed_credential)
        self._watch_from(tenant, answer.revision)
        cache_for = answer.credential.cache_for.ToTimedelta().total_seconds()
        self._cache.keep(question, credential, cache_for, answer.revision)
        return credential

    def close(self) -> None:
        self._closed.set()
        self._channel.close()

    def _call(self, rpc: grpc.UnaryUnaryMultiCallable, request: Any) -> Any:
        """Calls within the deadline. The channel tries again what is UNAVAILABLE; a quota says itself when to come back."""
        ends = time.monotonic() + DEADLINE
        while True:
            try:
                return rpc(request, timeout=ends - time.monotonic())
            except grpc.RpcError as error:
                refusal = Refusal(error)
            wait = refusal.retry_after
            if refusal.code != "RESOURCE_EXHAUSTED" or wait is None or time.monotonic() + wait >= ends:
                raise refusal
            time.sleep(wait)

    def _verified(self, request: ResolveForOrderRequest, token: str) -> Credential:
        """What the vault has signed, and nothing else of its answer."""
        try:
            signed = jws.deserialize_compact(token, self._keys.find, algorithms=["EdDSA"])
        except (JoseError, ValueError) as error:
            raise Forged(f"the signature does not verify: {error}") from None
        if signed.protected.get("typ") != "dynarex-credential+jws":
            raise Forged("it is signed as something else")
        payload = json.loads(signed.payload)
        if (payload["tenant"], payload["provider"]) != (request.tenant, request.provider):
            raise Forged("it is for another tenant or provider")
        scope = "/".join(filter(None, (payload["scope"], payload.get("subject"))))
        path = f"{request.tenant}/{request.provider}/{scope}"
        return Credential(path, payload["version"], payload.get("login") or payload["mail_account"])

    def _watch_from(self, tenant: str, revision: int) -> None:
        """Follows the tenant's changes from its first answer on, so that none falls between the two."""
        with self._lock:
            if tenant in self._watched:
                return
            self._watched.add(tenant)
        threading.Thread(target=self._watch, args=(tenant, revision), daemon=True).start()

    def _watch(self, tenant: str, revision: int) -> None:
        pause = FIRST_PAUSE
        while not self._closed.is_set():
            try:
                for answer in self._stub.WatchChanges(WatchChangesRequest(tenant=tenant, from_revision=revision)):
                    revision, pause = answer.event.revision, FIRST_PAUSE
                    self._changed(tenant, answer.event)
            except (grpc.RpcError, ValueError):
                # It goes on after the last revision that was seen; until then `cache_for` limits what is kept.
                pass
            self._closed.wait(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _changed(self, tenant: str, event: ChangeEvent) -> None:
        is_missed = event.kind == ChangeEvent.KIND_RESYNC
        self._cache.drop(tenant, None if is_missed else event.ref.provider, event.revision)
        self._on_change(tenant if is_missed else f"{tenant}/{event.ref.provider}")

    def __enter__(self) -> Vault:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SigningKeys:
    """The vault's public keys; they are read again when an answer names one that is not there."""

    def __init__(self, read: Callable[[], str]) -> None:
        self._read = read
        self._keys = KeySet([])
        self._read_at = -KEYS_AT_MOST_EVERY
        self._lock = threading.Lock()

    def find(self, token: Any) -> Key:
        kid = token.headers().get("kid")
        with self._lock:
            known = {key.kid: key for key in self._keys}
            if kid not in known and time.monotonic() - self._read_at >= KEYS_AT_MOST_EVERY:
                self._keys = KeySet.import_key_set(json.loads(self._read()))
                self._read_at = time.monotonic()
                known = {key.kid: key for key in self._keys}
        if kid not in known:
            raise Forged("the vault has no key of that name")
        return known[kid]


class Cache:
    """Answers, as long as the vault lets them be kept and tells of no change."""

    def __init__(self) -> None:
        self._kept: dict[tuple, tuple[Credential, float]] = {}
        # The newest change of each (tenant, provider), and of each (tenant, None).
        self._changes: dict[tuple, int] = {}
        self._lock = threading.Lock()

    def get(self, question: tuple) -> Credential | None:
        with self._lock:
            credential, ends = self._kept.get(question, (None, 0.0))
            return credential if time.monotonic() < ends else None

    def keep(self, question: tuple, credential: Credential, seconds: float, revision: int) -> None:
        tenant, provider, _ = question
        now = time.monotonic()
        with self._lock:
            self._kept = {key: kept for key, kept in self._kept.items() if now < kept[1]}
            # An answer that was under way when a change was told may be from before it.
            newest = max(self._changes.get((tenant, name), 0) for name in (provider, None))
            if revision >= newest and seconds > 0:
                self._kept[question] = credential, now + seconds

    def drop(self, tenant: str, provider: str | None, revision: int) -> None:
        """Drops what is kept of the provider; without one, of the tenant.

        Not only the credential that has changed: an order that got the general one may now get its office's.
        """

        def concerns(key: tuple) -> bool:
            return key[0] == tenant and provider in (None, key[1])

        with self._lock:
            self._kept = {key: kept for key, kept in self._kept.items() if not concerns(key)}
            # After a restore from a backup, revisions begin anew.
            self._changes = {key: seen for key, seen in self._changes.items() if not concerns(key)}
            self._changes[tenant, provider] = revision
