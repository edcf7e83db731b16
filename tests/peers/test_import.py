"""ImportCredentials: a stream of saves, each as PutCredential would do it."""

from contract import v1
from support import Client, login, office, ref, refused


def lines(*puts: dict) -> v1.ImportCredentialsRequest:
    numbered = [v1.CredentialLine(number=number, put=v1.PutCredentialRequest(**put)) for number, put in enumerate(puts, 1)]
    return v1.ImportCredentialsRequest(lines=numbered)


def test_each_request_is_answered_once_what_it_tells_is_there(operator: Client, tenant: str) -> None:
    requests = [lines(*({"ref": ref(tenant, "dat", office(f"o{a}-{b}")), "login": login()} for b in range(50))) for a in range(9)]
    answers = list(operator.ImportCredentials(*requests))
    assert [(answer.saved, answer.unchanged, len(answer.failures)) for answer in answers] == [(50, 0, 0)] * 9
    assert operator.revision() == answers[-1].revision
    assert len(operator.ListCredentials(tenant=tenant, page_size=1000).credentials) == 450
    again = operator.ImportCredentials(*requests)
    assert [(answer.saved, answer.unchanged, answer.revision) for answer in again] == [(0, 50, 0)] * 9


def test_a_bad_line_is_told_like_a_bad_put(operator: Client, tenant: str) -> None:
    bad = [
        {"ref": ref(tenant, "nobody"), "login": login()},
        {"ref": ref(tenant, "dat"), "login": login(customer_number="x", username="")},
        {"ref": ref(tenant, "email"), "login": login()},
        {},
        {"ref": ref(tenant, "dat"), "login": login(), "expected_version": 7},
    ]
    [answer] = operator.ImportCredentials(lines(*bad, {"ref": ref(tenant, "wom"), "login": login(customer_number="")}))
    assert (answer.saved, [failure.number for failure in answer.failures]) == (1, [1, 2, 3, 4, 5])
    for put, failure in zip(bad, answer.failures, strict=True):
        alone = refused(operator.PutCredential, **put)
        assert (failure.error.reason, failure.error.message) == (alone.reason, alone.message)
        assert {problem.field: problem.description for problem in failure.problems} == alone.fields


def test_a_request_above_the_limit_ends_the_import(operator: Client, tenant: str) -> None:
    good = lines({"ref": ref(tenant, "dat"), "login": login()})
    large = lines({"ref": ref(tenant, "dat"), "note": "x" * 70_000})
    answers = operator.ImportCredentials(good, large)
    assert next(answers).saved == 1
    assert refused(lambda: next(answers)).is_("INVALID_ARGUMENT", "REQUEST_TOO_LARGE")
