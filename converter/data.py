"""Where the shipped data files lie.

In a wheel ``mappings/`` is carried as ``converter/_mappings``; in a checkout or an editable install it
stands beside the package.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from converter.errors import ConfigurationError

__all__ = ["data_path"]


@cache
def _root() -> Path:
    package = Path(__file__).resolve().parent
    for folder in (package / "_mappings", package.parent / "mappings"):
        if folder.is_dir():
            return folder
    raise ConfigurationError("The mapping data of dcm2fhir is missing: install the package again.")


def data_path(*parts: str) -> Path:
    """Path of a shipped data file or folder, whether it exists or not.

    Parameters
    ----------
    *parts : str
        Below ``mappings/``, such as ``"profiles", "ips.toml"``.

    Raises
    ------
    ConfigurationError
        The installation carries no mapping data.
    """
    return _root().joinpath(*parts)
