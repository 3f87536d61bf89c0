"""What holds whatever stands in a header: the input of hospitals, and of people who mean harm."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from converter.core.dictionary import tag_of, vr_of
from converter.core.engine import Options, convert
from converter.core.header import Header, pack_items
from converter.core.reasons import REASONS
from converter.core.study import assemble, pack, pack_block, unpack_block
from converter.fhir.primitives import TESTS
from tests.core.making import STUDY, empty_places, shipped_rules, structure, with_site

SITE = {
    "timezone": "Europe/London",
    "keep_fractions": True,
    "patient": {
        "system": "https://s.example/mrn",
        "subject": "Device",
        "issuers": {"NHS": {"system": "https://fhir.nhs.uk/Id/nhs-number", "check": "nhs-number"}},
    },
    "accession": {"assigner_system": "urn:x:y", "assigner_value": "1"},
    "encounter": {
        "missing": "data-absent-reason",
        "status": "finished",
        "encounter_class": {"system": "urn:x:class", "code": "IMP"},
    },
    "endpoint": {"viewer": "https://v.example/{StudyInstanceUID}"},
}
RULES = shipped_rules("r4", "uk-core", "ips")
CONFIGURED = with_site(RULES, **SITE)
SETS = {"plain": RULES, "configured": CONFIGURED}
"""By name: a rule set is too large to be printed with a failure."""

TYPICAL: Mapping[str, list[bytes]] = {
    "CS": [b"CT", b"SR", b"L", b"YES", b"ORIGINAL\\PRIMARY", b"CHEST", b"M", b"ISO_IR 100"],
    "DA": [b"20240312", b"1960", b"2024.03.12", b"20241399", b"20240331"],
    "TM": [b"1015", b"101500.25", b"013000", b"25", b"10:15:00"],
    "UI": [b"1.2.840.10008.5.1.4.1.1.2", b"1.2.3\0", b"1.02.3", b"x"],
    "IS": [b"1", b"-1", b"99999999999", b"1.5"],
    "PN": [b"Adams^Ann", b"A=B=C", b"^^", b"\x1b$B;3ED\x1b(B^x", b"A\\B"],
    "SH": [b"T-D3000", b"SRT", b"SCT", b"LN", b"DCM", b"17", b"-0500", b"+9900"],
    "LO": [b"NHS", b"9434765919", b"H\xf6he", b"a\\b", b" "],
    "UC": [b"12345678901234567890"],
    "UR": [b"https://p.example/rs/studies/1", b"urn:oid:1.2.3", b"<x>"],
    "UT": [b"1.2.840.99999.77", b"line\nline", b"urn:x:y"],
}
"""Values that lead further in than noise does, by VR."""


PATIENT_KEYS = ("PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence")


def values(vr: str) -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.sampled_from(TYPICAL.get(vr, [b"1"])),
        st.binary(max_size=12),
        st.sampled_from([b"", b"  ", b"\0", b"\\\\", b"\x1b$)C\xff", b"<script>&\"'"]),
    )


def attribute(tag: int, inner: Mapping[int, object] | None) -> st.SearchStrategy[bytes]:
    if vr_of(tag) != "SQ":
        return values(vr_of(tag))
    item = headers(inner or {}, least=0)
    return st.lists(item, max_size=2).map(pack_items)


def headers(wanted: Mapping[int, object], least: int) -> st.SearchStrategy[Header]:
    """A few of the wanted attributes with arbitrary bytes."""
    one = st.sampled_from(sorted(wanted)).flatmap(
        lambda tag: st.tuples(st.just(tag), attribute(tag, wanted[tag]))
    )
    return st.lists(one, min_size=least, max_size=9).map(dict)


def studies() -> st.SearchStrategy[list[tuple[str, str, Header]]]:
    row = st.tuples(
        st.sampled_from(["1.2.1", "1.2.2"]),
        st.sampled_from(["1.3.1", "1.3.2", "1.3.3"]),
        headers(RULES.wanted, least=1),
    )
    return st.lists(row, min_size=1, max_size=4)


def built(rows):
    """One block an instance, UIDs as the reader leaves them: checked."""
    made = []
    for number, (series, sop, header) in enumerate(rows):
        whole = {
            **header,
            tag_of("StudyInstanceUID"): STUDY.encode(),
            tag_of("SeriesInstanceUID"): series.encode(),
            tag_of("SOPInstanceUID"): sop.encode(),
            tag_of("SOPClassUID"): b"1.2.840.10008.5.1.4.1.1.2",
        }
        for keyword in PATIENT_KEYS if number else ():
            whole.pop(tag_of(keyword), None)  # else most studies would end as a conflict
        made.append(pack(STUDY, series, [(sop, whole, f"f{number}", ["truncated"])]))
    return made


OPTIONS = st.builds(
    Options,
    patient=st.sampled_from(["resource", "reference", "logical", "contained"]),
    companions=st.booleans(),
    instances=st.sampled_from(["all", "none", 1]),
)
QUIET = settings(
    deadline=None,
    max_examples=80,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def primitives(type_name, value, path=""):
    """Each primitive of a resource with its FHIR type; what R4 does not define fails."""
    definition = structure().types[type_name]
    for name, inner in value.items():
        if name == "resourceType":
            continue
        element = definition.elements.get(name.removeprefix("_"))
        assert element is not None, f"{path}.{name}"
        kind = structure().types.get(element.type)
        for one in inner if element.max != 1 else [inner]:
            if name.startswith("_") or kind is None:
                continue
            if kind.kind == "primitive":
                yield element.type, one, f"{path}.{name}"
            elif element.type not in {"Resource", "Narrative"}:
                yield from primitives(element.type, one, f"{path}.{name}")


@QUIET
@given(studies(), OPTIONS, st.sampled_from(sorted(SETS)))
def test_arbitrary_bytes_convert_to_valid_elements_and_known_findings(rows, options, name):
    made = convert(assemble(STUDY, built(rows)), SETS[name], options)
    assert {issue.code for issue in made.issues} <= set(REASONS)
    assert made.state in {"converted", "conflict"}
    resources = [made.resource, *made.companions] if made.resource else []
    for resource in resources:
        orjson.dumps(resource)
        assert empty_places(resource) == []
        for type_name, value, path in primitives(resource["resourceType"], resource):
            assert TESTS[type_name](value) is None, (type_name, path, value)


@QUIET
@given(studies(), OPTIONS, st.randoms(use_true_random=False))
def test_neither_the_order_of_blocks_nor_how_they_were_cut_changes_the_output(
    rows, options, random
):
    blocks = built(rows)
    one = convert(assemble(STUDY, blocks), CONFIGURED, options)
    random.shuffle(blocks)
    turned = [unpack_block(pack_block(block)) for block in blocks]
    other = convert(assemble(STUDY, turned), with_site(RULES, **SITE), options)
    assert one == other
    if one.resource:
        assert orjson.dumps(one.resource) == orjson.dumps(other.resource)
    assert orjson.dumps(one.companions) == orjson.dumps(other.companions)


def test_a_series_in_one_block_converts_as_in_many():
    headers_ = [
        {tag_of("StudyDescription"): text, tag_of("Modality"): b"CT"} for text in (b"a", b"b")
    ]
    rows = [(f"1.3.{i}", header, f"f{i}", []) for i, header in enumerate(headers_)]
    together = assemble(STUDY, [pack(STUDY, "1.2.1", rows)])
    apart = assemble(STUDY, [pack(STUDY, "1.2.1", [row]) for row in rows])
    assert convert(together, RULES) == convert(apart, RULES)


SECRET = "Zq7"
"""Stands in no keyword, code or message of ours."""


@pytest.mark.parametrize("rules", [RULES, CONFIGURED], ids=["plain", "configured"])
@pytest.mark.parametrize("valid", [True, False])
def test_no_finding_holds_a_value_of_a_header(rules, valid):
    def filled(wanted, depth=0):
        return {
            tag: pack_items([filled(inner, depth + 1)])
            if vr_of(tag) == "SQ"
            else (SECRET if valid else f"\x01{SECRET}\xff{SECRET}").encode("latin_1")
            for tag, inner in wanted.items()
            if tag != tag_of("SpecificCharacterSet")
        }

    header = filled(rules.wanted)
    rows = [("1.2.1", f"1.3.{n}", header) for n in range(2)]
    for mode in ("resource", "contained"):
        options = Options(patient=mode, companions=True)
        made = convert(assemble(STUDY, built(rows)), rules, options)
        assert made.issues
        assert SECRET not in repr(made.issues)


def test_the_same_instances_again_change_nothing():
    rows = [("1.2.1", "1.3.1", {tag_of("StudyDescription"): b"a"})]
    once = convert(assemble(STUDY, built(rows)), RULES)
    twice = convert(assemble(STUDY, built(rows) * 2), RULES)
    assert once == twice
