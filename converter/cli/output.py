"""Tables of a command's product: drawn on a terminal, tab-separated in a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["table"]

CONTROL = {code: None for code in (*range(32), 127, *range(128, 160)) if code not in {9, 10}}


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
            click.echo("\t".join(" ".join(_clean(cell).split()) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        drawn.add_row(*(Text(_clean(cell), overflow="fold") for cell in row))
    Console(highlight=False).print(drawn)


def _clean(cell: str) -> str:
    return cell.translate(CONTROL)
