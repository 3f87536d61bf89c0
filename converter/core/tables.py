"""Code tables: CSV text to rows by key.

A table is a CSV file with ``#`` comment lines that name its source and edition, a header row with the
names of the columns, and one code a line. The first column is the key that is looked up, the others are
what it gives. Keys are unique, compared exactly; cells carry no blanks around them.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converter.errors import Fault, MappingError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CodeTable", "Row", "parse_table"]


@dataclass(frozen=True, slots=True)
class Row:
    """One code of a table."""

    line: int
    """Line in the file, from 1, as an editor counts."""
    values: Mapping[str, str]
    """Every column of the row, the key included; an empty cell is an empty string."""
    file: str = ""
    """Where it is a site's own."""

    def __getitem__(self, column: str) -> str:
        return self.values[column]


class _Rows(Mapping[str, Row]):
    """Rows that are taken apart when they are asked for: of thousands a run asks for a few."""

    def __init__(self, columns: tuple[str, ...], lines: dict[str, tuple[int, str]]) -> None:
        self._columns = columns
        self._lines = lines
        self._made: dict[str, Row] = {}

    def __getitem__(self, key: str) -> Row:
        row = self._made.get(key)
        if row is None:
            line, content = self._lines[key]
            values = dict(zip(self._columns, content.split(","), strict=True))
            row = self._made[key] = Row(line, values)
        return row

    def __contains__(self, key: object) -> bool:
        return key in self._lines

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)


@dataclass(frozen=True, slots=True)
class CodeTable:
    """A code table, ready to look things up."""

    name: str
    """File name without ``.csv``, such as ``body-part``."""
    columns: tuple[str, ...]
    """Names of the columns; the first is the key."""
    rows: Mapping[str, Row] = field(repr=False)
    """Key to row, in the order of the file."""

    @property
    def key(self) -> str:
        """Name of the column that is looked up."""
        return self.columns[0]

    def get(self, key: str) -> Row | None:
        """Row of a key, or ``None``."""
        return self.rows.get(key)

    def __contains__(self, key: object) -> bool:
        return key in self.rows

    def __len__(self) -> int:
        return len(self.rows)


def parse_table(name: str, text: str) -> CodeTable:
    """Parse the text of a code table.

    Parameters
    ----------
    name : str
        Name of the table, with or without ``.csv``; faults name the file.
    text : str
        The whole file.

    Returns
    -------
    CodeTable

    Raises
    ------
    MappingError
        With every fault of the file: no header, a column without a name or named twice, a row with
        another number of cells, an empty or repeated key, blanks around a cell.
    """
    stem = name.removesuffix(".csv")
    return _plain(stem, text) or _parsed(stem, text)


_BLANKS = re.compile(r"(?:^|,)[^\S\n]|[^\S\n](?:,|$)", re.MULTILINE)


def _blanks(text: str) -> bool:
    """Whether a cell has blanks around it: plain searches first, which are several times as fast."""
    if any(map(text.__contains__, (" ,", ", ", " \n", "\n "))) or text[0] == " " or text[-1] == " ":
        return True
    others = not text.isascii() or "\t" in text or "\x1f" in text
    return others and _BLANKS.search(text) is not None


def _plain(name: str, text: str) -> CodeTable | None:
    """Table without quotes and without faults; ``None`` for any other."""
    if '"' in text:
        return None
    held = [
        (number, line)
        for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1)
        if line and line[0] != "#"
    ]
    if not held or _blanks("\n".join([line for _, line in held])):
        return None
    columns = tuple(held.pop(0)[1].split(","))
    commas = len(columns) - 1
    lines = {item[1].partition(",")[0]: item for item in held}
    whole = len(lines) == len(held) and "" not in lines
    if not whole or any(line.count(",") != commas for _, line in held):
        return None
    return (
        None if _header_faults("", "", columns) else CodeTable(name, columns, _Rows(columns, lines))
    )


def _parsed(stem: str, text: str) -> CodeTable:
    """Table row by row, with all its faults."""
    file = f"{stem}.csv"
    faults: list[Fault] = []
    columns: tuple[str, ...] = ()
    rows: dict[str, Row] = {}
    for line, cells in _records(text, file, faults):
        where = f"line {line}"
        if not columns:
            columns = tuple(cells)
            faults += _header_faults(file, where, columns)
            continue
        if len(cells) != len(columns):
            message = f"{len(cells)} cells where the header has {len(columns)}"
            faults.append(Fault(file, where, message))
            continue
        if list(map(str.strip, cells)) != cells:
            faults += [
                Fault(file, where, f"blanks around the cell of column {column!r}")
                for column, cell in zip(columns, cells, strict=True)
                if cell != cell.strip()
            ]
        key = cells[0]
        held = rows.get(key)
        if not key:
            faults.append(Fault(file, where, f"no key in column {columns[0]!r}"))
        elif held is not None:
            faults.append(Fault(file, where, f"key {key!r} stands in line {held.line} already"))
        else:
            rows[key] = Row(line, dict(zip(columns, cells, strict=True)))
    if not columns:
        faults.append(Fault(file, "", "no header row"))
    if faults:
        raise MappingError(faults)
    return CodeTable(stem, columns, rows)


def _records(text: str, file: str, faults: list[Fault]) -> Iterator[tuple[int, list[str]]]:
    """Give each row with its line; comments and empty lines are left out."""
    # One record a line: a quote that is not closed must not swallow the rest of the file.
    for number, content in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        if not content.strip() or content.startswith("#"):
            continue
        if '"' not in content:  # nearly all rows, and what the csv module would make of them
            yield number, content.split(",")
            continue
        try:
            yield number, next(csv.reader([content], strict=True))
        except csv.Error:
            faults.append(Fault(file, f"line {number}", "the quotes of a cell do not match"))


def _header_faults(file: str, where: str, columns: tuple[str, ...]) -> list[Fault]:
    other = next((mark for mark in ";\t" if mark in columns[0]), "")
    if other:
        name = "tabulators" if other == "\t" else "semicolons"
        return [Fault(file, where, f"its cells are apart by {name}: save it with commas")]
    faults = [
        Fault(file, where, f"column {index} of the header has no plain name")
        for index, column in enumerate(columns, start=1)
        if not column.isidentifier()
    ]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    faults += [
        Fault(file, where, f"column {column!r} stands twice in the header") for column in twice
    ]
    if len(columns) < 2:
        faults.append(Fault(file, where, "a table needs a key column and at least one more"))
    return faults
