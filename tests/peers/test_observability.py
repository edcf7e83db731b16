"""What watches over a vault: its metrics as Prometheus reads them, alerts, the dashboard, and what the documents say of them."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from contract import ROOT
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as prometheus
from queries import answered, asked
from support import TARGET, Tresor, run

PROMTOOL = TARGET / "peers/prometheus/usr/bin/promtool"
OBSERVABILITY = ROOT / "deploy/observability"
RUNBOOK = ROOT / "docs/runbook"
# What Prometheus itself adds to every sample, with the job's name that the alerts expect; and its own metric of a scrape.
ADDED = {"instance": {"vault.example:9464"}, "job": {"tresor"}}
UP = "up"


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tresor]:
    """A vault that has done a little of everything."""
    with Tresor(tmp_path_factory.mktemp("busy")) as busy:
        busy.start()
        busy.operator.save("busy")
        busy.order_service.resolve("busy")
        yield busy


# The values of each label of each sample, by its name.
Shown = dict[str, dict[str, set[str]]]


@pytest.fixture(scope="module")
def shown(busy: Tresor) -> Shown:
    """What the vault shows, with what Prometheus adds."""
    found: Shown = {UP: {}}
    for family in prometheus(busy.metrics()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return {name: labels | ADDED for name, labels in found.items()}


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


def assert_answered(query: str, shown: Shown) -> None:
    """That the vault shows what is asked for: the metrics, their labels, and the values that are selected by."""
    everything = asked(query)
    assert everything, query
    for each in everything:
        assert each.metric in shown, f"{each.metric} in {query}"
        labels = shown[each.metric]
        assert each.labels <= labels.keys(), f"{each.labels} of {each.metric} in {query}"
        for label, value in each.values:
            assert value in labels[label], f"{label}={value} of {each.metric} in {query}"


def assert_named(labels: set[str], query: str, shown: Shown) -> None:
    """That every answer to a query has the labels that a text names."""
    there = answered(query, {name: set(labels) for name, labels in shown.items()})
    assert labels <= there, f"{labels - there} of {query}, which has {there}"


def test_every_alert_asks_for_what_the_vault_shows(shown: Shown) -> None:
    for rule in rules():
        assert_answered(rule["expr"], shown)


def test_what_the_runbook_and_the_guides_ask_prometheus_for_is_there(shown: Shown) -> None:
    guides = [ROOT / "docs" / name for name in ("METRICS.md", "OPERATIONS.md", "BACKUP.md", "RELIABILITY.md", "SECURITY.md")]
    queries = {query for page in [*RUNBOOK.glob("*.md"), *guides] for query in quoted_queries(page)}
    assert len(queries) > 40
    # A text may name a histogram, of which a query can only ask for parts.
    named = {name.removesuffix("_bucket"): labels for name, labels in shown.items()}
    for query in sorted(queries):
        assert_answered(query, named | shown)


def quoted_queries(page: Path) -> list[str]:
    """What stands between backquotes and names a metric of ours."""
    return [quoted for quoted in re.findall(r"`([^`\n]+)`", page.read_text()) if re.search(r"(?<!/)\btresor_\w+\b(?!\.)", quoted)]


def test_every_alert_names_labels_that_it_has(shown: Shown) -> None:
    named = 0
    for rule in alerts(OBSERVABILITY / "alerts.yml"):
        # `{{ with $labels.x }}` asks first.
        labels = set(re.findall(r"{{ \$labels\.(\w+) }}", rule["annotations"]["summary"]))
        assert_named(labels, rule["expr"], shown)
        named += len(labels)
    assert named >= len(rules())


@pytest.mark.parametrize(
    "query",
    [
        "tresor_no_such_total",
        'rate(tresor_grpc_calls_total{tenant="a"}[5m])',
        "sum by (caller) (tresor_sealed)",
        "tresor_sealed * on (caller) tresor_serving",
        'tresor_grpc_calls_total{code=~"INTERNAL|UNAVAILIBLE"}',
        'tresor_tls_handshakes_total{outcome="failure"}',
        'tresor_credentials_expiring{within!="8d"}',
        'up{job="tressor"}',
    ],
)
def test_a_query_for_what_is_not_shown_is_noticed(query: str, shown: Shown) -> None:
    with pytest.raises(AssertionError):
        assert_answered(query, shown)


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        ("tresor_sealed", {"instance", "job"}),
        ("sum(tresor_sealed)", set()),
        ("sum by (instance, code) (rate(tresor_grpc_calls_total[5m]))", {"instance", "code"}),
        ("sum without (job, service, method) (tresor_grpc_calls_total)", {"instance", "code"}),
        ("time() - sum by (instance) (tresor_last_backup_timestamp_seconds)", {"instance"}),
        ("histogram_quantile(0.9, sum by (instance, le) (rate(tresor_store_sync_duration_seconds_bucket[5m])))", {"instance"}),
        ("tresor_sealed > on (instance) tresor_serving", {"instance"}),
        ("tresor_sealed > ignoring (job) tresor_serving", {"instance"}),
        ("sum by (instance) (tresor_sealed) or tresor_serving", {"instance"}),
        ("tresor_sealed and on (instance) sum by (instance) (tresor_serving)", {"instance", "job"}),
        ('up == 0 or absent(up{job="tresor"})', {"job"}),
        ("(tresor_sealed == 1) > 2 * 3", {"instance", "job"}),
    ],
)
def test_the_labels_of_an_answer_are_known(query: str, labels: set[str], shown: Shown) -> None:
    assert answered(query, {name: set(each) for name, each in shown.items()}) == labels


def test_every_query_of_the_dashboard_asks_for_what_the_vault_shows(shown: Shown, tmp_path: Path) -> None:
    dashboard = json.loads((OBSERVABILITY / "dashboard.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(targets) > 30
    (instance,) = ADDED["instance"]
    queries = [target["expr"].replace("$__rate_interval", "5m").replace("$instance", instance) for target in targets]
    legends = [target["legendFormat"] for target in targets]
    assert sum("{{" in legend for legend in legends) > 30
    labels = {name: set(values) for name, values in shown.items()}
    for query, legend in zip(queries, legends, strict=True):
        assert_answered(query, shown)
        # Fewer would give several lines one name.
        assert set(re.findall(r"{{\s*(\w+)\s*}}", legend)) == answered(query, labels), f"{legend} of {query}"
    # And as Prometheus' own parser reads them.
    recorded = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": recorded}]}))
    done = run(PROMTOOL, "check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_is_what_its_script_writes() -> None:
    script = runpy.run_path(str(OBSERVABILITY / "dashboard.py"))
    assert (OBSERVABILITY / "dashboard.json").read_text() == script["text"]()
