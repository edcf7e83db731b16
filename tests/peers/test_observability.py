"""What watches over a vault: its metrics as Prometheus reads them, alerts, the dashboard, and what the documents say of them."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import promql_parser as promql
import pytest
import yaml
from contract import ROOT
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus
from support import TARGET, TRESOR, Tresor, run

PROMTOOL = TARGET / "peers/prometheus/usr/bin/promtool"
OBSERVABILITY = ROOT / "deploy/observability"
RUNBOOK = ROOT / "docs/runbook"
# What Prometheus itself adds to every sample, and its own metric of a scrape.
ADDED = {"instance", "job"}
UP = "up"


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tresor]:
    """A vault that has done a little of everything."""
    with Tresor(tmp_path_factory.mktemp("busy")) as busy:
        busy.start()
        busy.operator.save("busy")
        busy.order_service.resolve("busy")
        yield busy


@pytest.fixture(scope="module")
def samples(busy: Tresor) -> dict[str, set[str]]:
    """The labels of every sample that the vault shows, by its name."""
    found: dict[str, set[str]] = {UP: set()}
    for family in prometheus(busy.metrics()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_promtool_finds_nothing_to_complain_of(busy: Tresor) -> None:
    done = run(PROMTOOL, "check", "metrics", stdin=busy.metrics("text/plain"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_promtool_complains_of_what_is_wrong() -> None:
    assert run(PROMTOOL, "check", "metrics", stdin="# TYPE a counter\na 1\n").returncode != 0


def test_both_forms_say_the_same(busy: Tresor) -> None:
    def shown(parse: Callable, text: str) -> set[tuple[str, frozenset]]:
        return {(sample.name, frozenset(sample.labels.items())) for family in parse(text) for sample in family.samples}

    older, newer = shown(prometheus, busy.metrics()), shown(open_metrics, busy.metrics("application/openmetrics-text"))
    assert len(newer) > 1000
    assert older == newer


def test_the_document_has_every_metric_and_no_other(busy: Tresor) -> None:
    lines = (ROOT / "docs/METRICS.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    documented = {
        cells[0].strip("`"): (cells[1], set(re.findall(r"`(\w+)`", cells[2])))
        for cells in rows
        if re.fullmatch(r"`\w+`", cells[0]) and len(cells) == 4
    }
    shown = {}
    for family in prometheus(busy.metrics()):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = set().union(*(sample.labels for sample in family.samples)) - {"le"}
        shown[name] = (family.type, labels)
    assert documented == shown


def test_no_label_holds_anything_of_a_tenant_a_caller_or_an_order(busy: Tresor) -> None:
    text = busy.metrics()
    for word in ("busy", "demo", "leipzig", "2026-0815", "spiffe", "order-service", "operator/"):
        assert word not in text, word


def rules() -> list[dict[str, str]]:
    """The alerts: name and expression."""
    return [{"name": rule["alert"], "expr": rule["expr"]} for rule in alerts(OBSERVABILITY / "alerts.yml")]


def alerts(file: Path) -> list[dict]:
    return [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def test_every_alert_is_well_formed_and_fires_when_it_should() -> None:
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = run("env", "-C", OBSERVABILITY, PROMTOOL, *command)
        assert done.returncode == 0, done.stdout + done.stderr
    tests = (OBSERVABILITY / "alerts_test.yml").read_text()
    for rule in rules():
        assert f"name: {rule['name']} fires\n" in tests
        assert f"name: {rule['name']} is silent\n" in tests


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    names = {rule["name"] for rule in rules()}
    assert {page.stem for page in RUNBOOK.glob("*.md")} == names
    text = (OBSERVABILITY / "alerts.yml").read_text()
    for name in names:
        assert f"runbook_url: https://runbooks.example/{name}.md\n" in text
        page = (RUNBOOK / f"{name}.md").read_text()
        assert page.startswith(f"# {name}\n")
        assert re.findall(r"^## (.*)$", page, re.M) == ["What to look at", "What to do"]
        for link in re.findall(r"\]\(([^)#]+)", page):
            assert (RUNBOOK / link).exists(), f"{name}: {link}"


def test_the_page_about_metrics_says_how_alerts_get_where_their_pages_are(tmp_path: Path) -> None:
    (command,) = re.findall(r"^\$ (sed .*)$", (ROOT / "docs/METRICS.md").read_text(), re.M)
    made = tmp_path / "tresor.yml"
    for here, there in (("/usr/share/tresor/observability", str(OBSERVABILITY)), ("/etc/prometheus/tresor.yml", str(made))):
        assert here in command
        command = command.replace(here, there)
    done = run("sh", "-c", command)
    assert done.returncode == 0, done.stderr
    found = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in alerts(made)}
    assert found == {name: f"https://git.firm.example/tresor/docs/runbook/{name}.md" for name in found}
    assert found.keys() == {rule["name"] for rule in rules()}
    checked = run(PROMTOOL, "check", "rules", made)
    assert checked.returncode == 0, checked.stderr


def test_kubernetes_gets_the_same_alerts() -> None:
    written = (ROOT / "deploy/kubernetes/components/monitoring/rules.yaml").read_text()
    script = OBSERVABILITY / "prometheus-rule"
    assert written == run(script).stdout, f"run: {script.relative_to(ROOT)} > deploy/kubernetes/components/monitoring/rules.yaml"
    # And the script leaves nothing out.
    assert yaml.safe_load(written)["spec"] == yaml.safe_load((OBSERVABILITY / "alerts.yml").read_text())


def test_every_command_in_the_runbook_is_one() -> None:
    commands = set()
    for page in RUNBOOK.glob("*.md"):
        commands |= set(re.findall(r"^\s*\$ tresor (.*)$", page.read_text(), re.M))
        commands |= set(re.findall(r"`tresor ([^`]*)`", page.read_text()))
    assert len(commands) > 10
    for command in sorted(commands):
        # Whatever it would do, its arguments are looked at first.
        done = run(TRESOR, *shlex.split(command), "--help")
        assert done.returncode == 0 and "Usage:" in done.stdout, f"{command}: {done.stderr}"


def selectors(query: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics that a query asks for, each with the labels that it selects by, or that stand around it."""
    yield from _selectors(promql.parse(query), set())


def _selectors(node: object, around: set[str]) -> Iterator[tuple[str, set[str]]]:
    around = around | set(getattr(getattr(node, "modifier", None), "labels", None) or [])
    if isinstance(node, promql.VectorSelector):
        yield node.name, around | {matcher.name for matcher in node.matchers.matchers}
        return
    for name in ("lhs", "rhs", "expr", "vector_selector"):
        if child := getattr(node, name, None):
            yield from _selectors(child, around)
    for child in getattr(node, "args", None) or []:
        yield from _selectors(child, around)


def assert_answered(query: str, samples: dict[str, set[str]]) -> None:
    asked = list(selectors(query))
    assert asked, query
    for metric, labels in asked:
        assert metric in samples, f"{metric} in {query}"
        assert labels <= samples[metric] | ADDED, f"{labels} of {metric} in {query}"


def test_every_alert_asks_for_what_the_vault_shows(samples: dict[str, set[str]]) -> None:
    for rule in rules():
        assert_answered(rule["expr"], samples)


def test_a_query_for_what_is_not_shown_is_noticed(samples: dict[str, set[str]]) -> None:
    for query in ("tresor_no_such_total", 'rate(tresor_grpc_calls_total{tenant="a"}[5m])', "sum by (caller) (tresor_sealed)"):
        with pytest.raises(AssertionError):
            assert_answered(query, samples)


def test_every_query_of_the_dashboard_asks_for_what_the_vault_shows(samples: dict[str, set[str]], tmp_path: Path) -> None:
    dashboard = json.loads((OBSERVABILITY / "dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(queries) > 30
    queries = [query.replace("$__rate_interval", "5m").replace("$instance", ".*") for query in queries]
    for query in queries:
        assert_answered(query, samples)
        for legend in re.findall(r"{{(\w+)}}", query):
            assert legend in ADDED | set().union(*(samples[metric] for metric, _ in selectors(query)))
    # And as Prometheus' own parser reads them.
    recorded = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": recorded}]}))
    done = run(PROMTOOL, "check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_what_its_script_writes() -> None:
    script = runpy.run_path(str(OBSERVABILITY / "dashboard.py"))
    assert (OBSERVABILITY / "dashboard.json").read_text() == script["text"]()
