"""Reflection, health and TLS as Python's grpcio and ssl see them."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack

import grpc
import pytest
from contract import RPCS, SERVICES
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from support import TIMEOUT, Refusal, Tresor, refused

# The messages of both versions are the same.
REFLECTIONS = ["grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection"]


def reflect(tresor: Tresor, service: str, **request: str) -> reflection_pb2.ServerReflectionResponse:
    """The answer to one reflection request."""
    call = tresor.operator.channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return next(call(iter([reflection_pb2.ServerReflectionRequest(**request)]), timeout=TIMEOUT))


@pytest.mark.parametrize("service", REFLECTIONS)
def test_reflection_lists_the_services(tresor: Tresor, service: str) -> None:
    answer = reflect(tresor, service, list_services="")
    assert {*SERVICES, "grpc.health.v1.Health"} <= {found.name for found in answer.list_services_response.service}


@pytest.mark.parametrize("service", REFLECTIONS)
def test_reflection_describes_every_method_as_the_contract_does(tresor: Tresor, service: str) -> None:
    for rpc in RPCS.values():
        answer = reflect(tresor, service, file_containing_symbol=rpc.containing_service.full_name)
        files = [FileDescriptorProto.FromString(file) for file in answer.file_descriptor_response.file_descriptor_proto]
        methods = {
            f"{file.package}.{found.name}.{method.name}": (method.input_type, method.output_type)
            for file in files
            for found in file.service
            for method in found.method
        }
        assert methods[rpc.full_name] == (f".{rpc.input_type.full_name}", f".{rpc.output_type.full_name}")


@pytest.fixture(params=["main", "plaintext"])
def health(tresor: Tresor, request: pytest.FixtureRequest) -> Iterator[health_pb2_grpc.HealthStub]:
    """Health on each of the two listeners."""
    if request.param == "main":
        yield health_pb2_grpc.HealthStub(tresor.operator.channel)
    else:
        with grpc.insecure_channel(f"localhost:{tresor.health_port}") as channel:
            yield health_pb2_grpc.HealthStub(channel)


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_health_says_of_every_service_that_it_serves(health: health_pb2_grpc.HealthStub, service: str) -> None:
    request = health_pb2.HealthCheckRequest(service=service)
    assert health.Check(request, timeout=TIMEOUT).status == health_pb2.HealthCheckResponse.SERVING
    assert next(health.Watch(request, timeout=TIMEOUT)).status == health_pb2.HealthCheckResponse.SERVING


def test_health_does_not_know_other_services(health: health_pb2_grpc.HealthStub) -> None:
    refusal = refused(health.Check, health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=TIMEOUT)
    assert refusal.code is grpc.StatusCode.NOT_FOUND


def test_the_plaintext_listener_serves_health_alone(tresor: Tresor) -> None:
    with grpc.insecure_channel(f"localhost:{tresor.health_port}") as channel:
        for rpc in RPCS.values():
            stub = channel.unary_stream(f"/{rpc.containing_service.full_name}/{rpc.name}")
            with pytest.raises(grpc.RpcError) as raised:
                next(stub(b"", timeout=TIMEOUT))
            assert Refusal.of(raised.value).code is grpc.StatusCode.UNIMPLEMENTED


def connect(tresor: Tresor, version: ssl.TLSVersion) -> str | None:
    """The TLS version that a client gets who asks for exactly that one."""
    context = ssl.create_default_context(cafile=str(tresor.pki / "ca.pem"))
    context.load_cert_chain(tresor.pki / "operator.pem", tresor.pki / "operator.key")
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version
    plain = socket.create_connection(("127.0.0.1", tresor.port), TIMEOUT)
    with plain, context.wrap_socket(plain, server_hostname="localhost") as secured:
        return secured.version()


def test_tls_1_3_is_spoken_and_nothing_older(tresor: Tresor) -> None:
    assert connect(tresor, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises(ssl.SSLError):
        connect(tresor, ssl.TLSVersion.TLSv1_2)


def test_a_vault_that_ends_tells_those_who_watch_its_health(own: Tresor) -> None:
    own.start()
    with grpc.insecure_channel(f"localhost:{own.health_port}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        own.stop()
        assert [answer.status for answer in until_the_end(watch)] in ([], [health_pb2.HealthCheckResponse.NOT_SERVING])


def until_the_end(stream: Iterator) -> Iterator:
    """What still comes before the stream ends or breaks."""
    try:
        yield from stream
    except grpc.RpcError:
        return


def tls_socket(tresor: Tresor, name: str | None) -> ssl.SSLSocket:
    """A connection that has done its handshake and says nothing."""
    context = ssl.create_default_context(cafile=tresor.pki / "ca.pem")
    context.set_alpn_protocols(["h2"])
    if name:
        context.load_cert_chain(tresor.pki / f"{name}.pem", tresor.pki / f"{name}.key")
    raw = socket.create_connection(("127.0.0.1", tresor.port), TIMEOUT)
    return context.wrap_socket(raw, server_hostname="localhost")


def is_closed(connection: ssl.SSLSocket, seconds: float) -> bool:
    """Whether the other end closes it within that time."""
    connection.settimeout(seconds)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_silent_strangers_do_not_take_the_room_of_others(own: Tresor) -> None:
    own.start()
    with ExitStack() as open_ones:
        strangers = [open_ones.enter_context(tls_socket(own, None)) for _ in range(40)]
        # Those above 32 are closed at once.
        assert sum(is_closed(connection, 0.2) for connection in strangers) >= 8
        assert own.operator.GetStatus().revision > 0
        # The others, and whoever has an identity and says nothing, are closed after 10 s.
        silent = open_ones.enter_context(tls_socket(own, "operator"))
        assert all(is_closed(connection, 20) for connection in [*strangers, silent])
        assert own.operator.GetStatus().revision > 0


def test_health_probes_cannot_use_up_the_process(own: Tresor) -> None:
    own.start()
    with ExitStack() as probes:
        for _ in range(100):
            probes.enter_context(socket.create_connection(("127.0.0.1", own.health_port), TIMEOUT))
        assert own.operator.GetStatus().revision > 0
