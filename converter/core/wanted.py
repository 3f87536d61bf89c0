"""Which attributes the rules read: what leaves the reader, and what one rule's value depends on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from converter.core import dictionary, notices, rejection
from converter.core.header import (
    ASSUMED_CHARSET,
    ASSUMED_ZONE,
    SERIES_INSTANCE_UID,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    SPECIFIC_CHARACTER_SET,
    STUDY_INSTANCE_UID,
    TIMEZONE_OFFSET_FROM_UTC,
    Wanted,
    merge_wanted,
)
from converter.core.rules import Node, Rule, RuleSet, Source
from converter.core.transforms import SEQUENCE_NEEDS, TRANSFORMS, Transform

__all__ = ["assuming", "reach", "rules_in", "wanted", "wanted_by"]

MODALITY = 0x00080060

ALWAYS = (
    SPECIFIC_CHARACTER_SET,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    MODALITY,
    TIMEZONE_OFFSET_FROM_UTC,
    STUDY_INSTANCE_UID,
    SERIES_INSTANCE_UID,
)
"""Kept whatever the mapping reads."""

PATIENT_KEYS = (
    "PatientID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence.UniversalEntityID",
)
"""What decides whether a study holds two patients; kept whatever the mapping reads."""

IN_ITEMS = (SPECIFIC_CHARACTER_SET,)
"""Kept in the items of every sequence."""


def rules_in(node: Node) -> list[Rule]:
    """Rules of an element and of those below."""
    return _all(node)


def _all(node: Node) -> list[Rule]:
    own = [node.rule] if node.rule else []
    return own + [rule for child in node.children for rule in _all(child)]


def _tags(dotted: str) -> tuple[int, ...]:
    return tuple(dictionary.tag_of(part) or 0 for part in dotted.split("."))


def reach(resources: Mapping[str, Node]) -> dict[str, Node]:
    """Let a rule that makes a reference depend on all that the resource behind it is made of.

    The resource is made of the values that the reference was made of; what its rules read must be
    among them, so that a site's rule for it is never silently empty.
    """
    own = {
        name: frozenset(tag for rule in _all(node) for tag in rule.tags)
        for name, node in resources.items()
    }
    behind = {
        name: {rule.ref for rule in _all(node) if rule.ref in resources and _carries(rule)}
        for name, node in resources.items()
    }

    def tags(name: str, seen: frozenset[str]) -> frozenset[int]:
        several = [tags(other, seen | {name}) for other in behind[name] - seen - {name}]
        return own[name].union(*several)

    def widened(node: Node) -> Node:
        rule = node.rule
        if rule is not None and rule.ref in resources and _carries(rule):
            held = tuple(sorted({*rule.tags, *tags(rule.ref, frozenset())}))
            rule = replace(rule, tags=held)
        return replace(node, rule=rule, children=tuple(widened(child) for child in node.children))

    return {name: widened(node) for name, node in resources.items()}


_ASSUMED = ((SPECIFIC_CHARACTER_SET, ASSUMED_CHARSET), (TIMEZONE_OFFSET_FROM_UTC, ASSUMED_ZONE))


def assuming(rules: RuleSet) -> RuleSet:
    """Let rules depend on what is assumed of the sender of each instance, for who knows senders (the daemon)."""

    def widened(node: Node) -> Node:
        rule = node.rule
        if rule is not None:
            more = [assumed for stated, assumed in _ASSUMED if stated in rule.tags]
            rule = replace(rule, tags=tuple(sorted({*rule.tags, *more})))
        return replace(node, rule=rule, children=tuple(widened(child) for child in node.children))

    resources = {name: widened(node) for name, node in rules.resources.items()}
    return replace(rules, resources=resources, memo={})


def _carries(rule: Rule) -> bool:
    transform = TRANSFORMS.get(rule.transform)
    return transform is not None and not transform.aggregate


def _nested(tags: tuple[int, ...], inner: Wanted | None) -> Wanted:
    found: Wanted | None = inner
    for depth, tag in enumerate(reversed(tags)):
        if depth and found is not None:
            found = {**dict.fromkeys(IN_ITEMS), **found}
        found = {tag: found}
    return found or {}


def _keywords(needs: Mapping[str, Any]) -> dict[int, Any]:
    found: dict[int, Any] = dict.fromkeys(IN_ITEMS)
    for keyword, inner in needs.items():
        tag = dictionary.tag_of(keyword)
        if tag is None:
            message = f"transform needs {keyword}, which is no DICOM keyword"
            raise AssertionError(message)
        found[tag] = _keywords(inner) if inner else None
    return found


def _needs(keyword: str, transform: Transform | None = None) -> Mapping[str, Any]:
    found = dict(SEQUENCE_NEEDS.get(keyword, SEQUENCE_NEEDS["*"]))
    if transform is not None:
        found.update(transform.needs)
    return found


def _of(rules: Iterable[Rule], resources: Mapping[str, Node]) -> list[Wanted]:
    several: list[Wanted] = []
    for rule in rules:
        transform = TRANSFORMS.get(rule.transform)
        behind = resources.get(rule.ref) if _carries(rule) else None
        for source in (*rule.sources, *rule.others, *(source for source, _ in rule.when)):
            inner: Wanted | None = None
            if source.vr == "SQ":
                inner = _keywords(_needs(source.last, transform))
                if behind is not None and _is_item(source, rule):
                    inner = merge_wanted(inner, *_of(_all(behind), {}))
            several.append(_nested(source.tags, inner))
        for keyword in transform.also if transform else ():
            tag = dictionary.tag_of(keyword) or 0
            is_sequence = dictionary.vr_of(tag) == "SQ"
            several.append({tag: _keywords(_needs(keyword)) if is_sequence else None})
    return several


def _is_item(source: Source, rule: Rule) -> bool:
    """Whether the resource behind a reference is made of an item of this sequence."""
    return source in rule.sources


def wanted_by(rule: Rule, resources: Mapping[str, Node]) -> Wanted:
    """Tags that one rule reads."""
    return merge_wanted(*_of([rule], resources))


def wanted(resources: Mapping[str, Node]) -> Wanted:
    """Tags that leave the reader: all that any rule reads, and what the engine itself looks at."""
    several: list[Wanted] = [dict.fromkeys(ALWAYS)]
    several += [_nested(_tags(keyword), None) for keyword in PATIENT_KEYS]
    several += [
        {tag: {_tags("PatientID")[0]: None} if dictionary.vr_of(tag) == "SQ" else None}
        for keyword in notices.KEYWORDS
        for tag in _tags(keyword)
    ]
    several.append(_keywords(rejection.NEEDS))
    for node in resources.values():
        several += _of(_all(node), resources)
    return merge_wanted(*several)
