"""What every command shares: option groups, examples in the help, verbosity, the configuration."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from converter.errors import MappingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console

    from converter.config import Loaded
    from converter.errors import Fault

__all__ = [
    "Command",
    "Option",
    "State",
    "configuration",
    "console",
    "count_or_word",
    "duration",
    "option",
    "refusal",
    "size",
    "usage",
    "verbosity",
]

Function = TypeVar("Function", bound="Callable[..., Any]")


@dataclass(slots=True)
class State:
    """What one call of the command line holds; also read when it ends by an exception."""

    verbose: int = 0
    quiet: bool = False


class Option(click.Option):
    """An option that stands under a heading of its own in the help."""

    def __init__(self, *args: Any, heading: str = "Options", **attributes: Any) -> None:
        self.heading = heading
        super().__init__(*args, **attributes)


def option(
    *names: str, heading: str = "Options", **attributes: Any
) -> Callable[[Function], Function]:
    """`click.option` with a heading."""
    return click.option(*names, cls=Option, heading=heading, **attributes)


class Command(click.Command):
    """A command whose help groups its options and ends with examples as they are typed."""

    def __init__(self, *args: Any, examples: str = "", **attributes: Any) -> None:
        self.examples = examples
        super().__init__(*args, **attributes)

    def get_short_help_str(self, limit: int = 45) -> str:
        """Give the first sentence of the help, whole: the list of a group's commands wraps, click would cut."""
        return super().get_short_help_str(limit=1000)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, heading by heading in the order of their first option."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "heading", "Options"), []).append(record)
        plain = groups.pop("Options", [])
        # --help alone goes last; options of a command that has no headings go first
        groups = {"Options": plain, **groups} if len(plain) > 1 else {**groups, "Options": plain}
        for heading, records in groups.items():
            with formatter.section(heading):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, unwrapped, so that they can be copied."""
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"  {line.strip()}\n")


def verbosity(function: Function) -> Function:
    """Add ``-q``, ``-v`` and ``--log-format``."""

    def count(ctx: click.Context, _: click.Parameter, value: int) -> int:
        ctx.ensure_object(State).verbose = value
        return value

    def quiet(ctx: click.Context, _: click.Parameter, value: bool | None) -> bool | None:
        ctx.ensure_object(State).quiet = bool(value)
        return value

    heading = "What it says"
    for decorate in (
        option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            heading=heading,
            help="Form of log lines on stderr (default: text).",
        ),
        option(
            "-v",
            "--verbose",
            count=True,
            callback=count,
            heading=heading,
            help="Say more on stderr; twice: for a report of a fault in dcm2fhir.",
        ),
        option(
            "-q",
            "--quiet",
            is_flag=True,
            default=None,
            callback=quiet,
            heading=heading,
            help="Errors only: no progress, no summary.",
        ),
    ):
        function = decorate(function)
    return function


def usage(message: str) -> click.UsageError:
    """Make an error of use that names the command and its help."""
    return click.UsageError(message, click.get_current_context(silent=True))


def refusal(faults: Sequence[Fault]) -> Exception:
    """Make the error of faulty values: of use where all of them stand on the command line, else of configuration."""
    if all(fault.file == "command line" for fault in faults):
        return usage("; ".join(f"{fault.key} {fault.message}" for fault in faults))
    return MappingError(faults)


def size(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Check the value of an option that is a size, such as ``64MiB``."""
    from converter.settings import parse_size

    try:
        if value is not None:
            parse_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return value


def duration(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Check the value of an option that is a duration, such as ``15m``."""
    from converter.settings import parse_duration

    try:
        if value is not None:
            parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return value


def count_or_word(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> str | int | None:
    """Check the value of an option that is ``all``, ``none`` or a number."""
    if value is None or value in {"all", "none"}:
        return value
    if value.isascii() and value.isdigit() and int(value):
        return int(value)
    raise click.BadParameter(f"{value!r} is neither 'all' nor 'none' nor a number from 1 on")


def configuration(
    file: str | None, flags: Mapping[str, Any], *, verbose: int = 0, quiet: bool = False
) -> Loaded:
    """Load the configuration in force and start logging.

    Parameters
    ----------
    file : str, optional
        Value of ``--config``.
    flags : mapping
        Values of the command line by key of the configuration; ``None`` and ``()`` are options not given.
    verbose, quiet
        As on the command line.
    """
    from converter.cli import logs
    from converter.config import load, overlooked

    given = {key: value for key, value in flags.items() if value is not None and value != ()}
    try:
        loaded = load(file, flags=given)
    except MappingError as error:
        raise refusal(error.faults) from error
    logs.start(loaded.config.log.format, verbose=verbose, quiet=quiet)
    for name in overlooked():
        logs.logger.warning("the environment names no key of the configuration: %s", name)
    return loaded


def console(*, stderr: bool = False) -> Console:
    """Make a rich console; in a pipe it writes plain text, as wide as it needs.

    rich takes 80 columns where there is no terminal and would cut tables to fit.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 200
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=width is not None)
