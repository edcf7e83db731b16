"""The operating guide, command by command, on a deployment that was made as it says."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Plan, authority, uris
from console import Block, Command, Document, Shell
from contract import ROOT, v1
from deployment import ORDER_SERVICE, SERVER, Deployment, revocation_list
from support import Client, Refusal, office, refused, wait_for

GUIDE, BACKUP, KEYS = (Document(f"docs/{name}.md") for name in ("OPERATIONS", "BACKUP", "KEYS"))


# Commands that the runbook only names, where it says elsewhere how they are run.
NAMES = {"tresor backup", "tresor credential put"}


class Desk:
    """An operator at the prompt of a deployment, with the guide."""

    def __init__(self, vault: Deployment) -> None:
        self.vault = vault
        # A disk that is mounted, and belongs to whom the vault runs as.
        self.other_disk = vault.folder.parent / "other-disk"
        self.other_disk.mkdir(mode=0o700)
        here = {
            "/srv/tresor": str(self.other_disk),
            "vault.example.com:8443": vault.address,
            "127.0.0.1:8086": f"127.0.0.1:{vault.health_port}",
            "/etc/tresor": str(vault.folder),
            "/var/lib/tresor": str(vault.folder),
        }
        self._shell = Shell(vault.folder, here)

    def does(self, *names: str, says: Document = GUIDE) -> str:
        """Runs these blocks of the guide, or of another document, in this order."""
        return "".join(self._shell.run(says.block(name)) for name in names)

    def follows(self, page: Document) -> int:
        """Runs every command of a page: those at a prompt, and the whole ones within a line. How many there were."""
        text = (ROOT / page.path).read_text()
        blocks = page.blocks
        assert sum(len(block.commands) for block in blocks) == len(re.findall(r"^ *\$ ", text, re.M)), "a command in no block"
        # Somebody is to run it as it stands, so a name alone is none.
        inline = [command for command in re.findall(r"`(tresor [^`]*)`", text) if command not in NAMES]
        blocks += [Block(None, [Command(command, "", 0)]) for command in inline]
        for block in blocks:
            self._shell.run(block)
        return sum(len(block.commands) for block in blocks)

    def writes(self, name: str, text: str) -> None:
        """Writes a file, as with an editor."""
        path = self.vault.folder / name
        path.touch(0o600)
        path.write_text(text)

    def changes_policy(self, old: str, new: str) -> None:
        """Makes `policy.new`, a policy with something else in it."""
        policy = (self.vault.folder / "policy.toml").read_text()
        assert policy.count(old) == 1, policy
        self.writes("policy.new", policy.replace(old, new))


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(tmp_path / "vault") as vault:
        yield vault.make()


@pytest.fixture
def desk(vault: Deployment) -> Desk:
    """With the two credentials that the guide's examples are about."""
    vault.start()
    operator = vault.operator
    operator.save("demo", "dat", office("leipzig"), username="demo-leipzig")
    ends = v1.PutCredentialRequest().valid_until
    ends.FromJsonString("2098-12-10T23:59:59Z")
    operator.PutCredential(
        ref=v1.CredentialRef(tenant="demo", provider="wom", scope=v1.Scope(general={})),
        login=v1.Login(username="demo", password="password"),
        valid_until=ends,
    )
    operator.assign("demo", "dat", "PER_OFFICE")
    desk = Desk(vault)
    desk.does("connect")
    return desk


def order_is_served(service: Client, office_id: str = "leipzig") -> None:
    assert service.resolve("demo", office_id=office_id).credential.login.password


def ended(call: Iterator) -> Refusal:
    """How a watch ends."""

    def rest() -> None:
        for _ in call:
            pass

    return refused(rest)


def test_a_day_a_week_and_a_quarter(desk: Desk, vault: Deployment) -> None:
    order_is_served(vault.order_service)
    refused(vault.order_service.GetCredential, ref=v1.CredentialRef(tenant="demo", provider="dat", scope=office("leipzig")))
    desk.does("health", "daily", "denied", "weekly", "coverage", "audit-full")


def test_another_policy_is_in_force_once_it_is_renamed(desk: Desk, vault: Deployment) -> None:
    settings = Plan(names=uris("spiffe://dynarex.local/settings/demo")).issued_by(vault.authority)
    settings.write(vault.pki / "settings")
    client = vault.client("settings")
    assert refused(client.save, "demo", "wom").reason == "NOT_GRANTED"
    grant = (
        '[[grant]]\nwho = "spiffe://dynarex.local/settings/demo"\nmay = ["credentials.write"]\ntenants = ["demo"]\n'
        'providers = ["*"]\n\n'
    )
    desk.changes_policy("# The operator runs", f"{grant}# The operator runs")
    desk.does("policy")
    wait_for(lambda: "reloaded" in vault.stderr, "the policy")
    assert client.save("demo", "wom").revision > 0
    desk.does("serve-check")


def test_certificates_and_authorities_are_replaced_while_it_serves(desk: Desk, vault: Deployment) -> None:
    watch = vault.order_service.WatchChanges(tenant="demo")
    watch.initial_metadata()
    SERVER.issued_by(vault.authority).write(vault.folder / "tls/renewed")
    for kind in ("pem", "key"):
        (vault.folder / f"tls/renewed.{kind}").rename(vault.folder / f"tls/server.{kind}.new")
    desk.does("server-certificate")
    wait_for(lambda: vault.stderr.count("reloaded") == 1, "the certificate")
    order_is_served(vault.client("order-service"))

    other = authority("the firm's next one")
    other.write(vault.folder / "new-ca")
    desk.does("authority-both")
    wait_for(lambda: vault.stderr.count("reloaded") == 2, "both authorities")
    Plan(names=uris(ORDER_SERVICE)).issued_by(other).write(vault.pki / "next")
    Plan().issued_by(other).write(vault.pki / "operator")
    order_is_served(vault.client("next"))
    order_is_served(vault.order_service)
    desk.does("authority-new")
    assert ended(watch).is_("UNAUTHENTICATED", "IDENTITY_EXPIRED")
    order_is_served(vault.client("next"))


def test_an_upgrade_begins_with_a_backup_and_ends_with_a_check(desk: Desk, vault: Deployment) -> None:
    desk.does("upgrade-before")
    vault.stop()
    vault.start()
    desk.does("upgrade-after")
    order_is_served(vault.order_service)


def test_a_vault_moves_to_another_machine(desk: Desk, vault: Deployment, tmp_path: Path) -> None:
    desk.does("jwks")
    revision = vault.operator.revision()
    vault.stop()
    desk.does("move-away")
    with Deployment(tmp_path / "new") as moved:
        moved.folder.mkdir()
        # What the guide says to bring over, and the operator's own files.
        for name in ["move.backup", "kek.key", "tresor.toml", "policy.toml", "tls", "audit", ".tresor"]:
            (vault.folder / name).rename(moved.folder / name)
        Desk(moved).does("move-in")
        moved.start()
        assert moved.operator.revision() == revision
        order_is_served(moved.order_service)
        assert '"the store was restored from a backup"' in moved.stderr


def test_a_store_moves_to_another_disk_by_copying(desk: Desk, vault: Deployment) -> None:
    desk.does("jwks")
    revision = vault.operator.revision()
    vault.stop()
    desk.does("move-copy")
    text = vault.configuration.read_text()
    for name in ("data", "audit"):
        assert text.count(f'= "{name}"\n') == 1
        text = text.replace(f'= "{name}"\n', f'= "{desk.other_disk / name}"\n')
    vault.configuration.write_text(text)
    desk.does("move-copied")
    for name in ("data", "audit"):
        shutil.rmtree(vault.folder / name)
    vault.start()
    assert vault.operator.revision() == revision
    order_is_served(vault.order_service)


def test_the_audit_log_is_asked_and_verified(desk: Desk, vault: Deployment) -> None:
    order_is_served(vault.order_service)
    desk.does("audit-order", "audit-changes", "jwks")
    vault.stop()
    desk.does("audit-offline")


def test_a_clients_certificate_that_others_have_is_of_no_use_and_what_it_got_is_known(
    vault: Deployment, tmp_path: Path
) -> None:
    (vault.folder / "tls/client.crl").write_bytes(revocation_list(vault.authority))
    vault.configure("server", 'client_crl = ["tls/client.crl"]')
    vault.start()
    vault.operator.save("demo", "dat", office("leipzig"))
    vault.operator.assign("demo", "dat", "PER_OFFICE")
    desk = Desk(vault)
    desk.does("connect")
    stolen = vault.order_service
    order_is_served(stolen)
    refused(stolen.resolve, "demo", office_id="halle")
    watch = stolen.WatchChanges(tenant="demo")
    watch.initial_metadata()

    policy = (vault.folder / "policy.toml").read_text()
    grant = re.search(r'\[\[grant\]\]\nwho = "spiffe://dynarex.local/order-service"\n(?:.+\n)+', policy)[0]
    desk.changes_policy(grant, "")
    desk.does("leaked-certificate-policy")
    assert ended(watch).is_("PERMISSION_DENIED", "NOT_GRANTED")
    assert refused(stolen.resolve, "demo", office_id="leipzig").reason == "NOT_GRANTED"

    revoked = revocation_list(vault.authority, vault.order_service_holder)
    (vault.folder / "tls/client.crl.new").write_bytes(revoked)
    desk.does("leaked-certificate-list")
    wait_for(lambda: vault.stderr.count("reloaded") == 2, "the list")
    wait_for(lambda: refused(stolen.GetSigningKeys).code.name in ("UNAUTHENTICATED", "UNAVAILABLE"), "its end")
    assert refused(vault.client("order-service").GetSigningKeys).code.name == "UNAVAILABLE"
    desk.does("leaked-certificate-got")


def test_a_credential_that_others_have_is_off_changed_and_on_again(desk: Desk, vault: Deployment) -> None:
    order_is_served(vault.order_service)
    desk.does("leaked-credential-off")
    assert refused(vault.order_service.resolve, "demo", office_id="leipzig").reason == "CREDENTIAL_DISABLED"
    desk.does("leaked-credential-who")
    desk.writes("new-password", "another one")
    desk.does("leaked-credential-on")
    assert vault.order_service.resolve("demo", office_id="leipzig").credential.login.password == "another one"


def test_every_key_is_replaced(desk: Desk, vault: Deployment) -> None:
    before = vault.order_service.resolve("demo", office_id="leipzig").credential.signed_credential
    desk.does("rotate-all")
    after = vault.order_service.resolve("demo", office_id="leipzig").credential
    assert after.login.password and before
    assert vault.operator.GetStatus().published_signing_keys == 2


def test_why_somebody_or_an_order_gets_nothing_is_explained(desk: Desk) -> None:
    desk.does("explain", "explain-order")


def test_whoever_asks_too_much_is_found(desk: Desk, vault: Deployment) -> None:
    desk.changes_policy('reveal = "full"\n\n# The operator runs', 'reveal = "full"\ncalls_per_second = 1\n\n# The operator runs')
    (vault.folder / "policy.new").rename(vault.folder / "policy.toml")
    wait_for(lambda: "reloaded" in vault.stderr, "the policy")

    def is_refused() -> bool:
        try:
            order_is_served(vault.order_service)
        except Exception as error:  # noqa: BLE001
            return Refusal.of(error).is_("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
        return False

    wait_for(is_refused, "the quota")
    desk.does("quota")


def test_what_was_changed_since_the_backup_is_listed(desk: Desk) -> None:
    desk.does("since-backup")


def test_a_tenant_is_forgotten(desk: Desk, vault: Deployment) -> None:
    desk.does("erase")
    assert refused(vault.order_service.resolve, "demo").reason == "CREDENTIAL_NOT_CONFIGURED"


def test_what_the_runbook_tells_to_run_runs(desk: Desk) -> None:
    desk.writes("new-password", "another one")
    pages = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs/runbook").glob("*.md"))
    ran = {page: desk.follows(Document(page)) for page in pages}
    assert len([page for page in pages if ran[page]]) >= 20 and sum(ran.values()) >= 30, ran


def test_backups_are_made_and_stores_checked(desk: Desk, vault: Deployment) -> None:
    desk.does("making", "verifying", "checking", says=BACKUP)
    vault.stop()
    desk.does("checking-offline", says=BACKUP)


def test_keys_are_replaced_and_a_tenants_destroyed(desk: Desk) -> None:
    desk.does("data-keys", "signing-key", "rewrap", "erase-tenant", says=KEYS)


def test_every_command_of_these_documents_is_run() -> None:
    marks = [block.name for document in (GUIDE, BACKUP, KEYS) for block in document.blocks]
    assert None not in marks, "a console block without a line `<!-- test: … -->`"
    assert len(marks) == len(set(marks)) >= 30
    source = Path(__file__).read_text()
    here = set(re.findall(r'"([\w-]+)"', " ".join(re.findall(r"\.does\((.*?)\)", source))))
    # With everything that may go wrong meanwhile.
    sources = "".join(path.read_text() for path in (ROOT / "tests").glob("*.rs"))
    in_rust = set(re.findall(r'run_documented\((?:\w+, )?"([\w-]+)"', sources))
    assert in_rust and here and set(marks) == here | in_rust
