"""JSON as text: what a parser would hide."""

from __future__ import annotations

from decimal import Decimal

import pytest

from converter.fhir.jsontext import parse


def codes(data):
    return [issue.code for issue in parse(data).issues]


def test_whole_json_has_no_issue():
    parsed = parse(b'{"resourceType": "Patient", "active": true}')
    assert parsed.readable
    assert parsed.issues == []
    assert parsed.value == {"resourceType": "Patient", "active": True}


def test_byte_order_mark_is_told_and_read_over():
    parsed = parse(b"\xef\xbb\xbf{}")
    assert parsed.readable
    assert [issue.code for issue in parsed.issues] == ["byte-order-mark"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_other_encodings_are_not_read(encoding):
    data = '{"a": "ü"}'.encode(encoding)
    parsed = parse(data)
    assert not parsed.readable
    assert parsed.issues[0].code in {"encoding", "json-syntax"}


def test_encoding_error_names_the_line():
    parsed = parse(b'{\n"a": "\xe4"\n}')
    assert parsed.issues[0].code == "encoding"
    assert parsed.issues[0].message.startswith("line 2")


def test_syntax_error_names_line_and_column():
    parsed = parse(b'{"a": 1\n"b": 2}')
    assert not parsed.readable
    assert "line 2, column 1" in parsed.issues[0].message


def test_line_of_ndjson_is_named():
    assert "line 7" in parse(b'{"a" 1}', first_line=7).issues[0].message


@pytest.mark.parametrize(
    "data", [b"", b"  \n", b"{", b"nope", b'{"a": 01}', b'{"a": .5}', b"{'a': 1}", b"[1,]"]
)
def test_what_is_no_json_is_told(data):
    assert codes(data) == ["json-syntax"]


def test_duplicate_key_is_told_with_its_place():
    issue = parse(b'{"resourceType": "Patient", "name": [{"family": "a", "family": "b"}]}').issues[
        0
    ]
    assert (issue.code, issue.path) == ("duplicate-key", "Patient.name[0].family")


def test_numbers_keep_their_form():
    value = parse(b'{"a": 1, "b": 1.0, "c": 1e0, "d": -0}').value
    assert [type(value[key]) for key in "abcd"] == [int, Decimal, Decimal, Decimal]


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000])
def test_hostile_nesting_is_refused(text):
    assert codes(text) == ["too-deep-json"]


def test_brackets_in_strings_are_no_nesting():
    assert codes(b'{"a": "' + b"[" * 1000 + b'\\"{"}') == []


def test_enormous_number_is_no_crash():
    assert parse(b'{"a": ' + b"9" * 10_000 + b"}").readable


@pytest.mark.parametrize(
    ("encoding", "named"),
    [("utf-16", "UTF-16"), ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16"), ("utf-32", "UTF-32"), ("utf-32-le", "UTF-32"), ("utf-32-be", "UTF-32")],
)  # fmt: skip
def test_encoding_is_called_by_its_name(encoding, named):
    (issue,) = parse('{"a": 1}'.encode(encoding)).issues
    assert issue.code == "encoding"
    assert named in issue.message
