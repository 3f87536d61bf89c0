"""HTML from text that nobody vouches for: whatever is no `Markup` is escaped, so nothing can be forgotten."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable

__all__ = ["Markup", "element", "joined", "shown"]

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that a reader does not see, or that turn round what stands beside them."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def shown(text: str) -> str:
    r"""Text with every invisible character written out as in JSON (RFC 8259 section 7), ``\u202e`` say; newlines stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        one if one == "\n" or unicodedata.category(one) not in _INVISIBLE else _written_out(one)
        for one in text
    )


def _written_out(one: str) -> str:
    data = one.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{int.from_bytes(data[at : at + 2]):04x}" for at in range(0, len(data), 2))


def escaped(part: str) -> str:
    """HTML of a part: its own, or text escaped for content and attributes (quoted)."""
    return part if isinstance(part, Markup) else html.escape(shown(part))


def joined(parts: Iterable[str]) -> Markup:
    """Parts in a row."""
    return Markup("".join(map(escaped, parts)))


def element(name: str, *parts: str, **attributes: str) -> Markup:
    """One element; an underscore at the end of an attribute's name goes, one within it is a hyphen."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(shown(value))}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{given}>{joined(parts)}</{name}>")
