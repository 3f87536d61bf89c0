"""Tables: rows for scripts in a pipe; nothing that DICOM says commands a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

from converter.cli.output import table

ROWS = [("a", "1\t2\n3", "\x1b[31mred\x9b\x07"), ("b", "", "[bold]plain[/bold]")]


def test_in_a_pipe_rows_are_tab_separated_without_headings_or_control_characters(capsys):
    table(("one", "two", "three"), ROWS)
    assert capsys.readouterr().out == "a\t1 2 3\t[31mred\nb\t\t[bold]plain[/bold]\n"


def test_no_value_turns_round_what_stands_beside_it(capsys):
    table(("one", "two"), [("a\u202egpj\u2066\u200f\u061c", "קל"), ("b\u2028c", "d")])
    assert capsys.readouterr().out == "agpj\tקל\nb c\td\n"


def shown_on_terminal(columns, rows, width):
    main, other = pty.openpty()
    code = f"from converter.cli.output import table; table({columns!r}, {rows!r})"
    subprocess.run(
        [sys.executable, "-c", code],
        stdout=other,
        check=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": str(width)},
    )
    os.close(other)
    shown = os.read(main, 10_000).decode()
    os.close(main)
    return shown


def test_a_terminal_that_is_too_narrow_gets_a_line_a_cell_and_no_broken_word():
    row = ["ImagingStudy.series.bodySite", "RequestedProcedureDescription", "", "x " * 30]
    for width in (30, 60, 80, 110, 200):
        shown = shown_on_terminal(("element", "DICOM", "code", "why"), [row], width)
        assert "ImagingStudy.series.bodySite" in shown
        assert "RequestedProcedureDescription" in shown
        assert ("DICOM" in shown.splitlines()[0]) == (width > 70)
    assert "code" not in shown_on_terminal(("element", "DICOM", "code", "why"), [row], 30)


def test_on_a_terminal_there_are_headings_and_values_command_nothing():
    main, other = pty.openpty()
    code = f"from converter.cli.output import table; table(('one', 'two', 'three'), {ROWS!r})"
    subprocess.run(
        [sys.executable, "-c", code],
        stdout=other,
        check=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "60"},
    )
    os.close(other)
    shown = os.read(main, 10_000).decode()
    os.close(main)
    assert "three" in shown.splitlines()[0]
    assert "\x1b[31m" not in shown
    assert "\x07" not in shown
    assert "[31mred" in shown
    assert "[bold]plain[/bold]" in shown
