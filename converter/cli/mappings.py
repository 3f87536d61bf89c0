"""``dcm2fhir mappings``: the data that says what goes where."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converter.cli.common import Command, configuration, option, usage, verbosity
from converter.cli.config import CONFIG, write_new
from converter.cli.output import table
from converter.errors import ConfigurationError, MappingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.core.rules import RuleSet
    from converter.errors import Fault
    from converter.mapping import MappingFile
    from converter.settings import Config

__all__ = ["compiled", "mappings"]


@click.group()
def mappings() -> None:
    """List, show, check and start mapping data."""


@mappings.command("list", cls=Command, examples="dcm2fhir mappings list")
@verbosity
def list_(**_: Any) -> None:
    """List the mapping files that dcm2fhir brings: kind, name and title."""
    from converter.mapping import shipped

    table(("kind", "name", "title"), [(file.kind, file.name, file.title) for file in shipped()])


@mappings.command(
    cls=Command,
    examples="""
    dcm2fhir mappings show imaging-study
    dcm2fhir mappings show codes/modality
    """,
)
@click.argument("name")
@verbosity
def show(name: str, **_: Any) -> None:
    """Print a mapping file that dcm2fhir brings; NAME as `list` gives it."""
    click.echo(_named(name).path.read_text(encoding="utf-8"), nl=False)


def _named(name: str) -> MappingFile:
    from converter.mapping import shipped

    files = shipped()
    short = name.removesuffix(".toml").removesuffix(".csv")
    found = [file for file in files if short in {file.name, f"{file.kind}/{file.name}"}]
    if len(found) == 1:
        return found[0]
    if found:
        several = " or ".join(f"{file.kind}/{file.name}" for file in found)
        raise usage(f"{name} is the name of several files: say {several}.")
    near = get_close_matches(short.rpartition("/")[2], [file.name for file in files], n=1)
    hint = f" Did you mean {near[0]}?" if near else " `dcm2fhir mappings list` names them."
    raise usage(f"There is no mapping file {name}.{hint}")


@mappings.command(
    cls=Command,
    examples="""
    dcm2fhir mappings check
    dcm2fhir mappings check site.toml
    dcm2fhir mappings check mappings/ --config dcm2fhir.toml
    dcm2fhir mappings check mappings/ --state /var/lib/dcm2fhir/listen.db
    """,
)
@click.argument(
    "paths", metavar="[PATH]...", nargs=-1, type=click.Path(exists=True, path_type=Path)
)
@option(
    "--state",
    metavar="FILE|URL",
    help="Also tell which rules read what was not kept of studies that the daemon received before.",
)
@CONFIG
@verbosity
def check(paths: tuple[Path, ...], config_file: str | None, state: str | None, **_: Any) -> None:
    """Compile the mapping, run its examples, tell all faults.

    PATH is a file of your own or the folder that --mappings takes; they are laid over what dcm2fhir brings. The
    exit code is 3 if there is a fault.
    """
    from converter.mapping import load

    config = configuration(config_file, {}).config
    folders = [path for path in paths if path.is_dir()]
    if len(folders) > 1:
        raise usage("One folder at a time: --mappings takes one.")
    overlays = folders[0] if folders else Path(config.convert.mappings or "")
    files = [str(path) for path in paths if not path.is_dir()]
    named = [name if "/" in name else f"./{name}" for name in files]
    if folders and not _held(overlays):
        raise ConfigurationError(f"{overlays}: holds neither *.toml nor codes/*.csv")
    faults, count = compiled(config, named, overlays)
    if faults:
        raise MappingError(faults)
    click.echo(f"ok: {count} examples hold")
    if own := [*files, *_held(overlays)]:
        click.echo(f"of yours: {', '.join(own)}")
    if state:
        rules = load(
            [*config.convert.profile, *named],
            site=config.site,
            overlays=overlays if overlays != Path() else None,
        )
        _tell_not_kept(state, rules)


def _held(overlays: Path) -> list[str]:
    """Files of a site's folder that are in force."""
    if overlays == Path():
        return []
    return sorted(map(str, [*overlays.glob("*.toml"), *overlays.glob("codes/*.csv")]))


def compiled(config: Config, named: Sequence[str], overlays: Path) -> tuple[list[Fault], int]:
    """Faults of all mapping data, the site's on top, and how many examples were run."""
    from converter.mapping import check as checked
    from converter.mapping import shipped

    own = [name for name in config.convert.profile if name.endswith(".toml")]
    profiles = [file.name for file in shipped() if file.kind == "profile"]
    return checked(
        [*profiles, *own, *named],
        site=config.site,
        overlays=overlays if overlays != Path() else None,
    )


def _tell_not_kept(state: str, rules: RuleSet) -> None:
    from converter.cli.studies import opened
    from converter.listener.origins import unkept

    with opened(state, None) as ledger:
        found = unkept(rules, ledger.not_kept())
    rows = [
        (one.rule, ", ".join(one.attributes), str(one.studies), str(one.instances)) for one in found
    ]
    if rows:
        table(("rule", "not kept", "studies", "instances"), rows)
        click.echo("these studies must be sent again before such a rule can say something of them")
    else:
        click.echo("of every study that was received all is kept that the rules read")


@mappings.command(
    cls=Command,
    examples="""
    dcm2fhir mappings init
    dcm2fhir mappings init mappings/site.toml
    """,
)
@click.argument("file", type=click.Path(path_type=Path), default="site.toml")
@verbosity
def init(file: Path, **_: Any) -> None:
    """Write a commented overlay to start from (default: site.toml here; '-' is standard output)."""
    if file.suffix != ".toml" and str(file) != "-":
        raise ConfigurationError(f"{file}: the name of an overlay ends in .toml")
    write_new(file, TEMPLATE, f"change it, then: dcm2fhir mappings check {file}")


TEMPLATE = """\
# A site's overlay: what differs from the mapping that dcm2fhir brings (`dcm2fhir mappings list`).
# Left: the FHIR element. Right: the DICOM keyword that it is made of. A rule replaces the shipped one
# whole; false takes it away. `dcm2fhir explain STUDY ELEMENT` says which rule makes an element now.

extends = "base"

# [ImagingStudy]
# description = { from = ["StudyDescription", "RequestedProcedureDescription"], as = "string" }
# location    = false

# [ImagingStudy.series]
# description = { from = ["SeriesDescription", "ProtocolName"], as = "string" }

# Every example is a test, which `dcm2fhir mappings check` runs: what is in the DICOM, what must stand in the
# FHIR (false: must be absent).

# [[example]]
# why   = "our scanners leave the study description empty"
# dicom = { RequestedProcedureDescription = "CT chest" }
# fhir  = { description = "CT chest" }

[[example]]
why   = "what this file does not name stays as it is"
dicom = { StudyDescription = "CT thorax" }
fhir  = { description = "CT thorax" }
"""
