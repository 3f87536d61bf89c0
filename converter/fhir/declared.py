"""Extensions that a site's own rules make: who writes one into a mapping defines it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from converter.fhir.definitions import ExtensionDefinition

if TYPE_CHECKING:
    from converter.core.rules import Node

__all__ = ["declared_extensions"]


def declared_extensions(nodes: Iterable[Node]) -> dict[str, ExtensionDefinition]:
    """Definitions of the extensions that rules make, by URL: what they hold, and no place.

    Parameters
    ----------
    nodes : iterable of Node
        Trees of resources.
    """
    found: dict[str, ExtensionDefinition] = {}
    for node in nodes:
        if node.fhir_type == "Extension":
            modifier = node.name == "modifierExtension"
            for url, value, nested in _made(node):
                found[url] = ExtensionDefinition(value=value, nested=nested, modifier=modifier)
        else:
            found.update(declared_extensions(node.children))
    return found


def _made(node: Node) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """(URL, types of its value, URLs of its parts) of the extensions that one node makes."""
    if node.rule is not None:
        for one in node.rule.const or () if isinstance(node.rule.const, list) else ():
            if isinstance(one, Mapping) and isinstance(one.get("url"), str):
                yield one["url"], _values(one), _urls(one.get("extension"))
        return
    urls = [c.rule.const for c in node.children if c.name == "url" and c.rule is not None]
    parts = [url for c in node.children if c.name == "extension" for url, _, _ in _made(c)]
    for url in urls:
        if isinstance(url, str):
            yield url, _values(c.name for c in node.children), tuple(parts)


def _values(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.removeprefix("value") for name in names if name.startswith("value"))


def _urls(parts: Any) -> tuple[str, ...]:
    listed = parts if isinstance(parts, list) else []
    return tuple(str(part["url"]) for part in listed if isinstance(part, Mapping) and "url" in part)
