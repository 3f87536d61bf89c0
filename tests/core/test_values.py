"""Text values, UIDs and numbers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.core.text import charsets
from converter.core.values import decimal, integer, is_uid, parse_uid, strings, uid


def test_values_are_split_and_trimmed() -> None:
    assert strings(b"A\\ B \\\\C\0").values == ["A", "B", "C"]
    assert strings(b"A\\ B \\\\C\0", keep_empty=True).values == ["A", "B", "", "C"]
    assert strings(b" \\ ", keep_empty=True).values == []
    for nothing in (None, b"", b"  ", b"\0"):
        assert strings(nothing).values == []


@pytest.mark.parametrize("vr", ["LT", "ST", "UT", "UR"])
def test_long_text_is_one_value(vr: str) -> None:
    assert strings(b"a\\b ", vr).values == ["a\\b"]


def test_line_ends_stay_in_long_text_only() -> None:
    assert strings(b"a\r\nb", "LT").values == ["a\r\nb"]
    assert strings(b"a\r\nb", "LO").findings == ("control-character",)


def test_character_set_does_not_touch_codes() -> None:
    result = strings(b"A\xc4", "CS", charsets(b"ISO_IR 100"))
    assert (result.values, result.findings) == (["A\ufffd"], ("charset-invalid",))


@pytest.mark.parametrize("value", [b"1.2.3\0", b"1.2.3 ", "1.2.3", b"0.0", b"1." + b"2" * 62])
def test_valid_uid(value: bytes) -> None:
    assert uid(value)
    assert parse_uid(value).findings == ()


@pytest.mark.parametrize(
    "value",
    ["01.2", "1.02", "1..2", ".1", "1.", "1.2a", "../../x", "1.2\\1.3", "1.2\0003", "1.2\n", "1 .2",
     "1." + "2" * 63, "\u0661.\u0662", b"1.\xb2"],
)  # fmt: skip
def test_invalid_uid_is_told_from_none(value: str | bytes) -> None:
    assert uid(value) is None
    assert parse_uid(value).findings == ("invalid-uid",)


def test_absent_uid_is_no_fault() -> None:
    for nothing in (None, b"", b"\0", "  "):
        assert parse_uid(nothing) == parse_uid(None)
    assert parse_uid(None).findings == ()


@given(st.text(max_size=70))
def test_valid_uid_fits_a_fhir_id(text: str) -> None:
    assert not is_uid(text) or re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", text)


@pytest.mark.parametrize(
    ("value", "number"),
    [(b"1", 1), (b" +7 ", 7), (b"-12", -12), (b"000000000012", 12), (b"2147483647", 2**31 - 1),
     (b"-2147483648", -(2**31)), (b"-0", 0)],
)  # fmt: skip
def test_integer(value: bytes, number: int) -> None:
    assert integer(value).value == number


@pytest.mark.parametrize("value", ["abc", "1.5", "1\\2", "1 2", "+", "0x1", "1e2", "\u0661"])
def test_no_integer_is_malformed(value: str) -> None:
    assert integer(value).value is None
    assert integer(value).findings == ("value-malformed",)


@pytest.mark.parametrize("value", ["2147483648", "-2147483649", "9" * 5000])
def test_integer_out_of_range(value: str) -> None:
    assert integer(value).findings == ("value-out-of-range",)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1.50", "1.50"),
        ("-.5", "-0.5"),
        ("5.", "5"),
        ("+00.10", "0.10"),
        ("1E+03", "1e3"),
        ("0", "0"),
    ],
)
def test_decimal_keeps_its_precision(value: str, text: str) -> None:
    assert decimal(value).value == text


@pytest.mark.parametrize(
    "value", ["NaN", "inf", "-Infinity", ".", "", "1,5", "1e", "1\\2", "0x1p3"]
)
def test_no_decimal_is_malformed(value: str) -> None:
    assert decimal(value).value is None
    assert decimal(value).findings == (("value-malformed",) if value else ())


def test_decimal_beyond_a_double_is_out_of_range() -> None:
    assert decimal("1e999").findings == ("value-out-of-range",)


@given(st.text(alphabet="0123456789+-.eE", max_size=20))
def test_decimal_is_a_fhir_decimal(text: str) -> None:
    value = decimal(text).value
    assert value is None or re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", value)
    assert value is None or float(value) == float(text)
