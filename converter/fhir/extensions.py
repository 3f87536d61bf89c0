"""Extensions: known or not, where they may stand, what they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.core.structure import Structure
    from converter.fhir.definitions import ExtensionDefinition
    from converter.fhir.report import Path, Report
    from converter.fhir.values import ObjectCheck

__all__ = ["Extensions", "OwnerOf"]


class OwnerOf(Protocol):
    """Wraps the plain check of an extension."""

    def __call__(self, held: ObjectCheck, *, modifier: bool) -> ObjectCheck:
        """Check of an item of ``extension`` or ``modifierExtension``."""
        ...  # pragma: no cover


class Extensions:
    """Judges extensions against their published definitions."""

    def __init__(self, structure: Structure, known: Mapping[str, ExtensionDefinition]) -> None:
        self.structure = structure
        self.known = known

    def wrap(self, held: ObjectCheck, *, modifier: bool) -> ObjectCheck:
        """Check of an item of ``extension`` or ``modifierExtension``."""

        def extension(value: Any, path: Path, report: Report) -> None:
            held(value, path, report)
            if value.__class__ is dict:
                self.check(value, path, report, modifier=modifier)

        return extension

    def check(self, value: dict[str, Any], path: Path, report: Report, *, modifier: bool) -> None:
        """Hold one extension against its definition and its place."""
        nested, values = (
            "extension" in value,
            [key for key in value if key.lstrip("_").startswith("value")],
        )
        if nested == bool(values):
            report.add(
                "ext-1",
                path,
                "an extension holds either a value or extensions, not both, not neither",
            )
        url = value.get("url")
        if url.__class__ is not str or not url:
            return
        parent = path[0]
        if parent is not None and parent[1] in {"extension", "modifierExtension"}:
            return  # a part of another one, which knows its parts
        place = (path, "url", None)
        if ":" not in url:
            report.add("unknown-extension", place, "the url of an extension is absolute")
            return
        definition = self.known.get(url)
        if definition is None:
            report.add("unknown-extension", place, "nobody that we know of defines this extension")
            return
        if definition.modifier != modifier:
            name = "modifierExtension" if definition.modifier else "extension"
            report.add("extension-context", path, f"this extension belongs in {name}")
        if definition.context and not self._placed(definition.context, parent):
            report.add("extension-context", path, f"may stand on {', '.join(definition.context)}")
        if definition.value:
            for key in values:
                kind = key.lstrip("_").removeprefix("value")
                if kind not in {name[:1].upper() + name[1:] for name in definition.value}:
                    report.add(
                        "extension-value",
                        (path, key, None),
                        f"takes {' or '.join(definition.value)}",
                    )
                elif definition.codes and not key.startswith("_"):
                    self._codes(value[key], definition, (path, key, None), report)
            if nested:
                report.add("extension-value", path, "takes a value and no extensions")
        elif values:
            report.add("extension-value", (path, values[0], None), "takes extensions and no value")
        elif nested and definition.nested and value["extension"].__class__ is list:
            for index, part in enumerate(value["extension"]):
                if part.__class__ is dict and part.get("url") not in definition.nested:
                    where = ((path, "extension", index), "url", None)
                    report.add("unknown-extension", where, f"takes {', '.join(definition.nested)}")
            urls = [part.get("url") for part in value["extension"] if part.__class__ is dict]
            for name in definition.required:
                if name not in urls:
                    report.add("extension-value", path, f"needs its part {name}")

    def _codes(
        self, value: Any, definition: ExtensionDefinition, path: Path, report: Report
    ) -> None:
        if value.__class__ is str:
            if not any(value in codes for codes in definition.codes.values()):
                listed = sorted(code for codes in definition.codes.values() for code in codes)
                hint = f": {', '.join(listed)}" if len(listed) <= 20 else ""
                report.add(
                    "code-outside-binding",
                    path,
                    f"no code of the value set of this extension{hint}",
                )
        elif value.__class__ is dict:
            codings = value.get("coding", [value])
            if codings.__class__ is list and not any(
                item.__class__ is dict and self._listed(item, definition) for item in codings
            ):
                report.add(
                    "code-outside-binding", path, "no code of the value set of this extension"
                )

    @staticmethod
    def _listed(coding: dict[str, Any], definition: ExtensionDefinition) -> bool:
        codes = definition.codes.get(str(coding.get("system")))
        return codes is not None and (not codes or coding.get("code") in codes)

    def _placed(self, contexts: tuple[str, ...], owner: Path | None) -> bool:
        """Whether the element that an extension stands on is one of its contexts."""
        names: list[str] = []
        step = owner
        while step is not None and step[1]:
            names.append(step[1])
            step = step[0]
        if step is None:
            return True
        kind = step[2]
        found = {f"{kind}{''.join('.' + name for name in reversed(names))}"}
        if not names:
            found |= {"Resource", "DomainResource"}
        for depth, name in enumerate(reversed(names), start=1):
            definition = self.structure.types.get(kind)
            element = definition.elements.get(name) if definition else None
            if element is None:
                return True
            kind = element.type
            rest = list(reversed(names))[depth:]
            found.add(kind + "".join("." + part for part in rest))
            if element.choice and not rest:
                found.add(f"{'.'.join([step[2], *list(reversed(names))[:-1]])}.{element.choice}")
        found.add("Element")
        return any(context in found for context in contexts)
