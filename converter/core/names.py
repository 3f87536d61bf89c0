"""Person names: VR PN (PS3.5 section 6.2.1) as FHIR R4 HumanName."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

__all__ = ["REPRESENTATION", "PersonName", "display_name", "human_names", "person_name"]

REPRESENTATION: Final = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
_REPRESENTATIONS: Final = ("ABC", "IDE", "SYL")
"""Of the alphabetic, the ideographic and the phonetic group."""


@dataclass(frozen=True, slots=True)
class PersonName:
    """One component group of a name."""

    family: str = ""
    given: str = ""
    middle: str = ""
    prefix: str = ""
    suffix: str = ""

    def __bool__(self) -> bool:
        return bool(self.family or self.given or self.middle or self.prefix or self.suffix)

    def text(self, *, family_first: bool = False) -> str:
        """Write the parts out, and nothing else."""
        given = (self.given, self.middle)
        order = (self.family, *given) if family_first else (*given, self.family)
        return " ".join(part for part in (self.prefix, *order, self.suffix) if part)


def person_name(text: str) -> list[PersonName]:
    """Take one decoded value of VR PN apart.

    Parameters
    ----------
    text : str
        One value, as `converter.core.values.strings` gives it.

    Returns
    -------
    list of PersonName
        Alphabetic, ideographic and phonetic group, as far as there are any; a group before the last may
        be empty. What stands after a fifth component is kept with the suffix.
    """
    groups: list[PersonName] = []
    for group in text.split("=", 2):
        parts = [" ".join(part.split()) for part in group.split("^")]
        parts[4:] = [" ".join(part for part in parts[4:] if part)] if len(parts) > 4 else []
        groups.append(PersonName(*parts))
    while groups and not groups[-1]:
        groups.pop()
    return groups


def human_names(text: str, use: str = "") -> list[dict[str, Any]]:
    """Give the HumanNames of one decoded value of VR PN, one for each component group.

    Parameters
    ----------
    text : str
    use : str
        Code of HumanName.use; empty leaves it out.

    Notes
    -----
    A name without a caret is the family name. ``text`` holds only what is in a part (UK Core). The
    representation of iso21090 is stated where there are several groups.
    """
    groups = person_name(text)
    names: list[dict[str, Any]] = []
    for index, group in enumerate(groups):
        if not group:
            continue
        name: dict[str, Any] = {}
        if len(groups) > 1:
            name["extension"] = [{"url": REPRESENTATION, "valueCode": _REPRESENTATIONS[index]}]
        if use:
            name["use"] = use
        name["text"] = group.text(family_first=index > 0)
        if group.family:
            name["family"] = group.family
        if given := [*group.given.split(), *group.middle.split()]:
            name["given"] = given
        if group.prefix:
            name["prefix"] = [group.prefix]
        if group.suffix:
            name["suffix"] = [group.suffix]
        names.append(name)
    return names


def display_name(text: str) -> str:
    """Write one decoded value of VR PN for a reader: the alphabetic group, else the next there is."""
    for index, group in enumerate(person_name(text)):
        if group:
            return group.text(family_first=index > 0)
    return ""
