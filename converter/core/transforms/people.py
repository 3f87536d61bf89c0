"""Transforms of person names, and references to people."""

from __future__ import annotations

from typing import Any

from converter.core import names
from converter.core.dictionary import tag_of
from converter.core.header import Header, pack_items
from converter.core.transforms.base import Absent, Call, Ref, View, transform
from converter.core.transforms.codes import CODE_ITEM
from converter.core.transforms.identifiers import person_identifier

__all__: list[str] = []

PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"

PERSON_IDENTIFICATION: dict[str, Any] = {
    "PersonIdentificationCodeSequence": CODE_ITEM,
    "InstitutionName": None,
}
"""Person Identification Macro, PS3.3 Table 10-1."""


@transform("humanName", "HumanName")
def human_name(call: Call) -> list[dict[str, Any]] | None:
    """A PN: the alphabetic group, then ideographic and phonetic ones with their representation."""
    written = call.view.strings(call.keyword)
    if len(written) > 1:
        call.several(call.keyword)
    return names.human_names(written[0], _use(call)) or None if written else None


@transform("humanNameOrUnknown", "HumanName", always=True)
def human_name_or_unknown(call: Call) -> list[dict[str, Any]] | Absent:
    """A PN, or a name of which only the text is said to be unknown (IPS wants a name)."""
    return human_name(call) or Absent(part="_text")


def _use(call: Call) -> str:
    return call.site.patient.name_use if call.rule.path.startswith("Patient.") else ""


def _people(call: Call, keyword: str, identification: str) -> list[Ref]:
    """Pair name i with identification item i (PS3.3 section 10.1: the order corresponds)."""
    written = call.view.strings(keyword, keep_empty=True)
    items = call.view.items(identification) if identification else []
    found = []
    for index in range(max(len(written), len(items))):
        name = written[index] if index < len(written) else ""
        item = items[index] if index < len(items) else None
        one = _person(call, name, item)
        if one is not None:
            found.append(one)
    return found


def _person(call: Call, name: str, item: View | None) -> Ref | None:
    logical: dict[str, Any] = {"type": "Practitioner"}
    codes = item.items("PersonIdentificationCodeSequence") if item else []
    identifiers = [one for code in codes if (one := person_identifier(call, code))]
    identifier = next((one for one in identifiers if "system" in one), None) or next(
        iter(identifiers), None
    )
    if identifier:
        logical["identifier"] = identifier
    display = names.display_name(name) or next(
        (meaning for code in codes if (meaning := code.text("CodeMeaning"))), ""
    )
    if display:
        logical["display"] = display
    if len(logical) == 1:
        return None
    header: Header = {}
    if name:
        header[tag_of("PersonName") or 0] = name.encode()
    if codes:
        alone = [code.alone() for code in codes]
        header[tag_of("PersonIdentificationCodeSequence") or 0] = pack_items(alone)
    header[tag_of("SpecificCharacterSet") or 0] = b"ISO_IR 192"
    value = (identifier or {}).get("value", "") or display
    return Ref(
        "Practitioner",
        logical,
        tuple(sorted(header.items())),
        (identifier or {}).get("system", ""),
        value,
    )


@transform("practitioner", "Reference", needs=PERSON_IDENTIFICATION, agree="mode")
def practitioner(call: Call) -> Ref | None:
    """One person: name, and the identification sequence beside it."""
    found = _people(call, call.keyword, call.other("SQ"))
    if len(found) > 1:
        call.several(call.keyword)
    return found[0] if found else None


@transform("practitioners", "Reference", needs=PERSON_IDENTIFICATION, agree="union")
def practitioners(call: Call) -> list[Ref] | None:
    """People, paired by index with the items of the identification sequence."""
    return _people(call, call.keyword, call.other("SQ")) or None


@transform(
    "performers",
    "ImagingStudy.series.performer",
    needs=PERSON_IDENTIFICATION,
    agree="union",
    options=("type",),
)
def performers(call: Call) -> list[dict[str, Any]] | None:
    """People with the function that the rule's ``type`` names (v3-ParticipationType)."""
    coding = {"system": PARTICIPATION, "code": call.rule.type}
    row = call.row(call.rule.type, "participation")
    if row is not None:
        coding["display"] = row["display"]
    found = [
        {"function": {"coding": [coding]}, "actor": person}
        for person in _people(call, call.keyword, call.other("SQ"))
    ]
    return found or None
