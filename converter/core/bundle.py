"""Bundles: transaction, batch and collection (FHIR R4 ``bundle.html``, ``http.html#transaction``).

How references are written follows from the type:

- transaction and collection: each entry has the ``fullUrl`` ``urn:uuid:<id>``, and a reference to a
  resource in the Bundle is that URN, so it resolves inside; a server puts the id that it gave in its place.
- batch: entries are independent and must not refer to each other by URN (R4 ``http.html#brules``), so
  references stay ``Patient/<id>`` and each resource is put to its id.

A reference to what is not in the Bundle stays as it is.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote
from uuid import UUID, uuid5

from converter.core.ids import NS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = [
    "BundleType",
    "Key",
    "Method",
    "bundle",
    "bundle_id",
    "entry",
    "full_url",
    "group",
    "key",
    "references",
    "relink",
]

Json = dict[str, Any]
Key = str
"""``Type/id`` of a resource."""

BundleType = Literal["transaction", "batch", "collection"]
Method = Literal["put", "create"]
"""Put each resource to its id, or create it where a search by its identifier finds none."""


def key(resource: Json) -> Key:
    """``Type/id`` of a resource."""
    return f"{resource['resourceType']}/{resource['id']}"


def full_url(of: Key) -> str:
    """``fullUrl`` of a resource within a Bundle."""
    name = of.rsplit("/", 1)[-1]
    try:
        if str(UUID(name)) == name:
            return f"urn:uuid:{name}"
    except ValueError:
        pass
    # an id that is no UUID: of another's making, as after a merge
    return f"urn:uuid:{uuid5(NS, f'fullUrl|{of}')}"


def references(resource: Json) -> set[Key]:
    """Relative references of a resource, contained ones left out.

    Parameters
    ----------
    resource : dict
    """
    found: set[Key] = set()
    relink(resource, lambda reference: found.add(reference) or reference)  # type: ignore[func-returns-value]
    return {reference for reference in found if _relative(reference)}


def entry(resource: Json, kind: BundleType, method: Method, present: Callable[[Key], bool]) -> Json:
    """Make one entry of a Bundle.

    Parameters
    ----------
    resource : dict
        Not changed.
    kind : {"transaction", "batch", "collection"}
    method : {"put", "create"}
        ``create`` makes a conditional create; a resource without an identifier that has a system
        cannot be searched for and is still put to its id. A batch always puts.
    present : callable
        Whether a resource is in the same Bundle.
    """
    of = key(resource)
    if kind == "batch":
        request = {"method": "PUT", "url": of}
        return {"fullUrl": full_url(of), "resource": resource, "request": request}
    linked = relink(
        resource,
        lambda reference: (
            full_url(reference) if _relative(reference) and present(reference) else reference
        ),
    )
    made = {"fullUrl": full_url(of), "resource": linked}
    if kind == "transaction":
        search = _search(resource) if method == "create" else ""
        if search:
            made["resource"] = {name: value for name, value in linked.items() if name != "id"}
            made["request"] = {
                "method": "POST",
                "url": resource["resourceType"],
                "ifNoneExist": search,
            }
        else:
            made["request"] = {"method": "PUT", "url": of}
    return made


def bundle(
    resources: Iterable[Json], kind: BundleType = "transaction", method: Method = "put"
) -> Json:
    """Make a Bundle; the same resources give the same bytes.

    Parameters
    ----------
    resources : iterable of dict
        Each with an ``id``; a later one of the same type and id replaces an earlier one.
    kind : {"transaction", "batch", "collection"}
    method : {"put", "create"}
        What a transaction asks the server to do.
    """
    held = {key(resource): resource for resource in resources}
    ordered = sorted(held, key=rank)
    made: Json = {"resourceType": "Bundle", "id": bundle_id(ordered, kind), "type": kind}
    if ordered:  # an empty list is no FHIR JSON
        made["entry"] = [entry(held[of], kind, method, held.__contains__) for of in ordered]
    return made


def bundle_id(keys: Sequence[Key], kind: BundleType) -> str:
    """Id of a Bundle: by what is in it, so neither clock nor chance."""
    content = hashlib.sha256("\n".join(keys).encode()).hexdigest()
    return str(uuid5(NS, f"bundle|{kind}|{content}"))


def rank(of: Key) -> tuple[bool, str]:
    """Order of entries: what a study refers to before it, for servers that go through a batch in order."""
    return of.startswith("ImagingStudy/"), of


def group(links: Iterable[tuple[Key, Iterable[Key]]], limit: int = 0) -> Iterator[list[Key]]:
    """Share resources out to Bundles, a study never apart from what it refers to.

    Parameters
    ----------
    links : iterable of (str, iterable of str)
        Each resource and the resources that it refers to.
    limit : int
        Greatest number of entries; 0 is no limit. A study with more companions than that has a Bundle of
        its own that goes beyond it. A companion of several studies stands in each of their Bundles.

    Yields
    ------
    list of str
        Sorted as the entries are.
    """
    graph = {of: tuple(targets) for of, targets in links}
    studies = sorted(of for of in graph if of.startswith("ImagingStudy/"))
    placed: set[Key] = set()
    current: set[Key] = set()
    for root in [*studies, *sorted(graph.keys() - set(studies))]:
        if root in placed:
            continue
        needed = _closure(root, graph)
        if limit and current and len(current | needed) > limit:
            yield sorted(current, key=rank)
            current = set()
        current |= needed
        placed |= needed
    if current:
        yield sorted(current, key=rank)


def _closure(root: Key, graph: dict[Key, tuple[Key, ...]]) -> set[Key]:
    reached, waiting = {root}, [root]
    while waiting:
        for target in graph[waiting.pop()]:
            if target in graph and target not in reached:
                reached.add(target)
                waiting.append(target)
    return reached


def _relative(reference: str) -> bool:
    return bool(reference) and reference.count("/") == 1 and not reference.startswith(("#", "urn:"))


def relink(node: Any, change: Callable[[str], str]) -> Any:
    """Copy with each ``reference`` changed; parts without one are shared, not copied."""
    if isinstance(node, dict):
        copied: Json | None = None
        for name, value in node.items():
            new: Any = value
            if isinstance(value, str):
                if name == "reference":
                    new = change(value)
            elif isinstance(value, (dict, list)):
                new = relink(value, change)
            if new is not value:
                copied = dict(node) if copied is None else copied
                copied[name] = new
        return node if copied is None else copied
    if isinstance(node, list):
        items = [relink(value, change) for value in node]
        return node if all(new is old for new, old in zip(items, node, strict=True)) else items
    return node


def _search(resource: Json) -> str:
    """``identifier=system|value`` of one identifier that has both (R4 ``search.html#token``)."""
    held = resource.get("identifier") or []
    several = [
        i
        for i in ([held] if isinstance(held, dict) else held)
        if i.get("system") and i.get("value")
    ]
    # a study is known by its UID; an accession number may have many studies
    several.sort(key=lambda identifier: identifier["system"] != "urn:dicom:uid")
    if not several:
        return ""
    return f"identifier={_token(several[0]['system'])}|{_token(several[0]['value'])}"


def _token(text: str) -> str:
    # search.html#escaping, then the rules of a URL
    for character in "\\|,$":
        text = text.replace(character, f"\\{character}")
    return quote(text, safe=":/.-_~")
