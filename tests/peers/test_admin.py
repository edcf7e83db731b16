"""What the settings dialog does: save, look, page, switch, delete, bring back, assign, cover."""

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from support import GENERAL, Client, appraiser, login, mail_account, office, ref, refused, user, v1

ENABLED, DISABLED, DELETED = v1.CREDENTIAL_STATE_ENABLED, v1.CREDENTIAL_STATE_DISABLED, v1.CREDENTIAL_STATE_DELETED


def test_the_catalogue_has_the_eleven_providers_with_kinds_and_scopes(operator: Client) -> None:
    providers = {provider.id: provider for provider in operator.ListProviders().providers}
    assert len(providers) == 11
    for id, provider in providers.items():
        mail = id == "email"
        assert provider.kind == (v1.PROVIDER_KIND_MAIL_ACCOUNT if mail else v1.PROVIDER_KIND_LOGIN)
        scopes = [v1.SCOPE_KIND_GENERAL, v1.SCOPE_KIND_OFFICE, v1.SCOPE_KIND_APPRAISER]
        assert list(provider.scopes) == scopes + [v1.SCOPE_KIND_USER] * mail
        assert provider.name and provider.categories and provider.fields
    fields = {field.path: field for field in providers["dat"].fields}
    assert fields["login.customer_number"].required
    assert fields["login.password"].secret
    assert providers["dat"].signature_variant == v1.SIGNATURE_VARIANT_PLAIN
    numbers = [field for field in providers["audatex"].fields if field.path == "login.customer_number"]
    assert [field.required for field in numbers] == [False]


def test_what_is_saved_can_be_looked_at_without_its_secret(operator: Client, tenant: str) -> None:
    until = Timestamp(seconds=4_000_000_000)
    saved = operator.PutCredential(
        ref=ref(tenant, "dat", office("leipzig")), login=login(), valid_until=until, note="from DAT's mail"
    )
    found = operator.GetCredential(ref=ref(tenant, "dat", office("leipzig"))).credential
    assert found == saved.credential
    assert found.path == f"{tenant}/dat/office/leipzig"
    assert (found.state, found.version, found.note, found.valid_until) == (ENABLED, 1, "from DAT's mail", until)
    assert (found.username, found.customer_number) == ("myuser", "1234567")
    assert found.saved_by and found.saved_at.seconds > 0
    assert not found.HasField("delete_time") and not found.HasField("last_verified")
    assert saved.revision == operator.revision()
    assert not saved.warnings


@pytest.mark.parametrize("scope", [GENERAL, office("a"), appraiser("a"), user("a")])
def test_every_scope_has_its_path(operator: Client, tenant: str, scope: v1.Scope) -> None:
    kind = scope.WhichOneof("kind").removesuffix("_id")
    path = f"{tenant}/email/{kind}" + ("" if scope == GENERAL else "/a")
    assert operator.save(tenant, "email", scope).credential.path == path


def test_white_space_is_trimmed_but_never_from_a_password(operator: Client, tenant: str) -> None:
    saved = operator.save(tenant, customer_number=" 1234567\t", username="\n myuser ", password=" pass word ")
    (warning,) = saved.warnings
    assert (warning.reason, warning.field) == ("PASSWORD_SURROUNDED_BY_WHITE_SPACE", "login.password")
    resolved = operator.resolve(tenant).credential.login
    assert (resolved.customer_number, resolved.username, resolved.password) == ("1234567", "myuser", " pass word ")


def test_texts_come_back_as_they_were_saved(operator: Client, tenant: str) -> None:
    for password in ["Pä$$wört€", "\u0000\u0001\u007f", "🔑" * 1024, "\N{COMBINING DIAERESIS}a", "x" * 4096]:
        operator.save(tenant, password=password)
        assert operator.resolve(tenant).credential.login.password == password
    account = mail_account(from_name="Büro „Süd“ 訂單", reply_to="antwort@example.com")
    operator.PutCredential(ref=ref(tenant, "email"), mail_account=account)
    assert operator.resolve(tenant, "email").credential.mail_account == account


def test_every_save_is_a_new_version_and_history_names_the_changed_fields(operator: Client, tenant: str) -> None:
    operator.save(tenant, password="one")
    operator.save(tenant, password="two")
    operator.PutCredential(ref=ref(tenant), login=login(username="other", password="two"), note="renamed")
    third, second, first = operator.ListCredentialVersions(ref=ref(tenant)).versions
    assert [first.version, second.version, third.version] == [1, 2, 3]
    assert third.note == "renamed"
    assert first.saved_by == second.saved_by == third.saved_by != ""
    assert any(name.endswith("password") for name in second.changed_fields)
    assert not any(name.endswith("username") for name in second.changed_fields)
    assert any(name.endswith("username") for name in third.changed_fields)
    assert not any(name.endswith("password") for name in third.changed_fields)


def test_a_rollback_is_a_new_version_with_the_old_content(operator: Client, tenant: str) -> None:
    operator.save(tenant, password="one")
    operator.save(tenant, password="two")
    rolled = operator.RollbackCredential(ref=ref(tenant), to_version=1, expected_version=2)
    assert rolled.credential.version == 3
    resolved = operator.resolve(tenant, min_revision=rolled.revision).credential
    assert (resolved.version, resolved.login.password) == (3, "one")
    assert len(operator.ListCredentialVersions(ref=ref(tenant)).versions) == 3


def test_a_rollback_needs_a_version_that_exists(operator: Client, tenant: str) -> None:
    operator.save(tenant)
    assert refused(operator.RollbackCredential, ref=ref(tenant), to_version=2).code.name == "NOT_FOUND"


def test_a_credential_can_be_disabled_and_enabled(operator: Client, tenant: str) -> None:
    operator.save(tenant)
    for state in [DISABLED, ENABLED]:
        changed = operator.SetCredentialState(ref=ref(tenant), state=state)
        assert changed.credential.state == state
        assert operator.GetCredential(ref=ref(tenant)).credential == changed.credential
    assert operator.resolve(tenant).credential.login.username == "myuser"


def test_a_deleted_credential_can_be_brought_back_in_the_state_it_had(operator: Client, tenant: str) -> None:
    operator.save(tenant)
    operator.SetCredentialState(ref=ref(tenant), state=DISABLED)
    deleted = operator.DeleteCredential(ref=ref(tenant)).credential
    assert deleted.state == DELETED
    assert deleted.HasField("delete_time")
    assert refused(operator.resolve, tenant).is_("NOT_FOUND", "CREDENTIAL_NOT_CONFIGURED")
    back = operator.UndeleteCredential(ref=ref(tenant)).credential
    assert back.state == DISABLED
    assert not back.HasField("delete_time")


def test_a_purged_credential_is_gone_with_all_its_versions(operator: Client, tenant: str) -> None:
    path = operator.save(tenant).credential.path
    operator.save(tenant)
    operator.DeleteCredential(ref=ref(tenant))
    assert operator.PurgeCredential(ref=ref(tenant), confirm=path).revision == operator.revision()
    for rpc in [operator.GetCredential, operator.UndeleteCredential, operator.ListCredentialVersions]:
        assert refused(rpc, ref=ref(tenant)).code.name == "NOT_FOUND"
    assert not operator.ListCredentials(tenant=tenant, states=[ENABLED, DISABLED, DELETED]).credentials


def test_what_does_not_exist_is_not_found(operator: Client, tenant: str) -> None:
    before = operator.revision()
    name = ref(tenant)
    for refusal in [
        refused(operator.GetCredential, ref=name),
        refused(operator.SetCredentialState, ref=name, state=DISABLED),
        refused(operator.DeleteCredential, ref=name),
        refused(operator.UndeleteCredential, ref=name),
        refused(operator.PurgeCredential, ref=name, confirm=f"{tenant}/dat/general"),
        refused(operator.ListCredentialVersions, ref=name),
        refused(operator.RollbackCredential, ref=name, to_version=1),
    ]:
        assert refusal.code.name == "NOT_FOUND"
        assert refusal.reason
    assert operator.revision() == before


def test_a_version_that_is_not_the_expected_one_stops_every_change(operator: Client, tenant: str) -> None:
    name = ref(tenant)
    operator.save(tenant)
    operator.save(tenant)
    before = operator.revision()
    for refusal in [
        refused(operator.PutCredential, ref=name, login=login(), expected_version=0),
        refused(operator.PutCredential, ref=name, login=login(), expected_version=1),
        refused(operator.PutCredential, ref=name, login=login(), expected_version=1, validate_only=True),
        refused(operator.SetCredentialState, ref=name, state=DISABLED, expected_version=1),
        refused(operator.DeleteCredential, ref=name, expected_version=1),
        refused(operator.RollbackCredential, ref=name, to_version=1, expected_version=1),
    ]:
        assert refusal.is_("ABORTED", "VERSION_MISMATCH")
        assert "2" in refusal.metadata.values()
    assert operator.revision() == before
    assert operator.PutCredential(ref=name, login=login(), expected_version=2).credential.version == 3


def test_a_first_save_can_insist_on_being_the_first(operator: Client, tenant: str) -> None:
    refusal = refused(operator.PutCredential, ref=ref(tenant), login=login(), expected_version=1)
    assert refusal.is_("ABORTED", "VERSION_MISMATCH")
    operator.PutCredential(ref=ref(tenant), login=login(), expected_version=0)
    operator.DeleteCredential(ref=ref(tenant), expected_version=1)
    refusal = refused(operator.UndeleteCredential, ref=ref(tenant), expected_version=7)
    assert refusal.is_("ABORTED", "VERSION_MISMATCH")
    operator.PutCredential(ref=ref(tenant), login=login(), expected_version=0)


def test_a_check_does_not_tell_whether_a_password_was_guessed(operator: Client, tenant: str) -> None:
    operator.save(tenant, password="s3cret")
    answers = [
        operator.PutCredential(ref=ref(tenant), login=login(password=guess), validate_only=True)
        for guess in ["wrong", "s3cret"]
    ]
    assert answers[0].warnings == answers[1].warnings == []


def test_a_new_note_is_a_change(operator: Client, tenant: str) -> None:
    for note in ["first", "second"]:
        operator.PutCredential(ref=ref(tenant), login=login(), note=note)
    newest, _ = operator.ListCredentialVersions(ref=ref(tenant)).versions
    assert list(newest.changed_fields) == ["note"]


def test_validate_only_checks_everything_and_changes_nothing(operator: Client, tenant: str) -> None:
    before = operator.revision()
    answer = operator.PutCredential(ref=ref(tenant), login=login(password=" x "), note="maybe", validate_only=True)
    assert (answer.revision, answer.credential.version, answer.credential.note) == (0, 1, "maybe")
    assert [warning.reason for warning in answer.warnings] == ["PASSWORD_SURROUNDED_BY_WHITE_SPACE"]
    refusal = refused(operator.PutCredential, ref=ref(tenant), login=login(customer_number="1"), validate_only=True)
    assert refusal.is_("INVALID_ARGUMENT", "INVALID_FIELD")
    assert refused(operator.GetCredential, ref=ref(tenant)).code.name == "NOT_FOUND"
    assert operator.revision() == before


def test_a_list_comes_in_pages_sorted_by_path(operator: Client, tenant: str) -> None:
    for number in range(25):
        operator.save(tenant, "wom", office(f"office-{number:02}"))
    found, token = [], ""
    while page := operator.ListCredentials(tenant=tenant, page_size=10, page_token=token):
        assert len(page.credentials) <= 10
        found += [credential.path for credential in page.credentials]
        if not (token := page.next_page_token):
            break
    assert found == [f"{tenant}/wom/office/office-{number:02}" for number in range(25)]
    everything = operator.ListCredentials(tenant=tenant, page_size=5000)
    assert [credential.path for credential in everything.credentials] == found


def test_a_list_can_be_narrowed(operator: Client, tenant: str) -> None:
    operator.save(tenant, "dat")
    operator.save(tenant, "wom", office("leipzig"))
    operator.save(tenant, "egub", appraiser("a.richter"))
    operator.SetCredentialState(ref=ref(tenant, "egub", appraiser("a.richter")), state=DISABLED)
    operator.save(tenant, "email")
    operator.DeleteCredential(ref=ref(tenant, "email"))
    ends = Timestamp(seconds=4_000_000_000)
    operator.PutCredential(ref=ref(tenant, "cartv"), login=login(), valid_until=ends)

    def providers(**filters: object) -> list[str]:
        return [c.ref.provider for c in operator.ListCredentials(tenant=tenant, **filters).credentials]

    assert providers() == ["cartv", "dat", "egub", "wom"]
    assert providers(providers=["dat", "wom", "email"]) == ["dat", "wom"]
    assert providers(scope_kinds=[v1.SCOPE_KIND_OFFICE, v1.SCOPE_KIND_APPRAISER]) == ["egub", "wom"]
    assert providers(states=[DISABLED]) == ["egub"]
    assert providers(states=[DELETED]) == ["email"]
    assert providers(expires_before=Timestamp(seconds=ends.seconds + 1)) == ["cartv"]
    assert providers(expires_before=ends) == []


def test_tenants_do_not_see_each_others_credentials(operator: Client, tenant: str) -> None:
    # One name begins with the other: a listing by prefix must not run over.
    operator.save(tenant, "dat")
    operator.save(f"{tenant}0", "wom")
    assert [found.ref.provider for found in operator.ListCredentials(tenant=tenant).credentials] == ["dat"]
    assert refused(operator.resolve, f"{tenant}0").is_("NOT_FOUND", "CREDENTIAL_NOT_CONFIGURED")


def test_an_assignment_is_general_until_someone_chooses(operator: Client, tenant: str) -> None:
    default = operator.GetAssignment(tenant=tenant, provider="dat").assignment
    assert (default.mode, default.is_default, default.revision) == (v1.ASSIGNMENT_MODE_GENERAL, True, 0)
    chosen = operator.assign(tenant, "dat", "PER_OFFICE", fallback_to_general=True, expected_revision=0)
    assert chosen.assignment == operator.GetAssignment(tenant=tenant, provider="dat").assignment
    assert not chosen.assignment.is_default
    assert chosen.assignment.fallback_to_general
    assert chosen.assignment.revision == chosen.revision == operator.revision()
    assert chosen.assignment.set_by and chosen.assignment.HasField("set_at")
    listed = operator.ListAssignments(tenant=tenant).assignments
    assert len(listed) == 11
    assert [found.provider for found in listed if not found.is_default] == ["dat"]
    assert chosen.assignment in listed


def test_an_assignment_that_someone_else_has_changed_is_not_overwritten(operator: Client, tenant: str) -> None:
    first = operator.assign(tenant, "dat", "PER_OFFICE")
    for expected in [0, first.revision - 1]:
        refusal = refused(operator.assign, tenant, "dat", "GENERAL", expected_revision=expected)
        assert refusal.is_("ABORTED", "VERSION_MISMATCH")
        assert str(first.revision) in refusal.metadata.values()
    assert operator.GetAssignment(tenant=tenant, provider="dat").assignment == first.assignment
    operator.assign(tenant, "dat", "GENERAL", expected_revision=first.revision)


def test_an_assignment_warns_of_those_it_leaves_without_a_credential(operator: Client, tenant: str) -> None:
    operator.save(tenant, "dat", office("leipzig"))
    operator.save(tenant, "wom", office("dresden"))
    warnings = operator.assign(tenant, "dat", "PER_OFFICE").warnings
    assert any("dresden" in warning.message for warning in warnings)
    assert not any("leipzig" in warning.message for warning in warnings)


def test_coverage_names_everyone_without_a_usable_credential(operator: Client, tenant: str) -> None:
    operator.save(tenant, "dat", office("leipzig"))
    operator.save(tenant, "dat", office("dresden"))
    operator.SetCredentialState(ref=ref(tenant, "dat", office("dresden")), state=DISABLED)
    operator.assign(tenant, "dat", "PER_OFFICE")
    operator.save(tenant, "audatex")
    operator.assign(tenant, "audatex", "PER_APPRAISER", fallback_to_general=True)
    operator.assign(tenant, "email", "PER_USER")
    everyone = {"office_ids": ["leipzig", "dresden", "halle"], "appraiser_ids": ["b.kern"], "user_ids": ["m.lang"]}
    gaps = operator.CheckCoverage(tenant=tenant, providers=["dat", "audatex", "email", "wom"], **everyone).gaps
    assert [(gap.provider, gap.scope, gap.reason) for gap in gaps] == [
        ("dat", office("dresden"), "CREDENTIAL_DISABLED"),
        ("dat", office("halle"), "CREDENTIAL_NOT_CONFIGURED"),
        ("wom", GENERAL, "CREDENTIAL_NOT_CONFIGURED"),
        ("email", user("m.lang"), "CREDENTIAL_NOT_CONFIGURED"),
    ]
    assert gaps[0].mode == v1.ASSIGNMENT_MODE_PER_OFFICE


def test_coverage_takes_ten_thousand_ids(operator: Client, tenant: str) -> None:
    operator.assign(tenant, "dat", "PER_OFFICE")
    offices = [f"{number:05}".ljust(128, "x") for number in range(10_000)]
    gaps = operator.CheckCoverage(tenant=tenant, office_ids=offices, providers=["dat"]).gaps
    assert [gap.scope.office_id for gap in gaps] == offices


def test_status_tells_how_the_vault_is_doing(operator: Client, tenant: str) -> None:
    before = operator.GetStatus()
    operator.save(tenant)
    status = operator.GetStatus()
    assert status.version and status.kek_id and status.store_format > 0
    assert (status.store, status.sealed) == ("sled", False)
    assert status.revision > before.revision
    assert (status.replica.revision, status.replica.lag) == (status.revision, 0)
    assert status.counts.tenants == before.counts.tenants + 1
    assert status.counts.enabled == before.counts.enabled + 1
    assert status.data_keys.count >= status.counts.tenants
    assert status.signing_keys.count >= 1


def test_verifying_is_the_one_thing_not_built_yet(operator: Client, tenant: str) -> None:
    operator.save(tenant)
    assert refused(operator.VerifyCredential, ref=ref(tenant)).code.name == "UNIMPLEMENTED"
