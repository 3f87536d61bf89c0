"""``dcm2fhir demo``: what dcm2fhir does, shown on DICOM that it brings, offline."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from converter.cli import logs
from converter.cli.common import Command, State, verbosity
from converter.errors import ConfigurationError

__all__ = ["demo"]


@click.command(
    cls=Command,
    examples="""
    dcm2fhir demo
    dcm2fhir demo fhir/
    """,
)
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@verbosity
@click.pass_obj
def demo(state: State, /, folder: Path | None, **_: Any) -> int:
    """Convert DICOM that comes with dcm2fhir, and show the result.

    Three studies of three patients are converted for UK Core and IPS into FOLDER, or into a temporary folder that
    is removed at the end.
    """
    if folder is not None:
        return _run(state, folder)
    with tempfile.TemporaryDirectory(prefix="dcm2fhir-demo-") as temporary:
        return _run(state, Path(temporary))


def _run(state: State, folder: Path) -> int:
    from converter.cli.running import run_convert
    from converter.config import load

    logs.start(verbose=state.verbose, quiet=state.quiet)
    # no file and no environment: what it shows is the same everywhere
    flags = {"convert.output": str(folder), "convert.profile": ("uk-core", "ips")}
    loaded = load(environ={}, flags=flags, search=False)
    code = run_convert(state, (str(_carried()),), loaded, {})
    studies = (folder / "ImagingStudy").glob("*.json")
    study = min(studies, key=lambda path: path.stat().st_size, default=None)
    if study is not None and not state.quiet:
        click.echo(f"\nThe smallest of the resources, {study.relative_to(folder)}:", err=True)
        _show(study)
    return code


def _carried() -> Path:
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_demo", package.parent / "testdata" / "dicom" / "demo"):
        if folder.is_dir():
            return folder
    raise ConfigurationError("The demo's DICOM is missing: install the package again.")


def _show(study: Path) -> None:
    import orjson

    resource = orjson.loads(study.read_bytes())
    click.echo(orjson.dumps(resource, option=orjson.OPT_INDENT_2).decode())
