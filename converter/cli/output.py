"""Tables of a command's product: drawn on a terminal, tab-separated in a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["clean", "one_line", "table"]

BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Characters that turn round what stands beside them (Unicode, UAX 9)."""
CONTROL = {code: None for code in (*range(32), *range(127, 160), *BIDI) if code not in {9, 10}}

WORD = 45
"""Characters that a word may have; no DICOM keyword is longer."""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows to stdout; values may come from DICOM, so control characters are left out.

    Parameters
    ----------
    columns : sequence of str
        Headings; drawn on a terminal only, so that a script reads rows and nothing else.
    rows : iterable of sequences of str
    """
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(one_line(cell) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    cells = [[clean(cell) for cell in row] for row in rows]
    if _narrowest(columns, cells) > console.width:
        _print_records(columns, cells)
        return
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for column, held in zip(columns, zip(*cells, strict=True) if cells else columns, strict=True):
        drawn.add_column(column, min_width=_longest([column, *held]))
    for row in cells:
        drawn.add_row(*(Text(cell, overflow="fold") for cell in row))
    console.print(drawn)


def _longest(cells: Iterable[str]) -> int:
    """Width of the longest word: a narrower column would break it. What is no word, such as a URL, may break."""
    longest = max((len(word) for cell in cells for word in cell.split()), default=0)
    return min(longest, WORD)


def _narrowest(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Give the least width of a table that breaks no word."""
    held = zip(columns, *rows, strict=True)
    return sum(_longest(cells) for cells in held) + 2 * (len(columns) - 1)


def _print_records(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print each row as lines of its own, where a table would be too wide."""
    width = max(map(len, columns[1:]), default=0)
    for row in rows:
        click.secho(row[0], bold=True)
        for column, cell in zip(columns[1:], row[1:], strict=True):
            if cell.strip():
                click.echo(f"  {column:{width}}  {' '.join(cell.split())}")


def clean(cell: str) -> str:
    """Text without what would steer a terminal, or turn round the line."""
    # Half a surrogate pair, such as a file's name that is no UTF-8 has, cannot be printed.
    return cell.translate(CONTROL).encode("utf-8", "backslashreplace").decode()


def one_line(cell: str) -> str:
    """Text as a row of a table holds it."""
    return " ".join(clean(cell).split())
