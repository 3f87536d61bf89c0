"""Narrative safety: the XHTML that FHIR allows (R4 ``narrative.html``, invariants txt-1 and txt-2)."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from converter.fhir.primitives import CONTROL
from converter.fhir.report import LONGEST, shown

if TYPE_CHECKING:
    from converter.fhir.report import Path, Report

__all__ = ["narrative"]

XHTML = "{http://www.w3.org/1999/xhtml}"
XML = "{http://www.w3.org/XML/1998/namespace}"

_TEXT = r"[^<>&\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]*"
PLAIN = re.compile(rf'<div xmlns="http://www\.w3\.org/1999/xhtml">(?=\s*[^\s<]){_TEXT}</div>')
"""What needs no parser."""
_WORDS = r"[^<>&\x00-\x1f\ud800-\udfff\ufffe\uffff]*(?:&(?:amp|lt|gt|quot|\#x27);[^<>&\x00-\x1f\ud800-\udfff\ufffe\uffff]*)*"
OURS = re.compile(
    r'<div xmlns="http://www\.w3\.org/1999/xhtml">'
    rf"<p><b>[A-Za-z]{_WORDS}</b>{_WORDS}</p>(?:<ul>(?:<li>{_WORDS}</li>)+</ul>)?</div>"
)
"""What our own engine writes (`converter.core.narrative`): none either."""

_ELEMENTS = (
    "p br div h1 h2 h3 h4 h5 h6 a span b em i strong small big tt dfn q var abbr acronym cite "
    "blockquote hr address bdo kbd sub sup ul ol li dl dt dd pre table caption colgroup col thead tr "
    "tfoot tbody th td code samp img map area"
)
ELEMENTS = frozenset(_ELEMENTS.split())
_ATTRIBUTES = (
    "title style class id lang dir accesskey tabindex span width align valign char charoff abbr axis "
    "headers scope rowspan colspan"
)
ATTRIBUTES = frozenset(_ATTRIBUTES.split())
"""Allowed on every element."""
_OWN = {
    "a": "href name charset type hreflang rel rev shape coords",
    "img": "src alt border longdesc height usemap ismap",
    "map": "name",
    "area": "shape coords href nohref alt",
    "table": "summary border frame rules cellspacing cellpadding",
    "blockquote": "cite",
    "q": "cite",
}
OWN = {name: frozenset(listed.split()) for name, listed in _OWN.items()}
LINKS = frozenset({"href", "src", "cite", "longdesc", "usemap"})
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
SAFE = frozenset({"http", "https", "mailto", "tel", "ftp", "urn", "data", "cid", "file"})
UNSEEN = re.compile("[\x00-\x20\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\u2060-\u2064\ufeff]")
"""What a reader does not see in a link, and a browser may skip."""
STILL = re.compile(
    r"data:(?:[,;]|text/plain\b|application/pdf\b|audio/|video/|image/(?!svg))", re.IGNORECASE
)
"""Data in a link that runs nothing."""
RUNS = re.compile(
    r"expression\s*\(|(?:java|vb|live)script:|behaviou?r\s*:|-moz-binding|data:\s*(?:text/html|image/svg)",
    re.IGNORECASE,
)
"""Style that runs something."""
LOADS = re.compile(r"@import|url\s*\(", re.IGNORECASE)
CSS_HIDES = re.compile(r"/\*.*?\*/|\\([0-9A-Fa-f]{1,6})\s?|\\(.)", re.DOTALL)
"""Comments and escapes, which hide a word from who searches for it."""


def narrative(value: dict[str, Any], path: Path, report: Report) -> None:
    """Hold ``Narrative.div`` against what XHTML in FHIR may be."""
    div = value.get("div")
    if div.__class__ is not str or PLAIN.fullmatch(div) or OURS.fullmatch(div):
        return
    place = (path, "div", None)
    if CONTROL.search(div):
        report.add("control-character", place, "a control character in the narrative")
        return
    if not div.strip():
        report.add("txt-2", place, "a narrative without text")
        return
    if "<!DOCTYPE" in div or "<!ENTITY" in div or "<?" in div or "<![" in div:
        report.add("txt-1", place, "elements and text only: no document type, CDATA, instruction")
        return
    try:
        tree = ET.fromstring(div)  # noqa: S314  no document type can come this far
    except (ET.ParseError, ValueError):
        report.add("narrative-form", place, "no well-formed XHTML")
        return
    if tree.tag != f"{XHTML}div":
        report.add(
            "narrative-form", place, 'a narrative is <div xmlns="http://www.w3.org/1999/xhtml">'
        )
        return
    text = False
    anchors = {"", *(str(one.get(key)) for one in tree.iter() for key in ("id", "name"))}
    for element in tree.iter():
        text = text or bool((element.text or "").strip() or (element.tail or "").strip())
        text = text or element.tag == f"{XHTML}img"
        _element(element, anchors, place, report)
    if not text:
        report.add("txt-2", place, "a narrative without text")


def _element(element: ET.Element, anchors: set[str], place: Path, report: Report) -> None:
    tag = str(element.tag)
    name = tag.removeprefix(XHTML)
    if not tag.startswith(XHTML):
        report.add(
            "narrative-form",
            place,
            f"element {shown(name.rpartition('}')[2], LONGEST)} is not of the XHTML namespace",
        )
    elif name not in ELEMENTS:
        report.add("txt-1", place, f"element {shown(name, LONGEST)} is not allowed in a narrative")
    for key, content in element.attrib.items():
        if key.startswith(XML):
            continue
        if key not in ATTRIBUTES and key not in OWN.get(name, ()):
            report.add(
                "txt-1",
                place,
                f"attribute {shown(key, LONGEST)} of {name} is not allowed in a narrative",
            )
            continue
        link = UNSEEN.sub("", content) if key in LINKS else ""
        scheme = SCHEME.match(link)
        if scheme and (scheme[1].lower() not in SAFE or _runs(link)):
            report.add("txt-1", place, f"attribute {key} of {name} holds active content")
        elif key == "src" and scheme and scheme[1].lower() in {"http", "https", "ftp"}:
            report.add(
                "narrative-external",
                place,
                "an image from elsewhere tells its server who reads this",
            )
        elif key in {"src", "href"} and content.startswith("#") and content[1:] not in anchors:
            report.locals.append((content, (), place))
        elif key == "style":
            style = CSS_HIDES.sub(_uncovered, content)
            if RUNS.search(style) or RUNS.search(UNSEEN.sub("", style)):
                report.add("txt-1", place, f"the style of {name} holds active content")
            elif LOADS.search(style):
                report.add("narrative-external", place, "a style that loads from elsewhere")


def _runs(link: str) -> bool:
    return link[:5].lower() == "data:" and not STILL.match(link)


def _uncovered(match: re.Match[str]) -> str:
    """Character that an escape of CSS stands for; nothing for a comment."""
    if match[1]:
        code = int(match[1], 16)
        return chr(code) if code < sys.maxunicode else ""
    return match[2] or ""
