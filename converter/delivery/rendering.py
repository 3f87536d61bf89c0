"""What is sent, rendered from the store at the moment it is sent.

A study that was converted with the rules that its destination asks for is taken as it stands; otherwise (another
set of profiles, a mapping that was put right since) it is converted anew from its headers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from converter.core.companions import reduce
from converter.core.engine import convert
from converter.core.study import assemble, unpack_block
from converter.delivery.sender import Rendered
from converter.store import Converted
from converter.store.sql import SqlStore

__all__ = ["Recipe", "StoreRenderer", "fingerprint_of"]

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a destination asks of a conversion."""

    rules: Any
    options: Any

    @property
    def fingerprint(self) -> str:
        """By what a conversion that was made with it is known."""
        return fingerprint_of(self.rules, self.options)


def fingerprint_of(rules: Any, options: Any) -> str:
    """By what a conversion that was made with rules and options is known (`converter.pipeline`)."""
    return f"{rules.version}|{options!r}"


class StoreRenderer:
    """Renders studies of one store.

    Parameters
    ----------
    store : SqlStore
    recipes : callable
        Destination to its `Recipe`.
    """

    def __init__(self, store: SqlStore, recipes: Callable[[str], Recipe]) -> None:
        self._store = store
        self._recipes = recipes
        self._made = store.fingerprint()

    def __call__(self, study_uid: str, destination: str) -> Rendered | None:
        """Render one study; ``None`` where it is held or waits for its conversion."""
        store = self._store
        if store.held(study_uid):
            return None
        recipe = self._recipes(destination)
        found = store.conversion(study_uid)
        if recipe.fingerprint != self._made:
            return self._anew(study_uid, recipe, found)
        return None if found is None else self._as_it_stands(study_uid, found)

    def _as_it_stands(self, study_uid: str, found: Converted) -> Rendered | None:
        if found.state != "converted" or not found.resource:
            return None
        store = self._store
        companions = []
        for kind, id_ in store.contributed(study_uid):
            companion = self._companion(kind, id_)
            if companion is None:
                return None  # another run has just taken the study back, to convert it anew
            companions.append(companion)
        resource = orjson.loads(found.resource)
        gone = bool(found.withdrawn)
        return Rendered(
            resource, companions, found.dropped, found.tombstones, gone, _replaces(found)
        )

    def _companion(self, kind: str, id_: str) -> Json | None:
        held = self._store.companion(kind, id_)
        if held is not None:
            return held
        found = self._contributions(kind, id_)
        return reduce(found).resource if found else None

    def _contributions(self, kind: str, id_: str) -> list[tuple[str, Json]]:
        found = self._store.contributions_to(kind, id_)
        return [(uid, orjson.loads(body)) for uid, body in found]

    def _anew(self, study_uid: str, recipe: Recipe, found: Converted | None) -> Rendered | None:
        if found is not None and found.withdrawn:
            return self._as_it_stands(study_uid, found)
        study = assemble(study_uid, map(unpack_block, self._store.blocks([study_uid])[0]))
        if study.count < (found.instances if found is not None else 1):
            # headers are gone: what was made of them stands
            return None if found is None else self._as_it_stands(study_uid, found)
        made = convert(study, recipe.rules, recipe.options)
        if made.state != "converted" or made.resource is None:
            return None
        companions = []
        for ours in made.companions:
            kind, id_ = str(ours["resourceType"]), str(ours["id"])
            others = [
                (uid, theirs) for uid, theirs in self._contributions(kind, id_) if uid != study_uid
            ]
            companions.append(reduce([*others, (study_uid, ours)]).resource)
        # what was left out when it was published is not among what is converted here
        gone = {*made.tombstones, *(found.tombstones if found is not None else ())}
        gone -= {
            one["uid"]
            for series in made.resource.get("series") or []
            for one in series.get("instance") or []
        }
        return Rendered(
            made.resource,
            companions,
            made.dropped,
            sorted(gone),
            bool(made.withdrawn),
            _replaces(found),
        )


def _replaces(found: Converted | None) -> list[Json]:
    return [orjson.loads(subject) for subject in found.replaces] if found is not None else []
