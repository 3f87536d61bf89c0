"""What a transform is, and what it is called with.

A transform takes a `Call` (one source of one rule, over the values of one object) and returns a FHIR
value, ``None`` for nothing, or `Absent`. It decides from the values alone: the same values, the same
result, which is what lets the engine remember it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from converter.core import dictionary
from converter.core.header import (
    ASSUMED_CHARSET,
    ASSUMED_ZONE,
    SPECIFIC_CHARACTER_SET,
    Header,
    items,
)
from converter.core.issues import Issue, Severity
from converter.core.text import MISSING, Charset, charsets
from converter.core.values import is_legible, strings

if TYPE_CHECKING:
    from converter.core.rules import Rule, Source
    from converter.core.site import Site
    from converter.core.tables import CodeTable, Row

__all__ = ["TRANSFORMS", "Absent", "Call", "Ref", "Transform", "View", "transform"]


LONGEST = 1 << 20
"""Characters that a FHIR string may hold (R4 ``datatypes.html#string``)."""


@dataclass(frozen=True, slots=True)
class Absent:
    """The element stands, with the data-absent-reason extension instead of a value."""

    reason: str = "unknown"
    """Code of FHIR's data-absent-reason."""
    part: str = ""
    """Child that carries it, such as ``_text`` of a name; empty: the element itself."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to something that may become a resource of its own."""

    type: str
    """Resource type."""
    logical: Mapping[str, Any]
    """The Reference as it is written without such a resource."""
    header: tuple[tuple[int, bytes], ...] = ()
    """What the rules of that resource type read; empty where none can be made."""
    system: str = ""
    """System and value that make its id; without a system it is scoped to its study."""
    value: str = ""


@dataclass(frozen=True, slots=True)
class Transform:
    """One named transform."""

    name: str
    function: Callable[[Call], Any]
    gives: tuple[str, ...]
    """FHIR datatypes that it can fill."""
    needs: Mapping[str, Any] = field(default_factory=dict)
    """Keywords that it reads in the items of a sequence source, beside those known for the sequence."""
    also: tuple[str, ...] = ()
    """Top-level keywords that it reads beside ``from`` and ``with``."""
    agree: Literal["mode", "union", "unanimous"] = "mode"
    """How differing values of many instances become one."""
    aggregate: bool = False
    """Made by the engine from the whole study."""
    sourceless: bool = False
    """Needs no ``from``."""
    whole: bool = False
    """Reads the sources itself, all of them, rather than the first that yields something."""
    settle: Callable[[list[Any]], list[Any]] | None = None
    """Of united, sorted values of many instances: drops those that only repeat another one."""
    columns: tuple[str, ...] = ()
    """Columns that it reads of the rule's code table."""
    options: tuple[str, ...] = ()
    """Of ``system`` and ``type`` of the rule, those that it writes."""
    items: Literal["no", "may", "must"] = "no"
    """Whether its sources may, or must, be sequences."""
    companions_only: bool = False
    """Says something only where companions become resources."""
    always: bool = False
    """Yields something whatever its sources hold, a data-absent-reason at the least."""
    lacks: str = ""
    """What is missing where it yields nothing, if that is not a value of its sources alone."""


TRANSFORMS: dict[str, Transform] = {}


def transform(
    name: str, *gives: str, **options: Any
) -> Callable[[Callable[[Call], Any]], Callable[[Call], Any]]:
    """Register a function as a named transform."""

    def register(function: Callable[[Call], Any]) -> Callable[[Call], Any]:
        TRANSFORMS[name] = Transform(name, function, gives, **options)
        return function

    return register


_issue = lru_cache(maxsize=1024)(Issue)
_items = lru_cache(maxsize=256)(items)
"""Several rules read one sequence; nobody changes what it gives."""


class View:
    """Attributes of one dataset or sequence item, decoded on demand."""

    __slots__ = ("_call", "charset", "header", "stated")

    def __init__(
        self,
        header: Header,
        call: Call,
        inherited: Charset = MISSING,
        stated: bytes | None = None,
    ) -> None:
        self.header = header
        self._call = call
        own = header.get(SPECIFIC_CHARACTER_SET)
        if own and own.strip(b" \0"):
            self.charset = charsets(own)
            self.stated: bytes | None = own
        else:
            self.charset, self.stated = inherited, stated

    def raw(self, keyword: str) -> bytes | None:
        """Value field, or ``None`` where the attribute is absent or empty."""
        return self.header.get(dictionary.tag_of(keyword) or 0) or None

    def strings(self, keyword: str, *, keep_empty: bool = False) -> list[str]:
        """Trimmed values; empty ones only where ``keep_empty`` asks for them."""
        tag = dictionary.tag_of(keyword) or 0
        value = self.header.get(tag)
        if not value:
            return []
        read = _strings_with_empty if keep_empty else _strings
        found, findings = read(
            value, dictionary.vr_of(tag), self.charset, self._call.default_charset
        )
        if findings:
            self._call.found(findings, keyword)
        if len(value) > LONGEST and any(len(one) > LONGEST for one in found):
            self._call.issue("value-malformed", keyword)
            return [one for one in found if len(one) <= LONGEST]
        return list(found)

    def text(self, keyword: str, joint: str = "; ") -> str:
        """All values as one text, or an empty one."""
        return joint.join(self.strings(keyword))

    def whole(self, keyword: str) -> str:
        """Value of an attribute that holds one, or an empty text.

        Where it holds several all the same, none is taken for the whole: half a number may be somebody else's.
        """
        if not self.header.get(dictionary.tag_of(keyword) or 0):
            return ""
        found = self.strings(keyword)
        if len(found) > 1:
            self._call.several(keyword)
        return "\\".join(found)

    def is_legible(self, keyword: str) -> bool:
        """See `converter.core.values.is_legible`."""
        tag = dictionary.tag_of(keyword) or 0
        return is_legible(
            self.header.get(tag),
            dictionary.vr_of(tag),
            self.charset,
            default=self._call.default_charset,
        )

    def items(self, keyword: str) -> list[View]:
        """Items of a sequence."""
        value = self.header.get(dictionary.tag_of(keyword) or 0)
        if not value:
            return []
        return [View(item, self._call, self.charset, self.stated) for item in _items(value)]

    def alone(self) -> Header:
        """Header that can be read without what stands around it: with its character set."""
        stated = {SPECIFIC_CHARACTER_SET: self.stated} if self.stated else {}
        return {**self.header, **stated}

    def item(self, keyword: str) -> View | None:
        """Item of a sequence that holds one: the first."""
        found = self.items(keyword)
        if len(found) > 1:
            self._call.several(keyword)
        return found[0] if found else None


Found: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
"""Values of an attribute, and findings."""


@lru_cache(maxsize=4096)
def _strings(value: bytes, vr: str, charset: Charset, default: str) -> Found:
    """Trimmed values; several rules read an attribute."""
    decoded = strings(value, vr, charset, default=default)
    return tuple(decoded.values), decoded.findings


def _strings_with_empty(value: bytes, vr: str, charset: Charset, default: str) -> Found:
    decoded = strings(value, vr, charset, default=default, keep_empty=True)
    return tuple(decoded.values), decoded.findings


class Call:
    """One application of a rule's transform."""

    __slots__ = ("code_row", "issues", "keyword", "rule", "site", "source", "tables", "top", "view")

    def __init__(
        self, rule: Rule, header: Header, site: Site, tables: Mapping[str, CodeTable]
    ) -> None:
        self.rule = rule
        self.site = site
        self.tables = tables
        self.issues: list[Issue] = []
        self.code_row = ""
        self.source: Source | None = None
        self.top = View(header, self)
        self.view = self.top
        self.keyword = ""

    def end(self) -> None:
        """Let go of the views, which hold this: else each is garbage that waits to be looked for."""
        del self.top, self.view

    @property
    def default_charset(self) -> str:
        """SpecificCharacterSet to assume where none is stated: the sender's, else the site's."""
        assumed = self.top.header.get(ASSUMED_CHARSET)
        return assumed.decode("latin_1") if assumed else self.site.charset

    @property
    def default_zone(self) -> str:
        """IANA zone to assume where no offset is stated: the sender's, else the site's."""
        assumed = self.top.header.get(ASSUMED_ZONE)
        return assumed.decode("latin_1") if assumed else self.site.timezone

    def at(self, source: Source) -> list[View]:
        """Datasets that hold the last attribute of a dotted source: one for a plain keyword."""
        views = [self.top]
        for part in source.steps:
            views = [item for view in views for item in view.items(part)]
        return views

    def value(self) -> str:
        """Value of a source that holds one; see `View.whole`."""
        return self.view.whole(self.keyword)

    def text(self) -> str:
        """All values of the source as one text."""
        return self.view.text(self.keyword)

    def other(self, vr: str) -> str:
        """Keyword of the ``with`` of one VR that belongs to the source, or empty.

        The first belongs to the first of ``from``, and so on: the date of one attribute never meets
        the time of another.
        """
        others = [source.last for source in self.rule.others if source.vr == vr]
        index = 0
        if self.source is not None:
            alike = [one for one in self.rule.sources if one.vr == self.source.vr]
            index = alike.index(self.source) if self.source in alike else 0
        return others[index] if index < len(others) else ""

    def row(self, key: str, table: str = "") -> Row | None:
        """Row of the rule's code table (or of a named one), noted for ``explain``."""
        name = table or self.rule.codes
        found = self.tables[name].rows.get(key) if name in self.tables else None
        if found is not None:
            self.code_row = f"{found.file or f'{name}.csv'}:{found.line}"
        return found

    def issue(
        self, code: str, keyword: str = "", severity: Severity = "warning", message: str = ""
    ) -> None:
        """Note a finding about the rule's element; never with a value in it."""
        written = keyword or (self.source.keyword if self.source else self.keyword)
        self.issues.append(_issue(severity, code, self.rule.element, written, message))

    def normalised(self, term: str) -> Row | None:
        """Row of the rule's code table of a defined term, which CS writes in upper case (PS3.5 section 6.2)."""
        found = self.row(term)
        if found is None and (found := self.row(term.upper())) is not None:
            self.issue("code-normalised", severity="information")
        return found

    def several(self, keyword: str) -> None:
        """Note, once, that an attribute that may hold one value or item holds several."""
        if not any(one.code == "several-values" and one.keyword == keyword for one in self.issues):
            self.issue("several-values", keyword)

    def found(self, codes: tuple[str, ...], keyword: str) -> None:
        """Note what decoding found."""
        for code in codes:
            self.issue(code, keyword)
