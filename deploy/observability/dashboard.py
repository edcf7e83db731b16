#!/usr/bin/env python3
"""Writes dashboard.json, the Grafana dashboard, from the table below: `deploy/observability/dashboard.py`.

Import the JSON into Grafana, or provision it; it asks for a Prometheus data source and shows one server or all.
"""

import json
from pathlib import Path

RATE = "[$__rate_interval]"
OURS = 'instance=~"$instance"'


def rate(metric: str, labels: str = "", by: str = "") -> str:
    selector = ", ".join(filter(None, [OURS, labels]))
    return f"sum by ({by}) (rate({metric}{{{selector}}}{RATE}))" if by else f"sum(rate({metric}{{{selector}}}{RATE}))"


def quantile(q: float, metric: str, labels: str = "", by: str = "") -> str:
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', labels, ', '.join(filter(None, ['le', by])))})"


def value(metric: str, labels: str = "", by: str = "instance") -> str:
    selector = ", ".join(filter(None, [OURS, labels]))
    return f"sum by ({by}) ({metric}{{{selector}}})"


TROUBLE = 'code=~"INTERNAL|UNAVAILABLE|DATA_LOSS|UNKNOWN|DEADLINE_EXCEEDED"'
RESOLVE = 'method="ResolveForOrder"'

# Row, panels: title, kind, unit, and queries with their legends.
ROWS = [
    (
        "Now",
        [
            ("Serving", "stat", "bool_yes_no", [(value("tresor_serving"), "{{instance}}")]),
            ("Sealed", "stat", "bool_yes_no", [(value("tresor_sealed"), "{{instance}}")]),
            ("Store takes writes", "stat", "bool_yes_no", [(value("tresor_store_writable"), "{{instance}}")]),
            ("Audit log takes lines", "stat", "bool_yes_no", [(value("tresor_audit_healthy"), "{{instance}}")]),
            ("Version", "stat", "none", [(value("tresor_build_info", by="version"), "{{version}}")]),
            ("Resolves", "stat", "reqps", [(rate("tresor_resolves_total"), "resolves")]),
            (
                "Calls that fail for the vault's reasons",
                "stat",
                "percentunit",
                [(f"{rate('tresor_grpc_calls_total', TROUBLE)} / {rate('tresor_grpc_calls_total')}", "failing")],
            ),
            (
                "Age of the newest backup",
                "stat",
                "s",
                [(f"time() - ({value('tresor_last_backup_timestamp_seconds')} > 0)", "{{instance}}")],
            ),
        ],
    ),
    (
        "Calls",
        [
            ("Calls by method", "timeseries", "reqps", [(rate("tresor_grpc_calls_total", by="method"), "{{method}}")]),
            ("Calls by code", "timeseries", "reqps", [(rate("tresor_grpc_calls_total", by="code"), "{{code}}")]),
            (
                "How long a resolve takes",
                "timeseries",
                "s",
                [
                    (quantile(q, "tresor_grpc_call_duration_seconds", RESOLVE), f"{q:.0%}" if q < 0.999 else "99.9%")
                    for q in (0.5, 0.99, 0.999)
                ],
            ),
            (
                "The slow hundredth, by method",
                "timeseries",
                "s",
                [(quantile(0.99, "tresor_grpc_call_duration_seconds", by="method"), "{{method}}")],
            ),
            ("Errors by reason", "timeseries", "reqps", [(rate("tresor_call_errors_total", by="reason"), "{{reason}}")]),
            ("Quotas used up", "timeseries", "reqps", [(rate("tresor_quota_exceeded_total", by="quota"), "{{quota}}")]),
            ("Open calls", "timeseries", "short", [(value("tresor_grpc_open_calls", by="method"), "{{method}}")]),
            (
                "Connections",
                "timeseries",
                "short",
                [
                    (value("tresor_connections", by="identity"), "identity: {{identity}}"),
                    (value("tresor_connections_limit"), "limit of {{instance}}"),
                    (rate("tresor_tls_handshakes_total", by="outcome"), "handshakes/s: {{outcome}}"),
                    (rate("tresor_refused_connections_total"), "refused/s"),
                ],
            ),
        ],
    ),
    (
        "Credentials",
        [
            ("Resolves by provider", "timeseries", "reqps", [(rate("tresor_resolves_total", by="provider"), "{{provider}}")]),
            (
                "Resolves by decision",
                "timeseries",
                "reqps",
                [(rate("tresor_resolves_total", by="rule, outcome"), "rule {{rule}}: {{outcome}}")],
            ),
            ("Resolves by mode", "timeseries", "reqps", [(rate("tresor_resolves_total", by="mode"), "{{mode}}")]),
            (
                "Credentials by provider and state",
                "timeseries",
                "short",
                [(f"max by (provider, state) (tresor_credentials{{{OURS}}})", "{{provider}} {{state}}")],
            ),
            (
                "Credentials that expire",
                "timeseries",
                "short",
                [
                    (f"max by (provider, within) (tresor_credentials_expiring{{{OURS}}})", "{{provider}} within {{within}}"),
                    (f"max by (provider) (tresor_credentials_expired{{{OURS}}})", "{{provider}} expired"),
                ],
            ),
            (
                "What there is",
                "timeseries",
                "short",
                [
                    (value("tresor_tenants"), "tenants on {{instance}}"),
                    (value("tresor_assignments"), "assignments on {{instance}}"),
                    (value("tresor_credentials_unproven"), "unproven on {{instance}}"),
                ],
            ),
        ],
    ),
    (
        "Store and audit log",
        [
            (
                "How long a save waits, and the disk takes",
                "timeseries",
                "s",
                [
                    (quantile(0.99, "tresor_store_commit_duration_seconds"), "commit 99%"),
                    (quantile(0.99, "tresor_store_sync_duration_seconds"), "store sync 99%"),
                    (quantile(0.99, "tresor_audit_sync_duration_seconds"), "audit sync 99%"),
                    (quantile(0.99, "tresor_audit_write_duration_seconds"), "audit write 99%"),
                ],
            ),
            ("Transactions", "timeseries", "wps", [(rate("tresor_store_transactions_total", by="outcome"), "{{outcome}}")]),
            (
                "Queues",
                "timeseries",
                "short",
                [(value("tresor_store_queue_jobs"), "store of {{instance}}"), (value("tresor_audit_queue_lines"), "audit of {{instance}}")],
            ),
            (
                "Revisions",
                "timeseries",
                "short",
                [
                    (value("tresor_replica_lag_revisions"), "lag of {{instance}}"),
                    (rate("tresor_audit_lines_total"), "audit lines/s"),
                    (rate("tresor_audit_failures_total", by="sink"), "audit failures/s: {{sink}}"),
                ],
            ),
            (
                "Lines of the audit log that are not durable, not signed",
                "timeseries",
                "short",
                [
                    (f"{value('tresor_audit_newest_line')} - {value('tresor_audit_durable_line')}", "not durable on {{instance}}"),
                    (f"{value('tresor_audit_newest_line')} - {value('tresor_audit_signed_line')}", "not signed on {{instance}}"),
                ],
            ),
            ("Backups", "timeseries", "short", [(rate("tresor_backups_total", by="outcome"), "{{outcome}}/s")]),
        ],
    ),
    (
        "Keys and certificates",
        [
            (
                "Until certificates expire",
                "timeseries",
                "s",
                [(f"min by (kind) (tresor_certificate_expiry_timestamp_seconds{{{OURS}}}) - time()", "{{kind}}")],
            ),
            (
                "Age of keys",
                "timeseries",
                "s",
                [
                    (f"time() - {value('tresor_oldest_data_key_timestamp_seconds')}", "oldest data key on {{instance}}"),
                    (f"time() - {value('tresor_signing_key_timestamp_seconds')}", "signing key on {{instance}}"),
                ],
            ),
            ("Seals left", "timeseries", "short", [(value("tresor_data_key_seals_left"), "{{instance}}")]),
            (
                "Keys that are wrapped otherwise than configured, and work on keys",
                "timeseries",
                "short",
                [
                    (value("tresor_wrapped_keys_by_another"), "by another key, {{instance}}"),
                    (value("tresor_wrapped_keys_lacking_recovery"), "not for the recovery key, {{instance}}"),
                    (value("tresor_tasks", by="task"), "{{task}} under way"),
                    (value("tresor_tasks_stuck", by="task"), "{{task}} stuck"),
                ],
            ),
            ("Changed files that are not taken", "timeseries", "short", [(value("tresor_reload_stuck", by="what"), "{{what}}")]),
        ],
    ),
    (
        "Process",
        [
            ("Processor", "timeseries", "percentunit", [(rate("process_cpu_seconds_total", by="instance"), "{{instance}}")]),
            ("Memory", "timeseries", "bytes", [(value("process_resident_memory_bytes"), "{{instance}}")]),
            (
                "Open files",
                "timeseries",
                "short",
                [(value("process_open_fds"), "{{instance}}"), (value("process_max_fds"), "limit of {{instance}}")],
            ),
        ],
    ),
]

WIDTH = {"stat": 3, "timeseries": 12}
HEIGHT = {"stat": 4, "timeseries": 8}


def panels() -> list[dict]:
    made, y = [], 0
    for row, contents in ROWS:
        made.append({"type": "row", "title": row, "collapsed": False, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}, "panels": []})
        y, x = y + 1, 0
        for title, kind, unit, queries in contents:
            if x + WIDTH[kind] > 24:
                x, y = 0, y + HEIGHT[kind]
            targets = [
                {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend, "datasource": SOURCE}
                for number, (query, legend) in enumerate(queries)
            ]
            made.append(
                {
                    "type": kind,
                    "title": title,
                    "datasource": SOURCE,
                    "gridPos": {"x": x, "y": y, "w": WIDTH[kind], "h": HEIGHT[kind]},
                    "fieldConfig": {"defaults": {"unit": unit, "min": 0 if kind == "timeseries" else None}, "overrides": []},
                    "targets": targets,
                }
            )
            x += WIDTH[kind]
        y += HEIGHT[contents[-1][1]]
    for number, panel in enumerate(made, 1):
        panel["id"] = number
    return made


SOURCE = {"type": "prometheus", "uid": "${source}"}


def dashboard() -> dict:
    instances = "label_values(tresor_build_info, instance)"
    return {
        "uid": "tresor",
        "title": "Tresor",
        "tags": ["tresor"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"},
                {
                    "name": "instance",
                    "label": "Server",
                    "type": "query",
                    "datasource": SOURCE,
                    "query": {"query": instances, "refId": "instance"},
                    "refresh": 2,
                    "multi": True,
                    "includeAll": True,
                    "allValue": ".*",
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "panels": panels(),
    }


def text() -> str:
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("dashboard.json").write_text(text())
