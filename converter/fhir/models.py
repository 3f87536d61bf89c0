"""The only importer of fhir.resources: a second opinion from somebody else's models (R4B).

Importing and asking it is dear, so a run asks it only about the first resource with an object whose
keys the golden cases do not vouch for (`Checker.fresh`); ``validate`` and the tests ask it about everything. fhir.resources has no R4; for the
types that we emit R4B says the same, except where `DIFFERENT` says so.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from converter.core.issues import Issue

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ShapeGuard", "model_issues"]

SHAPES = 10_000
"""Shapes remembered; more than any hospital makes."""


@cache
def _model(resource_type: str) -> Any:
    """Model class of a resource type; ``None`` if R4B has none."""
    from fhir.resources.R4B import get_fhir_model_class

    try:
        return get_fhir_model_class(resource_type)
    except ValueError:
        return None


def model_issues(resource: dict[str, Any]) -> list[Issue]:
    """Ask fhir.resources about a resource.

    Parameters
    ----------
    resource : dict
        With a ``resourceType``.

    Returns
    -------
    list of Issue
        One ``models-disagree`` for each refusal, with its place and kind, never a value.
    """
    from pydantic import ValidationError

    kind = resource.get("resourceType")
    model = _model(kind) if isinstance(kind, str) else None
    if model is None:
        return []
    try:
        model.model_validate(resource)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        return [
            Issue(
                "warning",
                "models-disagree",
                _place(kind, item["loc"]),
                "",
                f"fhir.resources: {item['type']}",
            )
            for item in found
        ]
    except (ValueError, TypeError, AssertionError, AttributeError, LookupError) as error:
        # Its validators raise these bare for some values; the message may hold the value.
        message = f"fhir.resources: {type(error).__name__}"
        return [Issue("warning", "models-disagree", str(kind), "", message)]
    return []


def _place(kind: str | None, location: tuple[int | str, ...]) -> str:
    """FHIRPath of a place that pydantic names."""
    path = str(kind)
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return path


class ShapeGuard:
    """Lets fhir.resources see the first resource of each new shape.

    A shape is the set of element paths that a resource has, whatever stands in them.
    """

    def __init__(self) -> None:
        self._seen: set[frozenset[str]] = set()
        self._forms: set[Any] = set()
        """Forms whose shape was seen: told sooner than a shape."""

    def issues(self, resource: dict[str, Any]) -> list[Issue]:
        """Refusals of fhir.resources, where the shape is new; else nothing."""
        form = _form(resource)
        if form in self._forms or len(self._seen) >= SHAPES:
            return []
        if len(self._forms) < SHAPES:
            self._forms.add(form)
        shape = frozenset(paths(resource))
        if shape in self._seen:
            return []
        self._seen.add(shape)
        return model_issues(self._smaller(resource))

    @staticmethod
    def _smaller(resource: dict[str, Any]) -> dict[str, Any]:
        """Copy with one instance of each shape a series: thousands of the like add time and nothing else."""
        series = resource.get("series")
        if resource.get("resourceType") != "ImagingStudy" or not isinstance(series, list):
            return resource
        return {**resource, "series": [_sampled(item) for item in series]}


def _form(value: Any) -> Any:
    """Property names and how they nest: resources of one form have one shape."""
    if value.__class__ is dict:
        kind = value.get("resourceType")
        return (kind if kind.__class__ is str else None), *[
            (key, _form(_of_each_kind(held) if key == "instance" else held))
            if held.__class__ in _NESTS
            else key
            for key, held in value.items()
        ]
    if len(value) == 1:
        held = value[0]
        return (_form(held),) if held.__class__ in _NESTS else ()
    return frozenset(_form(held) for held in value if held.__class__ in _NESTS)


def _of_each_kind(instances: Any) -> Any:
    """Instances with other property names than those before: as `paths`, one look is enough."""
    if instances.__class__ is not list:
        return instances
    return list(
        {
            tuple(item) if isinstance(item, dict) else (): item for item in reversed(instances)
        }.values()
    )


_NESTS = frozenset({dict, list})


def _sampled(series: Any) -> Any:
    instances = series.get("instance") if isinstance(series, dict) else None
    if not isinstance(instances, list):
        return series
    kinds: dict[frozenset[str], Any] = {}
    for item in instances:
        kinds.setdefault(frozenset(item) if isinstance(item, dict) else frozenset(), item)
    return {**series, "instance": list(kinds.values())}


def paths(value: Any, path: str = "") -> Iterator[str]:
    """Paths of all elements of a resource, without indices."""
    if isinstance(value, dict):
        kind = value.get("resourceType")
        start = f"{path}{kind}" if isinstance(kind, str) else path
        for key, held in value.items():
            yield f"{start}.{key}"
            yield from paths(held, f"{start}.{key}")
    elif isinstance(value, list):
        seen: set[tuple[str, ...]] = set()
        for item in value:
            if isinstance(item, dict):
                keys = tuple(item)
                if keys in seen and (path.endswith(".instance") or not _nested(item)):
                    continue  # ten thousand of the like: one look is enough
                seen.add(keys)
            yield from paths(item, path)


def _nested(item: dict[str, Any]) -> bool:
    return any(isinstance(held, (dict, list)) for held in item.values())
