"""What a cluster makes of manifests, as far as a vault can tell: cert-manager fills its Secrets, a kubelet mounts volumes with the
owners and modes that it gives them, starts containers with exactly what is written, and asks the probes.

Where Kubernetes is quoted: pkg/volume/util/atomic_writer.go (links in volumes), pkg/volume/volume_linux.go (fsGroup).
"""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path
from typing import Any

import grpc
import image
import yaml
from container import Container, Described, Mount
from contract import ROOT
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pki import Pki
from provisions import kubectl

SERVING = health_pb2.HealthCheckResponse.SERVING


def rendered(folder: str | Path) -> list[dict]:
    """Everything that a kustomization comes to: one below deploy/kubernetes, unless its path is a whole one."""
    command = [kubectl(), "kustomize", ROOT / "deploy/kubernetes" / folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


class Cluster:
    """What was applied, and the files behind it."""

    def __init__(self, objects: list[dict], directory: Path, secrets: dict[str, dict[str, bytes]]) -> None:
        self.objects = objects
        self.directory = directory
        self.pki = Pki()
        self.secrets = secrets | self._applied_secrets() | self._issued_secrets()
        self.volumes: dict[str, Path] = {}

    def find(self, kind: str, name: str) -> dict:
        (found,) = (each for each in self.objects if (each["kind"], each["metadata"]["name"]) == (kind, name))
        return found

    def pod(self, kind: str, name: str) -> Pod:
        """The pod that a workload makes."""
        workload = self.find(kind, name)["spec"]
        template = workload["jobTemplate"]["spec"]["template"] if kind == "CronJob" else workload["template"]
        claims = [claim["metadata"]["name"] for claim in workload.get("volumeClaimTemplates", [])]
        return Pod(self, name, template["spec"], claims)

    def _applied_secrets(self) -> dict[str, dict[str, bytes]]:
        return {
            each["metadata"]["name"]: {file: base64.b64decode(text) for file, text in each["data"].items()}
            for each in self.objects
            if each["kind"] == "Secret"
        }

    def _issued_secrets(self) -> dict[str, dict[str, bytes]]:
        """As cert-manager fills them: the names are those of the Certificate, and no others."""
        secrets = {}
        for certificate in (each["spec"] for each in self.objects if each["kind"] == "Certificate"):
            if certificate.get("isCA"):
                continue
            if "server auth" in certificate["usages"]:
                issued = self.pki.server(*certificate["dnsNames"])
            else:
                (spiffe_id,) = certificate["uris"]
                issued = self.pki.client(spiffe_id)
            files = {"tls.crt": issued.certificate, "tls.key": issued.key, "ca.crt": issued.ca}
            secrets[certificate["secretName"]] = files
        return secrets


class Pod:
    """A pod of one container that matters, on a node that has its volumes."""

    def __init__(self, cluster: Cluster, name: str, spec: dict, claims: list[str]) -> None:
        self.cluster = cluster
        self.spec = spec
        self.directory = cluster.directory / name
        self.directory.mkdir(exist_ok=True)
        (self.container,) = spec["containers"]
        self.group = spec["securityContext"]["fsGroup"]
        self._sources = {volume["name"]: self._mounted(volume) for volume in spec["volumes"]}
        self._sources |= {claim: self._claimed(f"{claim}-{name}-0") for claim in claims}

    def described(self, root: Path, entrypoint: list[str], hosts: dict[str, str], container: dict | None = None) -> Described:
        """A container (the one that matters, unless told otherwise) as a runtime is told to start it."""
        container = container or self.container
        # What a container says of its user goes before what its pod says.
        context = self.spec["securityContext"] | container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        hosts_file = self.directory / "hosts"
        names = {"localhost": "127.0.0.1"} | hosts
        hosts_file.write_text("".join(f"{address} {name}\n" for name, address in names.items()))
        return Described(
            root=root,
            args=entrypoint + container.get("command", []) + container.get("args", []),
            env={each["name"]: each["value"] for each in container.get("env", [])},
            user=context["runAsUser"],
            group=context["runAsGroup"],
            groups=[self.group],
            mounts=[
                Mount(hosts_file, "/etc/hosts"),
                *(
                    Mount(self._sources[mount["name"]], mount["mountPath"], not mount.get("readOnly", False))
                    for mount in container["volumeMounts"]
                ),
            ],
            directory=self.directory,
        )

    def sidecar(self, name: str) -> dict:
        """A container that runs beside the one that matters, for as long as that does."""
        (found,) = (each for each in self.spec["initContainers"] if each["name"] == name)
        assert found["restartPolicy"] == "Always"
        return found

    def start(self, beside: Container | None = None, **hosts: str) -> Container:
        """Starts the image as the pod says, in a network of its own or in that of another one."""
        entrypoint = image.configuration()["config"]["Entrypoint"]
        root = self.directory / "root"
        described = self.described(root if root.exists() else image.fresh_root(self.directory), entrypoint, hosts)
        described.beside = beside
        return Container(described).start()

    def source(self, volume: str) -> Path:
        """Where a volume is on the node."""
        return self._sources[volume]

    def replace(self, volume: str, files: dict[str, bytes]) -> None:
        """Renews what a Secret or a ConfigMap holds, as the kubelet does it: all files at once, by turning a link."""
        (described,) = (each for each in self.spec["volumes"] if each["name"] == volume)
        kind = described.get("secret") or described.get("configMap")
        self._project(self._sources[volume], files, kind.get("defaultMode", 0o644))

    def _mounted(self, volume: dict) -> Path:
        folder = self.directory / "volumes" / volume["name"]
        if claim := volume.get("persistentVolumeClaim"):
            self.cluster.find("PersistentVolumeClaim", claim["claimName"])
            return self._claimed(claim["claimName"])
        folder.mkdir(parents=True, exist_ok=True)
        if secret := volume.get("secret"):
            self._project(folder, self.cluster.secrets[secret["secretName"]], secret.get("defaultMode", 0o644))
        elif config_map := volume.get("configMap"):
            data = self.cluster.find("ConfigMap", config_map["name"])["data"]
            files = {file: text.encode() for file, text in data.items()}
            self._project(folder, files, config_map.get("defaultMode", 0o644))
        else:
            assert "emptyDir" in volume
            self._hand_over(folder, 0o777)
        return folder

    def _project(self, folder: Path, files: dict[str, bytes], mode: int) -> None:
        """A folder of its own for each content, a link to the current one, and links through it for the files."""
        content = folder / f"..content-{len(list(folder.iterdir()))}"
        content.mkdir()
        for name, text in files.items():
            (content / name).write_bytes(text)
            # A volume that is read only: its group may read.
            os.chown(content / name, 0, self.group)
            (content / name).chmod(mode | 0o440)
        for each in (folder, content):
            os.chown(each, 0, self.group)
            each.chmod(0o2755)
        new = folder / "..data_tmp"
        new.symlink_to(content.name)
        new.rename(folder / "..data")
        for name in files:
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(f"..data/{name}")

    def _claimed(self, name: str) -> Path:
        folder = self.cluster.directory / "claims" / name
        if not folder.exists():
            folder.mkdir(parents=True)
            self._hand_over(folder, 0o755)
        return folder

    def _hand_over(self, folder: Path, mode: int) -> None:
        os.chown(folder, 0, self.group)
        folder.chmod(mode | 0o2770)

    def remount(self, volume: str) -> None:
        """What a kubelet does to a volume that it mounts again: to everything in it, or only if its root is not as it should be."""
        top = self._sources[volume]
        policy = self.spec["securityContext"].get("fsGroupChangePolicy", "Always")
        if policy == "OnRootMismatch" and top.stat().st_gid == self.group and top.stat().st_mode & 0o2770 == 0o2770:
            return
        for path in [top, *top.rglob("*")]:
            os.chown(path, -1, self.group)
            path.chmod(path.stat().st_mode & 0o7777 | (0o2770 if path.is_dir() else 0o660))


def probe(container: Container, described: dict[str, Any]) -> bool:
    """Asks as the kubelet does, without TLS and without a certificate. A port where nothing listens is a failure."""
    (kind,) = described.keys() & {"grpc", "exec", "httpGet", "tcpSocket"}
    assert kind == "grpc"
    asked = described["grpc"]
    timeout = described.get("timeoutSeconds", 1)
    with grpc.insecure_channel(f"127.0.0.1:{container.forward(asked['port'])}") as channel:
        request = health_pb2.HealthCheckRequest(service=asked.get("service", ""))
        try:
            return health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout).status == SERVING
        except grpc.RpcError:
            return False
