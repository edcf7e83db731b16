"""Whoever keeps answers is told what has changed."""

import grpc
from google.protobuf.message import Message
from support import GENERAL, Client, office, ref, v1

SAVED, STATE_CHANGED, DELETED, ASSIGNMENT_CHANGED = (
    v1.ChangeEvent.Kind.Value(f"KIND_{kind}") for kind in ("SAVED", "STATE_CHANGED", "DELETED", "ASSIGNMENT_CHANGED")
)


def take(stream: grpc.Call, count: int) -> list[Message]:
    """The stream's next events; then it is left."""
    events = [next(stream).event for _ in range(count)]
    stream.cancel()
    return events


def test_a_save_is_seen_by_those_who_watch(operator: Client, order_service: Client, tenant: str) -> None:
    watch = order_service.WatchChanges(tenant=tenant, from_revision=operator.revision())
    saved = operator.save(tenant, "dat", office("leipzig"))
    (event,) = take(watch, 1)
    assert event.kind == SAVED
    assert event.ref == ref(tenant, "dat", office("leipzig"))
    assert event.revision == saved.revision


def test_every_kind_of_change_is_seen_in_order(operator: Client, tenant: str) -> None:
    before = operator.revision()
    name = ref(tenant)
    revisions = [
        operator.save(tenant).revision,
        operator.SetCredentialState(ref=name, state=v1.CREDENTIAL_STATE_DISABLED).revision,
        operator.SetCredentialState(ref=name, state=v1.CREDENTIAL_STATE_ENABLED).revision,
        operator.DeleteCredential(ref=name).revision,
        operator.UndeleteCredential(ref=name).revision,
        operator.save(tenant).revision,
        operator.RollbackCredential(ref=name, to_version=1).revision,
        operator.assign(tenant, "dat", "PER_OFFICE").revision,
        operator.DeleteCredential(ref=name).revision,
        operator.PurgeCredential(ref=name, confirm=f"{tenant}/dat/general").revision,
    ]
    events = take(operator.WatchChanges(tenant=tenant, from_revision=before), len(revisions))
    assert [event.revision for event in events] == revisions == sorted(revisions)
    assert [event.kind for event in events] == [
        SAVED,
        STATE_CHANGED,
        STATE_CHANGED,
        DELETED,
        STATE_CHANGED,
        SAVED,
        SAVED,
        ASSIGNMENT_CHANGED,
        DELETED,
        DELETED,
    ]
    for event in events:
        assert (event.ref.tenant, event.ref.provider) == (tenant, "dat")
        assert event.ref.scope == (v1.Scope() if event.kind == ASSIGNMENT_CHANGED else GENERAL)


def test_only_the_tenant_and_the_providers_asked_for_are_seen(operator: Client, tenant: str) -> None:
    before = operator.revision()
    operator.save(f"{tenant}-other")
    operator.save(tenant, "wom")
    operator.save(tenant, "egub")
    operator.save(tenant, "dat")
    events = take(operator.WatchChanges(tenant=tenant, providers=["dat", "egub"], from_revision=before), 2)
    assert [event.ref for event in events] == [ref(tenant, "egub"), ref(tenant, "dat")]


def test_a_watch_can_go_on_where_it_was_left(operator: Client, tenant: str) -> None:
    before = operator.revision()
    saves = [operator.save(tenant).revision for _ in range(4)]
    first = take(operator.WatchChanges(tenant=tenant, from_revision=before), 2)
    rest = take(operator.WatchChanges(tenant=tenant, from_revision=first[-1].revision), 2)
    assert [event.revision for event in first + rest] == saves


def test_without_a_revision_a_watch_begins_now(operator: Client, tenant: str) -> None:
    operator.save(tenant, "wom")
    watch = operator.WatchChanges(tenant=tenant)
    # The stream is open once the first header is here.
    watch.initial_metadata()
    operator.save(tenant, "dat")
    (event,) = take(watch, 1)
    assert event.ref.provider == "dat"
