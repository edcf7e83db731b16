"""Which credential an order gets: the sample, the modes, the decision table, several providers at once."""

import time

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from support import GENERAL, Client, Refusal, appraiser, office, order, refused, user, v1, wait_for

ORDER = {"office_id": "leipzig", "created_in_office_id": "dresden", "appraiser_id": "a.richter", "user_id": "m.lang"}
PROVIDERS = {
    "dat",
    "audatex",
    "cartv",
    "car-casion",
    "wom",
    "winvalue",
    "autoonline",
    "egub",
    "persaldo24",
    "cardetektiv",
    "email",
}


def decide(operator: Client, tenant: str, provider: str, **ids: str) -> tuple[Message, Message | Refusal]:
    """The resolution with the answer or refusal, after making sure that explaining and resolving agree on all of it."""
    asked = {"tenant": tenant, "provider": provider, "order": order(**ids)}
    explained = operator.ExplainResolution(**asked)
    if explained.HasField("error"):
        refusal = refused(operator.ResolveForOrder, **asked)
        assert not explained.HasField("credential")
        assert (explained.error.code, explained.error.reason) == (refusal.code.value[0], refusal.reason)
        assert explained.error.message == refusal.message
        assert explained.error.metadata == refusal.metadata
        return explained.resolution, refusal
    answer = operator.ResolveForOrder(**asked)
    assert answer.resolution == explained.resolution
    assert answer.credential.ref == explained.credential.ref
    assert answer.credential.version == explained.credential.version
    return answer.resolution, answer.credential


def soon(seconds: float) -> Timestamp:
    """A time so many seconds from now."""
    timestamp = Timestamp()
    timestamp.FromMilliseconds(int((time.time() + seconds) * 1000))
    return timestamp


def test_the_sample_has_a_credential_for_every_provider(order_service: Client) -> None:
    for provider in PROVIDERS:
        credential = order_service.resolve("demo", provider, **ORDER).credential
        assert credential.ref.provider == provider
        assert (credential.mail_account if provider == "email" else credential.login).username, provider


def test_the_sample_has_a_provider_in_each_assignment_mode(operator: Client) -> None:
    modes = {found.provider: found.mode for found in operator.ListAssignments(tenant="demo").assignments}
    special = {
        "dat": v1.ASSIGNMENT_MODE_PER_OFFICE,
        "audatex": v1.ASSIGNMENT_MODE_PER_APPRAISER,
        "email": v1.ASSIGNMENT_MODE_PER_USER,
    }
    assert modes == dict.fromkeys(PROVIDERS, v1.ASSIGNMENT_MODE_GENERAL) | special


def test_the_sample_covers_its_offices_appraisers_and_users(operator: Client) -> None:
    for ids in [{"office_id": "leipzig"}, {"office_id": "dresden"}]:
        assert decide(operator, "demo", "dat", **ids)[0].scope == v1.Scope(**ids)
    for ids in [{"appraiser_id": "a.richter"}, {"appraiser_id": "b.kern"}]:
        assert decide(operator, "demo", "audatex", **ids)[0].scope == v1.Scope(**ids)
    assert decide(operator, "demo", "email", user_id="m.lang")[0].scope == user("m.lang")


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_each_mode_of_each_provider_takes_the_credential_of_its_subject(
    operator: Client, tenant: str, provider: str
) -> None:
    scopes = {
        "GENERAL": GENERAL,
        "PER_OFFICE": office("dresden" if provider == "email" else "leipzig"),
        "PER_APPRAISER": appraiser("a.richter"),
    } | ({"PER_USER": user("m.lang")} if provider == "email" else {})
    for mode, scope in scopes.items():
        operator.save(tenant, provider, scope, username=mode)
    for mode, scope in scopes.items():
        operator.assign(tenant, provider, mode)
        resolution, credential = decide(operator, tenant, provider, **ORDER)
        assert resolution.mode == v1.AssignmentMode.Value(f"ASSIGNMENT_MODE_{mode}")
        assert resolution.scope == credential.ref.scope == scope
        assert (resolution.rule, resolution.fell_back) == (3, False)
        assert (credential.mail_account if provider == "email" else credential.login).username == mode


def test_without_a_choice_the_general_credential_is_taken(operator: Client, tenant: str) -> None:
    operator.save(tenant, "wom")
    resolution, _ = decide(operator, tenant, "wom")
    assert (resolution.mode, resolution.scope) == (v1.ASSIGNMENT_MODE_GENERAL, GENERAL)


def test_mail_leaves_from_the_orders_office_if_none_is_said_to_have_created_it(operator: Client, tenant: str) -> None:
    operator.save(tenant, "email", office("leipzig"))
    operator.assign(tenant, "email", "PER_OFFICE")
    assert decide(operator, tenant, "email", office_id="leipzig")[0].scope == office("leipzig")
    assert decide(operator, tenant, "email", created_in_office_id="leipzig")[0].scope == office("leipzig")


def test_rule_1_a_provider_outside_the_catalogue_is_unknown(operator: Client, tenant: str) -> None:
    refusal = refused(operator.resolve, tenant, "nobody")
    assert refusal.is_("INVALID_ARGUMENT", "UNKNOWN_PROVIDER")
    assert "provider" in refusal.fields


@pytest.mark.parametrize("mode, reason", [
    ("PER_OFFICE", "ORDER_LACKS_OFFICE"),
    ("PER_APPRAISER", "ORDER_LACKS_APPRAISER"),
    ("PER_USER", "ORDER_LACKS_USER"),
])  # fmt: skip
def test_rule_2_an_order_must_name_its_subject_and_nothing_falls_back(
    operator: Client, tenant: str, mode: str, reason: str
) -> None:
    operator.save(tenant, "email")
    operator.assign(tenant, "email", mode, fallback_to_general=True)
    resolution, refusal = decide(operator, tenant, "email")
    assert refusal.is_("FAILED_PRECONDITION", reason)
    assert resolution.rule == 2


def test_rule_4_a_disabled_credential_is_not_replaced(operator: Client, tenant: str) -> None:
    operator.save(tenant)
    operator.save(tenant, "dat", office("leipzig"))
    operator.assign(tenant, "dat", "PER_OFFICE", fallback_to_general=True)
    operator.SetCredentialState(
        ref=v1.CredentialRef(tenant=tenant, provider="dat", scope=office("leipzig")),
        state=v1.CREDENTIAL_STATE_DISABLED,
    )
    resolution, refusal = decide(operator, tenant, "dat", office_id="leipzig")
    assert refusal.is_("FAILED_PRECONDITION", "CREDENTIAL_DISABLED")
    assert resolution.rule == 4


def test_rule_5_an_expired_credential_is_not_replaced(operator: Client, tenant: str) -> None:
    operator.save(tenant)
    operator.PutCredential(
        ref=v1.CredentialRef(tenant=tenant, provider="dat", scope=office("leipzig")),
        login=v1.Login(customer_number="1234567", username="myuser", password="password"),
        valid_until=soon(2),
    )
    operator.assign(tenant, "dat", "PER_OFFICE", fallback_to_general=True)
    asked = {"tenant": tenant, "provider": "dat", "order": order(office_id="leipzig")}
    wait_for(lambda: operator.ExplainResolution(**asked).resolution.rule == 5, "the credential to expire")
    _, refusal = decide(operator, tenant, "dat", office_id="leipzig")
    assert refusal.is_("FAILED_PRECONDITION", "CREDENTIAL_EXPIRED")


def test_rule_6_the_general_credential_steps_in_where_that_is_wanted(operator: Client, tenant: str) -> None:
    operator.save(tenant)
    operator.assign(tenant, "dat", "PER_OFFICE", fallback_to_general=True)
    resolution, credential = decide(operator, tenant, "dat", office_id="leipzig")
    assert (resolution.rule, resolution.fell_back) == (6, True)
    assert resolution.scope == credential.ref.scope == GENERAL


def test_rule_6_holds_for_a_deleted_credential_too(operator: Client, tenant: str) -> None:
    operator.save(tenant)
    saved = operator.save(tenant, "dat", office("leipzig")).credential
    operator.assign(tenant, "dat", "PER_OFFICE", fallback_to_general=True)
    operator.DeleteCredential(ref=saved.ref)
    assert decide(operator, tenant, "dat", office_id="leipzig")[0].rule == 6


def test_rule_7_says_what_is_missing(operator: Client, tenant: str) -> None:
    operator.save(tenant)
    operator.assign(tenant, "dat", "PER_OFFICE")
    resolution, refusal = decide(operator, tenant, "dat", office_id="leipzig")
    assert refusal.is_("NOT_FOUND", "CREDENTIAL_NOT_CONFIGURED")
    assert refusal.metadata["tenant"] == tenant
    assert refusal.metadata["provider"] == "dat"
    assert {"mode", "subject"} <= set(refusal.metadata)
    assert "leipzig" in refusal.metadata["subject"]
    assert (resolution.rule, resolution.scope) == (7, office("leipzig"))


def test_an_answer_is_as_new_as_min_revision_asks(operator: Client, order_service: Client, tenant: str) -> None:
    for password in ["one", "two", "three"]:
        saved = operator.save(tenant, password=password)
        answer = order_service.resolve(tenant, min_revision=saved.revision)
        assert answer.credential.login.password == password
        assert answer.credential.version == saved.credential.version
        assert answer.revision >= saved.revision


def test_a_revision_that_does_not_come_is_unavailable_for_now(operator: Client, tenant: str) -> None:
    operator.save(tenant)
    refusal = refused(operator.resolve, tenant, min_revision=operator.revision() + 1_000_000)
    assert refusal.is_("UNAVAILABLE", "STALE")
    assert refusal.can_be_retried


def test_a_caller_may_keep_an_answer_for_a_while_but_not_past_its_end(operator: Client, tenant: str) -> None:
    operator.save(tenant, "wom")
    assert operator.resolve(tenant, "wom").credential.cache_for.ToSeconds() > 0
    until = soon(600)
    saved = operator.PutCredential(
        ref=v1.CredentialRef(tenant=tenant, provider="wom", scope=GENERAL),
        login=v1.Login(username="myuser", password="password"),
        valid_until=until,
    )
    assert saved.credential.valid_until == until
    credential = operator.resolve(tenant, "wom").credential
    assert credential.valid_until == until
    assert time.time() + credential.cache_for.ToMilliseconds() / 1000 <= until.ToMilliseconds() / 1000 + 1


def test_many_providers_are_answered_one_by_one(operator: Client, order_service: Client, tenant: str) -> None:
    for provider in ["dat", "email"]:
        operator.save(tenant, provider)
    asked = ["dat", "wom", "nobody", "email"]
    answer = order_service.ResolveManyForOrder(tenant=tenant, providers=asked, order=order(**ORDER), with_receipt=True)
    dat, wom, nobody, email = answer.results
    assert [result.provider for result in answer.results] == asked
    for result in [dat, email]:
        alone = order_service.resolve(tenant, result.provider, **ORDER)
        assert not result.HasField("error")
        assert result.credential == alone.credential
        assert result.resolution == alone.resolution
        assert result.receipt.count(".") == 2
    for result in [wom, nobody]:
        alone = refused(order_service.resolve, tenant, result.provider, **ORDER)
        assert not result.HasField("credential")
        assert not result.receipt
        assert (result.error.code, result.error.reason) == (alone.code.value[0], alone.reason)
        assert result.error.message == alone.message
    assert answer.revision > 0


def test_up_to_32_providers_are_answered_at_once(order_service: Client) -> None:
    asked = [*sorted(PROVIDERS), *(f"nobody-{number}" for number in range(21))]
    answer = order_service.ResolveManyForOrder(tenant="demo", providers=asked, order=order(**ORDER))
    assert [result.provider for result in answer.results] == asked
    assert [result.HasField("error") for result in answer.results] == [False] * 11 + [True] * 21
