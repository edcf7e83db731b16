"""The manifests of deploy/kubernetes: whether the API of Kubernetes would take them, and whether a vault serves when it is started
with exactly what they say."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
from cloudcoil.models.cert_manager import v1 as cert_manager
from cloudcoil.models.prometheus_operator import v1 as prometheus_operator
from container import Container, Mount
from contract import ROOT, STUBS
from kms import GENERATED, PROGRAM
from kubelet import rendered
from overlay import Vault
from support import TRESOR, office, refused, run, wait_for

OVERLAYS = ["dev", "production", "production-kms"]
# The oldest that has what the manifests use, and the newest that the schemas are there for.
VERSIONS = ["1.32", "1.37"]


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def objects(overlay: str) -> list[dict]:
    return rendered(f"overlays/{overlay}")


def pods(objects: list[dict]) -> dict[str, dict]:
    """The template of each workload's pods."""
    found = {}
    for each in objects:
        spec = each.get("spec", {})
        if template := spec.get("template") or spec.get("jobTemplate", {}).get("spec", {}).get("template"):
            found[f"{each['kind']}/{each['metadata']['name']}"] = template
    return found


def pod_specs(objects: list[dict]) -> dict[str, dict]:
    return {name: template["spec"] for name, template in pods(objects).items()}


def pod_labels(objects: list[dict]) -> dict[str, dict]:
    return {name: template["metadata"]["labels"] for name, template in pods(objects).items()}


def containers(spec: dict) -> list[dict]:
    return spec["containers"] + spec.get("initContainers", [])


# Of which others than Kubernetes say what is in them.
FOREIGN = {"cert-manager.io/v1": cert_manager, "monitoring.coreos.com/v1": prometheus_operator}


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(objects: list[dict], version: str) -> None:
    own = [each for each in objects if each["apiVersion"] not in FOREIGN]
    assert {each["kind"] for each in own} >= {"StatefulSet", "Service", "CronJob", "NetworkPolicy", "PodDisruptionBudget"}
    for each in own:
        kubernetes_validate.validate(each, version, strict=True)


def test_cert_manager_and_the_prometheus_operator_know_every_field(objects: list[dict], overlay: str) -> None:
    foreign = [each for each in objects if each["apiVersion"] in FOREIGN]
    monitoring = {"PodMonitor", "PrometheusRule"} if overlay != "dev" else set()
    assert {each["kind"] for each in foreign} == {"Certificate", "Issuer"} | monitoring
    for each in foreign:
        assert is_known(each), each["metadata"]["name"]


def is_known(manifest: dict) -> bool:
    """Whether whoever defines this kind knows all that is in it."""
    model = getattr(FOREIGN[manifest["apiVersion"]], manifest["kind"]).model_validate(manifest)
    # What it does not know it leaves out.
    return json.loads(model.model_dump_json(by_alias=True, exclude_unset=True)) == manifest


def test_schemas_notice_what_is_misspelt() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"port": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, VERSIONS[0], strict=True)
    of_cert_manager = {"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": "x"}}
    spec = {"secretName": "x", "issuerRef": {"name": "x"}}
    assert is_known(of_cert_manager | {"spec": spec | {"uris": ["x"]}})
    assert not is_known(of_cert_manager | {"spec": spec | {"uri": ["x"]}})
    of_the_operator = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": {"name": "x"}}
    spec = {"selector": {}, "podMetricsEndpoints": []}
    assert is_known(of_the_operator | {"spec": spec | {"jobLabel": "x"}})
    assert not is_known(of_the_operator | {"spec": spec | {"joblabel": "x"}})


def test_all_of_it_is_in_one_namespace(objects: list[dict]) -> None:
    (namespace,) = (each["metadata"]["name"] for each in objects if each["kind"] == "Namespace")
    # What has none goes where whoever applies it happens to be.
    elsewhere = {
        (each["kind"], each["metadata"]["name"])
        for each in objects
        if each["kind"] != "Namespace" and each["metadata"].get("namespace") != namespace
    }
    assert elsewhere == set()


def test_every_pod_is_as_closed_as_restricted_asks_and_more(objects: list[dict]) -> None:
    (namespace,) = (each for each in objects if each["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, spec in pod_specs(objects).items():
        context = spec["securityContext"]
        assert context["runAsNonRoot"] and context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        allowed = {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "name"}
        assert all(volume.keys() <= allowed for volume in spec["volumes"]), name
        for container in containers(spec):
            # A plugin's image may say otherwise, so it is told who it is.
            user = {"runAsUser": 65532, "runAsGroup": 65532} if container["name"] == "kms-plugin" else {}
            assert container["securityContext"] == user | {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name


def test_what_is_referred_to_is_there(objects: list[dict]) -> None:
    def names(kind: str) -> set[str]:
        return {each["metadata"]["name"] for each in objects if each["kind"] == kind}

    issued = {each["spec"]["secretName"] for each in objects if each["kind"] == "Certificate"}
    # What an operator makes by hand, as deploy/README.md says.
    secrets = names("Secret") | issued | {"tresor-kek"}
    for name, spec in pod_specs(objects).items():
        for volume in spec["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["secretName"] in secrets, name
            if "configMap" in volume:
                assert volume["configMap"]["name"] in names("ConfigMap"), name
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in names("PersistentVolumeClaim"), name
    for certificate in (each for each in objects if each["kind"] == "Certificate"):
        assert certificate["spec"]["issuerRef"]["name"] in names("Issuer")
    (vault,) = (each for each in objects if each["kind"] == "StatefulSet")
    assert vault["spec"]["serviceName"] in names("Service")


SERVER = {"matchLabels": {"app.kubernetes.io/name": "tresor", "app.kubernetes.io/component": "server"}}
CLIENT = {"matchLabels": {"tresor.dynarex/client": "true"}}
CALLS = [{"port": 8443, "protocol": "TCP"}]
NAME_SERVER = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ],
    "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
}
POLICIES = {
    "default-deny": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    # No way out at all.
    "tresor": {
        "podSelector": SERVER,
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": [{"namespaceSelector": {}, "podSelector": CLIENT}], "ports": CALLS},
            {
                "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
                "ports": [{"port": 9464, "protocol": "TCP"}],
            },
        ],
    },
    "tresor-clients": {
        "podSelector": CLIENT,
        "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": SERVER}], "ports": CALLS}, NAME_SERVER],
    },
}
# The way to a KMS, which is nowhere until somebody says where.
TO_THE_KMS = {
    "podSelector": SERVER,
    "policyTypes": ["Egress"],
    "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}], "ports": [{"port": 443, "protocol": "TCP"}]}, NAME_SERVER],
}


def test_nobody_gets_in_or_out_but_callers_prometheus_their_name_server_and_a_kms(objects: list[dict], overlay: str) -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "NetworkPolicy"}
    assert policies == POLICIES | ({"tresor-kms": TO_THE_KMS} if overlay == "production-kms" else {})
    clients = [name for name, labels in pod_labels(objects).items() if labels.get("tresor.dynarex/client") == "true"]
    assert clients == [name for name in pod_labels(objects) if "StatefulSet" not in name]


def test_the_way_to_a_kms_is_set_in_the_overlay(tmp_path: Path) -> None:
    copied = tmp_path / "kubernetes"
    shutil.copytree(ROOT / "deploy/kubernetes", copied)
    overlay = copied / "overlays/production-kms/kustomization.yaml"
    text = overlay.read_text()
    assert text.count("value: 192.0.2.1/32\n") == text.count("value: 443\n") == 1
    overlay.write_text(text.replace("192.0.2.1/32", "10.1.2.0/28").replace("value: 443", "value: 8200"))
    (way,) = (each for each in rendered(overlay.parent) if each["metadata"]["name"] == "tresor-kms")
    assert way["spec"]["egress"] == [
        {"to": [{"ipBlock": {"cidr": "10.1.2.0/28"}}], "ports": [{"port": 8200, "protocol": "TCP"}]},
        NAME_SERVER,
    ]


def test_what_selects_pods_selects_them(objects: list[dict]) -> None:
    (vault,) = (labels for name, labels in pod_labels(objects).items() if "StatefulSet" in name)
    selectors = [each["spec"]["selector"] for each in objects if each["kind"] == "Service"]
    budgets = [each["spec"]["selector"]["matchLabels"] for each in objects if each["kind"] == "PodDisruptionBudget"]
    assert len(selectors) == 2 and len(budgets) == 1
    assert all(selector.items() <= vault.items() for selector in [*selectors, *budgets])


def test_services_and_probes_lead_to_ports_that_the_container_has(objects: list[dict]) -> None:
    (vault,) = (template["spec"]["containers"][0] for name, template in pods(objects).items() if "StatefulSet" in name)
    ports = {port["name"]: port["containerPort"] for port in vault["ports"]}
    assert ports == {"grpc": 8443, "health": 8086, "metrics": 9464}
    services = {each["metadata"]["name"]: each["spec"]["ports"] for each in objects if each["kind"] == "Service"}
    # By their names, so that a service without that name leads nowhere; on the ports that callers and policies know.
    led_to = {name: {port["port"]: ports[port["targetPort"]] for port in there} for name, there in services.items()}
    assert led_to == {"tresor": {8443: 8443}, "tresor-pods": {8443: 8443, 9464: 9464}}
    assert {vault[kind]["grpc"]["port"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")} == {ports["health"]}


def test_prometheus_scrapes_the_vault_under_the_name_that_its_alerts_ask_for() -> None:
    objects = rendered("overlays/production")
    (monitor,) = (each["spec"] for each in objects if each["kind"] == "PodMonitor")
    vault = pods(objects)["StatefulSet/tresor"]
    assert monitor["selector"]["matchLabels"].items() <= vault["metadata"]["labels"].items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    ports = {port["name"]: port["containerPort"] for port in vault["spec"]["containers"][0]["ports"]}
    assert (ports[endpoint["port"]], endpoint["path"]) == (9464, "/metrics")
    (alerts,) = (each["spec"] for each in objects if each["kind"] == "PrometheusRule")
    (job,) = set(re.findall(r'job="(.*?)"', json.dumps(alerts).replace("\\", "")))
    assert vault["metadata"]["labels"][monitor["jobLabel"]] == job
    # And under the name of its pod, which a moved one keeps: by the labels that Prometheus' discovery of pods has.
    (relabeling,) = endpoint["relabelings"]
    discovered = {"__meta_kubernetes_namespace": "tresor", "__meta_kubernetes_pod_name": "tresor-0"}
    named = relabeling["separator"].join(discovered[label] for label in relabeling["sourceLabels"])
    assert (relabeling["targetLabel"], named) == ("instance", "tresor/tresor-0")


def test_an_alert_leads_to_its_page_where_the_overlay_says_that_it_is(tmp_path: Path) -> None:
    copied = tmp_path / "kubernetes"
    shutil.copytree(ROOT / "deploy/kubernetes", copied)
    runbooks = copied / "overlays/production/runbooks.yaml"
    where = "git.firm.example/vaults/tresor/src/docs/runbook"
    runbooks.write_text(runbooks.read_text().replace("runbooks: runbooks.example", f"runbooks: {where}"))
    objects = rendered(copied / "overlays/production")
    (alerts,) = (each["spec"] for each in objects if each["kind"] == "PrometheusRule")
    pages = {rule["alert"]: rule["annotations"]["runbook_url"] for group in alerts["groups"] for rule in group["rules"]}
    assert len(pages) >= 28
    assert pages == {name: f"https://{where}/{name}.md" for name in pages}
    # That ConfigMap is for kustomize alone.
    assert not any(each["metadata"]["name"] == "tresor-runbooks" for each in objects)


def test_a_vault_has_the_time_that_it_may_take_to_end(objects: list[dict]) -> None:
    (vault,) = (each["spec"] for each in objects if each["kind"] == "StatefulSet")
    spec = vault["template"]["spec"]
    (configuration,) = (each["data"]["tresor.toml"] for each in objects if "tresor.toml" in each.get("data", {}))
    drain = int(tomllib.loads(configuration)["server"]["drain_timeout"].removesuffix("s"))
    before = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    # And some seconds to close the audit log and the store.
    assert spec["terminationGracePeriodSeconds"] >= before + drain + 15


def test_one_process_has_the_store(objects: list[dict]) -> None:
    (vault,) = (each["spec"] for each in objects if each["kind"] == "StatefulSet")
    assert vault["replicas"] == 1
    (claim,) = vault["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"][0] in ("ReadWriteOnce", "ReadWriteOncePod")


@pytest.fixture(scope="module", params=["dev", "production"])
def vault(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    vault = Vault(request.param, tmp_path_factory.mktemp(request.param))
    try:
        yield vault.start()
    finally:
        vault.container.remove()


def test_a_vault_started_as_the_manifests_say_passes_its_probes_and_serves(vault: Vault) -> None:
    wait_for(lambda: vault.passes("readinessProbe"), "the readiness probe")
    assert vault.passes("livenessProbe")
    operator = vault.caller("tresor-operator-tls")
    operator.save("demo", "dat", password="kept")
    status = operator.GetStatus()
    assert not status.sealed
    # The operator of these manifests keeps credentials and reads none.
    assert refused(operator.resolve, "demo").is_("PERMISSION_DENIED", "NOT_GRANTED")
    assert '"system_call_filter":"on"' in vault.container.output


def test_metrics_are_where_prometheus_is_let_in(vault: Vault) -> None:
    assert "tresor_build_info" in vault.metrics()


def test_the_cron_job_makes_backups_that_are_whole(vault: Vault) -> None:
    def last_taken() -> float:
        return sample(vault, "tresor_last_backup_timestamp_seconds")

    assert (last_taken(), sample(vault, "tresor_backup_interval_seconds")) == (0, 24 * 3600)
    began = time.time()
    pod = vault.cluster.pod("CronJob", "tresor-backup")
    for _ in range(2):
        vault.caller("tresor-operator-tls").save("demo", "wom")
        job = pod.start(beside=vault.container, tresor="127.0.0.1")
        try:
            assert job.wait() == 0, job.output
        finally:
            job.remove()
    backups = sorted(pod.source("backups").iterdir())
    assert len(backups) == 2 and all(backup.name.startswith("tresor-") for backup in backups)
    assert {backup.stat().st_mode & 0o777 for backup in backups} == {0o600}
    jwks = vault.cluster.directory / "keys.json"
    jwks.write_text(vault.caller("tresor-operator-tls").GetSigningKeys().jwks)
    verified = run(TRESOR, "backup", "verify", backups[-1], "--jwks", jwks)
    assert verified.returncode == 0, verified.stderr
    # So the alert that none was taken has something to go by.
    assert began - 1 <= last_taken() <= time.time()


def sample(vault: Vault, name: str) -> float:
    return next(float(line.split()[1]) for line in vault.metrics().splitlines() if line.startswith(f"{name} "))


def test_renewed_certificates_and_a_changed_policy_come_through_the_volumes(vault: Vault) -> None:
    pod = vault.pod
    renewed = vault.cluster.pki.server("tresor", "localhost")
    pod.replace("tls", {"tls.crt": renewed.certificate, "tls.key": renewed.key, "ca.crt": renewed.ca})
    policy = vault.cluster.find("ConfigMap", "tresor-policy")["data"]["policy.toml"]
    changed = policy.replace('may = ["resolve", "watch"]', 'may = ["resolve"]')
    assert changed != policy
    pod.replace("policy", {"policy.toml": changed.encode()})

    def taken() -> bool:
        lines = vault.metrics().splitlines()
        counted = {line.split()[0]: float(line.split()[1]) for line in lines if line.startswith("tresor_reloads_total{")}
        assert not any(count for name, count in counted.items() if "refused" in name), vault.container.output
        return all(
            any(count for name, count in counted.items() if what in name and "taken" in name)
            for what in ("policy", "certificate")
        )

    wait_for(taken, "the certificate and the policy to be taken into use")
    pod.replace("policy", {"policy.toml": policy.encode()})


def test_a_pod_that_ends_leaves_its_volume_to_the_next_one(vault: Vault) -> None:
    vault.caller("tresor-operator-tls").save("demo", "egub", office("leipzig"), password="kept")
    grace = vault.pod.spec["terminationGracePeriodSeconds"]
    before = vault.pod.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert vault.container.stop(grace - before) == 0, vault.container.output
    vault.pod.remount("data")
    vault.start()
    wait_for(lambda: vault.passes("readinessProbe"), "the readiness probe")
    kept = vault.caller("tresor-operator-tls").ListCredentials(tenant="demo").credentials
    assert {"egub"} <= {each.ref.provider for each in kept}


def test_the_example_order_service_gets_its_credential(tmp_path: Path) -> None:
    vault = Vault("dev", tmp_path)
    try:
        vault.start()
        operator = vault.caller("tresor-operator-tls")
        operator.save("demo", "dat", office("leipzig"), password="Planted-for-the-example")
        operator.assign("demo", "dat", "PER_OFFICE")
        pod = vault.cluster.pod("Deployment", "order-service")
        root, mounts = python_machine(tmp_path)
        script = "/app/order_service.py"
        described = pod.described(root, [sys.executable, script], {"tresor": "127.0.0.1"})
        described.mounts += [*mounts, Mount(ROOT / "deploy/kubernetes/example/order_service.py", script)]
        # Where the image's folder has what protoc has generated.
        described.env["PYTHONPATH"] = str(STUBS)
        described.beside = vault.container
        with Container(described) as order_service:
            order_service.start()
            order_service.says("order 2026-0815: version 1, good for 60 s")
            assert "Planted" not in order_service.output
    finally:
        vault.container.remove()


def python_machine(directory: Path) -> tuple[Path, list[Mount]]:
    """A root file system with this machine's programs and Python's packages, in place of the image that a registry would have."""
    root = directory / "python"
    root.mkdir()
    mounts = []
    for name in ("usr", "bin", "sbin", "lib", "lib64"):
        path = Path("/", name)
        if path.is_symlink():
            (root / name).symlink_to(os.readlink(path))
        elif path.is_dir():
            mounts.append(Mount(path, str(path)))
    for path in {sys.base_prefix, sys.prefix, str(STUBS)}:
        if not path.startswith("/usr"):
            mounts.append(Mount(Path(path).resolve(), path))
    return root, mounts


def test_a_sealed_vault_is_not_ready_and_not_restarted(tmp_path: Path) -> None:
    vault = Vault("production-kms", tmp_path)
    try:
        vault.start()
        assert vault.passes("livenessProbe")
        assert not vault.passes("readinessProbe")
        assert vault.caller("tresor-operator-tls").GetStatus().sealed
        with kms_plugin(vault, tmp_path):
            wait_for(lambda: vault.passes("readinessProbe"), "the vault to open by itself")
            vault.caller("tresor-operator-tls").save("demo")
            assert vault.passes("livenessProbe")
            # Nobody but the user that the two containers have may connect.
            socket = (vault.pod.source("kms") / "plugin.sock").stat()
            assert (socket.st_uid, socket.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) == (65532, 0)
    finally:
        vault.container.remove()


def kms_plugin(vault: Vault, directory: Path) -> Container:
    """The pod's other container, as the manifests say, with a plugin of ours in the place of an image."""
    root, mounts = python_machine(directory)
    described = vault.pod.described(root, [sys.executable, str(PROGRAM)], {}, vault.pod.sidecar("kms-plugin"))
    described.mounts += [*mounts, Mount(PROGRAM, str(PROGRAM))]
    described.env["PYTHONPATH"] = str(GENERATED)
    described.beside = vault.container
    return Container(described).start()
