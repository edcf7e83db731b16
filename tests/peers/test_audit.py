"""The audit log, as somebody sees it who has the files, the keys and no program of ours."""

import base64
import hashlib
import json

import pytest
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from support import Client, Tresor, office, refused


def test_the_chain_and_its_signatures_can_be_checked_with_other_peoples_tools(own: Tresor) -> None:
    own.start()
    own.order_service.resolve("demo", order_id='"2026" \\ 訂單', office_id="leipzig")
    keys = KeySet.import_key_set(json.loads(own.operator.GetSigningKeys().jwks))
    own.stop()
    lines = (own.data / "audit" / "audit-000001.jsonl").read_bytes().splitlines()
    before = "0" * 64
    for number, line in enumerate(lines, 1):
        record = json.loads(line)
        assert (record["seq"], record["prev"]) == (number, before)
        before = hashlib.sha256(line).hexdigest()
    assert any(json.loads(line).get("order_id") == '"2026" \\ 訂單' for line in lines)

    payload, signature = lines[-1].rsplit(b',"jws":"', 1)
    header, _, tag = signature.decode().removesuffix('"}').split(".")

    def token(payload: bytes) -> str:
        return f"{header}.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}.{tag}"

    verified = jws.deserialize_compact(token(payload + b"}"), keys, algorithms=["EdDSA"])
    assert verified.protected["typ"] == "tresor-audit-checkpoint+jws"
    assert json.loads(verified.payload)["event"] == "checkpoint"
    with pytest.raises(JoseError):
        jws.deserialize_compact(token(payload.replace(b"checkpoint", b"chequepoint") + b"}"), keys, algorithms=["EdDSA"])


def test_the_log_is_read_by_order_caller_and_outcome(operator: Client, order_service: Client, tenant: str) -> None:
    operator.save(tenant, scope=office("leipzig"))
    for number in ("one", "two"):
        refused(order_service.resolve, tenant, order_id=number)
    found = [answer.record for answer in operator.ReadAudit(tenant=tenant, order_id="two")]
    assert [(one.method, one.outcome, one.order_id) for one in found] == [("ResolveForOrder", "failed", "two")]
    saved = [answer.record for answer in operator.ReadAudit(tenant=tenant, method="PutCredential")]
    assert [one.event for one in saved] == ["intent", "call"]
    assert saved[1].intent_line == saved[0].line_number
    assert (saved[1].scope, saved[1].version) == ("office/leipzig", 1)
    assert json.loads(saved[1].json)["seq"] == saved[1].line_number


def test_whoever_may_not_read_the_log_is_told_so_before_anything_else(order_service: Client, tenant: str) -> None:
    for fields in ({}, {"tenant": tenant}, {"tenant": "no tenant"}, {"outcome": "none"}):
        refusal = refused(lambda fields=fields: next(order_service.ReadAudit(**fields)))
        assert refusal.is_("PERMISSION_DENIED", "NOT_GRANTED")


def test_a_filter_that_can_fit_nothing_is_refused(operator: Client) -> None:
    bad = {"tenant": "a/b", "provider": "a b", "order_id": "a\nb", "outcome": "good"}
    refusal = refused(lambda: next(operator.ReadAudit(**bad)))
    assert refusal.is_("INVALID_ARGUMENT", "INVALID_FIELD")
    assert set(refusal.fields) == set(bad)
