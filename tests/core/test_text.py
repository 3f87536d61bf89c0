"""Text in every character set of DICOM."""

from __future__ import annotations

import warnings
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import DATA_ROOT

from converter.core.header import items
from converter.core.reasons import REASONS
from converter.core.text import MISSING, Charset, charset_of, charsets, clean, decode_text
from converter.core.values import strings
from converter.reading import Read, read_file

SINGLE = {
    "ISO_IR 100": ("latin_1", "Müller^Jörg"),
    "ISO_IR 101": ("iso8859_2", "Wałęsa^Łukasz"),
    "ISO_IR 109": ("iso8859_3", "Ĉapelo^Ŝipo"),
    "ISO_IR 110": ("iso8859_4", "Bērziņš^Jānis"),
    "ISO_IR 126": ("iso8859_7", "Διονυσιος"),
    "ISO_IR 127": ("iso8859_6", "قباني^لنزار"),
    "ISO_IR 138": ("iso8859_8", "שרון^דבורה"),
    "ISO_IR 144": ("iso8859_5", "Люкceмбypг"),  # noqa: RUF001
    "ISO_IR 148": ("iso8859_9", "Çavuşoğlu^Işıl"),  # noqa: RUF001
    "ISO_IR 166": ("tis_620", "นามสกุล^ชื่อ"),
    "ISO_IR 203": ("iso8859_15", "Œuvre^Žižek€"),
    "ISO_IR 192": ("utf_8", "Wang^XiaoDong=王^小东"),
    "GB18030": ("gb18030", "Wang^XiaoDong=王^小东"),
    "GBK": ("gbk", "Wang^XiaoDong=王^小东"),
}


@pytest.mark.parametrize("term", SINGLE)
def test_text_of_each_single_set_comes_back(term: str) -> None:
    codec, text = SINGLE[term]
    decoded = decode_text(text.encode(codec), charsets(term.encode()), vr="PN")
    assert (decoded.text, decoded.findings) == (text, ())


def test_japanese_with_code_extensions() -> None:
    # PS3.5 H.3.1 and H.3.2
    kanji = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
    decoded = decode_text(kanji, charsets(b"\\ISO 2022 IR 87"), vr="PN")
    assert (decoded.text, decoded.findings) == ("Yamada^Tarou=山田^太郎=やまだ^たろう", ())
    half = b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J"
    decoded = decode_text(half, charsets(b"ISO 2022 IR 13\\ISO 2022 IR 87"), vr="PN")
    assert (decoded.text, decoded.findings) == ("ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", ())


def test_supplementary_kanji() -> None:
    character = "丂".encode("euc_jp")  # three bytes: 8F and two of JIS X 0212
    value = b"\x1b$(D" + bytes(byte & 0x7F for byte in character[1:]) + b"\x1b(B"
    assert decode_text(value, charsets(b"\\ISO 2022 IR 159")).text == "丂"


def test_korean_and_chinese_with_code_extensions() -> None:
    # PS3.5 I.2: the escape stands in each component, since ^ and = reset
    korean = b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf"
    decoded = decode_text(korean, charsets(b"\\ISO 2022 IR 149"), vr="PN")
    assert (decoded.text, decoded.findings) == ("Hong^Gildong=洪^吉洞=홍^길동", ())
    chinese = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab="
    decoded = decode_text(chinese, charsets(b"\\ISO 2022 IR 58"), vr="PN")
    assert (decoded.text, decoded.findings) == ("Zhang^XiaoDong=张^小东=", ())


def test_delimiter_resets_the_extension() -> None:
    value = b"\x1b-Fabc\xc4\\\xc4"
    decoded = decode_text(value, charsets(b"ISO 2022 IR 100\\ISO 2022 IR 126"))
    assert decoded.text == "abcΔ\\Ä"


@pytest.mark.parametrize(("term", "codec"), [("GB18030", "gb18030"), ("GBK", "gbk")])
def test_second_byte_5c_is_no_delimiter(term: str, codec: str) -> None:
    text = "乗\\僜"
    value = text.encode(codec)
    assert value.count(b"\\") == 3
    assert strings(value, "LO", charsets(term.encode())).values == ["乗", "僜"]


def test_yen_is_a_delimiter_where_values_are_split_and_a_sign_where_not() -> None:
    charset = charsets(b"ISO_IR 13")
    assert strings(b"\xb1\\\xb2", "LO", charset).values == ["ｱ", "ｲ"]
    assert strings(b"\\100~", "LT", charset).values == ["¥100‾"]


def test_shift_jis_under_the_name_of_iso_ir_13_is_read_with_a_finding() -> None:
    decoded = decode_text("山田^太郎".encode("shift_jis"), charsets(b"ISO_IR 13"), vr="PN")
    assert (decoded.text, decoded.findings) == ("山田^太郎", ("charset-invalid",))


@pytest.mark.parametrize(
    ("value", "default", "text"),
    [
        ("Jörg".encode(), "", "Jörg"),
        (b"J\xf6rg", "", "Jörg"),
        (b"\xc4", "ISO_IR 126", "Δ"),
        ("王".encode("gb18030"), "GB18030", "王"),
        (b"\x1b$B;3\x1b(B", "", "山"),
    ],
)
def test_no_character_set_is_a_finding_only_where_it_matters(
    value: bytes, default: str, text: str
) -> None:
    for absent in (None, b"", b" ", b"\\"):
        decoded = decode_text(value, charsets(absent), default=default)
        assert (decoded.text, decoded.findings) == (text, ("charset-missing",))
        assert decode_text(b"plain", charsets(absent), default=default).findings == ()


@pytest.mark.parametrize(
    "term", [b"Not Supplied", b"ISO_IR 6", b"ISO_IR 999", b"UTF-8", b"CP99999"]
)
def test_character_set_that_does_not_fit_is_a_finding(term: bytes) -> None:
    charset = charsets(term)
    assert decode_text("Jörg".encode(), charset) == decode_text("Jörg".encode(), charset)
    decoded = decode_text("Jörg".encode(), charset)
    assert (decoded.text, decoded.findings) == ("Jörg", ("charset-unknown",))
    assert decode_text(b"Jorg", charset).findings == ()


def test_name_of_a_code_page_is_understood_with_a_finding() -> None:
    for term in (b"CP1251", b"WINDOWS-1251"):
        decoded = decode_text("Пётр".encode("cp1251"), charsets(term))
        assert (decoded.text, decoded.findings) == ("Пётр", ("charset-unknown",))


@pytest.mark.parametrize(
    "term", ["ISO IR 100", "ISO-IR 100", "ISO_IR_100", "iso_ir 100", "ISO 2022 IR 100 "]
)
def test_spellings_of_a_term_are_understood(term: str) -> None:
    decoded = decode_text(b"J\xf6rg", charsets(term.encode()))
    assert (decoded.text, decoded.findings) == ("Jörg", ())


def test_bytes_that_the_set_does_not_have_are_marked() -> None:
    assert decode_text(b"J\xf6rg", charsets(b"ISO_IR 192")).text == "J\ufffdrg"
    assert decode_text(b"J\xf6rg", charsets(b"ISO_IR 192")).findings == ("charset-invalid",)
    assert decode_text(b"\xff\x1b-Fx", charsets(b"\\ISO 2022 IR 126")).findings == (
        "charset-invalid",
    )
    assert decode_text(b"\xf0", charsets(b"ISO_IR 127")).text


def test_escape_to_a_set_that_is_not_stated_is_a_finding() -> None:
    decoded = decode_text(b"\x1b$B;3\x1b(B", charsets(b"ISO 2022 IR 100"))
    assert (decoded.text, decoded.findings) == ("山", ("charset-unknown",))


def test_item_inherits_the_character_set() -> None:
    outer = charset_of({0x00080005: b"ISO_IR 100"})
    assert charset_of({}, outer) is outer
    assert charset_of({0x00080005: b""}, outer) is outer
    assert charset_of({0x00080005: b"ISO_IR 192"}, outer).codec == "utf_8"
    assert charset_of({}) is MISSING


def test_control_characters_are_taken_out_with_a_finding() -> None:
    assert clean(" a\0\0 ") == clean("a")
    assert clean("a\0b\x07c").text == "abc"
    assert clean("a\r\nb").text == "a  b"
    assert clean("a\tb").findings == ("control-character",)
    assert clean("\ufeff") == ("", ("control-character",))
    assert clean("a\t\r\nb", lines=True).findings == ()
    assert clean("a\x0cb", lines=True).text == "a\nb"
    assert clean("a\x85\x1bb").text == "a b"
    assert clean("Jörg 王 \u200d").findings == ()


@given(
    st.binary(max_size=60),
    st.sampled_from(["", "ISO_IR 6", "ISO_IR 100", "ISO_IR 192", "GB18030", "ISO_IR 13", "?",
                     "\\ISO 2022 IR 87\\ISO 2022 IR 159", "\\ISO 2022 IR 149", "ISO 2022 IR 58"]),
    st.sampled_from(["LO", "PN", "LT", "CS"]),
)  # fmt: skip
def test_any_bytes_give_text_that_fhir_takes(value: bytes, term: str, vr: str) -> None:
    for part in (value, b"\x1b$B" + value, b"\x1b$)C" + value):
        result = strings(part, vr, charsets(term.encode()))
        assert set(result.findings) <= set(REASONS)
        for text in result.values:
            assert text == text.strip(" ")
            assert all(ord(c) >= 32 or c in "\t\r\n" for c in text)
            text.encode("utf-8")


NAMES = sorted(Path(DATA_ROOT, "charset_files").glob("*.dcm"))


@pytest.mark.parametrize("path", NAMES, ids=[path.stem for path in NAMES])
def test_names_of_real_files_are_those_that_pydicom_reads(path: Path) -> None:
    result = read_file(path, {0x00100010: None, 0x00321064: {0x00100010: None}})
    if not isinstance(result, Read):
        return
    charset = charset_of(result.header)
    got = strings(result.header.get(0x00100010), "PN", charset)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = str(pydicom.dcmread(path).PatientName).rstrip("=")
    if "IR6" not in path.stem:  # pydicom reads ISO_IR 6 as Latin-1
        assert got.findings == ()
    assert [value.rstrip("=") for value in got.values] == [expected]
    for item in items(result.header.get(0x00321064)):
        assert isinstance(charset_of(item, charset), Charset)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("\xa0", ""),
        ("\u3000山\u3000", "山"),
        ("a\xa0b", "a\xa0b"),
        ("a\ufffeb\uffff", "ab"),
    ],
)
def test_blanks_of_any_kind_are_padding_and_noncharacters_are_taken_out(text, cleaned):
    assert clean(text).text == cleaned
    assert clean(text, lines=True).text == cleaned
