"""Finds, reads and overlays mapping files; the only module that knows where they live.

Order: ``base``, the profiles asked for by name, site profiles given as files, the site's overlay folder.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from hashlib import blake2b
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from converter import __version__
from converter.core.compile import compile_rules
from converter.core.examples import failures
from converter.core.overlay import KEYS, Layer, flatten
from converter.core.profile import Profile, parse_profile
from converter.core.rules import RuleSet
from converter.core.site import Site
from converter.core.tables import CodeTable, parse_table
from converter.data import data_path
from converter.errors import ConfigurationError, Fault, MappingError, ProfileNotFoundError
from converter.fhir.definitions import load_structure
from converter.fhir.terminology import sct_identifier
from converter.sites import value_fault

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MappingFile", "check", "load", "shipped"]

SNOMED = ("body-part", "laterality", "srt-to-sct")
"""Shipped code tables whose codes are those of SNOMED CT."""


@dataclass(frozen=True, slots=True)
class MappingFile:
    """A shipped file, as ``mappings list`` shows it."""

    name: str
    kind: str
    """``base``, ``profile`` or ``codes``."""
    title: str
    path: Path


@dataclass(slots=True)
class _Read:
    layers: list[Layer]
    profiles: list[Profile]
    examples: list[Mapping[str, Any]]
    sites: list[tuple[str, Mapping[str, Any]]]
    faults: list[Fault]
    digest: Any


def shipped() -> list[MappingFile]:
    """Shipped mapping files and code tables, base first."""
    found = []
    for kind, folder, suffix in (
        ("base", "base", ".toml"),
        ("profile", "profiles", ".toml"),
        ("codes", "codes", ".csv"),
    ):
        found += [
            MappingFile(path.stem, kind, _title(path.read_text("utf-8")), path)
            for path in sorted(data_path(folder).glob(f"*{suffix}"))
        ]
    return found


def _title(text: str) -> str:
    """First sentence of the comment that a file begins with."""
    lines = takewhile(lambda line: line.startswith("#"), text.splitlines())
    comment = " ".join(line.lstrip("# ").strip() for line in lines)
    return re.split(r"\.(?=\s|$)", comment, maxsplit=1)[0]


def _bytes(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{name}: cannot be read: {error.strerror}") from error


def _document(path: Path, name: str, read: _Read) -> dict[str, Any]:
    data = _bytes(path, name)
    read.digest.update(name.encode() + b"\0" + data)
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        read.faults.append(Fault.of_encoding(name, error))
    except tomllib.TOMLDecodeError as error:
        read.faults.append(Fault(name, "", f"is no TOML: {error}"))
    return {}


def _add(path: Path, name: str, kind: str, read: _Read) -> None:
    document = _document(path, name, read)
    tree = {key: value for key, value in document.items() if key not in KEYS}
    extends = document.get("extends", "base")
    if extends != "base":
        read.faults.append(Fault(name, "extends", 'only "base" can be extended'))
    layer, faults = flatten(name, kind, tree)
    read.layers.append(layer)
    read.faults += faults
    if "profile" in document or "constraint" in document:
        try:
            read.profiles.append(parse_profile(document, name, load_structure()))
        except MappingError as error:
            read.faults += error.faults
    examples = document.get("example", [])
    if isinstance(examples, list) and all(isinstance(one, Mapping) for one in examples):
        read.examples += [{**example, "file": name} for example in examples]
    else:
        read.faults.append(Fault(name, "example", "write [[example]]"))
    if "site" in document:
        if kind not in {"file", "site"}:
            read.faults.append(Fault(name, "site", "a shipped file has no site"))
        elif not isinstance(document["site"], Mapping):
            read.faults.append(Fault(name, "site", "write [site], a table"))
        else:
            read.sites.append((name, document["site"]))


def _profile_path(name: str) -> tuple[Path, str]:
    if name.endswith(".toml") or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise ProfileNotFoundError(f"profile {name}: there is no such file")
        return path, "file"
    path = data_path("profiles", f"{name}.toml")
    if not path.is_file():
        known = [file.name for file in shipped() if file.kind == "profile"]
        near = get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ProfileNotFoundError(
            f"there is no profile {name}; {hint}known: {', '.join(known)}, or a file such as ./site.toml"
        )
    return path, "profile"


def _taken(read: _Read) -> Iterator[Fault]:
    """Names and canonicals of a site's profiles that are others' already: two would be checked as one."""
    own = [profile for profile in read.profiles if not profile.file.startswith("profiles/")]
    names: dict[str, str] = {}
    canonicals: dict[str, str] = {}
    for file in shipped() if own else ():
        if file.kind == "profile":
            profile = parse_profile(tomllib.loads(file.path.read_text("utf-8")), file.name)
            names[profile.name] = "dcm2fhir"
            canonicals.update(dict.fromkeys(profile.claims.values(), profile.name))
    for profile in own:
        if profile.name in names:
            message = f"{profile.name} is the name of a profile of {names[profile.name]}"
            yield Fault(profile.file, "profile.name", message)
        names[profile.name] = profile.file
        for kind, url in profile.claims.items():
            if url in canonicals:
                message = f"is what --profile {canonicals[url]} claims, and checks"
                yield Fault(profile.file, f"profile.claims.{kind}", message)


def _tables(overlay: Path | None, read: _Read) -> dict[str, CodeTable]:
    tables: dict[str, CodeTable] = {}
    folders = [(data_path("codes"), "codes")]
    if overlay is not None and (overlay / "codes").is_dir():
        folders.append((overlay / "codes", f"{overlay.name}/codes"))
    for folder, name in folders:
        for path in sorted(folder.glob("*.csv")):
            file = f"{name}/{path.name}"
            data = _bytes(path, file)
            read.digest.update(file.encode() + b"\0" + data)
            try:
                table = parse_table(path.name, data.decode("utf-8"))
            except UnicodeDecodeError as error:
                read.faults.append(Fault.of_encoding(file, error))
            except MappingError as error:
                read.faults += [replace(fault, file=file) for fault in error.faults]
            else:
                tables[path.stem] = _laid(tables.get(path.stem), table, file, read)
    return tables


def _laid(shipped_one: CodeTable | None, table: CodeTable, file: str, read: _Read) -> CodeTable:
    """A site's table laid over the shipped one of its name: its rows are added, or replace those of their keys."""
    if shipped_one is None:
        return table
    if table.columns != shipped_one.columns:
        there = ",".join(shipped_one.columns)
        read.faults.append(Fault(file, "", f"columns must be those of the shipped table: {there}"))
        return shipped_one
    for key, row in table.rows.items():
        where = f"line {row.line}"
        code = row.values.get("code", "")
        if table.name in SNOMED and code and not (code.isdecimal() and sct_identifier(code)):
            message = (
                f"the code of {key!r} is no SNOMED CT identifier: a spreadsheet may have changed it"
            )
            read.faults.append(Fault(file, where, message))
        if table.name == "body-part" and row.values.get("paired") not in {"yes", "no"}:
            read.faults.append(Fault(file, where, "paired is yes or no"))
    own = {key: replace(row, file=file) for key, row in table.rows.items()}
    return replace(table, rows={**shipped_one.rows, **own})


def _stray(overlay: Path, tables: Mapping[str, CodeTable], read: _Read) -> None:
    """Tell of files in a site's folder that nothing reads, whatever their owner thinks."""
    for path in sorted([*overlay.glob("*"), *overlay.glob("codes/*")]):
        name, kind = f"{overlay.name}/{path.relative_to(overlay)}", path.suffix.lower()
        if kind == ".csv" and path.parent == overlay:
            read.faults.append(Fault(name, "", "is not read: code tables stand in codes/"))
        elif kind == ".toml" and path.parent != overlay:
            read.faults.append(Fault(name, "", "is not read: mapping files stand above codes/"))
        elif kind in {".csv", ".toml"} and path.suffix != kind:
            read.faults.append(Fault(name, "", f"is not read: its name must end in {kind}"))
    brought = {file.name for file in shipped() if file.kind == "codes"}
    named = {
        str(raw.options.get("codes", ""))
        for layer in read.layers
        for raw in layer.rules.values()
        if raw.options is not None
    }
    for name in sorted(tables.keys() - brought - named):
        if near := get_close_matches(name, sorted(brought), 1):
            message = f"is not read: no rule names it; did you mean {near[0]}.csv?"
            read.faults.append(Fault(f"{overlay.name}/codes/{name}.csv", "", message))


def _site(site: Site, read: _Read) -> Site:
    merged: dict[str, Any] = msgspec.to_builtins(site)
    for name, table in read.sites:
        for key, value in table.items():
            # one key at a time, so that every fault is told
            faults = _site_faults(name, merged, (key,), value) or [
                Fault(name, ".".join(path), fault)
                for path, text in _leaves(("site", key), value)
                if (fault := value_fault(path, text))
            ]
            read.faults += faults
            merged = merged if faults else _deep(merged, {key: value})
    return msgspec.convert(merged, Site)


def _leaves(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(value, Mapping):
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves((*path, key), inner)


def _site_faults(
    name: str, merged: Mapping[str, Any], keys: tuple[str, ...], value: Any
) -> list[Fault]:
    tried: Any = value
    for key in reversed(keys):
        tried = {key: tried}
    try:
        msgspec.convert(_deep(merged, tried), Site)
    except msgspec.ValidationError as error:
        below: list[Fault] = []
        if isinstance(value, Mapping) and len(value) > 1:
            for key, inner in value.items():
                below += _site_faults(name, merged, (*keys, key), inner)
        return below or [_site_fault(name, ".".join(keys), error)]
    return []


def _site_fault(name: str, key: str, error: msgspec.ValidationError) -> Fault:
    text, _, place = str(error).partition(" - at `$.")
    where = place.removesuffix("`") or key
    if "unknown field" not in text:
        return Fault(name, f"site.{where}", text)
    unknown = text.split("`")[1]
    kind: Any = Site
    for part in where.split(".") if place else ():
        kind = next((f.type for f in msgspec.structs.fields(kind) if f.name == part), None)
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
            break
    is_struct = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    known = [f.name for f in msgspec.structs.fields(kind)] if is_struct else []
    near = get_close_matches(unknown, known, 1)
    hint = f"; did you mean {near[0]}?" if near else ""
    written = f"site.{where}.{unknown}" if place else f"site.{unknown}"
    return Fault(name, written, f"unknown key{hint}")


def _deep(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        held = merged.get(key)
        merged[key] = (
            _deep(held, value) if isinstance(held, dict) and isinstance(value, Mapping) else value
        )
    return merged


def load(
    profiles: Sequence[str] = ("r4",), *, site: Site | None = None, overlays: Path | None = None
) -> RuleSet:
    """Read and compile the mapping in force.

    Parameters
    ----------
    profiles : sequence of str
        Names of shipped profiles, or paths of a site's own files.
    site : Site, optional
        As configured; a ``[site]`` in a site's file goes on top of it.
    overlays : Path, optional
        Folder with a site's ``*.toml`` and ``codes/*.csv``.

    Raises
    ------
    MappingError
        With every fault of every file.
    ProfileNotFoundError
        A name that is neither shipped nor a file.
    ConfigurationError
        A file that cannot be read.
    """
    read = _Read([], [], [], [], [], blake2b(__version__.encode(), digest_size=16))
    tables = _tables(overlays, read)
    for path in sorted(data_path("base").glob("*.toml")):
        _add(path, f"base/{path.name}", "base", read)
    placed = [_profile_path(name) for name in dict.fromkeys(profiles)]
    for wanted in ("profile", "file"):
        for path, kind in placed:
            if kind == wanted:
                _add(path, f"profiles/{path.name}" if kind == "profile" else path.name, kind, read)
    if overlays is not None:
        if not overlays.is_dir():
            raise ConfigurationError(f"{overlays}: is no folder of mapping files")
        for path in sorted(overlays.glob("*.toml")):
            _add(path, path.name, "site", read)
        _stray(overlays, tables, read)
    read.faults += _taken(read)
    settings = _site(site or Site(), read)
    read.digest.update(msgspec.json.encode(settings))
    read.digest.update("\0".join(profiles).encode())
    return compile_rules(
        read.layers,
        structure=load_structure(),
        tables=tables,
        site=settings,
        profiles=read.profiles,
        examples=read.examples,
        version=read.digest.hexdigest(),
        faults=read.faults,
    )


def check(
    profiles: Sequence[str] = ("r4",), *, site: Site | None = None, overlays: Path | None = None
) -> tuple[list[Fault], int]:
    """Compile the mapping and run every ``[[example]]``: the site's under all that is in force, ours as we bring them.

    Returns
    -------
    list of Fault, int
        All faults, and how many examples were run.
    """
    try:
        rules = load(profiles, site=site, overlays=overlays)
    except MappingError as error:
        return list(error.faults), 0
    # what we bring is held to its own promises: a site may change what our examples are about
    brought = load([name for name in profiles if _profile_path(name)[1] == "profile"])
    own = replace(
        rules, examples=tuple(one for one in rules.examples if one["file"] not in brought.files)
    )
    return [*failures(brought), *failures(own)], len(rules.examples)
