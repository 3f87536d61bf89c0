"""A study to FHIR: the rules over its instances, an ImagingStudy and the resources beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from converter.core import ids
from converter.core.builder import DATA_ABSENT, Builder, put, resource
from converter.core.columns import PLAIN, Column, plain_rows
from converter.core.companions import alone
from converter.core.conversion import Conversion, Explanation, Options, Trace
from converter.core.dictionary import tag_of
from converter.core.evaluate import Agreed, Outcome, evaluate
from converter.core.header import SOP_INSTANCE_UID
from converter.core.issues import Issue, gather
from converter.core.notices import notices
from converter.core.patient import conflict
from converter.core.rejection import reject, withdrawn
from converter.core.rules import Node, Rule, RuleSet
from converter.core.study import Instance, Series, Study
from converter.core.telling import asked_for, held_back, left_out
from converter.core.transforms import Absent, Ref

__all__ = ["Conversion", "Explanation", "Options", "convert", "explain"]

_OWN_UID = [(SOP_INSTANCE_UID,)]
LAST = 2**31
"""Sorts what has no number behind what has one."""
IN_DOUBT = ("values-differ", "ImagingStudy.series.laterality")
"""Finding and element of a side that was left out as instances contradict each other."""


class _StudyBuilder(Builder):
    # -- the subject ---------------------------------------------------------------------------

    def patient(self) -> dict[str, Any]:
        """Make the Patient and the reference to it (``subject``)."""
        node = self.rules.resources.get("Patient")
        main: dict[str, Any] | None = None

        def value_of(rule: Rule, path: str) -> Any:
            nonlocal main
            value = self.over(rule, self.study.series, path)
            if rule.transform == "patientIdentifier":
                main = main or value
            return value

        made = self.object(node, "Patient", value_of, (), self.only) if node else None
        body = made or {}
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
            self.companions.append(resource("Device", identity, device))
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
        if main:
            # without a system it is no key, and still tells two patients of one study apart
            subject["identifier"] = main
        if self.options.patient == "contained":
            self.contained.append({"resourceType": "Patient", "id": "patient", **body})
            return {"reference": "#patient", **subject}
        if self.options.patient == "logical":
            if "identifier" not in subject:
                subject["extension"] = [{"url": DATA_ABSENT, "valueCode": "unknown"}]
            return subject
        if self.options.patient == "resource":
            self.companions.append(resource("Patient", identity, body))
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
            (one for one in listed if one),
            key=lambda one: (one.get("number", LAST), one.get("uid", "")),
        )
        self.subject = self.patient()

        made = {
            "subject": self.subject,
            "numberOfSeries": len(series),
            "numberOfInstances": self.study.count,
            "acquisitionModalities": self.modalities(series) or None,
        }

        def value_of(rule: Rule, path: str) -> Any:
            if rule.transform in made:
                value = made[rule.transform]
                self.tell(rule, path, Agreed(value, []), [], self.parts(rule.transform, value))
                return made[rule.transform]
            return self.over(rule, self.study.series, path)

        tree = self.without(root, series_node)
        body = self.object(tree, "ImagingStudy", value_of, (self.study.uid,), self.only)
        if body is None:
            return None
        if series:
            body["series"] = series
        if self.contained:
            body = {"contained": self.contained, **body}
        return resource("ImagingStudy", ids.study_id(self.study.uid), body)

    def parts(self, transform: str, value: Any) -> list[Explanation]:
        """What was told of that which the engine made an element of the study of."""
        if transform == "subject":
            told = [one for rule, one in self.told if rule.transform == "patientIdentifier"]
            return [one for one in told if one.value] or told
        if transform != "acquisitionModalities":
            return []
        told = [one for rule, one in self.told if rule.element == "ImagingStudy.series.modality"]
        codes = [f'"{coding["code"]}"' for coding in value or ()]
        return [one for one in told if any(code in one.value for code in codes)] or told

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
                self.tell(rule, path, Agreed(len(series.instances), []), [])
                return len(series.instances)
            return self.over(rule, [series], path)

        tree = self.without(node, instance_node)
        said = len(self.issues)
        found = self.object(tree, path, value_of, (series.uid,), self.only)
        if found is None:
            return None
        if any((one.code, one.path) == IN_DOUBT for one in self.issues[said:]):
            self.retracted.append(f"{series.uid}:laterality")
        if instance_node is not None and self.lists_instances():
            instances = self.instances(instance_node, series, path)
            if instances:
                found["instance"] = instances
        return found

    def without(self, node: Node, child: Node | None) -> Node:
        """Give a node without one of its children; the same each time."""
        memo = self.rules.memo.setdefault(" without", {})
        found: Node | None = memo.get(node.path)
        if found is None:
            children = tuple(one for one in node.children if one is not child)
            found = memo[node.path] = replace(node, children=children)
        return found

    def lists_instances(self) -> bool:
        limit = self.options.instances
        return limit == "all" or (isinstance(limit, int) and self.study.count <= limit)

    def instances(self, node: Node, series: Series, path: str) -> list[dict[str, Any]]:
        leaves = [child for child in node.children if child.rule]
        if len(leaves) != len(node.children):
            return self.instances_by_tree(node, series, path)
        if self.trace is None:
            return self.rows(leaves, series)
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
                    put(one, child, self.resolve(value))
                else:
                    one[child.name] = value
            if one:
                found.append(one)
        found.sort(key=_in_series)
        return found

    def rows(self, leaves: list[Node], series: Series) -> list[dict[str, Any]]:
        """As `instances`, with nobody to explain it to: each key of a rule is looked at once."""
        columns = [self.column(child, series) for child in leaves]
        found = plain_rows(leaves, columns)
        if found is not None:
            found.sort(key=_in_series)
            return found
        found = []
        for index, instance in enumerate(series.instances):
            one: dict[str, Any] = {}
            for child, (keys, outcomes) in zip(leaves, columns, strict=True):
                outcome = outcomes[keys[index]] if outcomes is not None else Outcome(keys[index])
                rule = child.rule
                assert rule is not None
                if outcome.issues:
                    self.issues += [_at(issue, instance) for issue in outcome.issues]
                value = outcome.value
                if value is None:
                    if child.required:
                        self.issues.append(_missing(rule, instance))
                        one = {}
                        break
                elif child.repeats or value.__class__ not in PLAIN:
                    put(one, child, self.resolve(value))
                else:
                    one[child.name] = value
            if one:
                found.append(one)
        found.sort(key=_in_series)
        return found

    def column(self, child: Node, series: Series) -> Column:
        """What a rule yields for each instance of a series."""
        rule = child.rule
        assert rule is not None
        if rule.transform == "uid" and not rule.when and [s.tags for s in rule.sources] == _OWN_UID:
            # checked when it was read
            return Column([instance.uid for instance in series.instances])
        keys = series.keys(rule.tags)
        return Column(keys, {key: evaluate(self.rules, rule, key) for key in dict.fromkeys(keys)})

    def instances_by_tree(self, node: Node, series: Series, path: str) -> list[dict[str, Any]]:
        found = []
        for instance in series.instances:
            single = Series(series.uid, [instance])

            def value_of(rule: Rule, path: str, single: Series = single) -> Any:
                return self.over(rule, [single], path)

            where = f"{path}.instance.where(uid='{instance.uid}')"
            one = self.object(node, where, value_of, (instance.uid,))
            if one:
                found.append(one)
        found.sort(key=_in_series)
        return found


def _in_series(one: dict[str, Any]) -> tuple[int, str]:
    return one.get("number", LAST), one.get("uid", "")


def _at(issue: Issue, instance: Instance) -> Issue:
    return Issue(
        issue.severity, issue.code, issue.path, issue.keyword, issue.message, (instance.uid,)
    )


def _missing(rule: Rule, instance: Instance) -> Issue:
    keyword = rule.sources[0].keyword if rule.sources else ""
    return Issue("error", "required-missing", rule.element, keyword, "", (instance.uid,))


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
        In state ``conflict``, without resources, where the study holds two patients; in state ``failed``
        where a rule of the resource itself is ``required`` and yields nothing.
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
    rejections = reject(study, rules.site.rejection_notes)
    study = rejections.live if rejections.live.series else study
    builder = _StudyBuilder(study, rules, options, trace)
    resource = builder.study_resource()
    if study is not rejections.live:
        return withdrawn(rejections, resource, [alone(one) for one in builder.companions])
    builder.issues += notices(study)
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
        "failed" if resource is None else "converted",
        resource,
        [alone(companion) for companion in builder.companions],
        gather([*study.issues, *rejections.issues, *builder.issues]),
        dropped,
        len(study.series),
        study.count,
        (*rejections.tombstones, *builder.retracted),
    )


def explain(study: Study, rules: RuleSet, options: Options | None = None) -> list[Explanation]:
    """Tell for every element that has a rule how it came about, or why it did not.

    Elements that a profile makes us populate and that are not made stand at the end, saying so. Of a study in
    conflict only that is told, with the files that differ.
    """
    found: list[Explanation] = []
    conversion = convert(study, rules, options, found.append)
    if conversion.state == "conflict":
        held = next(one for one in conversion.issues if one.code == "patient-conflict")
        return held_back(study, held)
    found += left_out(study, reject(study, rules.site.rejection_notes))
    return found + asked_for(found, rules.profiles)
