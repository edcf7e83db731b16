"""The commands of deploy/README.md, with the real kubectl and a stand-in for a cluster."""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path

import yaml
from console import Document, Shell
from contract import ROOT
from overlay import Vault
from provisions import kubectl
from support import wait_for

GUIDE = Document("deploy/README.md")


class Cluster:
    """`kubectl` at a prompt, without a cluster: it makes objects and reads them as the real one does, and keeps what it was asked."""

    def __init__(self, shell: Shell) -> None:
        self.secrets = shell.folder / "secrets"
        self._asked, self._created = shell.folder / "asked", shell.folder / "created"
        shell.stand_in(
            "kubectl",
            f"""#!{sys.executable}
import json, os, sys
from pathlib import Path
arguments = sys.argv[1:]
with Path({str(self._asked)!r}).open("a") as asked:
    asked.write(json.dumps(arguments) + "\\n")
match arguments:
    case ["create", *_] | ["--namespace", _, "create", *_]:
        arguments += ["--dry-run=client", "--output=yaml"]
        os.dup2(os.open({str(self._created)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        print("---", flush=True)
    case ["--namespace", namespace, "get", "secret", name, *output]:
        file = Path({str(self.secrets)!r}, namespace, f"{{name}}.json")
        arguments = ["annotate", "--local", "--filename", str(file), "seen=yes", *output]
    case ["--namespace", _, "port-forward", *_]:
        sys.exit()
    case _:
        sys.exit(f"nobody knows what this does here: {{arguments}}")
os.environ["KUBECONFIG"] = "/dev/null"
os.execv({str(kubectl())!r}, ["kubectl", *arguments])
""",
        )

    def asked(self) -> list[list[str]]:
        return [json.loads(line) for line in self._asked.read_text().splitlines()]

    def created(self) -> list[dict]:
        return [each for each in yaml.safe_load_all(self._created.read_text()) if each]

    def has(self, namespace: str, name: str, files: dict[str, bytes]) -> None:
        data = {file: base64.b64encode(content).decode() for file, content in files.items()}
        (self.secrets / namespace).mkdir(parents=True, exist_ok=True)
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": data}
        (self.secrets / namespace / f"{name}.json").write_text(json.dumps(secret))


def test_a_key_that_was_handed_over_as_the_guide_says_is_the_vaults_and_its_operator_gets_in(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "prompt")
    cluster = Cluster(shell)
    shell.run(GUIDE.block("key"))
    namespace, secret = cluster.created()
    assert (namespace["kind"], namespace["metadata"]["name"]) == ("Namespace", "tresor")
    assert (secret["kind"], secret["metadata"]["namespace"]) == ("Secret", "tresor")
    files = {file: base64.b64decode(content) for file, content in secret["data"].items()}
    vault = Vault("production", tmp_path, {secret["metadata"]["name"]: files})
    try:
        vault.start()
        wait_for(lambda: vault.passes("readinessProbe"), "the readiness probe")
        for name, content in vault.cluster.secrets.items():
            cluster.has("tresor", name, content)
        # Where the forwarded port is here.
        shell.export("TRESOR_SERVER", f"https://localhost:{vault.container.forward(8443)}")
        assert re.search(r"^sealed +no$", shell.run(GUIDE.block("operator")), re.MULTILINE)
        (forwarded,) = (asked for asked in cluster.asked() if "port-forward" in asked)
        assert forwarded == ["--namespace", "tresor", "port-forward", "service/tresor-pods", "8443"]
        service = vault.cluster.find("Service", "tresor-pods")
        assert service["metadata"]["namespace"] == "tresor"
        assert 8443 in {port["port"] for port in service["spec"]["ports"]}
    finally:
        if vault.container:
            vault.container.remove()


def test_every_command_of_the_guide_is_run() -> None:
    here = Path(__file__).parent
    tests = "".join((here / name).read_text() for name in ("test_image.py", "test_kubernetes_guide.py"))
    run_here = re.findall(r'GUIDE\.block\("([\w-]+)"\)', tests)
    assert sorted(run_here) == sorted(block.name for block in GUIDE.blocks)
    assert len(GUIDE.blocks) == (ROOT / "deploy/README.md").read_text().count("```console") >= 4
