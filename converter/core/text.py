"""Text of DICOM values: character sets of PS3.5 section 6.1 and PS3.3 C.12.1.1.2.

A decoder of our own, because the text must come with what was wrong with it: nothing is raised, nothing
is logged, and a delimiter is told from the second byte of a character (GB18030, GBK, Shift JIS) by
decoding before splitting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from converter.core.header import SPECIFIC_CHARACTER_SET

if TYPE_CHECKING:
    from converter.core.header import Header

__all__ = [
    "MISSING",
    "REPLACEMENT",
    "Charset",
    "Decoded",
    "charset_of",
    "charsets",
    "clean",
    "decode_text",
]


class Decoded(NamedTuple):
    """Text, and the codes of what was wrong with its bytes."""

    text: str
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Charset:
    """What SpecificCharacterSet (0008,0005) of one data set says."""

    state: Literal["declared", "missing", "unknown"]
    codec: str = ""
    """Codec of a set that stands alone: UTF-8, GB18030, GBK."""
    g0: str = "ascii"
    """Initial set of the bytes 0x21 to 0x7E."""
    g1: str = ""
    """Initial set of the bytes from 0xA0 on; empty: none."""
    declared: frozenset[str] = frozenset()
    """Sets that escape sequences may call."""

    def __hash__(self) -> int:
        """Of one part: there are few, and each is looked up for every text."""
        return hash(self.g1)


_SINGLE: Final = {
    "100": "latin_1", "101": "iso8859_2", "109": "iso8859_3", "110": "iso8859_4",
    "126": "iso8859_7", "127": "iso8859_6", "138": "iso8859_8", "144": "iso8859_5",
    "148": "iso8859_9", "166": "tis_620", "203": "iso8859_15",
}  # fmt: skip
_MULTI: Final = {"87": "jis208", "159": "jis212", "149": "ksx1001", "58": "gb2312"}
_ALONE: Final = {"GB18030": "gb18030", "GBK": "gbk", "ISO 2022 GBK": "gbk"}
_TERM: Final = re.compile(r"ISO[ _-]?(?:2022[ _-]?)?(?:IR[ _-]?)?(\d{1,3})")
# no defined terms, yet they leave no doubt about what is meant
_FOREIGN: Final = re.compile(r"(?:ISO[ _-]?8859[ _-]|WINDOWS[ _-]?|CP)(\d{1,4})")

# PS3.3 tables C.12-3 and C.12-4: which half of the code table, and which set
_ESCAPES: Final[dict[bytes, tuple[int, str]]] = {
    b"(B": (0, "ascii"), b"(J": (0, "roman"), b")I": (1, "kana"), b"(I": (0, "kana0"),
    b"-A": (1, "latin_1"), b"-B": (1, "iso8859_2"), b"-C": (1, "iso8859_3"),
    b"-D": (1, "iso8859_4"), b"-F": (1, "iso8859_7"), b"-G": (1, "iso8859_6"),
    b"-H": (1, "iso8859_8"), b"-L": (1, "iso8859_5"), b"-M": (1, "iso8859_9"),
    b"-T": (1, "tis_620"), b"-b": (1, "iso8859_15"),
    b"$B": (0, "jis208"), b"$@": (0, "jis208"), b"$(D": (0, "jis212"),
    b"$)C": (1, "ksx1001"), b"$)A": (1, "gb2312"),
}  # fmt: skip
_ESCAPE: Final = re.compile(rb"\x1b(\([BJI]|\)I|-[A-DFGHLMTb]|\$\(D|\$\)[AC]|\$[B@])")
_ALWAYS: Final = frozenset({"ascii", "roman"})
_NO_CHARACTER: Final = "\ud800-\udfff\ufeff\ufffe\uffff"
_CONTROL: Final = re.compile(f"[\x00-\x1f\x7f-\x9f{_NO_CHARACTER}]")
_CONTROL_LINES: Final = re.compile(f"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{_NO_CHARACTER}]")
REPLACEMENT: Final = "\ufffd"
"""Stands for what could not be read."""


@lru_cache(maxsize=256)
def charsets(value: bytes | None) -> Charset:
    """Understand a value of SpecificCharacterSet (0008,0005), code extensions included.

    Parameters
    ----------
    value : bytes or None
        The value field; absent or empty means that no character set is stated.

    Notes
    -----
    PS3.3 C.12.1.1.2. Spellings such as ``ISO IR 100`` are understood; what is no term at all makes the
    state ``unknown``, which is a finding as soon as there is text that needs it.
    """
    text = (value or b"").decode("latin_1")
    terms = [term.strip(" \0").upper() for term in text.split("\\")]
    if not any(terms):
        return MISSING
    known = True
    g0, g1, alone = "ascii", "", ""
    declared: set[str] = set()
    for index, term in enumerate(terms):
        number = ""
        if match := _TERM.fullmatch(term):
            number = match[1]
        first = index == 0
        if number == "192" or term in _ALONE:
            if first:
                alone = "utf_8" if number == "192" else _ALONE[term]
            else:
                known = False
        elif number in _SINGLE:
            declared.add(_SINGLE[number])
            g1 = _SINGLE[number] if first else g1
        elif number in _MULTI:
            declared.add(_MULTI[number])
            if first and number in {"149", "58"}:
                g1 = _MULTI[number]
        elif number == "13":
            declared |= {"kana", "kana0"}
            if first:
                g0, g1 = "roman", "kana"
        elif number == "6" or not term:
            pass
        else:
            known = False
            if first and (match := _FOREIGN.fullmatch(term)):
                g1 = _foreign(term, match[1])
    return Charset("declared" if known else "unknown", alone, g0, g1, frozenset(declared))


def _foreign(term: str, number: str) -> str:
    codec = f"iso8859_{number}" if "8859" in term else f"cp{number}"
    try:
        b"A".decode(codec)
    except (LookupError, UnicodeError):
        return ""
    return codec


MISSING: Final = Charset("missing")
"""A data set that states no character set."""


def charset_of(header: Header, inherited: Charset = MISSING) -> Charset:
    """Character set of a data set, or of an item that may inherit it (PS3.5 section 7.5.3).

    Parameters
    ----------
    header : Header
    inherited : Charset
        That of the data set around an item.
    """
    value = header.get(SPECIFIC_CHARACTER_SET)
    return charsets(value) if value and value.strip(b" \0") else inherited


def decode_text(
    value: bytes, charset: Charset = MISSING, *, vr: str = "LO", default: str = ""
) -> Decoded:
    r"""Decode one value field, delimiters included.

    Parameters
    ----------
    value : bytes
    charset : Charset
    vr : str
        Value representation: ``PN`` resets code extensions at ``^`` and ``=``, and in LT, ST, UT and UR a
        backslash is a character of the text.
    default : str
        SpecificCharacterSet that the site assumes where none is stated.

    Returns
    -------
    Decoded
        Findings ``charset-missing``, ``charset-unknown``, ``charset-invalid``. Control characters are
        still in; `clean` takes them out.
    """
    if charset.g0 == "ascii" and value.isascii() and b"\x1b" not in value:
        return Decoded(value.decode("ascii"))
    if charset.codec:
        return _by_codec(value, charset.codec)
    escaped = _ESCAPE.search(value) is not None
    if not escaped and charset.g0 == "ascii":
        if charset.g1 and charset.g1 not in _MULTI.values():
            decoded = _by_codec(value, charset.g1)
            return _add(decoded, "charset-unknown") if charset.state == "unknown" else decoded
        if not charset.g1 and not value.isascii():
            return _guess(value, charset, vr, default)
    if charset.state == "missing" and default:
        assumed = decode_text(value, charsets(default.encode("latin_1", "replace")), vr=vr)
        return _add(assumed, "charset-missing")
    decoded = _extended(value, charset, vr)
    if charset.g0 == "roman" and "charset-invalid" in decoded.findings and not escaped:
        # ISO_IR 13 stated, Shift JIS written
        try:
            return Decoded(value.decode("shift_jis"), ("charset-invalid",))
        except UnicodeDecodeError:
            return decoded
    return decoded


def _by_codec(value: bytes, codec: str) -> Decoded:
    name = "utf_8_sig" if codec == "utf_8" else codec
    try:
        return Decoded(value.decode(name))
    except UnicodeDecodeError:
        return Decoded(value.decode(name, "replace"), ("charset-invalid",))


def _add(decoded: Decoded, code: str) -> Decoded:
    return Decoded(decoded.text, tuple(dict.fromkeys((code, *decoded.findings))))


def _guess(value: bytes, charset: Charset, vr: str, default: str) -> Decoded:
    """Bytes beyond ASCII where the set stated has none, or none is stated."""
    code = "charset-missing" if charset.state == "missing" else "charset-unknown"
    assumed = charsets(default.encode("latin_1", "replace")) if default else MISSING
    if assumed.codec or assumed.g1:
        return _add(decode_text(value, assumed, vr=vr), code)
    try:
        return Decoded(value.decode("utf_8_sig"), (code,))
    except UnicodeDecodeError:
        return Decoded(value.decode("latin_1"), (code,))


def _extended(value: bytes, charset: Charset, vr: str) -> Decoded:
    """Code extensions of ISO 2022 as PS3.5 section 6.1.2.5 restricts them."""
    delimiters = b"\t\n\f\r"
    yen = vr in {"LT", "ST", "UT", "UR"}
    if not yen:
        delimiters += b"\\"
    if vr == "PN":
        delimiters += b"^="
    g0, g1 = charset.g0, charset.g1
    out: list[str] = []
    findings: dict[str, None] = {}
    index, size = 0, len(value)
    while index < size:
        byte = value[index]
        step = 1
        after = value[index + 1] if index + 1 < size else 0
        if byte == 0x1B and (match := _ESCAPE.match(value, index)):
            half, name = _ESCAPES[match[1]]
            if half:
                g1 = name
            else:
                g0 = name
            if name not in charset.declared and name not in _ALWAYS:
                missing = charset.state == "missing"
                findings["charset-missing" if missing else "charset-unknown"] = None
            index = match.end()
            continue
        if byte < 0x21 or byte == 0x7F:
            out.append(chr(byte))
            if byte in delimiters:
                g0, g1 = charset.g0, charset.g1
        elif byte < 0x80 and g0 in {"jis208", "jis212"} and 0x21 <= after <= 0x7E:
            pair = bytes((byte | 0x80, after | 0x80))
            out.append(_pair(b"\x8f" + pair if g0 == "jis212" else pair, "euc_jp", findings))
            step = 2
        elif byte in delimiters:
            out.append(chr(byte))
            g0, g1 = charset.g0, charset.g1
        elif byte < 0x80:
            out.append(_low(byte, g0))
            if g0 in {"jis208", "jis212"}:
                findings["charset-invalid"] = None
        elif g1 in {"ksx1001", "gb2312"} and after >= 0x80:
            codec = "euc_kr" if g1 == "ksx1001" else "gb2312"
            out.append(_pair(value[index : index + 2], codec, findings))
            step = 2
        else:
            out.append(_high(byte, g1, findings))
        index += step
    return Decoded("".join(out), tuple(findings))


def _low(byte: int, g0: str) -> str:
    if g0 == "kana0" and 0x21 <= byte <= 0x5F:
        return chr(0xFF40 + byte)
    if g0 == "roman" and byte in {0x5C, 0x7E}:  # JIS X 0201: yen sign and overline
        return "\u00a5" if byte == 0x5C else "\u203e"
    return chr(byte)


def _high(byte: int, g1: str, findings: dict[str, None]) -> str:
    if g1 == "kana" and 0xA1 <= byte <= 0xDF:
        return chr(0xFF61 + byte - 0xA1)
    if g1 and g1 not in {"kana", "ksx1001", "gb2312"}:
        return _pair(bytes((byte,)), g1, findings)
    findings["charset-invalid"] = None
    return REPLACEMENT


def _pair(character: bytes, codec: str, findings: dict[str, None]) -> str:
    try:
        return character.decode(codec)
    except UnicodeDecodeError:
        findings["charset-invalid"] = None
        return REPLACEMENT


def clean(text: str, *, lines: bool = False) -> Decoded:
    """Trim padding, and take out control characters, which no FHIR string may hold.

    Parameters
    ----------
    text : str
        One value.
    lines : bool
        Keep tabs and line ends, as LT, ST and UT may hold them (PS3.5 section 6.1.3).

    Returns
    -------
    Decoded
        With the finding ``control-character`` where there was one inside.
    """
    text = text.strip(" \0")
    if text.isprintable():
        return Decoded(text)
    pattern = _CONTROL_LINES if lines else _CONTROL
    cleaned = pattern.sub(lambda match: _instead(match[0], lines=lines), text)
    if cleaned == text:
        return Decoded(text.strip())  # no-break and ideographic blanks are padding as well
    return Decoded(cleaned.strip(), ("control-character",))


def _instead(character: str, *, lines: bool) -> str:
    if character in "\t\n\f\r\x0b\x85":
        return "\n" if lines else " "
    return ""
