"""Secrets planted in every field must not turn up in anything that the process writes."""

import base64
import secrets
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from contract import RPCS
from support import (
    TIMEOUT,
    TRESOR,
    Client,
    Refusal,
    Tresor,
    dat_signature,
    login,
    mail_account,
    oauth2,
    office,
    order,
    ref,
    refused,
    run,
    user,
    v1,
)
from test_traces import Collector, Traced, collector, traced


class Planted:
    """Makes secrets that occur nowhere else, and remembers where each was planted."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}

    def secret(self, place: str) -> str:
        secret = f"Zq{secrets.token_hex(12)}"
        self.places[secret] = place
        return secret

    def email(self, place: str) -> str:
        return f"{self.secret(place)}@example.com"

    def found_in(self, data: bytes) -> set[str]:
        """The places whose secrets occur in the bytes, in any of the forms that text takes."""
        data = data.lower()
        return {place for secret, place in self.places.items() if any(form.lower() in data for form in forms(secret))}


def forms(secret: str) -> Iterator[bytes]:
    raw = secret.encode()
    yield raw
    yield raw.hex().encode()
    yield secret.encode("utf-16-le")
    yield secret.encode("utf-16-be")
    yield str(list(raw)).strip("[]").encode()
    # In base64 a text looks in three ways, by its place among the bytes around it; the outer characters mix with those.
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        yield encoded[4 if shift else 0 : -4]


def planted_login(planted: Planted, place: str, **fields: str) -> v1.Login:
    return login(
        **{
            "customer_number": planted.secret(f"{place}: customer number"),
            "username": planted.secret(f"{place}: user name"),
            "password": planted.secret(f"{place}: password"),
            "customer_signature": planted.secret(f"{place}: customer signature"),
            "interface_partner_number": planted.secret(f"{place}: partner number"),
            "interface_partner_signature": planted.secret(f"{place}: partner signature"),
        }
        | fields
    )


def planted_mail_account(planted: Planted, place: str, **fields: object) -> v1.MailAccount:
    return mail_account(
        **{
            "host": f"{planted.secret(f'{place}: host').lower()}.example.com",
            "username": planted.secret(f"{place}: user name"),
            "from_address": planted.email(f"{place}: from"),
            "from_name": planted.secret(f"{place}: from name"),
            "reply_to": planted.email(f"{place}: reply to"),
        }
        | fields
    )


def planted_oauth2(planted: Planted, place: str) -> v1.OAuth2Client:
    return oauth2(
        token_url=f"https://login.example.com/{planted.secret(f'{place}: token URL')}",
        client_id=planted.secret(f"{place}: client id"),
        client_secret=planted.secret(f"{place}: client secret"),
        refresh_token=planted.secret(f"{place}: refresh token"),
        scopes=[planted.secret(f"{place}: scope")],
    )


# Only DAT's logins have these.
NO_SIGNATURE = {"customer_signature": "", "interface_partner_number": "", "interface_partner_signature": ""}


def live_a_full_life(tresor: Tresor, planted: Planted) -> None:
    """Every call that touches a secret, with success."""
    operator = tresor.operator
    password = planted.secret("dat: password")
    planted.places[dat_signature("7654321", "anna", password)] = "dat: computed signature"
    dat = planted_login(planted, "dat", customer_number="7654321", username="anna", password=password)
    saves = [
        (ref("firm", "dat", office("leipzig")), {"login": dat}),
        (ref("firm", "wom"), {"login": planted_login(planted, "wom", **NO_SIGNATURE)}),
        (
            ref("firm", "email"),
            {"mail_account": planted_mail_account(planted, "mail", password=planted.secret("mail: password"))},
        ),
        (
            ref("firm", "email", user("m.lang")),
            {"mail_account": planted_mail_account(planted, "oauth2", oauth2=planted_oauth2(planted, "oauth2"))},
        ),
    ]
    # Without the signature that DAT would have issued, the vault computes it.
    computed = v1.Login()
    computed.CopyFrom(dat)
    computed.ClearField("customer_signature")
    saves.append((ref("firm", "dat"), {"login": computed}))
    for name, secret in saves:
        request = {"ref": name, "note": planted.secret("note"), **secret}
        operator.PutCredential(**request, validate_only=True)
        operator.PutCredential(**request)
        operator.PutCredential(**request)
        operator.RollbackCredential(ref=name, to_version=1)
        operator.GetCredential(ref=name)
        operator.ListCredentialVersions(ref=name)
    operator.ListCredentials(tenant="firm")
    operator.assign("firm", "email", "GENERAL")
    for variant in [v1.SIGNATURE_VARIANT_PLAIN, v1.SIGNATURE_VARIANT_TIME_LIMITED]:
        operator.assign("firm", "dat", "GENERAL", signature_variant=variant)
        for client in [operator, tresor.order_service]:
            signed = client.resolve("firm", with_receipt=True).credential.signed_credential
            planted.places[signed.split(".")[2]] = "dat: the vault's signature"
            client.resolve("firm", "wom")
            client.resolve("firm", "email")
    operator.assign("firm", "email", "PER_USER")
    subjects = order(user_id="m.lang")
    tresor.order_service.ResolveManyForOrder(tenant="firm", providers=["dat", "wom", "email"], order=subjects)
    operator.ExplainResolution(tenant="firm", provider="email", order=subjects)
    operator.DeleteCredential(ref=ref("firm", "wom"))
    operator.UndeleteCredential(ref=ref("firm", "wom"))
    operator.DeleteCredential(ref=ref("firm", "wom"))
    operator.PurgeCredential(ref=ref("firm", "wom"), confirm="firm/wom/general")


def make_every_mistake(tresor: Tresor, planted: Planted) -> list[Refusal]:
    """Calls that are refused for as many reasons as there are, each with secrets in it."""
    dat, mail = ref("firm", "dat", office("leipzig")), ref("firm", "email")
    long, broken = planted.secret("too long") * 200, planted.secret("with a control character") + "\0"
    insecure = oauth2(token_url=f"http://{planted.secret('plain URL')}", client_secret=planted.secret("its secret"))
    bad_login = planted_login(planted, "all wrong", username=broken, password=long)
    bad_mail = planted_mail_account(
        planted, "all wrong mail", host=broken, port=99999, from_address=broken, password=long
    )
    good_login = planted_login(planted, "nothing wrong", customer_number="7654321")
    good_mail = planted_mail_account(planted, "nothing wrong mail", oauth2=planted_oauth2(planted, "its OAuth"))
    operator, order_service, stranger = tresor.operator, tresor.order_service, tresor.client(None)
    refusals = [
        refused(operator.PutCredential, ref=dat, login=bad_login, note=long),
        refused(operator.PutCredential, ref=mail, mail_account=bad_mail),
        refused(operator.PutCredential, ref=mail, mail_account=mail_account(oauth2=insecure)),
        refused(operator.PutCredential, ref=dat, login=good_login, expected_version=99),
        refused(operator.PutCredential, ref=ref("a/b", "nobody"), login=good_login),
        refused(operator.PutCredential, ref=mail, login=good_login),
        refused(operator.PutCredential, ref=dat, mail_account=good_mail),
        refused(order_service.PutCredential, ref=dat, login=good_login),
        refused(stranger.PutCredential, ref=dat, login=good_login),
    ]
    whole = v1.PutCredentialRequest(ref=dat, login=good_login).SerializeToString()
    no_text = whole.replace(b"Zq", b"\xff\xfe")
    return refusals + [send(operator, body) for body in (whole[:-1], whole + b"\xff", no_text)]


def send(client: Client, body: bytes) -> Refusal:
    """What the vault says to bytes that are no request."""
    method = RPCS["PutCredential"].full_name.rpartition(".")
    call = client.channel.unary_stream(f"/{method[0]}/{method[2]}")
    with pytest.raises(grpc.RpcError) as raised:
        next(call(body, timeout=TIMEOUT))
    return Refusal.of(raised.value)


def written(tresor: Tresor) -> Iterator[tuple[Path, bytes]]:
    """Every file that the process wrote: its data and its output."""
    for path in sorted(tresor.directory.rglob("*")):
        if path.is_file():
            yield path, path.read_bytes()


def test_no_secret_is_in_logs_errors_files_or_metrics(tmp_path: Path) -> None:
    planted = Planted()
    with Tresor(tmp_path / "own", RUST_LOG="trace", RUST_BACKTRACE="full") as own:
        for _ in range(2):
            own.start()
            live_a_full_life(own, planted)
            for refusal in make_every_mistake(own, planted):
                assert not planted.found_in(repr(refusal).encode()), refusal
            for form in ["", "application/openmetrics-text;version=1.0.0"]:
                metrics = own.metrics(form)
                assert "tresor_resolves_total{" in metrics and not planted.found_in(metrics.encode())
            own.stop()
            for path, data in written(own):
                assert not planted.found_in(data), path
        assert len(own.stdout + own.stderr) > 10_000, "tracing was meant to be on"


def test_no_secret_is_in_traces(traced: Traced, collector: Collector) -> None:
    planted = Planted()
    live_a_full_life(traced, planted)
    make_every_mistake(traced, planted)
    traced.stop()
    methods = {span.name.rpartition("/")[2] for span in collector.spans}
    assert {"ResolveForOrder", "PutCredential", "PurgeCredential"} <= methods
    for request in collector.requests:
        assert not planted.found_in(request.SerializeToString()), request


def test_the_search_finds_what_it_looks_for() -> None:
    planted = Planted()
    secret = planted.secret("here")
    for around in [b"", b"x", b"xy", b"xyz"]:
        text = around + secret.encode() + around
        for data in [text, text.hex().encode(), base64.b64encode(text), base64.urlsafe_b64encode(text)]:
            assert planted.found_in(b"some" + data + b"thing") == {"here"}
    assert planted.found_in(f"bytes {list(secret.encode())}".encode()) == {"here"}
    assert not planted.found_in(secret[:-1].encode())


def test_no_answer_about_a_credential_tells_its_secret(operator: Client, tenant: str) -> None:
    planted = Planted()
    secrets_only = {
        "password": planted.secret("password"),
        "customer_signature": planted.secret("customer signature"),
        "interface_partner_signature": planted.secret("partner signature"),
    }
    name = ref(tenant)
    asked = {"tenant": tenant, "provider": "dat", "order": order()}
    answers = [
        operator.PutCredential(ref=name, login=login(**secrets_only)),
        operator.PutCredential(ref=name, login=login(**secrets_only)),
        operator.RollbackCredential(ref=name, to_version=1),
        operator.GetCredential(ref=name),
        operator.ListCredentials(tenant=tenant),
        operator.ListCredentialVersions(ref=name),
        operator.ExplainResolution(**asked),
        operator.assign(tenant, "dat", "PER_OFFICE"),
        operator.CheckCoverage(tenant=tenant, office_ids=["leipzig"]),
        operator.SetCredentialState(ref=name, state=v1.CREDENTIAL_STATE_DISABLED),
        operator.DeleteCredential(ref=name),
        operator.UndeleteCredential(ref=name),
    ]
    for answer in answers:
        assert not planted.found_in(answer.SerializeToString()), type(answer)


def test_no_argument_takes_a_password() -> None:
    help_text = run(TRESOR, "credential", "put", "--help").stdout
    assert "--password-stdin" in help_text
    assert "--password " not in help_text and "--password=" not in help_text
