"""FHIR elements from rules: agreement over instances, trees, references, what explains them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson

from converter.core import ids
from converter.core.conversion import Explanation, Options, Trace
from converter.core.evaluate import Agreed, Key, agree, evaluate, plain
from converter.core.issues import Issue
from converter.core.narrative import narrative
from converter.core.rules import Node, Rule, RuleSet
from converter.core.study import Series, Study
from converter.core.transforms import TRANSFORMS, Absent, Ref

__all__ = ["DATA_ABSENT", "Builder", "put", "resource"]

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
        self.subject: dict[str, Any] | None = None
        self.made: set[str] = set()

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
            tally: Counter[Key] = Counter()
            for series in members:
                tally.update(series.tally(rule.tags))
            agreed = agree(self.rules, rule, tally, lambda key: _examples(members, rule.tags, key))
        self.issues += agreed.issues
        self.tell(rule, path, agreed, members)
        return agreed.value

    def tell(self, rule: Rule, path: str, agreed: Agreed, members: list[Series]) -> None:
        """Explain one element to whoever asked for it."""
        if self.trace is None:
            return
        holder = next(
            (
                instance.row.source
                for series in members
                for instance in series.instances
                if agreed.key and tuple(instance.get(tag) for tag in rule.tags) == agreed.key
            ),
            "",
        )
        keywords = tuple(s.keyword for s in (*rule.sources, *rule.others)) or tuple(
            TRANSFORMS[rule.transform].also if rule.transform else ()
        )
        if agreed.value is not None and agreed.keyword:
            keywords = (agreed.keyword, *(s.keyword for s in rule.others))
        self.trace(
            Explanation(
                path,
                _shown(agreed.value),
                f"{rule.origin}: {rule.path}",
                tuple(dict.fromkeys(keywords)),
                holder if agreed.value is not None else "",
                agreed.code_row,
                "" if agreed.value is not None else _why(agreed.issues, keywords),
            )
        )

    # -- trees ---------------------------------------------------------------------------------

    def object(
        self, node: Node, path: str, value_of: Callable[[Rule, str], Any]
    ) -> dict[str, Any] | None:
        """Fill an element that is made of child rules; nothing where a required child has no value."""
        found: dict[str, Any] = {}
        for child in node.children:
            child_path = f"{path}.{child.name}"
            value = (
                value_of(child.rule, child_path)
                if child.rule
                else self.object(child, child_path, value_of)
            )
            value = self.resolve(value)
            if value is None or value == []:
                if child.required:
                    return None
                continue
            put(found, child, value)
        return found or None

    def resolve(self, value: Any) -> Any:
        """References in a value as they are written: literal where the resource is made."""
        if isinstance(value, Ref):
            return self.reference(value)
        if isinstance(value, list):
            return [one for item in value if (one := self.resolve(item)) is not None]
        if isinstance(value, dict) and any(
            isinstance(inner, Ref | dict | list) for inner in value.values()
        ):
            return {key: self.resolve(inner) for key, inner in value.items()}
        return value

    def reference(self, ref: Ref) -> dict[str, Any] | None:
        """Write a reference: literal, with its resource beside it, where that is wished for and can be made."""
        wanted = self.options.companions or ref.type == "Endpoint"
        node = self.rules.resources.get(ref.type)
        if not wanted or not ref.header or node is None:
            return dict(ref.logical) if ref.type != "Endpoint" else None
        word = "".join(f"-{c.lower()}" if c.isupper() else c for c in ref.type).lstrip("-")
        key = self.rules.site.identity_key if ref.type == "Practitioner" else ""
        identity = ids.companion_id(word, ref.system, ref.value, self.study.uid, key)
        name = f"{ref.type}/{identity}"
        if name not in self.made:
            self.made.add(name)
            held = dict(ref.header)

            def value_of(rule: Rule, path: str) -> Any:
                if rule.transform == "subject":
                    return self.subject
                outcome = evaluate(self.rules, rule, tuple(held.get(tag) for tag in rule.tags))
                self.issues += outcome.issues
                agreed = Agreed(
                    outcome.value, list(outcome.issues), outcome.keyword, outcome.code_row
                )
                self.tell(rule, path, agreed, [])
                return outcome.value

            made = self.object(node, ref.type, value_of)
            if made is None:
                return dict(ref.logical)
            self.companions.append(resource(ref.type, identity, made))
        return {"reference": name, **{k: v for k, v in ref.logical.items() if k != "reference"}}


def resource(resource_type: str, identity: str, body: dict[str, Any]) -> dict[str, Any]:
    """Resource with its id and narrative."""
    made: dict[str, Any] = {"resourceType": resource_type, "id": identity}
    made["text"] = narrative({**made, **body})
    return {**made, **body}


def put(found: dict[str, Any], node: Node, value: Any) -> None:
    """Set an element: one value or a list as FHIR has it, nothing but the reason where it is absent."""
    name = node.name
    if isinstance(value, Absent):
        extension = {"extension": [{"url": DATA_ABSENT, "valueCode": value.reason}]}
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


def _examples(members: list[Series], tags: tuple[int, ...], key: Key) -> tuple[str, ...]:
    found: list[str] = []
    for series in members:
        for instance in series.instances:
            if tuple(instance.get(tag) for tag in tags) == key:
                found.append(instance.uid)
                if len(found) == 3:
                    return tuple(found)
    return tuple(found)


def _why(issues: list[Issue], keywords: tuple[str, ...]) -> str:
    if issues:
        return ", ".join(dict.fromkeys(issue.code for issue in issues))
    return f"no value in {', '.join(keywords)}" if keywords else "nothing to make it of"


def _shown(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return orjson.dumps(value, default=plain, option=orjson.OPT_PASSTHROUGH_DATACLASS).decode()
