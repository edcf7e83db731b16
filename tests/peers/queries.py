"""Queries for Prometheus: what they ask for, and which labels their answers have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser as promql

EXACTLY = (promql.MatchOp.Equal, promql.MatchOp.NotEqual)


@dataclass(frozen=True)
class Asked:
    """What a query asks of one metric."""

    metric: str
    # The labels that it selects by, or that stand around it.
    labels: set[str]
    # The values that it names, each with its label.
    values: set[tuple[str, str]]


def asked(query: str) -> list[Asked]:
    return list(_asked(promql.parse(query), set()))


def _asked(node: object, around: set[str]) -> Iterator[Asked]:
    around = around | set(_labels_beside(node))
    if isinstance(node, promql.VectorSelector):
        matchers = node.matchers.matchers
        values = {(each.name, value) for each in matchers for value in _alternatives(each)}
        yield Asked(node.name, around | {each.name for each in matchers}, values)
        return
    for child in _children(node):
        yield from _asked(child, around)


def _alternatives(matcher: promql.Matcher) -> list[str]:
    """The values that a matcher names: one, or those that an expression `a|b` has."""
    return [matcher.value] if matcher.op in EXACTLY else matcher.value.split("|")


def _labels_beside(node: object) -> list[str]:
    """The labels of `by (…)`, `without (…)`, `on (…)` and `ignoring (…)`."""
    modifier = getattr(node, "modifier", None)
    if isinstance(node, promql.BinaryExpr):
        modifier = modifier and modifier.matching
    return list(modifier.labels) if modifier else []


def _children(node: object) -> Iterator[object]:
    for name in ("lhs", "rhs", "expr", "vector_selector"):
        if child := getattr(node, name, None):
            yield child
    yield from getattr(node, "args", None) or []


def answered(query: str, labels: dict[str, set[str]]) -> set[str]:
    """The labels that every answer to a query has, where metrics have these labels."""
    return _answered(promql.parse(query), labels)


def _answered(node: object, labels: dict[str, set[str]]) -> set[str]:
    if isinstance(node, promql.VectorSelector):
        return labels[node.name]
    if isinstance(node, promql.AggregateExpr):
        return _kept(_answered(node.expr, labels), node.modifier)
    if isinstance(node, promql.BinaryExpr):
        return _joined(node, labels)
    if isinstance(node, promql.Call):
        return _called(node, labels)
    # Whatever only stands around something: parentheses, a range, a sign.
    return set().union(*(_answered(child, labels) for child in _children(node)))


def _kept(labels: set[str], modifier: promql.AggModifier | None) -> set[str]:
    """What an aggregation leaves of labels: none, unless it says which."""
    if not modifier:
        return set()
    named = set(modifier.labels)
    return labels & named if modifier.type == promql.AggModifierType.By else labels - named


def _called(call: promql.Call, labels: dict[str, set[str]]) -> set[str]:
    if call.func.name == "absent":
        # Those that it is certain of: where exactly one value was asked for.
        (selector,) = call.args
        return {each.name for each in selector.matchers.matchers if each.op == promql.MatchOp.Equal}
    found = set().union(*(_answered(argument, labels) for argument in call.args))
    return found - {"le"} if call.func.name == "histogram_quantile" else found


def _joined(node: promql.BinaryExpr, labels: dict[str, set[str]]) -> set[str]:
    left, right = _answered(node.lhs, labels), _answered(node.rhs, labels)
    if _is_number(node.lhs) or _is_number(node.rhs):
        return left | right
    operator = str(node.op)
    if operator == "or":
        return left & right
    if operator in ("and", "unless"):
        return left
    matching = node.modifier.matching if node.modifier else None
    if node.modifier and node.modifier.card != promql.VectorMatchCardinality.OneToOne:
        raise NotImplementedError(f"labels of a match between one and many: {node}")
    if not matching:
        return left & right
    named = set(matching.labels)
    return left & named if matching.type == promql.LabelModifierType.Include else left - named


def _is_number(node: object) -> bool:
    """Whether it has one value without any label, as `5` and `time()` have."""
    return isinstance(node, promql.NumberLiteral) or (isinstance(node, promql.Call) and node.func.name == "time") or (
        isinstance(node, promql.BinaryExpr) and _is_number(node.lhs) and _is_number(node.rhs)
    )
