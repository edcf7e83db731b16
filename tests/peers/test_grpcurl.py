"""What an operator does at a shell prompt with grpcurl."""

import json
from pathlib import Path

from contract import RPCS, SERVICES
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_health.v1 import health_pb2
from support import BIN, TIMEOUT, Tresor, run

EXAMPLE = '{"tenant":"demo","provider":"dat","order":{"order_id":"2026-0815","office_id":"leipzig"}}'
RESOLVE = "dynarex.credentials.v1.CredentialResolver/ResolveForOrder"


def grpcurl(tresor: Tresor, *rest: str, data: str = "", caller: str = "operator") -> str:
    """grpcurl's answer; `rest` is what follows the address."""
    pki = tresor.pki
    identity = ["-cacert", pki / "ca.pem", "-cert", pki / f"{caller}.pem", "-key", pki / f"{caller}.key"]
    body = ["-d", data] if data else []
    done = run(BIN / "grpcurl", "-max-time", str(TIMEOUT), *identity, *body, tresor.address, *rest)
    assert done.returncode == 0, done.stderr
    return done.stdout


def grpcurl_plaintext(tresor: Tresor, directory: Path, method: str) -> dict:
    """What the plaintext listener says, which serves no reflection: the messages come from a file."""
    protoset = directory / "health.protoset"
    descriptors = FileDescriptorSet()
    health_pb2.DESCRIPTOR.CopyToProto(descriptors.file.add())
    protoset.write_bytes(descriptors.SerializeToString())
    address = f"localhost:{tresor.health_port}"
    done = run(BIN / "grpcurl", "-max-time", str(TIMEOUT), "-plaintext", "-protoset", protoset, address, method)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_list_names_the_vaults_services_health_and_reflection(tresor: Tresor) -> None:
    services = grpcurl(tresor, "list").split()
    assert {*SERVICES, "grpc.health.v1.Health"} <= set(services)
    assert any(service.startswith("grpc.reflection.") for service in services)


def test_list_of_a_service_names_its_methods(tresor: Tresor) -> None:
    for service in SERVICES:
        methods = {rpc.full_name for rpc in RPCS.values() if rpc.containing_service.full_name == service}
        assert set(grpcurl(tresor, "list", service).split()) == methods


def test_describe_shows_the_comments(tresor: Tresor) -> None:
    described = grpcurl(tresor, "describe", "dynarex.credentials.v1.CredentialResolver")
    assert "// Hands out the credential that an order gets." in described
    assert "// The credential of one provider for an order." in described
    assert "// The order that a credential is asked for" in grpcurl(tresor, "describe", "dynarex.credentials.v1.Order")


def test_the_line_of_the_manual_gets_the_login_of_the_orders_office(tresor: Tresor) -> None:
    answer = json.loads(grpcurl(tresor, RESOLVE, data=EXAMPLE))
    assert answer["credential"]["ref"]["scope"] == {"officeId": "leipzig"}
    login = answer["credential"]["login"]
    assert len(login["customerNumber"]) == 7
    assert login["username"] and login["password"] and len(login["customerSignature"]) == 64
    assert answer["credential"]["signedCredential"].count(".") == 2
    assert answer["resolution"]["mode"] == "ASSIGNMENT_MODE_PER_OFFICE"


def test_an_order_service_gets_the_same_by_its_own_certificate(tresor: Tresor) -> None:
    answer = json.loads(grpcurl(tresor, RESOLVE, data=EXAMPLE, caller="order-service"))
    assert answer["credential"]["ref"]["scope"] == {"officeId": "leipzig"}


def test_health_answers_on_the_main_listener(tresor: Tresor) -> None:
    assert json.loads(grpcurl(tresor, "grpc.health.v1.Health/Check")) == {"status": "SERVING"}
    for service in SERVICES:
        answer = grpcurl(tresor, "grpc.health.v1.Health/Check", data=json.dumps({"service": service}))
        assert json.loads(answer) == {"status": "SERVING"}


def test_health_answers_in_plaintext_on_the_second_listener(tresor: Tresor, tmp_path: Path) -> None:
    assert grpcurl_plaintext(tresor, tmp_path, "grpc.health.v1.Health/Check") == {"status": "SERVING"}


def test_the_main_listener_speaks_no_plaintext(tresor: Tresor) -> None:
    done = run(BIN / "grpcurl", "-connect-timeout", "3", "-plaintext", tresor.address, "list")
    assert done.returncode != 0


def test_the_details_of_an_error_are_shown_in_words(tresor: Tresor) -> None:
    pki = tresor.pki
    identity = ["-cacert", pki / "ca.pem", "-cert", pki / "operator.pem", "-key", pki / "operator.key"]
    nobody = '{"tenant":"demo","provider":"nobody","order":{"order_id":"2026-0815"}}'
    done = run(BIN / "grpcurl", "-max-time", str(TIMEOUT), *identity, "-d", nobody, tresor.address, RESOLVE)
    assert done.returncode == 64 + 3
    assert '"reason":"UNKNOWN_PROVIDER"' in done.stderr
    assert '"field":"provider"' in done.stderr
