"""The configuration in force: flag, environment, file, default, in that order.

A configuration file is TOML; its sections are the structs below, and ``[site]`` is `converter.core.site.Site`.
The environment names a key as ``DCM2FHIR_CONVERT__PROFILE`` (``__`` between section and key). Unknown keys are
errors, and all faults are told at once. A secret stands in no configuration file, only its file's name does.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import msgspec

from converter.errors import ConfigurationError, Fault, MappingError
from converter.settings import Config, IdentitySettings, parse_duration, parse_size
from converter.sites import value_fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "Loaded",
    "Setting",
    "default_files",
    "load",
    "overlooked",
    "settings_of",
]

PREFIX = "DCM2FHIR_"
MASK = "********"
_OF_OTHERS = re.compile(r"CONFIG|TEST_.*|(.*_)?(SERVICE_HOST|SERVICE_PORT.*|PORT_[0-9]+_.*)")
"""What Kubernetes makes for a service, and our tests."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of the configuration in force."""

    key: str
    value: Any
    origin: str
    """``command line``, a variable of the environment, a file, or ``default``."""
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """The configuration in force and where each value came from."""

    config: Config
    file: Path | None
    origins: Mapping[tuple[str, ...], str]


Key: TypeAlias = tuple[str, ...]
Found: TypeAlias = dict[Key, tuple[Any, str]]


def default_files(environ: Mapping[str, str]) -> list[Path]:
    """Where a configuration is looked for, in order, when none is named."""
    home = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "/")) / ".config")
    return [
        Path("dcm2fhir.toml"),
        Path(home) / "dcm2fhir" / "dcm2fhir.toml",
        Path("/etc/dcm2fhir/dcm2fhir.toml"),
    ]


def load(
    file: str | Path | None = None,
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[str, Any] | None = None,
    *,
    search: bool = True,
) -> Loaded:
    """Read the configuration in force.

    Parameters
    ----------
    file : str or Path, optional
        Configuration file; default ``$DCM2FHIR_CONFIG``, then the first of `default_files` that exists.
    environ : mapping
        The environment.
    flags : mapping, optional
        Values of the command line by dotted key, such as ``convert.format``; they win.
    search : bool
        Look for a file where none is named.

    Raises
    ------
    MappingError
        With every fault of file, environment and flags.
    ConfigurationError
        A file that was named is not there or not readable.
    """
    faults: list[Fault] = []
    found: Found = {}
    named = file or environ.get(PREFIX + "CONFIG")
    path = _find(named, environ) if named or search else None
    if path is not None:
        for key, value in _read(Config, _parse(path), (), str(path), faults):
            _no_secret(key, path, faults)
            found[key] = (_anchored(key, value, path.parent), str(path))
    for name, table in _variables(environ):
        for key, value in _read(Config, table, (), f"environment {name}", faults, strict=False):
            found[key] = (value, name)
    for dotted, value in (flags or {}).items():
        table = {}
        _put(table, tuple(dotted.split(".")), value)
        for key, taken in _read(Config, table, (), "command line", faults):
            found[key] = (taken, "command line")
    faults += _unusable(found)
    if faults:
        raise MappingError(faults)
    tree: dict[str, Any] = {}
    for key, (value, _) in found.items():
        _put(tree, key, value)
    config = msgspec.convert(tree, Config)
    secret = _identity_key(config.identity)
    config = msgspec.structs.replace(
        config, site=msgspec.structs.replace(config.site, identity_key=secret)
    )
    return Loaded(config, path, {key: origin for key, (_, origin) in found.items()})


def settings_of(loaded: Loaded) -> list[Setting]:
    """Every key of the configuration with value and origin; secrets are masked."""
    return list(_flatten(loaded.config, (), loaded.origins))


def _find(named: str | Path | None, environ: Mapping[str, str]) -> Path | None:
    if named is not None:
        path = Path(named)
        if path.is_dir():
            raise ConfigurationError(
                f"the configuration file {path} is a folder: name a file in it"
            )
        if not path.exists():
            raise ConfigurationError(f"the configuration file {path} is not there")
        return path
    for path in default_files(environ):
        try:
            if path.is_file():
                return path
        except OSError as error:  # to go on without what may stand there would be another set-up
            raise ConfigurationError(
                f"nobody can see whether there is a configuration file {path} ({error.strerror}): "
                "set HOME, or name the file with --config"
            ) from error
    return None


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise MappingError([Fault.of_encoding(str(path), error)]) from error
    except tomllib.TOMLDecodeError as error:
        raise MappingError([Fault(str(path), "", f"is no TOML: {error}")]) from error


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    # Names without "__" are none of ours: Kubernetes makes DCM2FHIR_PORT and the like for a service.
    for name in sorted(environ):
        if name.startswith(PREFIX) and "__" in name and environ[name]:
            table: dict[str, Any] = {}
            _put(table, tuple(name.removeprefix(PREFIX).lower().split("__")), environ[name])
            yield name, table


def overlooked(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Variables that are named as ours and name no key, each with what was probably meant."""
    keys: dict[str, str] = {}
    for section in msgspec.structs.fields(Config):
        inner = _struct(section.type)
        for field in msgspec.structs.fields(inner) if inner is not None else ():
            name = f"{section.name}__{field.name}".upper()
            keys[name.replace("__", "_")] = PREFIX + name
    found = []
    for name in sorted(environ):
        rest = name.removeprefix(PREFIX)
        if rest == name or "__" in name or _OF_OTHERS.fullmatch(rest) or "://" in environ[name]:
            continue
        near = difflib.get_close_matches(rest, keys, n=1)
        found.append(name + (f"; did you mean {keys[near[0]]}?" if near else ""))
    return found


def _put(tree: dict[str, Any], key: Key, value: Any) -> None:
    for part in key[:-1]:
        tree = tree.setdefault(part, {})
    tree[key[-1]] = value


def _read(
    kind: type[msgspec.Struct],
    table: Mapping[str, Any],
    at: Key,
    file: str,
    faults: list[Fault],
    *,
    strict: bool = True,
) -> Iterator[tuple[Key, Any]]:
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    fields.pop("identity_key", None)  # made from [identity], never written down
    for name, value in table.items():
        key = (*at, name)
        if name not in fields:
            faults.append(Fault(file, _dotted(key), "is no known key" + _nearest(name, fields)))
            continue
        yield from _read_value(fields[name], value, key, file, faults, strict=strict)


def _read_value(
    kind: Any, value: Any, key: Key, file: str, faults: list[Fault], *, strict: bool
) -> Iterator[tuple[Key, Any]]:
    inner = _struct(kind)
    if inner is not None or typing.get_origin(kind) is dict:
        if not isinstance(value, dict):
            hint = "" if strict else "; set it in a configuration file"
            faults.append(Fault(file, _dotted(key), f"is a table, not a single value{hint}"))
        elif inner is not None:
            yield from _read(inner, value, key, file, faults, strict=strict)
        else:
            entry = typing.get_args(kind)[1]
            for name, item in value.items():
                yield from _read_value(entry, item, (*key, name), file, faults, strict=strict)
        return
    if not strict and typing.get_origin(kind) is tuple:
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        taken = msgspec.convert(value, kind, strict=strict)
        if "size" in _extra(kind) and taken:
            parse_size(taken)
        if "duration" in _extra(kind):
            parse_duration(taken)
    except msgspec.ValidationError:
        how = ' such as "90s", "15m" or "2h"' if "duration" in _extra(kind) else ""
        how = how or (' such as "64MiB"' if "size" in _extra(kind) else "")
        faults.append(Fault(file, _dotted(key), _wanted(kind, value) + how))
    except ValueError as error:
        faults.append(Fault(file, _dotted(key), str(error)))
    else:
        yield key, taken


def _wanted(kind: Any, value: Any) -> str:
    """Say what a value should be; the value itself is not repeated, it may be a secret."""
    words: list[str] = []
    choices: list[str] = []
    for part in (
        typing.get_args(kind)
        if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union
        else (kind,)
    ):
        if typing.get_origin(part) is Literal:
            choices += [str(choice) for choice in typing.get_args(part) if choice]
        else:
            base = typing.get_args(part)[0] if typing.get_origin(part) is Annotated else part
            least = [meta.ge for meta in getattr(part, "__metadata__", ()) if meta.ge is not None]
            most = [meta.le for meta in getattr(part, "__metadata__", ()) if meta.le is not None]
            name = {int: "a whole number", bool: "true or false", str: "a text"}.get(
                base, "a list of texts"
            )
            words.append(
                name
                + (f" of at least {least[0]}" if least else "")
                + (f" and at most {most[0]}" if most else "")
            )
    near = _nearest(value, choices) if isinstance(value, str) else ""
    return (
        "must be "
        + " or ".join(words + ([f"one of {', '.join(choices)}"] if choices else []))
        + near
    )


def _struct(kind: Any) -> type[msgspec.Struct] | None:
    for part in (kind, *typing.get_args(kind)):
        if isinstance(part, type) and issubclass(part, msgspec.Struct):
            return None if typing.get_origin(kind) is dict else part
    return None


def _extra(kind: Any) -> Mapping[str, Any]:
    return {
        name: value
        for meta in getattr(kind, "__metadata__", ())
        for name, value in (meta.extra or {}).items()
    }


def _field(key: Key) -> Any:
    kind: Any = Config
    for name in key:
        inner = _struct(kind)
        if inner is None:
            kind = typing.get_args(kind)[1]
        else:
            kind = next(field.type for field in msgspec.structs.fields(inner) if field.name == name)
    return kind


def _anchored(key: Key, value: Any, folder: Path) -> Any:
    """Paths in a file are relative to that file, wherever the command runs."""
    if "path" in _extra(_field(key)) and value not in {"", "-"} and "://" not in value:
        return str(folder / value)
    if key[-1] == "profile":  # of a run, and of a destination
        return tuple(str(folder / name) if name.endswith(".toml") else name for name in value)
    return value


def _no_secret(key: Key, path: Path, faults: list[Fault]) -> None:
    if "secret" in _extra(_field(key)):
        message = f"a secret stands in no configuration file; name its file in {_dotted(key)}_file"
        faults.append(Fault(str(path), _dotted(key), message))


def _unusable(found: Found) -> Iterable[Fault]:
    for key, (value, origin) in found.items():
        if fault := value_fault(key, value):
            yield Fault(origin, _dotted(key), fault)


def _identity_key(identity: IdentitySettings) -> str:
    if not identity.key_file:
        key = identity.key
    else:
        try:
            key = Path(identity.key_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"identity.key_file: cannot read {identity.key_file}"
            ) from error
    if (key or identity.key_file) and len(key) < 16:
        raise ConfigurationError("the identity key is too short: at least 16 characters")
    return key


def _flatten(value: msgspec.Struct, at: Key, origins: Mapping[Key, str]) -> Iterator[Setting]:
    for field in msgspec.structs.fields(value):
        if field.name == "identity_key":
            continue
        key, item = (*at, field.name), getattr(value, field.name)
        if isinstance(item, msgspec.Struct):
            yield from _flatten(item, key, origins)
        elif isinstance(item, dict) and item:
            for name, entry in item.items():
                if isinstance(entry, msgspec.Struct):
                    yield from _flatten(entry, (*key, name), origins)
                else:
                    yield Setting(
                        _dotted((*key, name)), entry, origins.get((*key, name), "default")
                    )
        else:
            secret = "secret" in _extra(field.type)
            shown = MASK if secret and item else _masked(item)
            yield Setting(_dotted(key), shown, origins.get(key, "default"), secret)


def _masked(item: Any) -> Any:
    """Hide what should stand in no URL, and may: passwords, and what is asked of a web server."""
    if isinstance(item, tuple):
        return tuple(_masked(each) for each in item)
    if not isinstance(item, str) or "://" not in item:
        return item
    text = re.sub(r"^(https?://)[^/?#]*@", rf"\1{MASK}@", item)  # a name alone may be a token
    text = re.sub(r"(?<=://)([^:/@]*:).*@", rf"\1{MASK}@", text)
    text = re.sub(r"(?<=password=)[^&]+", MASK, text)
    return re.sub(r"^(https?://[^?]*\?).+", rf"\1{MASK}", text)


def _dotted(key: Key) -> str:
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in key)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
