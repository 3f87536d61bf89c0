"""Transforms to Coding and CodeableConcept: code sequences (PS3.3 section 8.8) and defined terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converter.core import systems, values
from converter.core.transforms.base import Absent, Call, View, transform

if TYPE_CHECKING:
    from converter.core.rules import Source
    from converter.core.tables import Row

__all__ = ["CODE_ITEM", "coded", "concept"]

DCM = "http://dicom.nema.org/resources/ontology/DCM"
SCT = "http://snomed.info/sct"
LOINC = "http://loinc.org"
URIS = "urn:ietf:rfc:3986"

CODE_ITEM: dict[str, Any] = {
    "CodeValue": None,
    "LongCodeValue": None,
    "URNCodeValue": None,
    "CodingSchemeDesignator": None,
    "CodingSchemeVersion": None,
    "CodeMeaning": None,
}
"""What is read of the Code Sequence Macro, PS3.3 Table 8.8-1."""

SCHEMES = ("CodingSchemeIdentificationSequence",)

NOT_BODY_STRUCTURES = frozenset({"706342009"})
"""SCT codes of Table L-1 that are physical objects (PHANTOM), no body structures."""

RETIRED_SNOMED = frozenset({"SRT", "SNM3", "99SDM"})


def _code_value(item: View) -> str:
    return item.whole("CodeValue") or item.whole("LongCodeValue") or item.whole("URNCodeValue")


def _scheme_uri(call: Call, designator: str) -> str:
    """System of a coding scheme designator: the site's, the shipped table's, the object's own."""
    configured = call.site.coding_schemes.get(designator)
    if configured:
        return configured
    row = call.row(designator, "coding-schemes")
    if row is not None:
        return row["system"]
    for scheme in call.top.items("CodingSchemeIdentificationSequence"):
        if not designator or scheme.whole("CodingSchemeDesignator") != designator:
            continue
        for resource in (*scheme.items("CodingSchemeResourcesSequence"), scheme):
            # URLs of other types lead to documents about the scheme, they do not name it
            url = resource.whole("CodingSchemeURL")
            if resource.whole("CodingSchemeURLType") in {"", "FHIR"} and systems.is_uri(url):
                return url
        raw = scheme.raw("CodingSchemeUID")
        found = values.uid(raw) if raw else None
        if found and systems.is_system_oid(found):
            return f"urn:oid:{found}"
    return ""


def coded(call: Call, item: View) -> dict[str, Any] | None:
    """Coding of one code item, or ``None`` where no system can be told.

    SNOMED RT codes (SRT) become SNOMED CT ones. A designator without a known system never becomes a
    ``system``: the meaning stays as text, with a finding.
    """
    value = _code_value(item)
    designator = item.whole("CodingSchemeDesignator")
    if not value:
        return None
    if not designator and value == item.whole("URNCodeValue") and systems.is_uri(value):
        # a URN needs no scheme (PS3.3 Table 8.8-1); FHIR's system of all URIs is urn:ietf:rfc:3986
        return {"system": URIS, "code": value, **_display(call, item, URIS, value)}
    if not systems.is_code(value):
        call.issue("value-malformed", f"{call.keyword}.CodeValue")
        return None
    if designator in RETIRED_SNOMED:
        row = call.row(value, "srt-to-sct")
        if row is None:
            call.issue("code-unknown", f"{call.keyword}.CodeValue")
            return None
        return {"system": SCT, "code": row["code"], **_display(call, item, SCT, row["code"])}
    system = _scheme_uri(call, designator)
    if not system:
        call.issue("coding-scheme-unknown", f"{call.keyword}.CodingSchemeDesignator")
        return None
    if system == SCT and not (value.isascii() and value.isdigit()):
        row = call.row(value, "srt-to-sct")  # a SNOMED RT code under the newer designator
        if row is None:
            call.issue("code-unknown", f"{call.keyword}.CodeValue")
            return None
        value = row["code"]
    if (system == DCM and call.row(value, "dcm") is None) or (
        system == LOINC and not systems.is_loinc(value)
    ):
        call.issue("code-unknown", f"{call.keyword}.CodeValue")
        return None
    return {"system": system, "code": value, **_display(call, item, system, value)}


def _display(call: Call, item: View, system: str, code: str) -> dict[str, str]:
    if system in {SCT, LOINC} and not call.site.sct_display:
        return {}
    row = (
        call.tables["modality"].rows.get(code)
        if system == DCM and "modality" in call.tables
        else None
    )
    display = row["display"] if row else item.text("CodeMeaning")
    return {"display": display} if display else {}


def concept(call: Call, item: View) -> dict[str, Any] | None:
    """CodeableConcept of one code item: the code where its system is known, the meaning as text."""
    coding = coded(call, item)
    meaning = item.text("CodeMeaning")
    found: dict[str, Any] = {}
    if coding:
        found["coding"] = [coding]
    if meaning:
        found["text"] = meaning
    return found or None


def distinct(concepts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each code once, whatever the text beside it; a text that a code carries is no concept of its own."""
    found: dict[Any, dict[str, Any]] = {}
    texts = {one.get("text") for one in concepts if "coding" in one}
    for one in concepts:
        coding = one.get("coding", [{}])[0]
        if not coding and one.get("text") in texts:
            continue
        key = (coding["system"], coding["code"]) if coding else one.get("text")
        found.setdefault(key, one)
    return list(found.values())


@transform(
    "codeableConcept",
    "CodeableConcept",
    needs=CODE_ITEM,
    also=SCHEMES,
    agree="union",
    settle=distinct,
    items="may",
)
def codeable_concept(call: Call) -> list[dict[str, Any]] | None:
    """Each item of a code sequence, or a text as ``text``."""
    if call.source is not None and call.source.vr != "SQ":
        text = call.text()
        return [{"text": text}] if text else None
    found = [concept(call, item) for item in call.view.items(call.keyword)]
    return distinct([one for one in found if one]) or None


@transform(
    "reasons",
    "CodeableConcept",
    needs=CODE_ITEM,
    also=SCHEMES,
    agree="union",
    settle=distinct,
    whole=True,
    items="may",
)
def reasons(call: Call) -> list[dict[str, Any]] | None:
    """Coded reasons, then free text; a text joins the code only where there is one of each."""
    codes: list[dict[str, Any]] = []
    texts: list[str] = []
    for source in (*call.rule.sources, *call.rule.others):
        call.keyword = source.last
        for view in call.at(source):
            if source.vr == "SQ":
                codes += [one for item in view.items(source.last) if (one := concept(call, item))]
            else:
                texts += [text for text in [view.text(source.last)] if text]
    codes = distinct(codes)
    texts = list(
        dict.fromkeys(text for text in texts if text not in {one.get("text") for one in codes})
    )
    if len(codes) == 1 and len(texts) == 1:
        return [{**codes[0], "text": texts[0]}]
    return [*codes, *({"text": text} for text in texts)] or None


@transform(
    "coding",
    "Coding",
    needs=CODE_ITEM,
    also=SCHEMES,
    columns=("code",),
    options=("system",),
    items="may",
)
def coding(call: Call) -> dict[str, Any] | None:
    """First item of a code sequence, else a defined term looked up in the rule's table.

    A term that the table does not have stays as ``display``, without a code.
    """
    if call.source is not None and call.source.vr == "SQ":
        if len(items := call.view.items(call.keyword)) > 1:
            call.several(call.keyword)
        for item in items:
            found = coded(call, item)
            if found:
                return _body_structure(call, found, item.text("CodeMeaning"))
            meaning = item.text("CodeMeaning")
            if meaning:
                return {"display": meaning}
        return None
    text = call.text()
    if not text:
        return None
    key = "".join(text.upper().replace("_", " ").split())
    row = call.row(text) or call.row(key)
    if row is None:
        call.issue("code-unknown")
        return {"display": text}
    if text not in call.tables[call.rule.codes].rows:
        call.issue("code-normalised", severity="information")
    if not row["code"]:
        # the table knows the term and says that its code is none for this element (PHANTOM)
        call.issue("not-a-body-structure", severity="information")
        return {"display": text}
    return _body_structure(call, {"system": call.rule.system or SCT, "code": row["code"]}, text)


def _body_structure(call: Call, found: dict[str, Any], text: str) -> dict[str, Any]:
    if found.get("system") == SCT and found["code"] in NOT_BODY_STRUCTURES:
        call.issue("not-a-body-structure", severity="information")
        return {"display": text} if text else {"display": "PHANTOM"}
    return found


@transform(
    "laterality",
    "Coding",
    needs=CODE_ITEM,
    also=SCHEMES,
    agree="unanimous",
    columns=("code", "display"),
    items="may",
)
def laterality(call: Call) -> dict[str, Any] | None:
    """Side: R, L or B of CID 244; U and nothing are nothing, nor is what another source contradicts."""
    found = _told_side(call, call.source, call.view) if call.source else None
    if found is None:
        return None
    noted, code_row = len(call.issues), call.code_row
    told = {
        one["code"]
        for source in call.rule.sources
        for view in call.at(source)
        if (one := _told_side(call, source, view))
    }
    # what is wrong with another source is told when its turn comes
    del call.issues[noted:]
    call.code_row = code_row
    if told == {found["code"]}:
        return found
    if not any(one.code == "values-differ" for one in call.issues):
        call.issue("values-differ", message="One object names different sides; no value is taken.")
    return None


def _told_side(call: Call, source: Source, view: View) -> dict[str, Any] | None:
    """Side that one source tells."""
    if source.vr == "SQ":
        for item in view.items(source.last):
            found = coded(call, item)
            for term, row in call.tables[call.rule.codes].rows.items():
                if found and found["system"] == SCT and row["code"] == found["code"]:
                    return _side(call, call.row(term) or row)
        return None
    value = view.whole(source.last)
    if value.upper() in {"", "U"}:
        return None
    side = call.normalised(value)
    if side is None:
        call.issue("code-unknown")
        return None
    return _side(call, side)


def _side(call: Call, row: Row) -> dict[str, Any]:
    display = {"display": row["display"]} if call.site.sct_display else {}
    return {"system": SCT, "code": row["code"], **display}


@transform("modality", "Coding", also=("SOPClassUID",), columns=("code", "display"), always=True)
def modality(call: Call) -> dict[str, Any] | Absent:
    """Modality (0008,0060) in the DCM code system; missing: from the SOP class; unknown: as text.

    The HL7 validator rejects DCM codes that DICOM does not define, so those stay as ``display``.
    """
    value = call.value()
    if not value:
        raw = call.top.raw("SOPClassUID")
        sop_class = values.uid(raw) if raw else None
        row = call.row(sop_class, "sop-class-modality") if sop_class else None
        if row is None:
            call.issue("modality-missing")
            return Absent()
        call.issue("modality-derived", severity="information")
        value = row["code"]
    row = call.normalised(value)
    if row is None:
        call.issue("code-unknown")
        return {"display": value}
    return {"system": DCM, "code": row["code"], "display": row["display"]}


@transform(
    "acquisitionModalities",
    "Coding",
    aggregate=True,
    lacks="no series has an acquisition modality (CID 29)",
)
def acquisition_modalities(call: Call) -> None:
    """Distinct series modalities of CID 29, in the order of the series; made by the engine."""


@transform("sopClass", "Coding")
def sop_class(call: Call) -> dict[str, Any] | None:
    """SOP Class UID as FHIR writes it: ``urn:ietf:rfc:3986`` and ``urn:oid:``."""
    raw = call.view.raw(call.keyword)
    found = values.uid(raw) if raw else None
    return {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{found}"} if found else None


@transform("numberOfSeries", "unsignedInt", aggregate=True)
def number_of_series(call: Call) -> None:
    """Count of the series listed; made by the engine."""


@transform("numberOfInstances", "unsignedInt", aggregate=True)
def number_of_instances(call: Call) -> None:
    """Count of the instances of the study or series; made by the engine."""
