"""``dcm2fhir convert``: files, folders and archives to FHIR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from converter.cli.common import (
    Command,
    State,
    configuration,
    count_or_word,
    duration,
    option,
    size,
    verbosity,
)

__all__ = ["convert"]

WHAT = "What is read"
INTO = "What is made of it"
OUT = "Where it goes"
SERVER = "With --to"
HOW = "How the run goes"
SITE = "The site"

EXAMPLES = """
# one file a resource, for UK Core and IPS
dcm2fhir convert scans/ -o fhir/ --profile uk-core --profile ips
# look first: what is there, what would be skipped, what would not conform
dcm2fhir convert scans.zip --dry-run --report report.json
# one transaction bundle to standard output
dcm2fhir convert study/ -o - --format bundle
# straight to a FHIR server; what cannot be delivered now is kept, and goes on with: dcm2fhir send
dcm2fhir convert scans/ --to https://fhir.example/r4
# a list of paths; a kept state makes the next run skip what has not changed
find /archive -name '*.dcm' -print0 | dcm2fhir convert --from-file - -0 -o fhir/ --state run.db
# the objects of a bucket, read by the workers of a dask cluster
dcm2fhir convert s3://scans/2024/ -o fhir/ --engine dask --engine-address tcp://scheduler:8786
"""


@click.command(cls=Command, examples=EXAMPLES)
@click.argument(
    "inputs",
    metavar="[INPUT]...",
    nargs=-1,
    # one that may not be read is told with the others that are left out
    # and an address keeps its slashes
    type=click.Path(readable=False),
)
@option(
    "--from-file",
    metavar="FILE",
    heading=WHAT,
    help="Read paths or addresses from FILE, one a line; '-' is standard input.",
)
@option(
    "-0",
    "--null",
    "null",
    is_flag=True,
    default=None,
    heading=WHAT,
    help="Paths in --from-file end with NUL, not with a line end.",
)
@option(
    "--modality",
    metavar="CODE",
    multiple=True,
    heading=WHAT,
    help="Only series of this modality, such as CT (repeatable).",
)
@option(
    "--study-uid", metavar="UID", multiple=True, heading=WHAT, help="Only this study (repeatable)."
)
@option(
    "--include",
    metavar="GLOB",
    multiple=True,
    heading=WHAT,
    help="Only paths that match, such as '*.dcm' (repeatable).",
)
@option(
    "--exclude",
    metavar="GLOB",
    multiple=True,
    heading=WHAT,
    help="No paths that match (repeatable).",
)
@option(
    "--retry-from",
    metavar="REPORT",
    type=click.Path(path_type=Path),
    heading=WHAT,
    help="Only what failed in an earlier run, by its --report.",
)
@option(
    "--ignore-changed",
    is_flag=True,
    default=None,
    heading=WHAT,
    help="Take a file that changed while it was read.",
)
@option(
    "--profile",
    metavar="NAME|FILE",
    multiple=True,
    heading=INTO,
    help="r4, uk-core, ips or a TOML file of your own (repeatable; default r4).",
)
@option(
    "--patient",
    type=click.Choice(["resource", "reference", "logical", "contained"]),
    heading=INTO,
    help="The subject: a Patient beside the study (default), a reference to one, an identifier alone, or contained. IPS needs a Patient to check: resource or contained.",
)
@option(
    "--companions",
    is_flag=True,
    default=None,
    heading=INTO,
    help="Also make the other resources that a study names: Encounter, ServiceRequest, Practitioner and so on.",
)
@option(
    "--instances",
    metavar="all|none|N",
    callback=count_or_word,
    heading=INTO,
    help="List all instances (default), none, or none for a study with more than N.",
)
@option(
    "--timezone",
    metavar="ZONE",
    heading=SITE,
    help="IANA zone, such as Europe/London, of studies that state no offset (0008,0201).",
)
@option("--mappings", metavar="PATH", heading=SITE, help="Folder with the site's mapping overlays.")
@option(
    "--config",
    "config_file",
    metavar="FILE",
    heading=SITE,
    help="Configuration file (default: dcm2fhir.toml here, in $XDG_CONFIG_HOME/dcm2fhir or in /etc/dcm2fhir).",
)
@option(
    "-o",
    "--output",
    metavar="PATH",
    heading=OUT,
    help="Folder or file; '-' is standard output (NDJSON, or the bundle).",
)
@option(
    "--to",
    metavar="URL|NAME",
    multiple=True,
    heading=OUT,
    help="Deliver to a FHIR server: its base URL, or a name of [destinations] (repeatable).",
)
@option(
    "--format",
    "format_",
    type=click.Choice(["json", "ndjson", "bundle"]),
    heading=OUT,
    help="json: one file a resource (default); ndjson: one a resource type; bundle: FHIR Bundles.",
)
@option(
    "--bundle-type",
    type=click.Choice(["transaction", "batch", "collection"]),
    heading=OUT,
    help="With --format bundle (default transaction).",
)
@option(
    "--bundle-method",
    type=click.Choice(["put", "create"]),
    heading=OUT,
    help="With --format bundle: PUT by id (default), or POST with ifNoneExist on the identifier.",
)
@option(
    "--max-bundle-entries",
    metavar="N",
    type=click.IntRange(min=0),
    heading=OUT,
    help="With --format bundle into a folder: entries of one bundle (default, and 0: 100); a file holds one bundle of all.",
)
@option(
    "--max-file-size",
    metavar="SIZE",
    callback=size,
    heading=OUT,
    help="With --format ndjson: begin a new file beyond this, such as 64MiB.",
)
@option(
    "--ownership",
    type=click.Choice(["merge", "replace"]),
    heading=OUT,
    help="A study that stands at the destination is united with ours (default), or replaced.",
)
@option(
    "--prune",
    is_flag=True,
    default=None,
    heading=OUT,
    help="With --state: take away what the inputs no longer hold, and what a filter leaves out.",
)
@option(
    "--patient-lookup",
    type=click.Choice(["off", "create", "hold"]),
    heading=SERVER,
    help="Search the Patient by identifier; where there is none create it, or hold the study (default off).",
)
@option(
    "--link-orders",
    is_flag=True,
    default=None,
    heading=SERVER,
    help="Refer to the ServiceRequest and Encounter that stand there, where exactly one is meant.",
)
@option(
    "--deliver-timeout",
    metavar="DURATION",
    callback=duration,
    heading=SERVER,
    help="Go on trying for so long, such as 30s or 2h (default 10m).",
)
@option(
    "--allow-http",
    is_flag=True,
    default=None,
    heading=SERVER,
    help="Plain http beyond this machine: others can read what is sent.",
)
@option(
    "--dry-run", is_flag=True, default=None, heading=OUT, help="Do everything but write resources."
)
@option("--report", metavar="FILE", heading=HOW, help="Write the result of the run as JSON.")
@option(
    "--redact-paths",
    is_flag=True,
    default=None,
    heading=HOW,
    help="Hashes instead of paths in the report.",
)
@option(
    "--strict",
    is_flag=True,
    default=None,
    heading=HOW,
    help="Exit 5 if a resource does not conform.",
)
@option(
    "--state",
    metavar="FILE|URL",
    heading=HOW,
    help="Keep the study store: a later run skips what has not changed and finishes what was interrupted.",
)
@option(
    "-j",
    "--jobs",
    metavar="N",
    type=click.IntRange(min=0),
    heading=HOW,
    help="Worker processes (default, and 0: the machine's cores).",
)
@option(
    "--engine",
    type=click.Choice(["dask", "ray"]),
    heading=HOW,
    help="Read on the workers of a cluster that stands, in the place of worker processes here.",
)
@option(
    "--engine-address",
    metavar="ADDRESS",
    heading=HOW,
    help="Where the cluster is: tcp://scheduler:8786 of dask; host:6379 or auto of Ray.",
)
@option(
    "--progress",
    type=click.Choice(["auto", "never"]),
    heading=HOW,
    help="A progress bar on a terminal (default auto).",
)
@verbosity
@click.pass_obj
def convert(state: State, /, inputs: tuple[str, ...], config_file: str | None, **given: Any) -> int:
    """Convert DICOM files, folders and archives to FHIR.

    Folders are read with all that is in them, zip and tar archives without unpacking them. Studies and patients
    may come mixed and in any order. What is no DICOM is skipped and counted. Inputs may be addresses of object
    stores, too: s3://bucket/prefix, gs://, abfs://, or https://; of each object only the header is fetched.
    """
    from converter.cli.running import flags_of, run_convert

    loaded = configuration(config_file, flags_of(given), verbose=state.verbose, quiet=state.quiet)
    return run_convert(state, inputs, loaded, given)
