"""What the pages of the status page are made of: tables, badges, times, and the frame around them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from urllib.parse import urlencode

from converter.core.reasons import REASONS
from converter.listener.markup import Markup, element, joined

__all__ = [
    "ago",
    "badge",
    "between",
    "cell",
    "current",
    "explained",
    "group",
    "if_any",
    "note",
    "older",
    "page",
    "reason",
    "row",
    "size",
    "span",
    "studies_path",
    "study_link",
    "table",
    "tile",
]

_TITLE = "dcm2fhir listener"
_SECTIONS = (
    ("/", "Overview"),
    ("/studies", "Studies"),
    ("/dead", "Dead letters"),
    ("/associations", "Associations"),
)


def page(now: float, title: str, here: str, *content: str) -> str:
    """A whole page; ``here``: the section that it belongs to."""
    nav = element(
        "nav",
        element(
            "ul",
            *(
                element("li", element("a", word, href=path, **current(path == here)))
                for path, word in _SECTIONS
            ),
        ),
        aria_label="Sections",
    )
    stamp = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    return "<!DOCTYPE html>\n" + element(
        "html",
        element(
            "head",
            Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
            Markup('<link rel="stylesheet" href="/page.css">'),
            element("title", f"{title} · {_TITLE}"),
        ),
        element(
            "body",
            element("a", "To the content", href="#content", class_="skip"),
            element("header", element("b", _TITLE), nav),
            element("main", element("h1", title), *content, id="content"),
            element("footer", f"As of {stamp}. Load the page again for news; it changes nothing here."),
        ),
        lang="en-GB",
    )  # fmt: skip


def table(heads: Sequence[str], rows: Sequence[Markup], *, wide: bool = False) -> Markup:
    """``#`` before a heading: a column of numbers; ``wide``: becomes a list where there is no room."""
    cells = [
        element("th", head.removeprefix("#"), scope="col", **({"class_": "number"} if head[0] == "#" else {}))
        for head in heads
    ]  # fmt: skip
    table = element("table", element("thead", element("tr", *cells)), element("tbody", *rows))
    return element("div", table, **({"class_": "wide"} if wide else {}))


def if_any(rows: Sequence[Markup], title: str, heads: Sequence[str]) -> Sequence[Markup]:
    """A heading and its table, or nothing where there are no rows."""
    return (element("h2", title), table(heads, rows, wide=len(heads) > 3)) if rows else ()


def row(*cells: Markup) -> Markup:
    """A row of a table."""
    return element("tr", *cells)


def cell(label: str, content: str, class_: str = "") -> Markup:
    """Cell that names itself where the heading is not beside it."""
    if not content:
        return element("td")
    return element("td", content, data_label=label, **({"class_": class_} if class_ else {}))


def tile(value: str, name: str, bad: bool = False) -> Markup:
    """One number and what it counts."""
    return element("li", element("b", value), element("span", name), **({"class_": "bad"} if bad else {}))  # fmt: skip


def note(kind: str, *content: Markup, title: str = "") -> Markup:
    """A box that stands out: ``good``, ``busy``, ``bad`` or ``idle``."""
    head = [element("strong", title)] if title else []
    return element("div", *head, *content, class_=f"note {kind}", role="status")


def badge(word: str, kind: str, meaning: str) -> Markup:
    """A word in a colour, which means nothing that the word does not say."""
    return element("span", word, class_=f"state {kind}", title=meaning)


def study_link(uid: str) -> Markup:
    """A study's UID, which leads to its page."""
    return element("a", element("bdi", uid, class_="uid"), href="/study?" + urlencode({"uid": uid}))


def studies_path(state: str) -> str:
    """Address of the list of studies in a state."""
    return "/studies?" + urlencode({"state": state}) if state else "/studies"


def current(here: bool) -> dict[str, str]:
    """Attributes of a link to where the reader is."""
    return {"aria_current": "page"} if here else {}


def older(path: str, given: dict[str, str] | None, word: str = "Older studies") -> Markup:
    """A link to the next page, or nothing where this is the last."""
    if not given:
        return Markup()
    return element("p", element("a", word, href=f"{path}?{urlencode(given)}"), class_="pages")


def reason(code: str) -> Markup:
    """A reason code."""
    reason = REASONS.get(code)
    return element("span", code, title=reason.meaning if reason else "") if code else Markup()


def explained(code: str) -> Markup:
    """Reason with what it means and what to do."""
    reason = REASONS.get(code)
    if not code:
        return Markup()
    said = element("small", f"{reason.meaning} {reason.action}") if reason else Markup()
    return joined([element("code", code), said])


def ago(moment: float, now: float) -> Markup:
    """A moment, and how long ago it was."""
    at = time.gmtime(max(0.0, moment))
    return joined(
        [
            element("time", time.strftime("%Y-%m-%d %H:%M:%S", at), datetime=time.strftime("%Y-%m-%dT%H:%M:%SZ", at)),
            element("small", f"{span(now - moment)} ago"),
        ]
    )  # fmt: skip


def span(seconds: float) -> str:
    """A time in one unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def size(number: int) -> str:
    """Bytes in one unit."""
    for unit, size in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number / 1024:.0f} KiB"


def group(counts: dict[str, int], start: str) -> dict[str, int]:
    """Counts whose name has a beginning, by the rest of their name."""
    return {
        name.removeprefix(start): number
        for name, number in sorted(counts.items())
        if name.startswith(start) and number
    }


def between(separator: str, parts: Iterable[Markup]) -> Iterable[str]:
    """Parts with a separator between them."""
    for number, part in enumerate(parts):
        if number:
            yield separator
        yield part
