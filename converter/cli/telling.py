"""What is said of a run of ``convert``: its report, its summary, what it left out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import click

from converter.cli.common import console
from converter.errors import ConverterError, ReaderGoneError, SinkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.cli.common import State
    from converter.pipeline import RunResult
    from converter.settings import Config
    from converter.sources import Skipped

__all__ = ["Teller"]

logger = logging.getLogger("converter.cli")

MACHINE, SOFTWARE, INTERRUPTED = 7, 70, 130


class Teller:
    """Says what became of one run."""

    def __init__(self, config: Config, state: State) -> None:
        self._config = config
        self._state = state
        self._reported = False

    def done(self, result: RunResult) -> None:
        """Write the report, and print what there is to say."""
        from converter.report import write_report

        code, settings = result.exit_code, self._config.convert
        try:
            if settings.report:
                write_report(settings.report, result, exit_code=code, redact=settings.redact_paths)
                self._reported = True
        finally:
            self._sum_up(result)

    def failed(self, named: Sequence[str], files: int, error: BaseException) -> None:
        """Write what is known where a run did not come to its end: an older report would tell of another."""
        from converter.report import FailedRun, write_report
        from converter.sources.task import is_remote, printable

        settings = self._config.convert
        if not settings.report or self._reported:
            return
        inputs = tuple(printable(name) if is_remote(name) else name for name in named)
        code, why = _ending(error)
        try:
            write_report(
                settings.report,
                FailedRun(inputs, {"files": files}, interrupted=code == INTERRUPTED),
                exit_code=code,
                redact=settings.redact_paths,
                error=why,
            )
        except SinkError as second:
            cause = "" if str(second) == str(error) else f": {second}"
            logger.error("there is no report of this run%s", cause)  # noqa: TRY400

    def _sum_up(self, result: RunResult) -> None:
        from converter.core.reasons import REASONS
        from converter.report import summary

        code, config, state = result.exit_code, self._config, self._state
        if result.unpruned is not None:
            logger.error("%s", _why_unpruned(result.unpruned))
        if config.log.format == "json":
            fields = {
                "exit_code": code,
                "counts": result.counts,
                "resources": result.resources,
                "skipped": result.skipped_counts,
                "held": result.held_counts,
                "findings": result.issue_counts,
                "profiles": result.profiles_met,
            }
            word = "interrupted" if result.interrupted else "finished"
            logger.log(
                logging.ERROR if result.interrupted else logging.INFO,
                word,
                extra={"fields": fields},
            )
            return
        if state.verbose:
            _name_skipped(result, redact=config.convert.redact_paths)
        if not state.quiet:
            advice = result.advice
            told = state.verbose or config.convert.report
            if not told and any(REASONS[r].failure for r in result.skipped_counts):
                advice = advice or "-v names the files that were skipped, and so does a --report."
            summary(result, console(stderr=True), exit_code=code, advice=advice)
        elif result.interrupted:
            click.echo(f"interrupted. {result.advice}", err=True)


def _ending(error: BaseException) -> tuple[int, str]:
    """Exit code that an error ends with, and what may be said of it: a library's words may hold a value."""
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return INTERRUPTED, ""
    if isinstance(error, click.ClickException):
        return error.exit_code, error.format_message()
    if isinstance(error, ConverterError):
        return error.exit_code, str(error) or type(error).__name__
    if isinstance(error, BrokenPipeError):
        return ReaderGoneError.exit_code, "Whoever read the output has gone away."
    if isinstance(error, OSError):
        return MACHINE, error.strerror or type(error).__name__
    return SOFTWARE, f"A fault in dcm2fhir: {type(error).__name__}."


def _name_skipped(result: RunResult, *, redact: bool) -> None:
    """Say which files were skipped: to who asked for it, as a path may name a patient."""
    from converter.cli.output import clean
    from converter.report import redacted

    for path, reason, detail in result.skipped(told=not redact):
        why = f"{reason} ({detail})" if detail else reason
        shown = redacted(path) if redact else " ".join(path.splitlines())
        click.echo(clean(f"skipped, {why}: {shown}"), err=True)
    if (place := result.unpruned) is not None:
        shown = redacted(place.path) if redact else " ".join(place.path.splitlines())
        click.echo(clean(f"not pruned, {place.reason}: {shown or 'everything'}"), err=True)


def _why_unpruned(place: Skipped) -> str:
    from converter.pipeline.reading import NOTHING

    if place.reason == NOTHING:
        return (
            "--prune took nothing away: an input gives no file now, and the state holds files of it. Mount it, or see"
            " that the list is right, and run again; if all of it is meant to be gone, begin with a new state and"
            " output. -v and --report name it."
        )
    return (
        f"--prune took nothing away: something could not be read in whole ({place.reason}), so nobody knows what is"
        " gone. Mend it, or leave it out of the inputs, and run again. -v and --report name it."
    )
