from __future__ import annotations

import pytest

from converter.core.tables import CodeTable, _parsed, parse_table
from converter.errors import MappingError

GOOD = '# source\n\ncode,display\nCT,Computed Tomography\nX,"a, b"\nN,\n'


def faults(text: str) -> list[str]:
    with pytest.raises(MappingError) as caught:
        parse_table("t", text)
    return [str(fault) for fault in caught.value.faults]


def test_rows_by_key_with_their_line():
    table = parse_table("modality.csv", GOOD)
    assert isinstance(table, CodeTable)
    assert (table.name, table.columns, table.key, len(table)) == (
        "modality",
        ("code", "display"),
        "code",
        3,
    )
    row = table.get("CT")
    assert row is not None
    assert row.line == 4
    assert row["display"] == "Computed Tomography"
    assert dict(row.values) == {"code": "CT", "display": "Computed Tomography"}


def test_quoted_and_empty_cells():
    table = parse_table("t", GOOD)
    assert table.rows["X"]["display"] == "a, b"
    assert table.rows["N"]["display"] == ""


def test_unknown_key_gives_none_and_keys_are_exact():
    table = parse_table("t", GOOD)
    assert table.get("ct") is None
    assert "CT" in table
    assert "ct" not in table


def test_byte_order_mark_and_windows_line_ends_change_nothing():
    assert parse_table("t", "\ufeff" + GOOD.replace("\n", "\r\n")) == parse_table("t", GOOD)


def test_every_fault_is_told_at_once_with_its_line():
    told = faults('a,b\n1,x\n1,y\n2\n,z\n3, blank\n4,"open\n5,q\n')
    assert [fault.split(": ")[:2] for fault in told] == [
        ["t.csv", "line 3"],
        ["t.csv", "line 4"],
        ["t.csv", "line 5"],
        ["t.csv", "line 6"],
        ["t.csv", "line 7"],
    ]
    assert "line 2 already" in told[0]
    assert "1 cells where the header has 2" in told[1]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "\n\n"])
def test_no_header_is_a_fault(text):
    assert faults(text) == ["t.csv: no header row"]


@pytest.mark.parametrize("header", ["a,a", "a,", "only", "a b,c"])
def test_bad_header_is_a_fault(header):
    assert faults(f"{header}\n")


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1, x\n", "a,b\n1,x \n", "a,b\n 1,x\n", "a,b\n1 ,x\n", "a ,b\n1,x\n", "a,b\n1,\tx\n", "a,b\n1,x\xa0\n",
        "a,b\n1,\x1fx\n", "a,b\n1,x\n1,y\n", "a,b\n,x\n", "a,b\n1\n", "a,b\n1,2,3\n", "a,a\n1,2\n", " a,b\n1,x\n", "a,b\n1,x ",
    ],
)  # fmt: skip
def test_a_table_without_quotes_that_looks_whole_hides_no_fault(text):
    with pytest.raises(MappingError) as caught:
        _parsed("t", text)
    assert faults(text) == [str(fault) for fault in caught.value.faults]


def test_a_table_without_quotes_has_the_same_rows_as_one_with_them():
    text = "# source, edition \n\ncode,display,more\nCT,Computed Tomography,\n\nMR,x y,z\n"
    quoted = parse_table("t", text.replace("code", '"code"'))
    plain = parse_table("t", text)
    assert plain == quoted
    assert list(plain.rows) == list(quoted.rows) == ["CT", "MR"]
    assert plain.rows["MR"] is plain.rows["MR"]
    assert [row.line for row in plain.rows.values()] == [4, 6]
    assert len({**plain.rows, **quoted.rows}) == 2
