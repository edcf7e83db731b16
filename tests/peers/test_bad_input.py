"""Bad input: every violation is named by its field's path, all at once, and nothing changes."""

import re
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from contract import RPCS, request_type
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from support import (
    GENERAL,
    TIMEOUT,
    Client,
    appraiser,
    login,
    mail_account,
    oauth2,
    office,
    order,
    ref,
    refused,
    user,
    v1,
)

TENANT = "careful"
REF = ref(TENANT, "dat", office("leipzig"))
ORDER = order(office_id="leipzig", created_in_office_id="dresden", appraiser_id="a.richter", user_id="m.lang")
PROVIDERS = ["dat", "wom"]

# A request of every RPC that takes fields, with nothing wrong in it.
GOOD = {
    "ResolveForOrder": {"tenant": TENANT, "provider": "dat", "order": ORDER},
    "ResolveManyForOrder": {"tenant": TENANT, "providers": PROVIDERS, "order": ORDER},
    "WatchChanges": {"tenant": TENANT, "providers": PROVIDERS},
    "PutCredential": {"ref": REF, "login": login()},
    "GetCredential": {"ref": REF},
    "ListCredentials": {"tenant": TENANT, "providers": PROVIDERS},
    "SetCredentialState": {"ref": REF, "state": v1.CREDENTIAL_STATE_DISABLED},
    "DeleteCredential": {"ref": REF},
    "UndeleteCredential": {"ref": REF},
    "PurgeCredential": {"ref": REF, "confirm": f"{TENANT}/dat/office/leipzig"},
    "ListCredentialVersions": {"ref": REF},
    "RollbackCredential": {"ref": REF, "to_version": 1},
    "SetAssignment": {"tenant": TENANT, "provider": "dat", "mode": v1.ASSIGNMENT_MODE_PER_OFFICE},
    "GetAssignment": {"tenant": TENANT, "provider": "dat"},
    "ListAssignments": {"tenant": TENANT},
    "ExplainResolution": {"tenant": TENANT, "provider": "dat", "order": ORDER},
    "CheckCoverage": {
        "tenant": TENANT,
        "office_ids": ["leipzig", "dresden"],
        "appraiser_ids": ["a.richter", "b.kern"],
        "user_ids": ["m.lang", "n.lang"],
        "providers": PROVIDERS,
    },
    "RotateDataKey": {"tenant": TENANT},
    "EraseTenant": {"tenant": TENANT, "confirm": TENANT},
}
MAIL = {"ref": ref(TENANT, "email"), "login": None, "mail_account": mail_account()}
OAUTH2 = MAIL | {"mail_account": mail_account(oauth2=oauth2())}

IDS = ["tenant", "provider", "providers", "office_id", "created_in_office_id", "appraiser_id", "user_id"]
IDS += ["office_ids", "appraiser_ids", "user_ids"]

BAD_IDS = {
    "too long": "a" * 129,
    "a slash": "a/b",
    "a way up": "../demo",
    "two dots": "..",
    "a backslash": "a\\b",
    "NUL": "a\0b",
    "a line break": "a\nb",
    "a trailing space": "leipzig ",
    "a leading space": " leipzig",
    "an inner space": "a b",
    "an umlaut": "büro",
    "a Cyrillic look-alike": "lеipzig",
    "full-width letters": "ｌｅｉｐｚｉｇ",
    "a full-width slash": "a／b",
    "a reversed direction": "a\u202eb",
    "a zero-width space": "a\u200bb",
    "a percent escape": "a%2fb",
    "a wildcard": "*",
    "a leading dot": ".a",
    "a leading hyphen": "-a",
}
BAD_ORDER_IDS = ["", "a" * 129, "a\nb", "a\0b", "\u007f", "a\u202eb", "a\u200bb"]
BAD_NUMBERS = ["", "123456", "12345678", "12345a7", "１２３４５６７", "١٢٣٤٥٦٧", "12 4567", "1234567\0"]
CONTROL = "a\u0001b"


def request(rpc: str, fields: dict[str, Any], base: dict[str, Any] | None = None) -> Message:
    """The good request of an RPC, laid over by `base`, with the named fields set; None clears one."""
    given = {name: value for name, value in (GOOD[rpc] | (base or {})).items() if value is not None}
    message = request_type(rpc)(**given)
    for path, value in fields.items():
        set_field(message, path, value)
    return message


def set_field(message: Message, path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        message = getattr(message, parent)
    if name.endswith("]"):
        name, index = name[:-1].split("[")
        getattr(message, name)[int(index)] = value
    elif value is None:
        message.ClearField(name)
    elif isinstance(value, list):
        getattr(message, name)[:] = value
    elif isinstance(value, Message):
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)


def id_paths(message: Message, parent: str = "") -> Iterator[str]:
    """The path of every id in a request; of a list, the one of its second element."""
    for field, value in message.ListFields():
        if field.name in IDS:
            yield f"{parent}{field.name}" + ("[1]" if field.is_repeated else "")
        elif isinstance(value, Message):
            yield from id_paths(value, f"{parent}{field.name}.")


def check(operator: Client, rpc: str, message: Message, *paths: str, reason: str = "INVALID_FIELD") -> None:
    """Insists that exactly these fields are refused, each with words, and that nothing changed.

    `a|b` stands for a violation that belongs as much to one path as to the other.
    """
    before = operator.revision()
    refusal = refused(getattr(operator, rpc), message)
    assert refusal.is_("INVALID_ARGUMENT", reason), (refusal, message)
    left = set(refusal.fields)
    for path in paths:
        assert left & set(path.split("|")), f"{path} is not named in {refusal.fields}"
        left -= set(path.split("|"))
    assert not left, f"nothing is wrong with {left}"
    assert all(refusal.fields.values())
    assert operator.revision() == before


ID_CASES = [(rpc, path) for rpc in GOOD for path in id_paths(request(rpc, {}))]


def test_every_rpc_that_takes_fields_is_looked_at() -> None:
    # Those of `ReadAudit` may all be left out: see test_audit.py. What the others take cannot be wrong.
    without = {"GetSigningKeys", "ListProviders", "GetStatus", "VerifyCredential", "ReadAudit"}
    without |= {"RotateSigningKey", "RewrapKeys", "Backup", "CheckStore"}
    # What is wrong with a line of it is told with the line: see test_import.py.
    without |= {"ImportCredentials"}
    assert set(GOOD) | without == set(RPCS)


@pytest.mark.parametrize("rpc, path", ID_CASES)
def test_an_id_must_not_break_out_of_its_alphabet(operator: Client, rpc: str, path: str) -> None:
    for bad in BAD_IDS.values():
        check(operator, rpc, request(rpc, {path: bad}), path)


@pytest.mark.parametrize("rpc, path", [case for case in ID_CASES if not case[1].startswith("order.")])
def test_an_id_must_be_there(operator: Client, rpc: str, path: str) -> None:
    check(operator, rpc, request(rpc, {path: ""}), path)


@pytest.mark.parametrize("rpc", GOOD)
def test_all_bad_ids_of_a_request_are_named_at_once(operator: Client, rpc: str) -> None:
    paths = [path for found, path in ID_CASES if found == rpc]
    bad = dict(zip(paths, list(BAD_IDS.values()) * 2, strict=False))
    check(operator, rpc, request(rpc, bad), *paths)


@pytest.mark.parametrize("kind", ["appraiser_id", "user_id"])
def test_the_ids_of_the_other_scopes_are_looked_at_too(operator: Client, kind: str) -> None:
    for bad in ["", *BAD_IDS.values()]:
        bad_ref = ref(TENANT, "email", v1.Scope(**{kind: bad}))
        check(operator, "GetCredential", v1.GetCredentialRequest(ref=bad_ref), f"ref.scope.{kind}")
        put = v1.PutCredentialRequest(ref=bad_ref, mail_account=mail_account())
        check(operator, "PutCredential", put, f"ref.scope.{kind}")


# To these it is an answer like others, beside the provider it is about.
ANSWERED = ["ResolveManyForOrder", "ExplainResolution"]


@pytest.mark.parametrize("rpc, path", [
    case for case in ID_CASES if re.search(r"provider(s\[1\])?$", case[1]) and case[0] not in ANSWERED
])  # fmt: skip
def test_a_provider_must_be_in_the_catalogue(operator: Client, rpc: str, path: str) -> None:
    for unknown in ["nobody", "DAT", "dat2"]:
        check(operator, rpc, request(rpc, {path: unknown}), path, reason="UNKNOWN_PROVIDER")


@pytest.mark.parametrize("rpc", [rpc for rpc in GOOD if "order" in GOOD[rpc]])
def test_an_order_must_have_a_printable_id(operator: Client, rpc: str) -> None:
    for bad in BAD_ORDER_IDS:
        check(operator, rpc, request(rpc, {"order.order_id": bad}), "order.order_id")
    check(operator, rpc, request(rpc, {"order": None}), "order|order.order_id")


@pytest.mark.parametrize("rpc", [rpc for rpc in GOOD if "ref" in GOOD[rpc]])
def test_a_ref_must_have_a_scope(operator: Client, rpc: str) -> None:
    check(operator, rpc, request(rpc, {"ref.scope": None}), "ref.scope")
    check(operator, rpc, request(rpc, {"ref.scope": v1.Scope()}), "ref.scope")


@pytest.mark.parametrize("rpc", [rpc for rpc in GOOD if "ref" in GOOD[rpc]])
def test_there_must_be_a_ref(operator: Client, rpc: str) -> None:
    refusal = refused(getattr(operator, rpc), request(rpc, {"ref": None}))
    assert refusal.is_("INVALID_ARGUMENT", "INVALID_FIELD")
    assert refusal.fields
    assert all(re.match(r"ref(\.|$)", path) for path in refusal.fields)


# What is wrong with which field: the RPC, what its good request is laid over with, and the bad fields, of which the
# paths must be named; a list of paths follows where they are others.
CASES = [
    # The provider's kind and scopes.
    ("PutCredential", {"login": None}, {}, ["login|secret"]),
    ("PutCredential", {"login": None, "mail_account": mail_account()}, {}, ["mail_account"]),
    ("PutCredential", {"ref": ref(TENANT, "email")}, {}, ["login"]),
    ("PutCredential", {"ref": ref(TENANT, "audatex", user("m.lang"))}, {}, ["ref.scope.user_id|ref.scope"]),
    ("PutCredential", {"ref": ref(TENANT, "dat", user("m.lang"))}, {}, ["ref.scope.user_id|ref.scope"]),
    # A login.
    *(("PutCredential", {}, {"login.customer_number": bad}) for bad in BAD_NUMBERS),
    ("PutCredential", {"ref": ref(TENANT, "wom")}, {"login.customer_number": "1" * 257}),
    ("PutCredential", {"ref": ref(TENANT, "wom")}, {"login.customer_number": CONTROL}),
    ("PutCredential", {}, {"login.username": ""}),
    ("PutCredential", {}, {"login.username": "  "}),
    ("PutCredential", {}, {"login.username": "u" * 257}),
    ("PutCredential", {}, {"login.username": CONTROL}),
    ("PutCredential", {}, {"login.username": "a\nb"}),
    ("PutCredential", {}, {"login.password": ""}),
    ("PutCredential", {}, {"login.password": "p" * 4097}),
    ("PutCredential", {}, {"login.password": "ü" * 2049}),
    ("PutCredential", {}, {"login.customer_signature": "A" * 4097}),
    ("PutCredential", {}, {"login.interface_partner_number": "1" * 257}),
    ("PutCredential", {}, {"login.interface_partner_signature": "A" * 4097}),
    ("PutCredential", {}, {"login.customer_number": "", "login.username": "", "login.password": ""}),
    (
        "PutCredential",
        {},
        {"ref.tenant": "..", "ref.scope.office_id": "", "login.customer_number": "1", "note": "n" * 257},
    ),
    # A mail account.
    ("PutCredential", MAIL, {"mail_account.host": ""}),
    ("PutCredential", MAIL, {"mail_account.host": "smtp example com"}),
    ("PutCredential", MAIL, {"mail_account.host": "https://smtp.example.com"}),
    ("PutCredential", MAIL, {"mail_account.host": "h" * 257}),
    ("PutCredential", MAIL, {"mail_account.port": 0}),
    ("PutCredential", MAIL, {"mail_account.port": 65536}),
    ("PutCredential", MAIL, {"mail_account.security": 0}),
    ("PutCredential", MAIL, {"mail_account.security": 99}),
    ("PutCredential", MAIL, {"mail_account.security": v1.MAIL_SECURITY_PLAINTEXT}),
    ("PutCredential", MAIL, {"mail_account.username": ""}),
    ("PutCredential", MAIL, {"mail_account.username": CONTROL}),
    ("PutCredential", MAIL, {"mail_account.password": ""}),
    ("PutCredential", MAIL, {"mail_account.password": "p" * 4097}),
    ("PutCredential", MAIL, {"mail_account.password": None}, ["mail_account.auth|mail_account.password|mail_account"]),
    ("PutCredential", MAIL, {"mail_account.from_address": ""}),
    ("PutCredential", MAIL, {"mail_account.from_address": "nobody"}),
    ("PutCredential", MAIL, {"mail_account.from_address": "a@example.com\r\nBcc: b@example.com"}),
    ("PutCredential", MAIL, {"mail_account.from_name": ""}),
    ("PutCredential", MAIL, {"mail_account.from_name": "Leipzig\r\nBcc: b@example.com"}),
    ("PutCredential", MAIL, {"mail_account.from_name": "n" * 257}),
    ("PutCredential", MAIL, {"mail_account.reply_to": "nobody"}),
    (
        "PutCredential",
        MAIL,
        {"mail_account.host": "", "mail_account.port": 0, "mail_account.security": 0, "mail_account.username": ""}
        | {"mail_account.from_address": "", "mail_account.from_name": "", "mail_account.password": ""},
    ),
    ("PutCredential", OAUTH2, {"mail_account.oauth2.token_url": ""}),
    ("PutCredential", OAUTH2, {"mail_account.oauth2.token_url": "http://login.example.com/token"}),
    ("PutCredential", OAUTH2, {"mail_account.oauth2.token_url": "login.example.com"}),
    ("PutCredential", OAUTH2, {"mail_account.oauth2.client_id": ""}),
    ("PutCredential", OAUTH2, {"mail_account.oauth2.client_id": "c" * 257}),
    ("PutCredential", OAUTH2, {"mail_account.oauth2.client_secret": ""}),
    ("PutCredential", OAUTH2, {"mail_account.oauth2.client_secret": "s" * 4097}),
    ("PutCredential", OAUTH2, {"mail_account.oauth2.refresh_token": "s" * 4097}),
    ("PutCredential", OAUTH2, {"mail_account.oauth2.scopes": ["s"] * 17}),
    # Around it.
    ("PutCredential", {}, {"note": "n" * 257}),
    ("PutCredential", {}, {"note": CONTROL}),
    ("PutCredential", {}, {"valid_until": Timestamp(seconds=253_402_300_800)}),
    ("PutCredential", {}, {"valid_until": Timestamp(seconds=1, nanos=-1)}),
    ("SetCredentialState", {}, {"state": 0}),
    ("SetCredentialState", {}, {"state": v1.CREDENTIAL_STATE_DELETED}),
    ("SetCredentialState", {}, {"state": 99}),
    ("RollbackCredential", {}, {"to_version": 0}),
    # Lists.
    ("ListCredentials", {}, {"page_size": -1}),
    ("ListCredentials", {}, {"page_token": "made up"}),
    ("ListCredentials", {}, {"expires_before": Timestamp(seconds=253_402_300_800)}),
    ("ListCredentials", {}, {"scope_kinds": [v1.SCOPE_KIND_OFFICE, 0]}, ["scope_kinds[1]"]),
    ("ListCredentials", {}, {"scope_kinds": [99]}, ["scope_kinds[0]"]),
    ("ListCredentials", {}, {"states": [v1.CREDENTIAL_STATE_ENABLED, 0]}, ["states[1]"]),
    ("ListCredentials", {}, {"states": [99]}, ["states[0]"]),
    # Assignments.
    ("SetAssignment", {}, {"mode": 0}),
    ("SetAssignment", {}, {"mode": 99}),
    ("SetAssignment", {}, {"mode": v1.ASSIGNMENT_MODE_PER_USER}),
    ("SetAssignment", {}, {"signature_variant": 99}),
    ("SetAssignment", {}, {"tenant": "", "mode": 0}),
    # Several providers.
    ("ResolveManyForOrder", {}, {"providers": []}),
    ("ResolveManyForOrder", {}, {"providers": [f"p{number}" for number in range(33)]}),
    ("ResolveManyForOrder", {}, {"providers": ["dat", "dat"]}, ["providers[1]"]),
    ("ResolveManyForOrder", {}, {"providers": ["dat", "a/b", "wom", ""]}, ["providers[1]", "providers[3]"]),
    ("CheckCoverage", {}, {"office_ids": [f"o{number}" for number in range(10_001)]}),
]


def names(case: tuple) -> str:
    rpc, _, fields, *paths = case
    return "-".join([rpc, *(paths[0] if paths else fields)])


@pytest.mark.parametrize("case", CASES, ids=names)
def test_what_is_wrong_with_a_field_is_said(operator: Client, case: tuple) -> None:
    rpc, base, fields, *paths = case
    check(operator, rpc, request(rpc, fields, base), *(paths[0] if paths else fields))


def test_a_purge_wants_the_path_as_confirmation(operator: Client, tenant: str) -> None:
    operator.save(tenant)
    for confirm in ["", "yes", f"{tenant}/dat/office/leipzig", f"{tenant}/dat/general "]:
        check(operator, "PurgeCredential", v1.PurgeCredentialRequest(ref=ref(tenant), confirm=confirm), "confirm")
    assert operator.GetCredential(ref=ref(tenant)).credential.version == 1


def test_a_page_token_belongs_to_its_request(operator: Client, tenant: str) -> None:
    for scope in [GENERAL, office("leipzig"), appraiser("a.richter")]:
        operator.save(tenant, "wom", scope)
    token = operator.ListCredentials(tenant=tenant, page_size=1).next_page_token
    for other in [{"tenant": "demo"}, {"providers": ["dat"]}, {"scope_kinds": [v1.SCOPE_KIND_OFFICE]}]:
        asked = v1.ListCredentialsRequest(**{"tenant": tenant, "page_size": 1, "page_token": token} | other)
        check(operator, "ListCredentials", asked, "page_token")


def test_an_unknown_provider_is_named_beside_all_else_that_is_wrong(operator: Client) -> None:
    refusal = refused(operator.ResolveForOrder, tenant="a/b", provider="nobody", order=order(order_id=""))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert set(refusal.fields) == {"tenant", "provider", "order.order_id"}


def test_of_very_many_mistakes_the_first_are_named_and_the_others_counted(operator: Client) -> None:
    """All of them would not fit into the header that clients read them from."""
    bad = [f"a/{number}" for number in range(1000)]
    refusal = refused(operator.CheckCoverage, tenant="demo", office_ids=bad)
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert len(refusal.fields) == 32
    assert refusal.message.endswith("and 992 more")


def test_a_request_of_more_than_64_kib_is_refused(operator: Client) -> None:
    before = operator.revision()
    refusal = refused(operator.PutCredential, ref=REF, login=login(password="p" * 70_000))
    assert refusal.code.name in {"INVALID_ARGUMENT", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED"}
    assert operator.revision() == before


@pytest.mark.parametrize("rpc", GOOD)
def test_bytes_that_are_no_request_are_refused(operator: Client, rpc: str) -> None:
    before = operator.revision()
    call = operator.channel.unary_stream(f"/{RPCS[rpc].containing_service.full_name}/{rpc}")
    not_utf_8 = b"\x0a\x02\xff\xfe"
    cut_short = request(rpc, {}).SerializeToString()[:-1]
    for body in [not_utf_8, cut_short, b"\x0f\xff", b"\xff" * 100]:
        with pytest.raises(grpc.RpcError) as raised:
            next(call(body, timeout=TIMEOUT))
        assert raised.value.code().name in {"INVALID_ARGUMENT", "INTERNAL"}
    assert operator.revision() == before
