"""What documents show at a prompt is run as it stands, and comes out as they show it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from console import Document, Shell, is_like
from contract import ROOT
from support import Tresor

PLACES = [
    "*.md",
    "docs/*.md",
    "docs/decisions/*.md",
    "docs/runbook/*.md",
    "docs/clients/*/README.md",
    "deploy/README.md",
    "benches/README.md",
]
DOCUMENTS = [document for place in PLACES for document in ROOT.glob(place)]
README, CLIENTS = Document("README.md"), Document("docs/CLIENTS.md")


@pytest.fixture
def beside_dev(tresor: Tresor, tmp_path: Path) -> Shell:
    """A prompt in a folder in which `tresor dev` runs."""
    shell = Shell(tmp_path, here={"localhost:8443": tresor.address})
    (tmp_path / "tresor-dev").symlink_to(tresor.data)
    return shell


def test_what_the_page_about_clients_does_with_grpcurl_works(beside_dev: Shell) -> None:
    assert len(CLIENTS.blocks) >= 5
    for block in CLIENTS.blocks:
        assert block.name and block.name.startswith("grpcurl-")
        beside_dev.run(block)


def test_what_the_readme_does_at_a_prompt_works(own: Tresor, tmp_path: Path) -> None:
    own.start()
    here = {"localhost:8443": own.address, "/etc/tresor": str(tmp_path / "etc")}
    shell = Shell(tmp_path / "prompt", here, {"TRESOR_SERVER": f"https://{own.address}"})
    (shell.folder / "tresor-dev").symlink_to(own.data)
    numbers = ["1234567"] * 15 + ["12"] + ["1234567"] * 4
    lines = [f"firm/dat/office/{number},user,password,{customer}\n" for number, customer in enumerate(numbers)]
    logins = shell.folder / "logins.csv"
    logins.touch(0o600)
    logins.write_text("path,username,password,customerNumber\n" + "".join(lines))
    assert [block.name for block in README.blocks] == ["grpcurl", "command-line", "import", "init"]
    for block in README.blocks:
        shell.run(block)


def test_what_is_shown_is_like_what_is_said_or_not() -> None:
    shown = "TIME  LINE\n──────\n2026-11-23T21:04:21.630Z  46  ok 1m 5s\n…\nend …\n"
    assert is_like(shown, "TIME    LINE\n───\n2027-01-02T00:00:00.000Z  1234   ok 12ms\nend of it\n")
    assert is_like(shown, "TIME LINE\n─\n2027-01-02T00:00:00.000Z 1 ok 1h 2m 3s\nmore\nand more\nend of it\n")
    for said in [
        "",
        "TIME  LINE\n",
        "TIME  LINE\n──────\n2026-11-23T21:04:21.630Z  46  failed 1m 5s\nend …\n",
        "TIME  LINE\n──────\n2026-11-23T21:04:21.630Z  46  ok 1m 5s\nend …\nmore\n",
        "TIME  COLUMN  LINE\n──────\n2026-11-23T21:04:21.630Z  46  ok 1m 5s\nend …\n",
    ]:
        assert not is_like(shown, said), said


def test_every_link_leads_somewhere() -> None:
    broken = [f"{document.relative_to(ROOT)}: {link}" for document in DOCUMENTS for link in broken_links(document)]
    assert not broken
    assert len(DOCUMENTS) > 50
    assert all([*ROOT.glob(place)] for place in PLACES)


def broken_links(document: Path) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)]+)\)", document.read_text()):
        file, _, anchor = link.partition("#")
        path = document.parent / file if file else document
        if "://" not in link and not (path.exists() and (not anchor or anchor in anchors(path))):
            yield link


def anchors(path: Path) -> set[str]:
    """What links can name in a document: its headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
