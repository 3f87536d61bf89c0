"""Mapping files to a `RuleSet`: every fault of every file at once, with the nearest known name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from converter.core import dictionary
from converter.core.header import SPECIFIC_CHARACTER_SET
from converter.core.overlay import Layer, RawRule, lay
from converter.core.rulecheck import (
    BINARY,
    constant_faults,
    hollow_parts,
    missing_elements,
    option_faults,
    source_faults,
    table_faults,
)
from converter.core.rules import Level, Node, Rule, RuleSet, Source
from converter.core.transforms import DEFAULTS, TRANSFORMS, Transform
from converter.core.wanted import reach, wanted
from converter.errors import Fault, MappingError

if TYPE_CHECKING:
    from converter.core.profile import Profile
    from converter.core.site import Site
    from converter.core.structure import Element, Structure
    from converter.core.tables import CodeTable

__all__ = ["OPTIONS", "compile_rules"]

OPTIONS = (
    "from",
    "with",
    "as",
    "codes",
    "system",
    "type",
    "const",
    "ref",
    "required",
    "when",
)
"""Every option of a rule; there are no others."""


class _Compiler:
    def __init__(
        self,
        structure: Structure,
        tables: Mapping[str, CodeTable],
        removed: Mapping[tuple[str, ...], str],
    ) -> None:
        self.structure = structure
        self.tables = tables
        self.removed = removed
        self.faults: list[Fault] = []

    def fault(self, file: str, path: Sequence[str], message: str) -> None:
        self.faults.append(Fault(file, ".".join(path), message))

    def source(self, file: str, path: Sequence[str], keyword: Any) -> Source | None:
        if not isinstance(keyword, str):
            self.fault(
                file, path, f"expected a DICOM keyword in quotes, not {type(keyword).__name__}"
            )
            return None
        if hint := dictionary.number_hint(keyword):
            self.fault(file, path, f"{keyword} is no DICOM keyword; {hint}")
            return None
        tags: list[int] = []
        parts = keyword.split(".")
        for index, part in enumerate(parts):
            tag = dictionary.tag_of(part)
            if tag is None:
                near = dictionary.nearest_keyword(part)
                hint = f"; did you mean {near}?" if near else ""
                self.fault(file, path, f"{part} is no DICOM keyword{hint}")
                return None
            if index < len(parts) - 1 and dictionary.vr_of(tag) != "SQ":
                self.fault(file, path, f"{part} is no sequence: nothing can stand behind its dot")
                return None
            tags.append(tag)
        return Source(keyword, tuple(tags), dictionary.vr_of(tags[-1]))

    def sources(self, file: str, path: Sequence[str], value: Any) -> tuple[Source, ...]:
        several = value if isinstance(value, list) else [value]
        found = [self.source(file, path, keyword) for keyword in several]
        return tuple(source for source in found if source is not None)

    def rule(
        self, path: tuple[str, ...], raw: RawRule, element: Element, level: Level
    ) -> Rule | None:
        options = dict(raw.options or {})
        file, before = raw.file, len(self.faults)
        for key in options:
            if key not in OPTIONS:
                near = get_close_matches(key, OPTIONS, 1)
                hint = (
                    f"; did you mean {near[0]}?" if near else f"; options are {', '.join(OPTIONS)}"
                )
                self.fault(file, path, f"{key} is no option of a rule{hint}")
        for key in ("as", "codes", "system", "type", "ref"):
            if key in options and not isinstance(options[key], str):
                self.fault(file, (*path, key), "expected text in quotes")
                options.pop(key)
        if not isinstance(options.get("required", False), bool):
            self.fault(file, (*path, "required"), "expected true or false")
        sources = self.sources(file, (*path, "from"), options.get("from", []))
        others = self.sources(file, (*path, "with"), options.get("with", []))
        when = self.when(file, path, options.get("when", {}))
        name = options.get("as", "")
        transform: Transform | None = None
        if "const" in options:
            if "from" in options or name:
                self.fault(file, path, "const stands alone: neither from nor as beside it")
            self.constant(file, path, options["const"], element)
        else:
            name = name or DEFAULTS.get(element.type, "")
            transform = TRANSFORMS.get(name)
            if not name:
                ways = sorted(held for held, one in TRANSFORMS.items() if element.type in one.gives)
                self.fault(
                    file,
                    path,
                    f"say with `as` how a {element.type} is made: {', '.join(ways)}"
                    if ways
                    else f"no transform makes a {element.type}: only its parts, or a const, can be set",
                )
            elif transform is None:
                near = get_close_matches(name, list(TRANSFORMS), 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self.fault(file, (*path, "as"), f"{name} is no transform{hint}")
            elif element.type not in transform.gives:
                self.fault(
                    file,
                    (*path, "as"),
                    f"{name} gives {' or '.join(transform.gives)}, this element is a {element.type}",
                )
            elif "from" not in options and not transform.aggregate and not transform.sourceless:
                self.fault(file, path, f"{name} needs `from`")
        for first, several, key in ((True, sources, "from"), (False, others, "with")):
            for _, message in source_faults(several, transform, first=first):
                self.fault(file, (*path, key), message)
        codes = options.get("codes", "")
        if codes and codes not in self.tables:
            near = get_close_matches(codes, list(self.tables), 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.fault(file, (*path, "codes"), f"there is no code table {codes}{hint}")
        else:
            for message in table_faults(transform, sources, codes, self.tables):
                self.fault(file, (*path, "codes"), message)
        for message in option_faults(transform, options, self.tables):
            self.fault(file, path, message)
        ref = options.get("ref", "")
        if ref and ref not in self.structure.types:
            self.fault(file, (*path, "ref"), f"{ref} is no resource type")
        elif ref and element.targets and ref not in element.targets:
            self.fault(file, (*path, "ref"), f"allowed here: {', '.join(element.targets)}")
        if len(self.faults) > before:
            return None
        tags = {source.tags[0] for source in (*sources, *others)} | {s.tags[0] for s, _ in when}
        if transform is not None:
            tags.update(tag for keyword in transform.also if (tag := dictionary.tag_of(keyword)))
            tags.add(SPECIFIC_CHARACTER_SET)
        return Rule(
            path=".".join(path),
            element=_plain(path),
            level=level,
            origin=file,
            sources=sources,
            others=others,
            transform=name,
            codes=codes,
            system=options.get("system", ""),
            type=options.get("type", ""),
            const=options.get("const"),
            ref=ref,
            targets=element.targets,
            required=options.get("required", False),
            when=when,
            fhir_type=element.type,
            repeats=element.max != 1,
            tags=tuple(sorted(tags)),
        )

    def constant(self, file: str, path: tuple[str, ...], value: Any, element: Element) -> None:
        if element.max == 1:
            several = [value]
        elif isinstance(value, list):
            several = value
        else:
            self.fault(file, (*path, "const"), "this element repeats, so its value stands in [ ]")
            return
        for one in several:
            for message in constant_faults(
                self.structure, element.type, one, "const", element.binding
            ):
                self.fault(file, path, message)

    def when(self, file: str, path: tuple[str, ...], value: Any) -> tuple[tuple[Source, str], ...]:
        if not isinstance(value, Mapping):
            self.fault(file, (*path, "when"), 'expected a table such as { Modality = "CT" }')
            return ()
        found = []
        for keyword, expected in value.items():
            source = self.source(file, (*path, "when"), keyword)
            if source is not None and (source.vr == "SQ" or source.vr in BINARY):
                self.fault(file, (*path, "when", keyword), f"{keyword} is no text")
            if not isinstance(expected, str):
                self.fault(
                    file,
                    (*path, "when", keyword),
                    "expected text in quotes: only equality is tested",
                )
            elif source is not None:
                found.append((source, expected))
        return tuple(found)

    def node(
        self, path: tuple[str, ...], tree: Mapping[str, Any], element: Element | None
    ) -> Node | None:
        """Compile one table of the tree; ``tree`` maps names to `RawRule` or further tables."""
        plain = _plain(path)
        children: list[Node] = []
        for key, value in tree.items():
            name = key.partition(":")[0]
            child_path = (*path, key)
            child = self.structure.element(f"{plain}.{name}")
            file = _file(value)
            if child is None:
                type_name = element.type if element else path[0]
                definition = self.structure.types.get(type_name)
                near = get_close_matches(name, list(definition.elements) if definition else [], 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self.fault(file, child_path, f"FHIR R4 has no element {plain}.{name}{hint}")
                continue
            if ":" in key and child.max == 1:
                self.fault(file, child_path, f"{name} does not repeat, so it has no slices")
                continue
            if isinstance(value, RawRule):
                rule = self.rule(child_path, value, child, _level(child_path))
                if rule is not None:
                    children.append(
                        Node(name, rule.path, child.type, child.max != 1, rule, (), rule.required)
                    )
            else:
                inner = self.node(child_path, value, child)
                if inner is not None:
                    children.append(inner)
        made = {key.partition(":")[0] for key in tree}
        type_name = element.type if element else path[0]
        for name in missing_elements(self.structure, type_name, made):
            file = self.removed.get((*path, name)) or _file(tree)
            self.fault(file, path, f"FHIR R4 asks for {plain}.{name}, and no rule makes it")
        own = [(child.name, child.rule) for child in children if child.rule is not None]
        for name in hollow_parts(self.structure, type_name, own) if element is not None else ():
            file = next(rule.origin for held, rule in own if held == name)
            message = f"FHIR R4 asks for it in each {plain}: write required = true, so that none stands without"
            self.fault(file, (*path, name), message)
        if element is None:
            return Node(path[0], path[0], path[0], False, None, tuple(children))
        return Node(
            path[-1].partition(":")[0],
            ".".join(path),
            element.type,
            element.max != 1,
            None,
            tuple(children),
            element.max == 1 and any(child.required for child in children),
        )


def _plain(path: Sequence[str]) -> str:
    return ".".join(part.partition(":")[0] for part in path)


def _file(value: Any) -> str:
    while isinstance(value, Mapping) and value:
        value = next(iter(value.values()))
    return value.file if isinstance(value, RawRule) else ""


def _level(path: tuple[str, ...]) -> Level:
    names = [part.partition(":")[0] for part in path]
    if names[:3] == ["ImagingStudy", "series", "instance"] and len(names) > 3:
        return "instance"
    if names[:2] == ["ImagingStudy", "series"] and len(names) > 2:
        return "series"
    return "study"


def _tree(rules: Mapping[tuple[str, ...], RawRule]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, raw in rules.items():
        table = tree
        for part in path[:-1]:
            table = table.setdefault(part, {})
        table[path[-1]] = raw
    return tree


def compile_rules(
    layers: list[Layer],
    *,
    structure: Structure,
    tables: Mapping[str, CodeTable],
    site: Site,
    profiles: Sequence[Profile] = (),
    examples: Sequence[Mapping[str, Any]] = (),
    version: str = "",
    faults: Sequence[Fault] = (),
) -> RuleSet:
    """Compile layers of mapping files.

    Parameters
    ----------
    layers : list of Layer
        Base first, then the profiles in the order asked for, the site last.
    structure : Structure
        FHIR R4, which the left sides are held against.
    tables, site, profiles, examples, version
        Carried into the result.
    faults : sequence of Fault
        Found while the files were read; reported together with those found here.

    Raises
    ------
    MappingError
        With every fault of every file.
    """
    rules, laid = lay(layers)
    removed = {
        path: raw.file
        for layer in layers
        for path, raw in layer.rules.items()
        if raw.options is None and not any(path == held[: len(path)] for held in rules)
    }
    compiler = _Compiler(structure, tables, removed)
    compiler.faults.extend(faults)
    compiler.faults.extend(laid)
    resources: dict[str, Node] = {}
    for resource, tree in _tree(rules).items():
        definition = structure.types.get(resource)
        if definition is None or definition.kind != "resource":
            known = [name for name, held in structure.types.items() if held.kind == "resource"]
            near = get_close_matches(resource, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(known)}"
            compiler.fault(
                _file(tree), (resource,), f"is no resource type that is known here{hint}"
            )
            continue
        node = compiler.node((resource,), tree, None)
        if node is not None:
            resources[resource] = node
    if compiler.faults:
        raise MappingError(compiler.faults)
    resources = reach(resources)
    return RuleSet(
        resources=resources,
        wanted=wanted(resources),
        tables=tables,
        site=site,
        profiles=tuple(profiles),
        version=version,
        examples=tuple(examples),
        files=tuple(layer.file for layer in layers),
        removed={".".join(path): file for path, file in removed.items()},
    )
