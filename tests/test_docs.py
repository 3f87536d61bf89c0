"""What the documents say is so: output shown is real output, links lead somewhere, every command is described."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from converter.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "mappings").rglob("*.md"),
        *(ROOT / "testdata").rglob("*.md"),
    ]
)
RUN = re.compile(
    r"<!-- run: (?P<command>dcm2fhir[^\n]*?) -->\n+```[a-z]*\n(?P<shown>.*?)```", re.DOTALL
)
SHOWN = [
    pytest.param(page, match["command"], match["shown"], id=f"{page.name}: {match['command']}")
    for page in PAGES
    for match in RUN.finditer(page.read_text(encoding="utf-8"))
]


def text(page):
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "command", "shown"), SHOWN)
def test_output_shown_is_real(page, command, shown, tmp_path):
    """A block's first line may be the command; a line ``...`` stands for any lines."""
    (tmp_path / "testdata").symlink_to(ROOT / "testdata")
    arguments = shlex.split(command)[1:]
    done = subprocess.run(
        [sys.executable, "-m", "converter", *arguments],
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "HOME": str(tmp_path),
            "LC_ALL": "C.UTF-8",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    lines = shown.splitlines(keepends=True)
    if lines and lines[0].startswith("$ "):
        assert lines.pop(0) == f"$ {command}\n"
    pattern = "".join(
        r"(?:.*\n)*" if line.strip() == "..." else re.escape(line.rstrip()) + r"[ \t]*\n"
        for line in lines
    )
    assert re.fullmatch(pattern, done.stdout), (
        f"{page.name} shows something else than\n{done.stdout}"
    )


def test_the_readme_shows_something_that_is_run():
    assert any(parameter.values[0] == ROOT / "README.md" for parameter in SHOWN)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (page.parent / name).resolve() if name else page
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ +(.*)$", text(found), re.MULTILINE)
            anchors = [
                re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
            ]
            assert anchor in anchors, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_path_of_anyones_machine(page):
    assert not re.search(r"(?<![\w/.])/(?:work|root|home|Users)/", text(page))


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_described(name):
    assert f"`dcm2fhir {name}" in text(ROOT / "docs" / "cli.md")


def options():
    import click

    from converter.cli.main import cli

    def walk(command, path):
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                yield from walk(command.get_command(context, name), [*path, name])
        else:
            for parameter in command.params:
                if isinstance(parameter, click.Option):
                    yield " ".join(path), max(parameter.opts, key=len)

    return sorted(set(walk(cli, [])))


@pytest.mark.parametrize(("command", "name"), options())
def test_every_option_is_described(command, name):
    assert re.search(rf"`[^`\n]*{re.escape(name)}\b[^`\n]*`", text(ROOT / "docs" / "cli.md")), (
        command
    )


def test_every_make_target_named_is_there():
    makefile = text(ROOT / "Makefile")
    for page in PAGES:
        for target in re.findall(r"`?make ([a-z]+)`", text(page)):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: make {target}"
