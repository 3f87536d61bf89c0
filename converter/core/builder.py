"""FHIR elements from rules: agreement over instances, trees, references, what explains them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from converter.core import ids
from converter.core.conversion import Explanation, Options, Trace
from converter.core.evaluate import Agreed, Key, agree, evaluate, united
from converter.core.header import Header
from converter.core.issues import Issue, Severity
from converter.core.narrative import narrative
from converter.core.remember import Remembered, memories
from converter.core.rules import Node, Rule, RuleSet
from converter.core.study import Series, Study
from converter.core.telling import explanation
from converter.core.transforms import TRANSFORMS, Absent, Ref

__all__ = ["DATA_ABSENT", "Builder", "put", "resource"]

EXAMPLES = 3

DATA_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"


class Builder:
    """Makes elements of one study; `converter.core.engine` puts them together."""

    def __init__(self, study: Study, rules: RuleSet, options: Options, trace: Trace | None) -> None:
        self.study = study
        self.rules = rules
        self.options = options
        self.trace = trace
        self.issues: list[Issue] = []
        self.companions: list[dict[str, Any]] = []
        self.contained: list[dict[str, Any]] = []
        self.retracted: list[str] = []
        """What `converter.core.merge.unite` is to take from series that stand: ``uid:laterality``."""
        self.subject: dict[str, Any] | None = None
        self.only: Header | None = None
        """Header of the only instance, where there is but one: what it says, all agree on."""
        if trace is None and len(study.series) == 1 and len(study.series[0].instances) == 1:
            self.only = study.series[0].instances[0].header()
            self.known = memories(rules, options)
        self.referred = 0
        """References to resources of this study's own that were written so far."""
        self.told: list[tuple[Rule, Explanation]] = []
        self.made: dict[str, bool] = {}
        """Name of each resource beside the study to whether it could be made."""

    # -- rules over instances ------------------------------------------------------------------

    def over(self, rule: Rule, members: list[Series], path: str) -> Any:
        """Value that instances of some series agree on."""
        transform = TRANSFORMS.get(rule.transform)
        if transform is not None and transform.companions_only and not self.options.companions:
            return None
        if not rule.tags:
            outcome = evaluate(self.rules, rule, ())
            agreed = Agreed(outcome.value, list(outcome.issues), outcome.keyword, outcome.code_row)
        else:
            if self.only is not None:
                key = tuple(map(self.only.get, rule.tags))
                outcome = evaluate(self.rules, rule, key)
                if outcome.issues:
                    self.issues += map(self.of_only, outcome.issues)
                if transform is None or transform.agree != "union":
                    return outcome.value
                return united(self.rules, rule, key, outcome).value
            agreed = agree(
                self.rules, rule, _tally(members, rule.tags), _examples(members, rule.tags)
            )
        self.issues += agreed.issues
        self.tell(rule, path, agreed, members)
        return agreed.value

    def of_only(self, issue: Issue) -> Issue:
        """Finding about the only instance, as `agree` gives it."""
        if issue.severity == "information":
            return issue
        return Issue(
            issue.severity,
            issue.code,
            issue.path,
            issue.keyword,
            issue.message,
            (self.study.series[0].instances[0].uid,),
            issue.count,
        )

    def tell(
        self,
        rule: Rule,
        path: str,
        agreed: Agreed,
        members: list[Series],
        parts: Sequence[Explanation] = (),
    ) -> None:
        """Explain one element to whoever asked for it."""
        if self.trace is None:
            return
        told = explanation(rule, path, agreed, members, parts)
        self.told.append((rule, told))
        self.trace(told)

    # -- trees ---------------------------------------------------------------------------------

    def object(
        self,
        node: Node,
        path: str,
        value_of: Callable[[Rule, str], Any],
        scope: tuple[str, ...] = (),
        only: Header | None = None,
    ) -> dict[str, Any] | None:
        """Fill an element that is made of child rules; nothing where a required child has no value.

        ``scope`` names the series or instance that a finding about a dropped item gives as example. ``only``
        is what all rules read, where that is but one header.
        """
        found: dict[str, Any] = {}
        for child in node.children:
            if only is not None:
                value = self.once(child, path, value_of, scope, only)
            else:
                child_path = f"{path}.{child.name}"
                value = (
                    self.resolve(value_of(child.rule, child_path))
                    if child.rule
                    else self.object(child, child_path, value_of, scope)
                )
            if value is None or value == []:
                if child.required:
                    self.drop(node, child, scope)
                    return None
                continue
            put(found, child, value)
        return found or None

    def once(
        self,
        child: Node,
        path: str,
        value_of: Callable[[Rule, str], Any],
        scope: tuple[str, ...],
        only: Header,
    ) -> Any:
        """Value of an element, made once for the values that it hangs on."""
        known = self.known.get(child.path)
        if known is None:
            known = self.known[child.path] = Remembered(child)
        useful = known.useful
        if useful:
            key = known.key(only)
            held = known.get(key)
            if held is not None:
                self.issues += held[1]
                return held[0]
        said, referred = len(self.issues), self.referred
        value = (
            self.resolve(value_of(child.rule, path))
            if child.rule
            else self.object(child, path, value_of, scope, only)
        )
        if useful:
            issues = self.issues[said:]
            if self.referred == referred and not any(issue.examples for issue in issues):
                known.keep(key, value, issues)
            else:
                known.missed()
        return value

    def drop(self, node: Node, child: Node, scope: tuple[str, ...]) -> None:
        """Tell that an item was left out for want of a required value; once, where the value is missing.

        Where all the rest is fixed values nothing is lost, and nothing told.
        """
        if child.rule is None or not any(
            _reads(other) for other in node.children if other is not child
        ):
            return
        keyword = child.rule.sources[0].keyword if child.rule.sources else ""
        severity: Severity = (
            "error" if child.rule.element.startswith("ImagingStudy.") else "warning"
        )
        self.issues.append(
            Issue(severity, "required-missing", child.rule.element, keyword, "", scope)
        )

    def resolve(self, value: Any) -> Any:
        """References in a value as they are written: literal where the resource is made."""
        kind = value.__class__
        if kind is str or value is None:
            return value
        if isinstance(value, Ref):
            return self.reference(value)
        if kind is list:
            return [one for item in value if (one := self.resolve(item)) is not None]
        if kind is dict:
            for inner in value.values():
                if inner.__class__ is not str:
                    return {key: self.resolve(inner) for key, inner in value.items()}
        return value

    def reference(self, ref: Ref) -> dict[str, Any] | None:
        """Write a reference: literal, with its resource beside it, where that is wished for and can be made."""
        wanted = self.options.companions or ref.type == "Endpoint"
        node = self.rules.resources.get(ref.type)
        logical = dict(ref.logical) if ref.type != "Endpoint" else None
        if not wanted or not ref.header or node is None:
            return logical
        self.referred += 1
        word = "".join(f"-{c.lower()}" if c.isupper() else c for c in ref.type).lstrip("-")
        key = self.rules.site.identity_key if ref.type == "Practitioner" else ""
        identity = ids.companion_id(word, ref.system, ref.value, self.study.uid, key)
        name = f"{ref.type}/{identity}"
        if name not in self.made:
            held = dict(ref.header)

            def value_of(rule: Rule, path: str) -> Any:
                if rule.transform == "subject":
                    return self.subject_of(rule)
                outcome = evaluate(self.rules, rule, tuple(held.get(tag) for tag in rule.tags))
                self.issues += outcome.issues
                agreed = Agreed(
                    outcome.value, list(outcome.issues), outcome.keyword, outcome.code_row
                )
                self.tell(rule, path, agreed, [])
                return outcome.value

            self.made[name] = False  # it may lead back to itself
            made = self.object(node, ref.type, value_of)
            if made is not None:
                self.made[name] = True
                self.companions.append(resource(ref.type, identity, made))
        if not self.made[name]:
            return logical
        return {"reference": name, **{k: v for k, v in ref.logical.items() if k != "reference"}}

    def subject_of(self, rule: Rule) -> dict[str, Any] | None:
        """Subject of a resource beside the study: a contained Patient cannot be named from there."""
        subject = self.subject
        if subject is None or (rule.targets and subject.get("type") not in rule.targets):
            return None
        if not subject.get("reference", "").startswith("#"):
            return subject
        subject = {key: value for key, value in subject.items() if key != "reference"}
        if "identifier" not in subject:
            subject["extension"] = [{"url": DATA_ABSENT, "valueCode": "unknown"}]
        return subject


def resource(resource_type: str, identity: str, body: dict[str, Any]) -> dict[str, Any]:
    """Resource with its id and narrative."""
    made: dict[str, Any] = {"resourceType": resource_type, "id": identity}
    made["text"] = narrative({**made, **body})
    return {**made, **body}


def put(found: dict[str, Any], node: Node, value: Any) -> None:
    """Set an element: one value or a list as FHIR has it, nothing but the reason where it is absent."""
    name = node.name
    if isinstance(value, Absent):
        extension: dict[str, Any] = {"extension": [{"url": DATA_ABSENT, "valueCode": value.reason}]}
        if value.part:
            extension = {value.part: extension}
        primitive = node.fhir_type[:1].islower()
        key = f"_{name}" if primitive else name
        found[key] = [extension] if node.repeats else extension
        return
    if not node.repeats:
        found[name] = value[0] if isinstance(value, list) else value
        return
    held = found.setdefault(name, [])
    for one in value if isinstance(value, list) else [value]:
        if one not in held:
            held.append(one)


def _reads(node: Node) -> bool:
    return bool(node.rule and node.rule.transform) or any(_reads(child) for child in node.children)


def _tally(members: list[Series], tags: tuple[int, ...]) -> Mapping[Key, int]:
    if len(members) == 1:
        return members[0].tally(tags)
    tally: dict[Key, int] = {}
    for series in members:
        for key, count in series.tally(tags).items():
            tally[key] = tally.get(key, 0) + count
    return tally


def _examples(members: list[Series], tags: tuple[int, ...]) -> Callable[[Key], tuple[str, ...]]:
    """Up to three instances of a key; looked up in one pass, and only where something is to be told."""
    index: dict[Key, list[str]] = {}

    def examples(key: Key) -> tuple[str, ...]:
        if not index:
            for series in members:
                for held, instance in zip(series.keys(tags), series.instances, strict=True):
                    uids = index.setdefault(held, [])
                    if len(uids) < EXAMPLES:
                        uids.append(instance.uid)
        return tuple(index.get(key, ()))

    return examples
