"""Dates, times, offsets."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.core.times import date, date_time, is_zone, time, timestamp, utc_offset

DATE_TIME = re.compile(
    r"([0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)(-(0[1-9]|1[0-2])(-(0[1-9]|[1-2][0-9]|3[0-1])"
    r"(T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?"
    r"(Z|(\+|-)((0[0-9]|1[0-3]):[0-5][0-9]|14:00)))?)?)?"
)


@pytest.mark.parametrize(
    ("value", "text", "findings"),
    [
        (b"19600712", "1960-07-12", ()),
        (b"19600712 ", "1960-07-12", ()),
        (b"20240229", "2024-02-29", ()),
        (b"00010101", "0001-01-01", ()),
        (b"1997.04.24", "1997-04-24", ("legacy-format",)),
        (b"1960", "1960", ("partial-date",)),
        (b"196007", "1960-07", ("partial-date",)),
        (b"19600000", "1960", ("partial-date",)),
        (b"19600700", "1960-07", ("partial-date",)),
        (b"", None, ()),
        (None, None, ()),
        (b"\0", None, ()),
    ],
)
def test_date(value: bytes | None, text: str | None, findings: tuple[str, ...]) -> None:
    assert (date(value).value, date(value).findings) == (text, findings)


@pytest.mark.parametrize(
    "value",
    [b"20200230", b"20230229", b"00000000", b"256000", b"19000101-", b"19600012", b"1960-07-12", b"19601301",
     b"19600132", b"abcd", b"00001231", b"960712", b"1960.7.1", b"20200101\\20200102", "\u0661960"],
)  # fmt: skip
def test_no_date_is_malformed(value: bytes) -> None:
    assert date(value).value is None
    assert date(value).findings == ("value-malformed",)


@pytest.mark.parametrize(
    ("value", "text", "findings"),
    [
        (b"14", "14:00:00", ()),
        (b"1404", "14:04:00", ()),
        (b"140438", "14:04:38", ()),
        (b"140438.123456", "14:04:38", ()),
        (b"235960", "23:59:60", ()),
        (b"14:04:38", "14:04:38", ("legacy-format",)),
        (b"14:04", "14:04:00", ("legacy-format",)),
        (b" ", None, ()),
    ],
)
def test_time(value: bytes, text: str | None, findings: tuple[str, ...]) -> None:
    assert (time(value).value, time(value).findings) == (text, findings)


@pytest.mark.parametrize(
    "value", [b"24", b"240000", b"2460", b"235961", b"1", b"140", b"14.5", b"140438.", b"1404-"]
)
def test_no_time_is_malformed(value: bytes) -> None:
    assert time(value).value is None
    assert time(value).findings == ("value-malformed",)


def test_fraction_is_kept_on_demand() -> None:
    assert time(b"140438.120", keep_fractions=True).value == "14:04:38.120"


@pytest.mark.parametrize(
    ("value", "text"),
    [("+0100", "+01:00"), ("-0330", "-03:30"), ("+0000", "+00:00"), ("-0000", "+00:00"), ("+1400", "+14:00"),
     ("-1200", "-12:00"), ("+0545", "+05:45")],
)  # fmt: skip
def test_offset(value: str, text: str) -> None:
    assert utc_offset(value).value == text


@pytest.mark.parametrize(
    "value", ["0100", "+1401", "-1201", "+0160", "+1", "Z", "+01:00", "+0100\\+0200"]
)
def test_no_offset_is_malformed(value: str) -> None:
    assert utc_offset(value).findings == ("offset-malformed",)


def test_offset_of_the_object_precedes_the_zone_of_the_site() -> None:
    assert date_time("20240701", "12", "-0330", "Europe/London") == (
        "2024-07-01T12:00:00-03:30",
        (),
    )
    assert date_time("20240701", "12", None, "Europe/London") == ("2024-07-01T12:00:00+01:00", ())
    assert date_time("20240101", "12", b"", "Europe/London") == ("2024-01-01T12:00:00+00:00", ())
    assert date_time("20240101", "12") == ("2024-01-01", ("no-time-zone",))


def test_offset_that_is_none_leaves_the_zone_of_the_site() -> None:
    value, findings = date_time("20240101", "12", "GMT", "Europe/Berlin")
    assert (value, findings) == ("2024-01-01T12:00:00+01:00", ("offset-malformed",))


def test_night_in_which_the_clocks_change() -> None:
    assert date_time("20241027", "0230", None, "Europe/Berlin") == (
        "2024-10-27T02:30:00+02:00", ("ambiguous-local-time",)
    )  # fmt: skip
    assert date_time("20241027", "0330", None, "Europe/Berlin") == ("2024-10-27T03:30:00+01:00", ())
    assert date_time("20240331", "0230", None, "Europe/Berlin") == (
        "2024-03-31T02:30:00+01:00", ("nonexistent-local-time",)
    )  # fmt: skip
    assert date_time("20240331", "0130", None, "Europe/Berlin") == ("2024-03-31T01:30:00+01:00", ())


def test_what_is_missing_is_left_out() -> None:
    assert date_time(None, "12", "+0100") == (None, ())
    assert date_time("20240101", None, "+0100") == ("2024-01-01", ())
    assert date_time("20240101", "2500", "+0100") == ("2024-01-01", ("value-malformed",))
    assert date_time("20240230", "12", "+0100") == (None, ("value-malformed",))
    assert date_time("202401", "12", "+0100") == ("2024-01", ("partial-date",))


def test_offset_with_seconds_of_long_ago_gives_the_date_alone() -> None:
    assert date_time("18400101", "12", None, "Europe/London") == ("1840-01-01", ("no-time-zone",))


def test_zone_is_known_or_not() -> None:
    assert is_zone("Europe/London")
    for name in ("Europe/Nowhere", "", "../../etc/passwd", "/etc/localtime"):
        assert not is_zone(name)
    assert date_time("20240101", "12", None, "Europe/Nowhere") == ("2024-01-01", ("no-time-zone",))


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("20240102030405.5+0100", ("2024-01-02T03:04:05.5+01:00", ())),
        ("2024010203", ("2024-01-02T03:00:00-05:00", ())),
        ("20240102", ("2024-01-02", ())),
        ("202401", ("2024-01", ("partial-date",))),
        ("2024+0100", ("2024", ("partial-date",))),
        ("20240102030405+9900", (None, ("value-malformed",))),
        ("2024010225", (None, ("value-malformed",))),
        ("202413", (None, ("value-malformed",))),
        ("20240102.5", (None, ("value-malformed",))),
        ("20240102-20240103", (None, ("value-malformed",))),
        ("", (None, ())),
    ],
)
def test_timestamp(value: str, result: tuple[str | None, tuple[str, ...]]) -> None:
    assert timestamp(value, "-0500", keep_fractions=True) == result


@given(
    st.text(alphabet="0123456789.:", max_size=10)
    | st.dates().map(lambda d: f"{d:%Y%m%d}".zfill(8)),
    st.text(alphabet="0123456789.:", max_size=13) | st.times().map(lambda t: f"{t:%H%M%S.%f}"),
    st.from_regex(r"[+-][01][0-9][0-6][0-9]", fullmatch=True) | st.just(""),
    st.sampled_from(
        ["", "Europe/London", "Pacific/Kiritimati", "America/St_Johns", "Asia/Kathmandu"]
    ),
    st.booleans(),
)
def test_whatever_comes_out_is_a_fhir_date_time(
    da: str, tm: str, offset: str, zone: str, keep: bool
) -> None:
    value, _ = date_time(da, tm, offset, zone, keep_fractions=keep)
    assert value is None or DATE_TIME.fullmatch(value)
    value, _ = timestamp(da + tm, offset, zone, keep_fractions=keep)
    assert value is None or DATE_TIME.fullmatch(value)
