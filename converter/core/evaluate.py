"""One rule over the values of one object, and the agreement of many objects on one value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import orjson

from converter.core.issues import Issue
from converter.core.rules import Rule, RuleSet
from converter.core.transforms import TRANSFORMS, Absent, Call, Ref

__all__ = ["Agreed", "Key", "Outcome", "agree", "evaluate", "plain", "united"]

Key: TypeAlias = tuple[bytes | None, ...]
"""Values of a rule's tags, in their order."""

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS

MEMO = 1024
"""Outcomes remembered per rule."""


class Outcome(NamedTuple):
    """What a rule yields for one key."""

    value: Any = None
    issues: tuple[Issue, ...] = ()
    keyword: str = ""
    """Source that gave the value."""
    code_row: str = ""


class Agreed(NamedTuple):
    """What many objects agree on."""

    value: Any
    issues: list[Issue]
    keyword: str = ""
    code_row: str = ""
    key: Key = ()
    """A key that gave the value: leads ``explain`` to a file."""


def evaluate(rules: RuleSet, rule: Rule, key: Key) -> Outcome:
    """Apply a rule to the values of its tags; the same key always gives the same outcome."""
    memo = rules.memo.get(rule.path)
    if memo is None:
        memo = rules.memo[rule.path] = {}
    outcome = memo.get(key)
    if outcome is None:
        if len(memo) >= MEMO:
            memo.clear()
        outcome = memo[key] = _apply(rules, rule, key)
    return outcome


def _apply(rules: RuleSet, rule: Rule, key: Key) -> Outcome:
    header = {tag: value for tag, value in zip(rule.tags, key, strict=True) if value is not None}
    call = Call(rule, header, rules.site, rules.tables)
    outcome = _outcome(call, rule)
    call.end()
    return outcome


def _outcome(call: Call, rule: Rule) -> Outcome:
    for source, expected in rule.when:
        found = [value for view in call.at(source) for value in view.strings(source.last)[:1]]
        if expected not in found:
            return Outcome()
    if not rule.transform:
        return Outcome(rule.const)
    transform = TRANSFORMS[rule.transform]
    if transform.whole or not rule.sources:
        value = transform.function(call)
        return Outcome(value, tuple(call.issues), ", ".join(_keywords(rule)), call.code_row)
    united: list[Any] = []
    for source in rule.sources:
        call.source, call.keyword = source, source.last
        for view in call.at(source):
            call.view = view
            value = transform.function(call)
            if value is None:
                continue
            if transform.agree != "union":
                return Outcome(value, tuple(call.issues), source.keyword, call.code_row)
            united.extend(value if isinstance(value, list) else [value])
        if united:
            return Outcome(united, tuple(call.issues), source.keyword, call.code_row)
    return Outcome(None, tuple(call.issues))


def _keywords(rule: Rule) -> list[str]:
    transform = TRANSFORMS[rule.transform]
    return [source.keyword for source in rule.sources] or list(transform.also)


def plain(value: Any) -> Any:
    """JSON form of what orjson does not know: a reference as it stands without a resource."""
    if isinstance(value, Ref):
        return value.logical
    if isinstance(value, Absent):
        return {"absent": value.reason}
    raise TypeError(type(value).__name__)


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, default=_identified, option=_OPTIONS)


def _identified(value: Any) -> Any:
    """As `plain`, and with what tells two references apart that are written alike (two Endpoints)."""
    if isinstance(value, Ref):
        return {"": [value.system, value.value], **value.logical}
    return plain(value)


def agree(
    rules: RuleSet, rule: Rule, tally: Mapping[Key, int], examples: Callable[[Key], tuple[str, ...]]
) -> Agreed:
    """Make one value of those of many objects.

    Parameters
    ----------
    rules : RuleSet
    rule : Rule
    tally : mapping of Key to int
        How many objects hold each key.
    examples : callable
        Gives up to three UIDs of objects that hold a key.

    Notes
    -----
    Scalars take the mode, ties the smallest value; repeating values are united and sorted; a side (L, R)
    must be the same in all. Nothing is no value: it takes no part.
    """
    transform = TRANSFORMS.get(rule.transform)
    how = transform.agree if transform else "mode"
    issues: list[Issue] = []
    outcomes = {key: evaluate(rules, rule, key) for key in tally}
    for key, outcome in outcomes.items():
        for issue in outcome.issues:
            shown = examples(key) if issue.severity != "information" else ()
            issues.append(
                Issue(
                    issue.severity,
                    issue.code,
                    issue.path,
                    issue.keyword,
                    issue.message,
                    shown,
                    tally[key],
                )
            )
    if len(outcomes) == 1:
        [(key, outcome)] = outcomes.items()
        if how == "union":
            return united(rules, rule, key, outcome)._replace(issues=issues)
        return Agreed(outcome.value, issues, outcome.keyword, outcome.code_row, key)
    if how == "union":
        return _united(outcomes.items(), issues, transform.settle if transform else None)
    counts: dict[bytes, int] = {}
    holders: dict[bytes, Key] = {}
    for key, outcome in outcomes.items():
        if outcome.value is None or isinstance(outcome.value, Absent):
            continue
        written = _canonical(outcome.value)
        counts[written] = counts.get(written, 0) + tally[key]
        if written not in holders or _rank(outcome.value, key) < _rank(
            outcomes[holders[written]].value, holders[written]
        ):
            holders[written] = key
    if not counts:
        absent = next((o.value for o in outcomes.values() if o.value is not None), None)
        return Agreed(absent, issues)
    if len(counts) > 1:
        differing = sorted({uid for key in holders.values() for uid in examples(key)})[:3]
        issues.append(
            Issue(
                "warning",
                "values-differ",
                rule.element,
                rule.sources[0].keyword if rule.sources else "",
                "Instances differ; "
                + (
                    "no value is taken."
                    if how == "unanimous"
                    else "the most frequent value is taken."
                ),
                tuple(differing),
                sum(counts.values()),
            )
        )
        if how == "unanimous":
            return Agreed(None, issues)
    best = min(counts, key=lambda written: (-counts[written], written))
    outcome = outcomes[holders[best]]
    return Agreed(outcome.value, issues, outcome.keyword, outcome.code_row, holders[best])


def united(rules: RuleSet, rule: Rule, key: Key, outcome: Outcome) -> Agreed:
    """Repeating values of objects that all hold one key: the same key always gives the same."""
    memo = rules.memo.setdefault(f"{rule.path} united", {})
    agreed: Agreed | None = memo.get(key)
    if agreed is None:
        if len(memo) >= MEMO:
            memo.clear()
        settle = TRANSFORMS[rule.transform].settle
        agreed = memo[key] = _united([(key, outcome)], [], settle)
    return agreed


def _rank(value: Any, key: Key) -> tuple[int, tuple[bytes, ...]]:
    """Which of several that are written alike is taken: the one that tells most of what it refers to."""
    return -_told(value), tuple(field or b"" for field in key)


def _told(value: Any) -> int:
    """Attributes that there are of what a value refers to."""
    if isinstance(value, Ref):
        return sum(1 for _, field in value.header if field.strip(b" \0"))
    if isinstance(value, dict):
        return sum(map(_told, value.values()))
    return 0


def _united(
    outcomes: Iterable[tuple[Key, Outcome]],
    issues: list[Issue],
    settle: Callable[[list[Any]], list[Any]] | None,
) -> Agreed:
    outcomes = list(outcomes)
    if len(outcomes) == 1:
        [(key, outcome)] = outcomes
        value = outcome.value
        if value.__class__ is list and len(value) == 1:
            values = settle(list(value)) if settle else list(value)
            return Agreed(values, issues, outcome.keyword, outcome.code_row, key)
    found: dict[bytes, tuple[Any, Outcome, Key]] = {}
    for key, outcome in outcomes:
        value = outcome.value
        if value is None or isinstance(value, Absent):
            continue
        for one in value if isinstance(value, list) else [value]:
            written = _canonical(one)
            held = found.get(written)
            if held is None or _rank(one, key) < _rank(held[0], held[2]):
                found[written] = (one, outcome, key)
    if not found:
        return Agreed(None, issues)
    ordered = [found[written] for written in sorted(found)]
    _, outcome, key = ordered[0]
    values = [one for one, _, _ in ordered]
    values = settle(values) if settle else values
    return Agreed(values, issues, outcome.keyword, outcome.code_row, key)
