"""Signatures, as a JOSE library that is not ours sees them: the vault's own, receipts, and DAT's."""

import json
import time
from datetime import datetime, timezone

import pytest
from cryptography import x509
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from support import (
    GENERAL,
    Client,
    Tresor,
    appraiser,
    dat_signature,
    login,
    mail_account,
    oauth2,
    office,
    order,
    ref,
    user,
    v1,
)

PLAIN, TIME_LIMITED = v1.SIGNATURE_VARIANT_PLAIN, v1.SIGNATURE_VARIANT_TIME_LIMITED


def signing_keys(client: Client) -> KeySet:
    return KeySet.import_key_set(json.loads(client.GetSigningKeys().jwks))


def verify(client: Client, token: str, typ: str) -> dict:
    """The payload of a JWS, once joserfc has verified it with the published key that its header names."""
    verified = jws.deserialize_compact(token, signing_keys(client), algorithms=["EdDSA"])
    header = verified.headers()
    assert (header["alg"], header["typ"]) == ("EdDSA", typ)
    assert header["kid"] in {key.kid for key in signing_keys(client)}
    return json.loads(verified.payload)


def instant(text: str) -> datetime:
    """A point in time from RFC 3339, which must be in UTC."""
    assert text.endswith("Z")
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def wire_instant(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=timezone.utc)


def subject_of(scope: Message) -> dict[str, str]:
    """The scope as signatures write it: its kind and, unless it is the general one, its subject."""
    kind = scope.WhichOneof("kind")
    return {"scope": "general"} if kind == "general" else {"scope": kind[:-3], "subject": getattr(scope, kind)}


def signed_is_what_was_given(client: Client, credential: Message) -> dict:
    """Insists that the signed payload is the answer, field by field and nothing else, and returns it."""
    payload = verify(client, credential.signed_credential, "dynarex-credential+jws")
    kind = credential.WhichOneof("secret")
    expected = {
        "iss": payload["iss"],
        "tenant": credential.ref.tenant,
        "provider": credential.ref.provider,
        "version": credential.version,
        "saved_at": payload["saved_at"],
        kind: MessageToDict(getattr(credential, kind), preserving_proto_field_name=True),
    } | subject_of(credential.ref.scope)
    assert payload["iss"]
    assert instant(payload["saved_at"]) == wire_instant(credential.saved_at)
    if credential.HasField("valid_until"):
        expected["valid_until"] = payload["valid_until"]
        assert instant(payload["valid_until"]) == wire_instant(credential.valid_until)
    assert payload == expected
    return payload


def test_the_published_keys_are_public_ed25519_keys(operator: Client) -> None:
    keys = json.loads(operator.GetSigningKeys().jwks)["keys"]
    assert keys
    for key in keys:
        assert (key["kty"], key["crv"]) == ("OKP", "Ed25519")
        assert key["kid"] and key["x"]
        assert "d" not in key


@pytest.mark.parametrize("provider, scope, secret", [
    ("dat", GENERAL, {}),
    ("dat", office("leipzig"), {"interface_partner_number": "7654321", "interface_partner_signature": "Ab0/+="}),
    ("wom", appraiser("a.richter"), {"customer_number": ""}),
    ("egub", GENERAL, {"password": 'quote " backslash \\ control \u0001 umlaut ü sign € key 🔑 line\u2028break'}),
    ("email", GENERAL, {}),
    ("email", user("m.lang"), {"oauth2": oauth2(refresh_token="again", scopes=["mail.send", "offline"])}),
    ("email", office("dresden"), {"reply_to": "antwort@example.com", "from_name": "Büro „Süd“"}),
])  # fmt: skip
def test_the_signature_covers_exactly_what_the_caller_gets(
    operator: Client, order_service: Client, tenant: str, provider: str, scope: Message, secret: dict
) -> None:
    operator.save(tenant, provider, scope, **secret)
    subject = {} if scope == GENERAL else {scope.WhichOneof("kind"): getattr(scope, scope.WhichOneof("kind"))}
    mode = {"office_id": "PER_OFFICE", "appraiser_id": "PER_APPRAISER", "user_id": "PER_USER"}
    operator.assign(tenant, provider, mode.get(scope.WhichOneof("kind"), "GENERAL"))
    for client in [operator, order_service]:
        credential = client.resolve(tenant, provider, **subject).credential
        assert credential.ref == ref(tenant, provider, scope)
        signed_is_what_was_given(client, credential)


def test_the_signature_covers_the_end_of_validity(operator: Client, tenant: str) -> None:
    ends = Timestamp(seconds=4_000_000_000, nanos=123_000_000)
    operator.PutCredential(ref=ref(tenant), login=login(), valid_until=ends)
    assert "valid_until" in signed_is_what_was_given(operator, operator.resolve(tenant).credential)


def test_every_version_has_its_own_signature(operator: Client, tenant: str) -> None:
    for version in [1, 2]:
        operator.save(tenant, password=f"password {version}")
        payload = signed_is_what_was_given(operator, operator.resolve(tenant).credential)
        assert (payload["version"], payload["login"]["password"]) == (version, f"password {version}")
    operator.RollbackCredential(ref=ref(tenant), to_version=1)
    payload = signed_is_what_was_given(operator, operator.resolve(tenant).credential)
    assert (payload["version"], payload["login"]["password"]) == (3, "password 1")


def test_the_samples_signatures_verify(order_service: Client) -> None:
    asked = [provider.id for provider in order_service.ListProviders().providers]
    subjects = order(office_id="dresden", appraiser_id="b.kern", user_id="m.lang")
    for result in order_service.ResolveManyForOrder(tenant="demo", providers=asked, order=subjects).results:
        assert not result.HasField("error"), result.error
        signed_is_what_was_given(order_service, result.credential)


def test_a_signature_with_one_changed_character_verifies_no_more(operator: Client, tenant: str) -> None:
    operator.save(tenant)
    token = operator.resolve(tenant).credential.signed_credential
    keys = signing_keys(operator)
    # The last character of a part may hold unused bits; all others count.
    for part in token.split("."):
        for place in range(0, len(part) - 1, 7):
            changed = part[:place] + ("A" if part[place] != "A" else "B") + part[place + 1 :]
            with pytest.raises((JoseError, ValueError)):
                jws.deserialize_compact(token.replace(part, changed), keys, algorithms=["EdDSA"])
    assert jws.deserialize_compact(token, keys, algorithms=["EdDSA"])


def test_a_receipt_says_what_was_given_to_whom_for_which_order(tresor: Tresor, tenant: str) -> None:
    tresor.operator.save(tenant, "dat", office("leipzig"), password="not-in-a-receipt", username="nor-this")
    tresor.operator.assign(tenant, "dat", "PER_OFFICE")
    for name in ["operator", "order-service"]:
        client = tresor.client(name)
        answer = client.resolve(tenant, office_id="leipzig", order_id="Nr. 7/2026 (Müller)", with_receipt=True)
        payload = verify(client, answer.receipt, "dynarex-receipt+jwt")
        claims = jwt.decode(answer.receipt, signing_keys(client), algorithms=["EdDSA"]).claims
        jwt.JWTClaimsRegistry(exp={"essential": True}, iat={"essential": True}).validate(claims)
        assert claims == payload
        assert {name: claims[name] for name in ("tenant", "provider", "scope", "subject", "version", "order_id")} == {
            "tenant": tenant,
            "provider": "dat",
            "scope": "office",
            "subject": "leipzig",
            "version": 1,
            "order_id": "Nr. 7/2026 (Müller)",
        }
        assert claims["iss"] == signed_is_what_was_given(client, answer.credential)["iss"]
        assert claims["sub"] in identities(tresor, name)
        assert abs(claims["iat"] - time.time()) < 60
        assert claims["exp"] > claims["iat"]
        for secret in ["not-in-a-receipt", "nor-this", answer.credential.login.customer_signature]:
            assert secret not in json.dumps(payload)
        client.channel.close()


def identities(tresor: Tresor, name: str) -> list[str]:
    """The names that a client's certificate holds."""
    certificate = x509.load_pem_x509_certificate((tresor.pki / f"{name}.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return uris or names.get_values_for_type(x509.DNSName)


def test_each_receipt_has_its_own_id_and_none_comes_unasked(operator: Client, tenant: str) -> None:
    operator.save(tenant)
    receipts = [operator.resolve(tenant, with_receipt=True).receipt for _ in range(3)]
    assert len({verify(operator, receipt, "dynarex-receipt+jwt")["jti"] for receipt in receipts}) == 3
    assert operator.resolve(tenant).receipt == ""


@pytest.mark.parametrize("username, password, signature", [
    ("myuser", "password", "B6760E7D6FAA2C88E9535C8609F97A059E121F14B3F3C1BD3B2262A2E0760675"),
    ("müller", "Pä$$wört€", "71137F42E1F5C90AE8B2D316190C60196294EC07C3B4A54FC2D332A4F24AD1A3"),
])  # fmt: skip
def test_dats_signature_is_the_one_dat_computes(
    operator: Client, tenant: str, username: str, password: str, signature: str
) -> None:
    assert dat_signature("1234567", username, password) == signature
    operator.save(tenant, username=f" {username} ", password=password)
    assert operator.resolve(tenant).credential.login.customer_signature == signature


def test_only_dat_gets_dats_signature(operator: Client, tenant: str) -> None:
    operator.save(tenant, "audatex")
    assert operator.resolve(tenant, "audatex").credential.login.customer_signature == ""


def test_the_time_limited_signature_holds_the_current_frame(operator: Client, tenant: str) -> None:
    # The published vector: frame 2960000.
    vector = "BAF859C60FB0A5CAB91C505C47D56A033EE5489AED490B2248ED2AC8BAF62F52"
    assert dat_signature("1234567", "myuser", "password", "2960000") == vector
    operator.save(tenant)
    operator.assign(tenant, "dat", "GENERAL", signature_variant=TIME_LIMITED)
    before = int(time.time() * 1000) // 600_000
    credential = operator.resolve(tenant).credential
    after = int(time.time() * 1000) // 600_000
    expected = {dat_signature("1234567", "myuser", "password", str(frame)) for frame in (before, after)}
    assert credential.login.customer_signature in expected
    signed_is_what_was_given(operator, credential)
    operator.assign(tenant, "dat", "GENERAL", signature_variant=PLAIN)
    plain = operator.resolve(tenant).credential
    assert plain.login.customer_signature == dat_signature("1234567", "myuser", "password")
    signed_is_what_was_given(operator, plain)


def test_a_signature_that_dat_has_issued_is_kept(operator: Client, tenant: str) -> None:
    right = dat_signature("1234567", "myuser", "password")
    assert not operator.save(tenant, customer_signature=right).warnings
    assert operator.resolve(tenant).credential.login.customer_signature == right


def test_a_signature_that_does_not_fit_the_password_is_kept_with_a_warning(operator: Client, tenant: str) -> None:
    issued = dat_signature("1234567", "myuser", "Password")
    (warning,) = operator.save(tenant, customer_signature=issued).warnings
    assert warning.field == "login.customer_signature"
    credential = operator.resolve(tenant).credential
    assert credential.login.customer_signature == issued
    signed_is_what_was_given(operator, credential)


def test_mail_accounts_come_back_whole(operator: Client, tenant: str) -> None:
    account = mail_account(oauth2=oauth2(refresh_token="again", scopes=["one", "two"]), reply_to="a@example.com")
    operator.PutCredential(ref=ref(tenant, "email"), mail_account=account)
    assert operator.resolve(tenant, "email").credential.mail_account == account
