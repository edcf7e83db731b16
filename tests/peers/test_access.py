"""Who gets in, and who may do what: identity only from a verified certificate, grants before everything else."""

import datetime
from pathlib import Path

import grpc
import pytest
from contract import RPCS
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support import Client, Tresor, login, office, order, ref, refused

FOR_EVERY_KNOWN_CALLER = {"GetSigningKeys", "ListProviders"}
FOR_ORDER_SERVICES = {"ResolveForOrder", "ResolveManyForOrder", "WatchChanges"} | FOR_EVERY_KNOWN_CALLER


def alternative_names(certificate: x509.Certificate) -> x509.Extension:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)


def forge(pattern: Path, directory: Path) -> dict[str, Path]:
    """A certificate with the names of `pattern`, issued by a certificate authority of our own."""
    now = datetime.datetime.now(datetime.timezone.utc)
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    real = x509.load_pem_x509_certificate(pattern.read_bytes())
    names = alternative_names(real)
    builder = (
        x509.CertificateBuilder()
        .subject_name(real.subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "another authority")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(names.value, names.critical)
    )
    certificate = builder.sign(authority_key, hashes.SHA256())
    files = {"certificate": directory / "forged.pem", "key": directory / "forged.key"}
    files["certificate"].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files["key"].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


@pytest.mark.parametrize("rpc", RPCS)
def test_a_client_without_certificate_has_no_identity(tresor: Tresor, rpc: str) -> None:
    stranger = tresor.client(None)
    assert refused(getattr(stranger, rpc)).is_("UNAUTHENTICATED", "NO_IDENTITY")
    stranger.channel.close()


@pytest.mark.parametrize("rpc", RPCS)
def test_a_client_with_a_foreign_certificate_gets_in_nowhere(tresor: Tresor, tmp_path: Path, rpc: str) -> None:
    impostor = tresor.client("operator", **forge(tresor.pki / "operator.pem", tmp_path))
    refusal = refused(getattr(impostor, rpc))
    assert refusal.code is grpc.StatusCode.UNAVAILABLE or refusal.is_("UNAUTHENTICATED", "NO_IDENTITY")
    impostor.channel.close()


def test_a_client_that_trusts_another_authority_does_not_talk_to_the_vault(tresor: Tresor, tmp_path: Path) -> None:
    ca = forge(tresor.pki / "operator.pem", tmp_path)["certificate"]
    wary = tresor.client("operator", ca=ca)
    assert refused(wary.GetStatus).code is grpc.StatusCode.UNAVAILABLE
    wary.channel.close()


def test_an_order_service_resolves_watches_and_verifies(order_service: Client, operator: Client, tenant: str) -> None:
    operator.save(tenant)
    assert order_service.resolve(tenant).credential.ref == ref(tenant)
    assert order_service.ResolveManyForOrder(tenant=tenant, providers=["dat"], order=order()).results
    assert next(order_service.WatchChanges(tenant=tenant, from_revision=1)).event.ref.tenant == tenant
    assert order_service.GetSigningKeys().jwks
    assert order_service.ListProviders().providers


@pytest.mark.parametrize("rpc", sorted(set(RPCS) - FOR_ORDER_SERVICES))
def test_an_order_service_may_do_nothing_else(order_service: Client, rpc: str) -> None:
    assert refused(getattr(order_service, rpc)).is_("PERMISSION_DENIED", "NOT_GRANTED")


def test_grants_are_looked_at_before_the_request_is(order_service: Client, operator: Client) -> None:
    before = operator.revision()
    for tenant, provider, secret in [("demo", "dat", login()), ("", "", None), ("../x", "a/b", login(password=""))]:
        refusal = refused(order_service.PutCredential, ref=ref(tenant, provider), login=secret)
        assert refusal.is_("PERMISSION_DENIED", "NOT_GRANTED")
        assert not refusal.fields
    assert operator.revision() == before


def test_a_denial_does_not_tell_what_exists(order_service: Client) -> None:
    there = refused(order_service.GetCredential, ref=ref("demo", "dat", office("leipzig")))
    absent = refused(order_service.GetCredential, ref=ref("demo", "dat", office("nowhere")))
    assert there.message.replace("leipzig", "nowhere") == absent.message
    assert there.metadata.keys() == absent.metadata.keys()


def test_only_those_who_may_read_something_send_long_lists(order_service: Client, operator: Client) -> None:
    offices = [f"office-{number:06}" for number in range(9_000)]
    assert operator.CheckCoverage(tenant="demo", office_ids=offices, providers=["wom"]).gaps == []
    refusal = refused(order_service.CheckCoverage, tenant="demo", office_ids=offices)
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_TOO_LARGE")
