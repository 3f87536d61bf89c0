"""What holds of a Bundle as a whole: bdl-* and the references between its entries (R4 ``bundle.html``)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from converter.fhir.primitives import SCHEME

if TYPE_CHECKING:
    from converter.fhir.report import Path, Report

__all__ = ["Links", "bundle", "links", "resolve"]

REST = re.compile(r"https?://.+/([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})")
KINDS = frozenset(
    {"document", "message", "history", "searchset", "collection"}
    | {"transaction", "transaction-response", "batch", "batch-response"}
)
"""Of another kind of Bundle there is nothing to say but that."""
WITH_REQUEST = frozenset({"batch", "transaction", "history"})
WITH_RESPONSE = frozenset({"batch-response", "transaction-response", "history"})
SUBMITTED = frozenset({"batch", "transaction", "batch-response", "transaction-response"})
"""Kinds of Bundle whose entries need no ``fullUrl``."""


@dataclass(slots=True)
class Links:
    """What the entries of a Bundle can be pointed at with."""

    types: dict[str, str] = field(default_factory=dict)
    """``fullUrl`` to resource type."""
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    """``fullUrl``, and Type/id, to resource."""
    transaction: bool = False


def links(value: dict[str, Any]) -> Links:
    """Read the addresses of a Bundle's entries."""
    found = Links(transaction=value.get("type") in ("transaction", "batch"))
    entries = value.get("entry")
    for entry in entries if entries.__class__ is list else ():
        if entry.__class__ is not dict:
            continue
        resource, url = entry.get("resource"), entry.get("fullUrl")
        if resource.__class__ is not dict:
            continue
        kind, identity = resource.get("resourceType"), resource.get("id")
        if kind.__class__ is not str:
            continue
        if url.__class__ is str:
            found.types[url] = kind
            found.resources.setdefault(url, resource)
        if identity.__class__ is str:
            found.resources.setdefault(f"{kind}/{identity}", resource)
    return found


def bundle(value: dict[str, Any], path: Path, report: Report) -> None:
    """bdl-1 to bdl-12, and the form of ``fullUrl``."""
    stated = value.get("type")
    kind = stated if isinstance(stated, str) and stated in KINDS else ""
    entries = value.get("entry")
    if "total" in value and kind and kind not in {"searchset", "history"}:
        report.add("bdl-1", (path, "total", None), "total only in a searchset or history")
    entries = entries if entries.__class__ is list else []
    if kind == "document":
        _document(value, entries, path, report)
    if kind == "message" and _type(entries) != "MessageHeader":
        report.add("bdl-12", path, "the first entry of a message is a MessageHeader")
    seen: set[tuple[str, Any]] = set()
    for index, entry in enumerate(entries):
        if entry.__class__ is not dict:
            continue
        place = (path, "entry", index)
        resource = entry.get("resource")
        if "search" in entry and kind not in {"", "searchset"}:
            report.add("bdl-2", (place, "search", None), "search only in a searchset")
        if kind:
            _exchange(entry, kind, place, report)
        if not entry.keys() & {"resource", "request", "response"}:
            report.add("bdl-5", place, "an entry needs a resource, a request or a response")
        url = entry.get("fullUrl")
        if url.__class__ is str and url:
            version = None
            if resource.__class__ is dict and resource.get("meta").__class__ is dict:
                version = resource["meta"].get("versionId")
            key = (url, version if version.__class__ is str else None)
            if key in seen and kind != "history":
                report.add("bdl-7", (place, "fullUrl", None), "another entry has the same fullUrl")
            seen.add(key)
            _full_url(url, resource, place, report)
        elif url is None and "resource" in entry and kind and kind not in SUBMITTED:
            report.add("full-url", place, "an entry needs a fullUrl, the identity of its resource")


def _type(entries: list[Any]) -> Any:
    first = entries[0] if entries else None
    resource = first.get("resource") if first.__class__ is dict else None
    return resource.get("resourceType") if resource.__class__ is dict else None


def _document(value: dict[str, Any], entries: list[Any], path: Path, report: Report) -> None:
    identifier = value.get("identifier")
    if identifier.__class__ is not dict or not {"system", "value"} <= identifier.keys():
        report.add("bdl-9", path, "a document needs an identifier with system and value")
    if "timestamp" not in value:
        report.add("bdl-10", path, "a document needs a timestamp")
    if _type(entries) != "Composition":
        report.add("bdl-11", path, "the first entry of a document is a Composition")


def _exchange(entry: dict[str, Any], kind: str, place: Path, report: Report) -> None:
    for key, name, kinds in (
        ("bdl-3", "request", WITH_REQUEST),
        ("bdl-4", "response", WITH_RESPONSE),
    ):
        if (name in entry) != (kind in kinds):
            word = "needs" if kind in kinds else "takes no"
            where = (place, name, None) if name in entry else place
            report.add(key, where, f"an entry of a {kind} {word} {name}")


def _full_url(url: str, resource: Any, place: Path, report: Report) -> None:
    where = (place, "fullUrl", None)
    if "/_history/" in url:
        report.add("bdl-8", where, "a fullUrl names no version")
        return
    if not SCHEME.match(url):
        report.add("full-url", where, "a fullUrl is absolute")
        return
    match = REST.fullmatch(url)
    if match is None or resource.__class__ is not dict:
        return
    kind, identity = resource.get("resourceType"), resource.get("id")
    if match[1] != kind or (identity is not None and match[2] != identity):
        report.add(
            "full-url", where, "a fullUrl on a server ends with the type and id of its resource"
        )


def resolve(report: Report, held: Links | None) -> None:
    """Hold URN and conditional references against the entries of their Bundle.

    Without a Bundle, what a URN means is not ours to say.
    """
    for reference, targets, place in report.urns:
        if not reference.startswith("urn:"):
            if held is None or not held.transaction:
                report.add("reference-form", place, "a search only in a transaction")
        elif held is not None:
            kind = held.types.get(reference)
            if kind is None:
                report.add("reference-unresolved", place, "no entry of the Bundle has this fullUrl")
            elif targets and kind not in targets:
                report.add("reference-target", place, report.points(kind, targets))
