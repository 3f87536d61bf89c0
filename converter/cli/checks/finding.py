"""What a check finds, and the set-up that it looks at."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from converter.cli.listen import daemon_settings
from converter.cli.places import state_folder
from converter.store import place_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from converter.config import Loaded
    from converter.listener.starting import DaemonSettings
    from converter.store import StatePlace

__all__ = [
    "CONFIGURATION",
    "FAILED",
    "FAULT",
    "MACHINE",
    "NETWORK",
    "Finding",
    "Purpose",
    "SetUp",
    "Status",
    "counted",
    "lasted",
    "nearest",
    "sized",
    "there",
    "worst",
]

Status = Literal["ok", "warning", "problem"]
Purpose: TypeAlias = Literal["listen", "convert", "send"]

FAILED, CONFIGURATION, NETWORK, MACHINE, FAULT = 1, 3, 6, 7, 70
"""Exit codes of problems, as all commands have them."""
ORDER = (FAULT, CONFIGURATION, MACHINE, NETWORK, FAILED)


class Finding(NamedTuple):
    """One line of the result."""

    status: Status
    found: str
    fix: str = ""
    """A command or a setting."""
    code: int = 0
    """Exit code, of a problem."""


def worst(codes: set[int]) -> int:
    """Exit code of several problems; 0 where there is none."""
    return next((code for code in ORDER if code in codes), 0)


@dataclass(frozen=True)
class SetUp:
    """A set-up as `listen`, `convert` and `send` would find it."""

    loaded: Loaded
    config_file: str | None
    flags: Mapping[str, Any]
    """Those of the command line that are about delivery, by key of the configuration."""
    state: str
    """State that was named on the command line; empty: those that the commands take by themselves."""
    purposes: frozenset[str]
    """Commands that it is for."""
    alone: bool = False
    """Whether servers were named on the command line: then these alone."""

    @cached_property
    def daemon(self) -> DaemonSettings:
        """What `listen` makes of it, its faults included."""
        return daemon_settings(self.loaded, faulty=True)

    def stores(self) -> list[StatePlace]:
        """States of `listen`, and of `convert` and `send` where one is kept.

        Raises
        ------
        ConfigurationError
            One cannot be named so.
        """
        if self.state:
            return [place_of(self.state)]
        found: list[StatePlace] = []
        if "listen" in self.purposes:
            named = self.loaded.config.listen.state
            found.append(place_of(named) if named else self.daemon.state)
        if self.purposes & {"convert", "send"}:
            named = self.loaded.config.convert.state
            place = place_of(named or str(state_folder() / "convert.db"))
            kept = isinstance(place, Path) and place.is_file()
            if named or kept or not found:
                found.append(place)
        return list(dict.fromkeys(found))

    def origin(self, *key: str) -> str:
        """Where a key was set, for a person who changes it."""
        origin = self.loaded.origins.get(key, "")
        if origin and origin != "command line":
            return origin
        return str(self.loaded.file or "dcm2fhir.toml")


def sized(count: float) -> str:
    """Bytes, in the unit that a setting would have."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.1f} {unit}" if unit != "B" else f"{int(count)} B"
        count /= 1024
    raise AssertionError


def lasted(seconds: float) -> str:
    """How long, in one unit."""
    seconds = abs(seconds)
    for unit, size in (("days", 2 * 86400), ("h", 2 * 3600), ("min", 120)):
        if seconds >= size:
            return f"{int(seconds // {'days': 86400, 'h': 3600, 'min': 60}[unit])} {unit}"
    return f"{int(seconds)} s"


def counted(count: int, word: str, several: str = "") -> str:
    """A number with its word."""
    return f"{count:,} {word if count == 1 else several or word + 's'}"


def nearest(path: Path) -> Path:
    """The folder that is there, of those above a path that is not."""
    path = Path(os.path.realpath(path))
    while not there(path) and path != path.parent:
        path = path.parent
    return path


def there(path: Path) -> bool:
    """Whether something is there that this user may know of."""
    try:
        return path.exists()
    except OSError:
        return False
