"""Code tables: CSV text to rows by key.

A table is a CSV file with ``#`` comment lines that name its source and edition, a header row with the
names of the columns, and one code a line. The first column is the key that is looked up, the others are
what it gives. Keys are unique, compared exactly; cells carry no blanks around them.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from converter.errors import Fault, MappingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["CodeTable", "Row", "parse_table"]


@dataclass(frozen=True, slots=True)
class Row:
    """One code of a table."""

    line: int
    """Line in the file, from 1, as an editor counts."""
    values: Mapping[str, str]
    """Every column of the row, the key included; an empty cell is an empty string."""

    def __getitem__(self, column: str) -> str:
        return self.values[column]


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
