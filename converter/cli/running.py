"""From options to a run: what the configuration asks for, put together and run once."""

from __future__ import annotations

import logging
import os
import re
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converter.cli.common import usage
from converter.cli.progress import Silent, progress_for
from converter.cli.rules import (
    WorkerJudge,
    checker_of,
    judge_of,
    merge_options,
    options_of,
    rules_of,
)
from converter.cli.targets import own, refuse_targets
from converter.cli.telling import Teller
from converter.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from converter.cli.common import State
    from converter.config import Loaded
    from converter.pipeline import Request
    from converter.settings import ConvertSettings
    from converter.sinks import Sink

__all__ = [
    "flags_of",
    "judge_of",
    "merge_options",
    "options_of",
    "request_of",
    "rules_of",
    "run_convert",
]

logger = logging.getLogger("converter.cli")

ELSEWHERE = {
    "timezone": "site.timezone",
    "log_format": "log.format",
    "format_": "convert.format",
    "patient_lookup": "delivery.patient_lookup",
    "link_orders": "delivery.link_orders",
    "deliver_timeout": "delivery.deliver_timeout",
    "allow_http": "delivery.allow_http",
}
"""Options whose key is not ``convert.`` and their name."""
NO_KEY = {"dry_run", "from_file", "null", "retry_from", "quiet", "verbose"}
"""Options of one run, which no configuration file sets."""
NDJSON_FILE = 256 << 20
"""Bytes after which an NDJSON folder begins a new file, unless told."""


def flags_of(given: dict[str, Any]) -> dict[str, Any]:
    """Options of a command line by key of the configuration."""
    return {
        ELSEWHERE.get(name, f"convert.{name}"): value
        for name, value in given.items()
        if name not in NO_KEY
    }


def run_convert(state: State, inputs: Sequence[str], loaded: Loaded, given: dict[str, Any]) -> int:
    """Run ``dcm2fhir convert``, write its report and summary, and give its exit code."""
    settings = loaded.config.convert
    dry_run = bool(given.get("dry_run"))
    _refuse(settings, inputs, given, dry_run=dry_run)
    named = list(inputs)
    if given.get("retry_from"):
        from converter.retry import retry_inputs

        named = retry_inputs(given["retry_from"])
        if not named:
            click.echo("Nothing failed in that run that another try could change.", err=True)
            return 0
    refuse_targets(settings, named)
    progress = progress_for(
        settings.progress, quiet=state.quiet or loaded.config.log.format == "json"
    )
    teller = Teller(loaded.config, state)
    try:
        return _run(state, named, loaded, given, progress, teller, dry_run=dry_run)
    except (Exception, KeyboardInterrupt) as error:
        teller.failed(named, progress.files, error)
        raise


def _run(
    state: State,
    named: list[str],
    loaded: Loaded,
    given: dict[str, Any],
    progress: Silent,
    teller: Teller,
    *,
    dry_run: bool,
) -> int:
    from converter.pipeline import run
    from converter.pipeline.pool import collect_seldom

    settings = loaded.config.convert
    with ExitStack() as stack:
        delivery = None
        if settings.to and not dry_run:
            from converter.cli.delivering import RunDelivery, say, state_file
            from converter.store import place_of

            # wrong destinations are told before anything is read
            delivery = RunDelivery(loaded)
            stack.callback(delivery.close)
            file = place_of(settings.state) if settings.state else state_file("convert.db")
        request = request_of(loaded, named, given, stack, dry_run=dry_run)
        if delivery is not None:
            delivery.share(request.rules)
            request = replace(request, state=file, deliver=delivery)
        collect_seldom()  # what the mapping and the check are made of stays to the end
        _announce(loaded, request)
        with progress:
            progress.expect(request.inputs if not request.names else ())
            result = run(request, progress=progress)
        with result:
            teller.done(result)
            if delivery is not None and not (state.quiet and result.exit_code == 0):
                say(delivery.tally, file)
            return result.exit_code


def _refuse(
    settings: ConvertSettings, inputs: Sequence[str], given: dict[str, Any], *, dry_run: bool
) -> None:
    if not settings.output and not settings.to and not dry_run:
        raise usage(
            "Nothing says where the resources go: name a folder with -o OUT, take '-o -' for"
            " standard output, a FHIR server with --to URL, or --dry-run to only look."
        )
    from converter.store.address import is_url

    for option in ("report", "state"):
        if given.get(option) in ("", "-"):
            raise usage(f"--{option} names a file: {given[option]!r} is none.")
    for option in ("modality", "study_uid", "include", "exclude"):
        if "" in (given.get(option) or ()):
            raise usage(f"--{option.replace('_', '-')} is empty: a variable that is not set?")
    if not all(re.fullmatch(r"[0-9.]+", uid) for uid in given.get("study_uid") or ()):
        raise usage("--study-uid takes a UID: digits and dots. It would let nothing through.")
    for option in ("output", "report", "state"):
        value = str(getattr(settings, option) or "")
        if "://" in value and not (option == "state" and is_url(value)):
            raise usage(
                f"--{option} names a file or folder of this machine; only what is read may be an address."
            )
    if not inputs and not given.get("from_file") and not given.get("retry_from"):
        raise usage("Name what to convert: a file, folder or archive, or --from-file.")
    if given.get("null") and not given.get("from_file"):
        raise usage("-0 goes with --from-file.")
    if given.get("retry_from") and (inputs or given.get("from_file")):
        raise usage("--retry-from takes its inputs from the report: name no others.")
    if bool(settings.engine) != bool(settings.engine_address):
        raise usage(
            "--engine and --engine-address go together: the one says what the cluster is, the other where."
            " On this machine alone take --jobs."
        )
    if settings.engine == "dask" and not re.search(r":\d+/?$", settings.engine_address):
        raise usage("--engine-address of dask is that of its scheduler, such as tcp://HOST:8786.")
    if settings.engine:
        from converter.pipeline.cluster import need

        need(settings.engine)
    if settings.prune and not settings.state:
        raise usage("--prune needs --state: only a kept state knows what has gone.")
    if settings.prune and given.get("retry_from"):
        raise usage("--prune and --retry-from: what is not tried again would be taken for gone.")
    for name, form in (
        ("bundle_type", "bundle"),
        ("bundle_method", "bundle"),
        ("max_bundle_entries", "bundle"),
        ("max_file_size", "ndjson"),
    ):
        if given.get(name) is not None and settings.format != form:
            raise usage(f"--{name.replace('_', '-')} goes with --format {form}.")
    if (settings.format, settings.bundle_method) == ("bundle", "create") and (
        settings.bundle_type != "transaction"
    ):
        raise usage(
            "--bundle-method create needs --bundle-type transaction: entries of a batch may not refer to what"
            " a server has yet to give an id, and a collection asks for nothing."
        )


def request_of(
    loaded: Loaded,
    named: list[str],
    given: dict[str, Any],
    stack: ExitStack,
    *,
    dry_run: bool,
) -> Request:
    """What a run is asked to do, by the configuration in force."""
    from converter.pipeline import Parts, Request
    from converter.pipeline.engine import Place
    from converter.sources import Filters, look
    from converter.store import place_of

    config, settings = loaded.config, loaded.config.convert
    rules = rules_of(config)
    parts = Parts.real(**merge_options(rules))
    checker = checker_of(rules)
    names = _names(given, stack)
    look(named)  # before an output folder is made and locked
    return Request(
        inputs=named,
        rules=rules,
        options=options_of(settings),
        parts=parts,
        sink=None if dry_run or not settings.output else _sink(settings, stack),
        judge=judge_of(rules, checker=checker),
        worker_judge=WorkerJudge(rules, checker),
        names=names,
        filters=Filters(
            tuple(code.upper() for code in settings.modality),
            frozenset(settings.study_uid),
            settings.include,
            settings.exclude,
            own(settings),
        ),
        ignore_changed=settings.ignore_changed,
        jobs=settings.jobs or len(os.sched_getaffinity(0)),
        place=Place(settings.engine, settings.engine_address) if settings.engine else None,
        state=place_of(settings.state) if settings.state else None,
        prune=settings.prune,
        ownership=settings.ownership,
        profiles=[
            profile.claims["ImagingStudy"]
            for profile in rules.profiles
            if "ImagingStudy" in profile.claims
        ],
        strict=settings.strict,
    )


def _names(given: dict[str, Any], stack: ExitStack) -> Iterator[str] | tuple[str, ...]:
    from converter.errors import SourceError
    from converter.sources.planning import listed

    name = given.get("from_file")
    if not name:
        return ()
    if name == "-":
        return listed(sys.stdin.buffer, nul=bool(given.get("null")))
    try:
        stream = stack.enter_context(open(name, "rb"))  # noqa: PTH123, SIM115  the stack closes it
    except OSError as error:
        raise SourceError(f"--from-file {name}: {error.strerror}") from error
    return listed(stream, nul=bool(given.get("null")))


def _sink(settings: ConvertSettings, stack: ExitStack) -> Sink:
    from converter.settings import parse_size
    from converter.sinks import open_sink

    path = Path(settings.output)
    single = (
        settings.output == "-" or path.suffix == ".ndjson" or (path.exists() and not path.is_dir())
    )
    size = parse_size(settings.max_file_size) if settings.max_file_size else 0
    try:
        sink = open_sink(
            settings.output,
            settings.format,
            max_file_size=size or (0 if single else NDJSON_FILE),
            bundle_type=settings.bundle_type,
            bundle_method=settings.bundle_method,
            max_bundle_entries=settings.max_bundle_entries,
        )
    except ConfigurationError as error:
        raise usage(str(error)) from error
    # a run gives up its own sink, but one that is refused never comes so far
    stack.push(lambda kind, *_: sink.abort() if kind else None)
    return sink


def _announce(loaded: Loaded, request: Request) -> None:
    logger.info("configuration: %s", loaded.file or "no file")
    logger.info("profiles: %s", ", ".join(loaded.config.convert.profile))
    logger.info("mapping: %s, version %s", ", ".join(request.rules.files), request.rules.version)
    logger.info("worker processes: at most %d", request.jobs)
