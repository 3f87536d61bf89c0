"""JSON as text: what is lost once a parser has made objects of it (RFC 8259, R4 ``json.html``).

Keys that stand twice, NaN and Infinity, numbers with a fraction where a whole one is asked for, the byte
order mark and the encoding are only seen here.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from converter.core.issues import Issue
from converter.fhir.report import LONGEST, Path, render, root, shown

__all__ = ["Parsed", "parse"]

DEEPEST = 200
"""Levels of nesting that are read; a resource has a dozen."""
UTF32 = ((True, True, True, False), (False, True, True, True))
UTF16 = ((True, False, True, False), (False, True, False, True))
TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
WHOLE = 600
"""Most digits of a number that is made an ``int``: Python refuses longer ones, or takes long over them."""


@dataclass(slots=True)
class Parsed:
    """What a text is."""

    value: Any = None
    issues: list[Issue] = field(default_factory=list)
    readable: bool = True
    """Whether it is JSON at all."""


class _Constant(float):
    """NaN or Infinity, as a number that no element takes."""


class _Reader:
    """Notes duplicate keys while the parser builds objects."""

    def __init__(self) -> None:
        self.twice: list[tuple[dict[str, Any], str]] = []
        self.constants = False

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    self.twice.append((made, key))
                seen.add(key)
        return made

    @staticmethod
    def whole(text: str) -> Any:
        if text == "-0" or len(text) > WHOLE:
            return Decimal(text)
        return int(text)

    @staticmethod
    def fraction(text: str) -> Any:
        try:
            return Decimal(text)
        except InvalidOperation:  # an exponent that no Decimal has: as good as the greatest
            return Decimal("-1E+999999" if text.startswith("-") else "1E+999999")

    @staticmethod
    def constant(text: str) -> Any:
        return _Constant(text)


def parse(data: bytes, *, first_line: int = 1, choices: dict[str, str] | None = None) -> Parsed:
    """Parse one JSON text, strictly.

    Parameters
    ----------
    data : bytes
    first_line : int
        Line that the text starts in; 0: it is one line, whose number is told elsewhere.
    choices : dict, optional
        As for `converter.fhir.report.render`.

    Returns
    -------
    Parsed
        Decimals are `decimal.Decimal`, as is ``-0``, so that their form can be judged.
    """
    parsed = Parsed()
    other = _other_encoding(data[:4])
    if other:
        return _unreadable("encoding", f"{_at(first_line)}{other}; JSON is exchanged as UTF-8")
    if data.startswith(codecs.BOM_UTF8):
        message = "a byte order mark at the start; JSON is exchanged without"
        parsed.issues.append(Issue("warning", "byte-order-mark", message=message))
        data = data[len(codecs.BOM_UTF8) :]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        at = _at(first_line, data.count(b"\n", 0, error.start))
        return _unreadable("encoding", f"{at}byte {error.start} is no UTF-8")
    if not text.strip():
        return _unreadable("json-syntax", f"{_at(first_line)}nothing here")
    reader = _Reader()
    try:
        if _depth(text) > DEEPEST:
            return _unreadable(
                "too-deep-json", f"{_at(first_line)}nested deeper than {DEEPEST} levels"
            )
        parsed.value = json.loads(
            text,
            object_pairs_hook=reader.pairs,
            parse_float=reader.fraction,
            parse_int=reader.whole,
            parse_constant=reader.constant,
        )
    except json.JSONDecodeError as error:
        line = f"line {first_line + error.lineno - 1}, " if first_line else ""
        return _unreadable("json-syntax", f"{line}column {error.colno}: {error.msg}")
    except RecursionError:
        return _unreadable("too-deep-json", f"{_at(first_line)}nested too deep to read")
    for holder, key in reader.twice:
        place = (_find(parsed.value, holder), key, None)
        message = f"{shown(key, LONGEST)} stands twice in one object"
        parsed.issues.append(
            Issue("error", "duplicate-key", render(place, choices or {}), message=message)
        )
    return parsed


def _other_encoding(start: bytes) -> str:
    """UTF-32 or UTF-16 by its mark or its zeros (RFC 4627 section 3); empty where it is neither."""
    zeros = tuple(byte == 0 for byte in start)
    if start in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE) or zeros in UTF32:
        return "UTF-32"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or zeros in UTF16:
        return "UTF-16"
    return ""


def _at(first_line: int, further: int = 0) -> str:
    return f"line {first_line + further}: " if first_line else ""


def _unreadable(code: str, message: str) -> Parsed:
    return Parsed(issues=[Issue("error", code, message=message)], readable=False)


def _depth(text: str) -> int:
    """Deepest nesting, without building anything."""
    deepest = depth = 0
    if text.count("[") + text.count("{") <= DEEPEST:
        return 0
    quoted = escaped = False
    for character in text:
        if quoted:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                quoted = False
        elif character == '"':
            quoted = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > DEEPEST:
                return deepest
        elif character in "]}":
            depth -= 1
    return deepest


def _find(value: Any, wanted: dict[str, Any]) -> Path:
    """Place of an object within a resource, by identity."""
    kind = value.get("resourceType") if value.__class__ is dict else None
    start = root(kind if kind.__class__ is str and TYPE.fullmatch(kind) else "Resource")
    stack: list[tuple[Any, Path]] = [(value, start)]
    while stack:
        held, path = stack.pop()
        if held is wanted:
            return path
        if held.__class__ is dict:
            # FHIRPath knows one name for a primitive and for what stands beside it.
            stack += [(item, (path, key.removeprefix("_"), None)) for key, item in held.items()]
        elif held.__class__ is list:
            parent, name, _ = path
            stack += [(item, (parent, name, index)) for index, item in enumerate(held)]
    return start
