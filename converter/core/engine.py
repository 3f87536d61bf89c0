"""A study to FHIR: the rules over its instances, an ImagingStudy and the resources beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from converter.core import ids
from converter.core.dictionary import tag_of
from converter.core.evaluate import Agreed, Key, agree, evaluate
from converter.core.issues import Issue, gather
from converter.core.narrative import narrative
from converter.core.patient import conflict
from converter.core.rules import Node, Rule, RuleSet
from converter.core.study import Instance, Series, Study
from converter.core.transforms import TRANSFORMS, Absent, Ref

__all__ = ["Conversion", "Explanation", "Options", "convert"]

DATA_ABSENT = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
LAST = 2**31
"""Sorts what has no number behind what has one."""

NOTICES = (
    ("PatientIdentityRemoved", "YES", "de-identified", "ImagingStudy"),
    ("QualityControlImage", "YES", "quality-control", "ImagingStudy.subject"),
)
"""Attributes whose value is worth a finding: keyword, value, code, path."""
GROUP = "GroupOfPatientsIdentificationSequence"


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller may choose about the resources."""

    patient: Literal["resource", "reference", "logical", "contained"] = "resource"
    companions: bool = False
    instances: Literal["all", "none"] | int = "all"


@dataclass(slots=True)
class Conversion:
    """What became of one study."""

    study_uid: str
    state: Literal["converted", "conflict"]
    resource: dict[str, Any] | None = None
    """The ImagingStudy, without ``meta.profile``."""
    companions: list[dict[str, Any]] = field(default_factory=list)
    """What the study says of resources that it may share with others."""
    issues: list[Issue] = field(default_factory=list)
    dropped: tuple[str, ...] = ()
    """Elements that an option left out although the study has them."""
    series: int = 0
    instances: int = 0


@dataclass(frozen=True, slots=True)
class Explanation:
    """How one element came about, or why it did not."""

    path: str
    value: Any
    rule: str
    """File and key path."""
    keywords: tuple[str, ...]
    source: str
    """Input that the value came from."""
    code_row: str
    reason: str
    """Why there is no value; empty where there is one."""


Trace = Callable[[Explanation], None]


class _Builder:
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
                agreed.value,
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
            _put(found, child, value)
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
            self.companions.append(_resource(ref.type, identity, made))
        return {"reference": name, **{k: v for k, v in ref.logical.items() if k != "reference"}}

    # -- the subject ---------------------------------------------------------------------------

    def patient(self) -> dict[str, Any]:
        """Make the Patient and the reference to it (``subject``)."""
        node = self.rules.resources.get("Patient")
        main: dict[str, Any] | None = None

        def value_of(rule: Rule, path: str) -> Any:
            nonlocal main
            value = self.over(rule, self.study.series, path)
            if rule.transform == "patientIdentifier":
                main = value
            return value

        body = (self.object(node, "Patient", value_of) if node else None) or {}
        system = (main or {}).get("system", "")
        number = (main or {}).get("value", "")
        if self.is_device():
            identity = ids.companion_id("device", system, number or "subject", self.study.uid)
            device = {"identifier": body.get("identifier", [])}
            names = [name["text"] for name in body.get("name", []) if "text" in name]
            device["deviceName"] = [
                {"name": name, "type": "user-friendly-name"} for name in names[:1]
            ]
            device = {key: value for key, value in device.items() if value}
            self.companions.append(_resource("Device", identity, device))
            return {"reference": f"Device/{identity}", "type": "Device"}
        identity = ids.patient_id(system, number, self.study.uid, self.rules.site.identity_key)
        if not (system and number):
            self.issues.append(
                Issue(
                    "information",
                    "patient-scoped-to-study",
                    "ImagingStudy.subject",
                    "PatientID",
                    "No identifier with a system: this Patient belongs to this study alone.",
                )
            )
        subject: dict[str, Any] = {"type": "Patient"}
        if main and (system or self.options.patient == "logical"):
            subject["identifier"] = main
        if self.options.patient == "contained":
            self.contained.append({"resourceType": "Patient", "id": "patient", **body})
            return {"reference": "#patient", **subject}
        if self.options.patient == "logical":
            if "identifier" not in subject:
                subject["extension"] = [{"url": DATA_ABSENT, "valueCode": "unknown"}]
            return subject
        if self.options.patient == "resource":
            self.companions.append(_resource("Patient", identity, body))
        return {"reference": f"Patient/{identity}", **subject}

    def is_device(self) -> bool:
        if self.rules.site.patient.subject != "Device":
            return False
        tag = tag_of("QualityControlImage") or 0
        found = {key[0] for series in self.study.series for key in series.tally((tag,))}
        return {(value or b"").strip(b" \0") for value in found} == {b"YES"}

    # -- the study -----------------------------------------------------------------------------

    def study_resource(self) -> dict[str, Any] | None:
        root = self.rules.resources["ImagingStudy"]
        series_node = next((c for c in root.children if c.name == "series" and not c.rule), None)
        listed = [self.series(series_node, one) for one in self.study.series] if series_node else []
        series = sorted(
            (one for one in listed if one), key=lambda one: (one.get("number", LAST), one["uid"])
        )
        total = self.study.count
        self.subject = self.patient()

        def value_of(rule: Rule, path: str) -> Any:
            if rule.transform == "subject":
                return self.subject
            if rule.transform == "numberOfSeries":
                return len(series)
            if rule.transform == "numberOfInstances":
                return total
            if rule.transform == "acquisitionModalities":
                return self.modalities(series) or None
            return self.over(rule, self.study.series, path)

        tree = Node(
            root.name,
            root.path,
            root.fhir_type,
            repeats=False,
            children=tuple(child for child in root.children if child is not series_node),
        )
        body = self.object(tree, "ImagingStudy", value_of)
        if body is None:
            return None
        if series:
            body["series"] = series
        if self.contained:
            body = {"contained": self.contained, **body}
        return _resource("ImagingStudy", ids.study_id(self.study.uid), body)

    def modalities(self, series: list[dict[str, Any]]) -> list[dict[str, Any]]:
        table = self.rules.tables["modality"].rows
        found: dict[str, dict[str, Any]] = {}
        for one in series:
            coding = one.get("modality") or {}
            row = table.get(coding.get("code", ""))
            if row is not None and row["acquisition"] == "yes":
                found.setdefault(coding["code"], coding)
        return list(found.values())

    def series(self, node: Node, series: Series) -> dict[str, Any] | None:
        path = (
            f"ImagingStudy.series.where(uid='{series.uid}')"
            if self.trace
            else "ImagingStudy.series"
        )
        instance_node = next(
            (c for c in node.children if c.name == "instance" and not c.rule), None
        )

        def value_of(rule: Rule, path: str) -> Any:
            if rule.transform == "numberOfInstances":
                return len(series.instances)
            return self.over(rule, [series], path)

        tree = Node(
            node.name,
            node.path,
            node.fhir_type,
            repeats=True,
            children=tuple(child for child in node.children if child is not instance_node),
        )
        found = self.object(tree, path, value_of)
        if found is None:
            self.issues.append(
                Issue("error", "required-missing", "ImagingStudy.series", "", "", (series.uid,))
            )
            return None
        if instance_node is not None and self.lists_instances():
            instances = self.instances(instance_node, series, path)
            if instances:
                found["instance"] = instances
        return found

    def lists_instances(self) -> bool:
        limit = self.options.instances
        return limit == "all" or (isinstance(limit, int) and self.study.count <= limit)

    def instances(self, node: Node, series: Series, path: str) -> list[dict[str, Any]]:
        leaves = [child for child in node.children if child.rule]
        if len(leaves) != len(node.children):
            return self.instances_by_tree(node, series, path)
        columns = [series.keys(child.rule.tags) for child in leaves if child.rule]
        found: list[dict[str, Any]] = []
        rules, issues = self.rules, self.issues
        for index, instance in enumerate(series.instances):
            one: dict[str, Any] = {}
            for child, keys in zip(leaves, columns, strict=True):
                rule = child.rule
                assert rule is not None
                outcome = evaluate(rules, rule, keys[index])
                if outcome.issues:
                    issues += [_at(issue, instance) for issue in outcome.issues]
                if self.trace is not None:
                    agreed = Agreed(
                        outcome.value,
                        list(outcome.issues),
                        outcome.keyword,
                        outcome.code_row,
                        keys[index],
                    )
                    where = f"{path}.instance.where(uid='{instance.uid}').{child.name}"
                    self.tell(rule, where, agreed, [Series(series.uid, [instance])])
                value = outcome.value
                if value is None:
                    if child.required:
                        issues.append(_missing(rule, instance))
                        one = {}
                        break
                    continue
                if child.repeats or isinstance(value, Absent | Ref | list):
                    _put(one, child, self.resolve(value))
                else:
                    one[child.name] = value
            if one:
                found.append(one)
        found.sort(key=lambda one: (one.get("number", LAST), one["uid"]))
        return found

    def instances_by_tree(self, node: Node, series: Series, path: str) -> list[dict[str, Any]]:
        found = []
        for instance in series.instances:
            single = Series(series.uid, [instance])

            def value_of(rule: Rule, path: str, single: Series = single) -> Any:
                return self.over(rule, [single], path)

            one = self.object(node, f"{path}.instance.where(uid='{instance.uid}')", value_of)
            if one:
                found.append(one)
        found.sort(key=lambda one: (one.get("number", LAST), one["uid"]))
        return found

    def notices(self) -> None:
        for keyword, expected, code, path in NOTICES:
            tag = tag_of(keyword) or 0
            count = sum(
                number
                for series in self.study.series
                for (value,), number in series.tally((tag,)).items()
                if value and value.strip(b" \0") == expected.encode()
            )
            if count:
                self.issues.append(Issue("information", code, path, keyword, "", (), count))
        tag = tag_of(GROUP) or 0
        grouped = sum(
            number
            for series in self.study.series
            for (value,), number in series.tally((tag,)).items()
            if value and value != b"\x90"
        )
        if grouped:
            self.issues.append(
                Issue(
                    "information",
                    "group-of-subjects",
                    "ImagingStudy.subject",
                    GROUP,
                    "",
                    (),
                    grouped,
                )
            )
        for series in self.study.series:
            for instance in series.instances:
                for code in instance.row.findings:
                    self.issues.append(Issue("warning", code, "", "", "", (instance.uid,)))


def _resource(resource_type: str, identity: str, body: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"resourceType": resource_type, "id": identity}
    made["text"] = narrative({**made, **body})
    return {**made, **body}


def _put(found: dict[str, Any], node: Node, value: Any) -> None:
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


def _at(issue: Issue, instance: Instance) -> Issue:
    return Issue(
        issue.severity, issue.code, issue.path, issue.keyword, issue.message, (instance.uid,)
    )


def _missing(rule: Rule, instance: Instance) -> Issue:
    keyword = rule.sources[0].keyword if rule.sources else ""
    return Issue("error", "required-missing", rule.element, keyword, "", (instance.uid,))


def _why(issues: list[Issue], keywords: tuple[str, ...]) -> str:
    if issues:
        return ", ".join(dict.fromkeys(issue.code for issue in issues))
    return f"no value in {', '.join(keywords)}" if keywords else "nothing to make it of"


def convert(
    study: Study, rules: RuleSet, options: Options | None = None, trace: Trace | None = None
) -> Conversion:
    """Convert one study.

    Parameters
    ----------
    study : Study
        Assembled, at least one instance.
    rules : RuleSet
    options : Options, optional
    trace : callable, optional
        Told of every element that a rule made or did not make.

    Returns
    -------
    Conversion
        In state ``conflict``, without resources, where the study holds two patients.
    """
    options = options or Options()
    held = conflict(study)
    if held is not None:
        return Conversion(
            study.uid,
            "conflict",
            issues=gather([*study.issues, held]),
            series=len(study.series),
            instances=study.count,
        )
    builder = _Builder(study, rules, options, trace)
    resource = builder.study_resource()
    builder.notices()
    dropped: tuple[str, ...] = ()
    if not builder.lists_instances():
        dropped = ("ImagingStudy.series.instance",)
        builder.issues.append(
            Issue(
                "warning",
                "instances-not-listed",
                "ImagingStudy.series.instance",
                "SOPInstanceUID",
                "An option left the instance lists out; IPS and UK Core are not claimed.",
                (),
                study.count,
            )
        )
    return Conversion(
        study.uid,
        "converted",
        resource,
        builder.companions,
        gather([*study.issues, *builder.issues]),
        dropped,
        len(study.series),
        study.count,
    )
