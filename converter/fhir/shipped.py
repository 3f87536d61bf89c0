"""Makes the checker from the data that we ship."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from converter.core.profile import Profile, parse_profile
from converter.data import data_path
from converter.errors import Fault, MappingError, ProfileNotFoundError
from converter.fhir.checker import Checker
from converter.fhir.definitions import load_extensions, load_shapes, load_structure, load_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from converter.fhir.definitions import ExtensionDefinition

__all__ = ["read_profile", "shipped_checker", "shipped_profiles"]


def shipped_profiles() -> list[Profile]:
    """Read the constraint parts of the profiles that we ship."""
    return [read_profile(path) for path in sorted(data_path("profiles").glob("*.toml"))]


def read_profile(path: Path) -> Profile:
    """Read the constraint part of one profile file.

    Raises
    ------
    ProfileNotFoundError
        There is no such file.
    MappingError
        With every fault of it.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ProfileNotFoundError(f"profile {path.name}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MappingError([Fault(path.name, "", str(error))]) from error
    return parse_profile(document, path.name, load_structure())


def shipped_checker(
    profiles: Iterable[Profile] | None = None,
    extensions: Mapping[str, ExtensionDefinition] | None = None,
) -> Checker:
    """Make a checker from the data that we ship, with all shipped profiles if none are given.

    Parameters
    ----------
    profiles : iterable of Profile, optional
    extensions : mapping, optional
        Those of a site, by URL, beside the published ones.
    """
    asked = shipped_profiles() if profiles is None else list(profiles)
    known = {**(extensions or {}), **load_extensions()}
    return Checker(
        load_structure(), asked, load_tables(*tables_of(asked)), known, shapes=load_shapes()
    )


def tables_of(profiles: Iterable[Profile]) -> list[str]:
    """Names of the code tables that profiles bind elements to."""
    return sorted(
        {
            row.binding.table
            for profile in profiles
            for row in profile.constraints
            if row.binding is not None and row.binding.table
        }
    )
