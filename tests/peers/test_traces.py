"""Traces: a real `tresor serve` in its sandbox, and a collector that speaks OTLP."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from contract import v1
from kms import Plugin
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from support import TIMEOUT, Client, Tresor, free_port, order, refused, wait_for
from test_kms import Served

SERVICE = "dynarex.credentials.v1.CredentialResolver"
RESOLVE = f"{SERVICE}/ResolveForOrder"
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is given."""

    def __init__(self, tls: grpc.ServerCredentials | None = None) -> None:
        self.requests: list[trace_service_pb2.ExportTraceServiceRequest] = []
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self.server)
        address = "127.0.0.1:0"
        self.port = self.server.add_secure_port(address, tls) if tls else self.server.add_insecure_port(address)
        self.server.start()

    def Export(self, request, context):  # noqa: N802
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Span]:
        resources = [resource for request in self.requests for resource in request.resource_spans]
        return [span for resource in resources for scope in resource.scope_spans for span in scope.spans]

    def one(self, name: str, trace: str) -> Span:
        """Waits for a span of a trace."""

        def found() -> list[Span]:
            return [span for span in self.spans if (span.name, span.trace_id.hex()) == (name, trace)]

        return wait_for(found, f"the span {name}")[0]


class Traced(Served):
    """A vault whose key-encryption key is in a file, and that hands traces over soon."""

    def __init__(self, directory: Path, endpoint: str, kek: Path, **settings: str) -> None:
        traces = {"TRESOR_TRACES_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50", **settings}
        super().__init__(directory, Plugin(directory / "none.sock"), **traces)
        self.kek = kek

    def configure(self, certificates: Path) -> None:
        super().configure(certificates)
        keys = self.configuration.read_text().replace(f"kms_socket = '{self.plugin.socket}'", f"kek_file = '{self.kek}'")
        self.configuration.write_text(keys)


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.stop(None)


@pytest.fixture
def traced(tresor: Tresor, tmp_path: Path, collector: Collector) -> Iterator[Traced]:
    with Traced(tmp_path / "traced", f"http://localhost:{collector.port}", tresor.data / "kek.key") as traced:
        traced.configure(tresor.pki)
        yield traced.start()


def resolve(client: Client, traceparent: str) -> v1.ResolveForOrderResponse:
    call = client.channel.unary_unary(
        f"/{RESOLVE}",
        request_serializer=v1.ResolveForOrderRequest.SerializeToString,
        response_deserializer=v1.ResolveForOrderResponse.FromString,
    )
    request = v1.ResolveForOrderRequest(tenant="firm", provider="dat", order=order(office_id="leipzig"))
    metadata = [("traceparent", traceparent), ("x-request-id", "req-9")]
    return call(request, timeout=TIMEOUT, metadata=metadata)


def attributes(span: Span) -> dict[str, str | int]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


def test_a_call_is_a_part_of_its_callers_trace_and_says_what_it_waited_for(traced: Traced, collector: Collector) -> None:
    traced.operator.save("firm", password="top-secret")
    resolve(traced.order_service, f"00-{TRACE}-{CALLER}-01")
    call = collector.one(RESOLVE, TRACE)
    assert call.parent_span_id.hex() == CALLER
    assert call.kind == Span.SPAN_KIND_SERVER
    expected = {
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.method": "ResolveForOrder",
        "rpc.grpc.status_code": 0,
        "tresor.caller": "spiffe://dynarex.local/order-service",
        "tresor.tenant": "firm",
        "tresor.provider": "dat",
        "tresor.scope": "general",
        "tresor.order_id": "2026-0815",
        "tresor.request_id": "req-9",
        "tresor.version": 1,
    }
    assert attributes(call) == expected
    for part in ("decision", "open", "audit"):
        span = collector.one(part, TRACE)
        assert span.parent_span_id == call.span_id
        assert call.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano <= call.end_time_unix_nano
    # The save began a trace of its own.
    save = wait_for(lambda: [span for span in collector.spans if span.name.endswith("/PutCredential")], "the save")[0]
    assert save.parent_span_id == b""
    commits = [span for span in collector.spans if span.name == "commit" and span.trace_id == save.trace_id]
    assert [span.parent_span_id for span in commits] and all(span.parent_span_id == save.span_id for span in commits)
    for request in collector.requests:
        assert b"top-secret" not in request.SerializeToString()
        (resource,) = request.resource_spans
        assert {one.key: one.value.string_value for one in resource.resource.attributes}["service.name"] == "tresor"


def test_a_caller_that_wants_no_trace_has_none(traced: Traced, collector: Collector) -> None:
    traced.operator.save("firm")
    resolve(traced.order_service, f"00-{TRACE}-{CALLER}-00")
    # Something that comes later is there.
    other = TRACE[::-1]
    resolve(traced.order_service, f"00-{other}-{CALLER}-01")
    collector.one(RESOLVE, other)
    assert TRACE not in {span.trace_id.hex() for span in collector.spans}


def test_a_call_that_fails_says_so_and_health_is_no_call(traced: Traced, collector: Collector) -> None:
    assert traced.is_serving()
    assert refused(traced.order_service.resolve, "firm").is_("NOT_FOUND", "CREDENTIAL_NOT_CONFIGURED")
    found = wait_for(lambda: [span for span in collector.spans if span.name == RESOLVE], "the resolve")
    assert attributes(found[0])["rpc.grpc.status_code"] == grpc.StatusCode.NOT_FOUND.value[0]
    assert len(attributes(found[0])["tresor.request_id"]) == 32
    traced.stop()
    assert not [span.name for span in collector.spans if "grpc." in span.name]


def test_a_collector_that_is_away_is_nobodys_concern(tresor: Tresor, tmp_path: Path) -> None:
    with Traced(tmp_path / "alone", f"http://127.0.0.1:{free_port()}", tresor.data / "kek.key") as alone:
        alone.configure(tresor.pki)
        alone.start()
        alone.operator.save("firm")
        for _ in range(20):
            alone.order_service.resolve("firm")


def behind_tls(pki: Path) -> Collector:
    pair = ((pki / "server.key").read_bytes(), (pki / "server.pem").read_bytes())
    return Collector(grpc.ssl_server_credentials([pair]))


def test_a_collector_behind_tls_is_told_of_calls(tresor: Tresor, tmp_path: Path) -> None:
    collector = behind_tls(tresor.pki)
    endpoint, kek = f"https://localhost:{collector.port}", tresor.data / "kek.key"
    with Traced(tmp_path / "traced", endpoint, kek, TRESOR_TRACES_CA=str(tresor.pki / "ca.pem")) as traced:
        traced.configure(tresor.pki)
        traced.start()
        traced.operator.save("firm")
        resolve(traced.order_service, f"00-{TRACE}-{CALLER}-01")
        assert collector.one(RESOLVE, TRACE).parent_span_id.hex() == CALLER
    collector.server.stop(None)


def test_a_collector_that_another_authority_vouches_for_is_told_nothing(tresor: Tresor, tmp_path: Path) -> None:
    collector = behind_tls(tresor.pki)
    endpoint, kek = f"https://localhost:{collector.port}", tresor.data / "kek.key"
    with Tresor(tmp_path / "other") as other:
        other.start()
        with Traced(tmp_path / "traced", endpoint, kek, TRESOR_TRACES_CA=str(other.pki / "ca.pem")) as traced:
            traced.configure(tresor.pki)
            traced.start()
            traced.operator.save("firm")
            resolve(traced.order_service, f"00-{TRACE}-{CALLER}-01")
            wait_for(lambda: "BatchSpanProcessor" in traced.stderr, "a word of what could not be handed over")
            traced.stop()
    assert not collector.requests
    collector.server.stop(None)
