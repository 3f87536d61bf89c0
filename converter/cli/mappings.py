"""``dcm2fhir mappings``: the data that says what goes where."""

from __future__ import annotations

from typing import Any

import click

from converter.cli.common import Command, verbosity
from converter.cli.output import table

__all__ = ["mappings"]


@click.group()
def mappings() -> None:
    """List, show, check and start mapping data."""


@mappings.command("list", cls=Command, examples="dcm2fhir mappings list")
@verbosity
def list_(**_: Any) -> None:
    """List the mapping files that dcm2fhir brings: name, kind and title."""
    from converter.mapping import shipped

    table(("name", "kind", "title"), [(file.name, file.kind, file.title) for file in shipped()])


@mappings.command(cls=Command, examples="dcm2fhir mappings show base/imaging-study")
@click.argument("name")
@verbosity
def show(name: str, **_: Any) -> None:
    """Print a mapping file that dcm2fhir brings."""
    from converter.mapping import shipped_text

    click.echo(shipped_text(name), nl=False)
