"""The sections of a configuration file, but for ``[site]``, which is `converter.core.site.Site`.

Every default stands here and nowhere else.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

import msgspec

from converter.core.site import Site

__all__ = [
    "Config",
    "ConvertSettings",
    "IdentitySettings",
    "LogSettings",
    "parse_size",
]

UNITS = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}

FilePath: TypeAlias = Annotated[str, msgspec.Meta(extra={"path": True})]
Secret: TypeAlias = Annotated[str, msgspec.Meta(extra={"secret": True})]
Size: TypeAlias = Annotated[str, msgspec.Meta(extra={"size": True})]
Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
NotNegative: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class ConvertSettings(_Settings, frozen=True):
    """``[convert]``: each key is the option of `dcm2fhir convert` with that name."""

    output: FilePath = ""
    format: Literal["json", "ndjson", "bundle"] = "json"
    bundle_type: Literal["transaction", "batch", "collection"] = "transaction"
    max_bundle_entries: Positive = 100
    max_file_size: Size = ""
    profile: tuple[str, ...] = ("r4",)
    patient: Literal["resource", "reference", "logical", "contained"] = "resource"
    companions: bool = False
    instances: Positive | Literal["all", "none"] = "all"
    modality: tuple[str, ...] = ()
    study_uid: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    redact_paths: bool = False
    ignore_changed: bool = False
    mappings: FilePath = ""
    state: FilePath = ""
    report: FilePath = ""
    strict: bool = False
    jobs: NotNegative = 0
    """0: as many as the machine has cores."""
    progress: Literal["auto", "never"] = "auto"
    ownership: Literal["merge", "replace"] = "merge"
    prune: bool = False


class IdentitySettings(_Settings, frozen=True):
    """``[identity]``."""

    key: Secret = ""
    """Makes person ids unguessable; only from the environment."""
    key_file: FilePath = ""
    """File that holds the key."""


class LogSettings(_Settings, frozen=True):
    """``[log]``."""

    format: Literal["text", "json"] = "text"


class Config(_Settings, frozen=True):
    """A whole configuration."""

    convert: ConvertSettings = ConvertSettings()
    identity: IdentitySettings = IdentitySettings()
    log: LogSettings = LogSettings()
    site: Site = Site()


def parse_size(text: str) -> int:
    """Bytes of a size such as ``64MiB``; decimal (``MB``) and binary (``MiB``) units.

    Raises
    ------
    ValueError
        The text is no size.
    """
    match = re.fullmatch(r"([0-9]{1,15}) ?(B|kB|MB|GB|KiB|MiB|GiB|)", text)
    if match is None:
        raise ValueError(f"{text!r} is no size; sizes are written as 64MiB")
    return int(match[1]) * UNITS[match[2]]
