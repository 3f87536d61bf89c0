"""Where resources go: JSON files, NDJSON, Bundles, standard output, nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from converter.errors import ConfigurationError
from converter.sinks.bundles import BundleSink
from converter.sinks.files import Files, FileSink
from converter.sinks.interface import Sink
from converter.sinks.ndjson import NdjsonSink, NdjsonStream
from converter.sinks.null import NullSink
from converter.sinks.output import single_output
from converter.sinks.stdout import StdoutSink

if TYPE_CHECKING:
    from converter.core.bundle import BundleType, Method

__all__ = [
    "BundleSink",
    "FileSink",
    "Files",
    "Format",
    "NdjsonSink",
    "NdjsonStream",
    "NullSink",
    "Sink",
    "StdoutSink",
    "open_sink",
]

Format = Literal["json", "ndjson", "bundle"]

BUNDLE_ENTRIES = 100
"""Entries of a Bundle in a folder, unless told: what a server takes in one transaction."""


def open_sink(
    output: str,
    output_format: Format = "json",
    *,
    pretty: bool = True,
    durable: bool = False,
    max_file_size: int = 0,
    bundle_type: BundleType = "transaction",
    bundle_method: Method = "put",
    max_bundle_entries: int = 0,
    dry_run: bool = False,
) -> Sink:
    """Open the sink that ``-o`` and ``--format`` mean.

    Parameters
    ----------
    output : str
        Folder, file, or ``-`` for standard output.
    output_format : {"json", "ndjson", "bundle"}
        ``json`` on standard output is NDJSON.
    pretty, durable : bool
        For JSON files.
    max_file_size : int
        For an NDJSON folder.
    bundle_type, bundle_method : str
        For Bundles.
    max_bundle_entries : int
        For a folder of Bundles; 0 is `BUNDLE_ENTRIES`. A file or stream holds one Bundle of all.
    dry_run : bool
        Write nothing.

    Raises
    ------
    ConfigurationError
        Options that do not go together.
    SinkError
        The output cannot be written, or another run holds it.
    """
    path = Path(output)
    if dry_run:
        return NullSink(path if output_format == "json" and output != "-" else None)
    if output_format == "json":
        if output == "-":
            return StdoutSink()
        return FileSink(path, pretty=pretty, durable=durable, once=True)
    single = single_output(output, (".ndjson",) if output_format == "ndjson" else (".json",))
    if output_format == "ndjson":
        if single is None:
            return NdjsonSink(path, max_file_size=max_file_size)
        if max_file_size:
            single.abort()
            raise ConfigurationError("--max-file-size needs a folder: name one with -o.")
        return NdjsonStream(single)
    if single is None:
        most = max_bundle_entries or BUNDLE_ENTRIES
        return BundleSink(path, bundle_type, bundle_method, max_entries=most)
    if max_bundle_entries:
        single.abort()
        raise ConfigurationError("--max-bundle-entries needs a folder: name one with -o.")
    return BundleSink(single, bundle_type, bundle_method)
