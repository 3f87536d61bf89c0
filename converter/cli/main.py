"""``dcm2fhir``: the commands, and how each ending becomes an exit code.

Exit codes: 0 done, 1 finished with failures, 2 usage, 3 configuration, 4 no DICOM found, 5 strict and not
conformant, 6 server or network, 7 this machine, 70 a fault of dcm2fhir itself, 130 interrupted, 141 nobody reads
standard output any more.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
import traceback
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

import click

from converter import __version__
from converter.cli.common import State
from converter.cli.streams import prepare
from converter.errors import ConverterError, ReaderGoneError
from converter.signals import ending

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

__all__ = ["COMMANDS", "cli", "main", "run"]

COMMANDS: dict[str, tuple[str, str]] = {
    "convert": (
        "converter.cli.convert:convert",
        "Convert DICOM files, folders and archives to FHIR.",
    ),
    "listen": (
        "converter.cli.listen:listen",
        "Receive DICOM by C-STORE and publish studies as they become quiet.",
    ),
    "studies": (
        "converter.cli.studies:studies",
        "See and steer what the daemon received.",
    ),
    "send": ("converter.cli.send:send", "Deliver what is queued for FHIR servers, and exit."),
    "dead": (
        "converter.cli.dead:dead",
        "List, show, replay and drop what a FHIR server refused.",
    ),
    "explain": (
        "converter.cli.explain:explain",
        "Say for each FHIR element where its value came from.",
    ),
    "validate": ("converter.cli.validate:validate", "Check FHIR JSON against profiles, offline."),
    "mappings": ("converter.cli.mappings:mappings", "List, show, check and start mapping data."),
    "config": ("converter.cli.config:config", "Show, check and start the configuration."),
    "doctor": (
        "converter.cli.doctor:doctor",
        "Say what is wrong with a set-up, and what to do about it.",
    ),
    "demo": (
        "converter.cli.demo:demo",
        "Convert DICOM that comes with dcm2fhir, and show the result.",
    ),
    "completion": ("converter.cli.completion:completion", "Print shell completion."),
}
"""Name to place and short help, so that ``--help`` imports no command."""

SOFTWARE = 70
MACHINE = 7
INTERRUPTED = 130


@contextmanager
def _broken_pipes() -> Iterator[None]:
    """Name the error of a broken pipe as ours: of its own click makes an exit with 1."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGoneError("Whoever read the output has gone away.") from error


class LazyGroup(click.Group):
    """A group that imports a command only when it is called."""

    def make_context(self, *arguments: Any, **attributes: Any) -> click.Context:
        """Read the command line; ``--help`` prints and ends here."""
        with _broken_pipes():
            return super().make_context(*arguments, **attributes)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _broken_pipes():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table, which is that of a first use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        with formatter.section("Examples"):
            formatter.write("  dcm2fhir demo\n")
            formatter.write("  dcm2fhir convert scans/ -o fhir/ --profile uk-core --profile ips\n")
            formatter.write("  dcm2fhir convert --help\n")


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=False,
)
@click.version_option(
    __version__, "--version", prog_name="dcm2fhir", message="%(prog)s %(version)s"
)
def cli() -> None:
    """DICOM in, profile-conformant FHIR R4 ImagingStudy out."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and give its exit code; all messages of failure are written here."""
    state = State()
    try:
        code = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name="dcm2fhir",
            standalone_mode=False,
            obj=state,
        )
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        _say(f"interrupted{_told(error)}")
        return INTERRUPTED
    except (BrokenPipeError, ReaderGoneError):
        return _left()
    except ConverterError as error:
        _say(f"error: {error}")
        return error.exit_code
    except OSError as error:
        _say(f"error: the system refused: {error.strerror or type(error).__name__}")
        _trace(error, state)
        return MACHINE
    except Exception as error:  # noqa: BLE001  the last boundary: a message of a library may hold a value
        _say(
            f"error: a fault in dcm2fhir: {type(error).__name__}."
            + ("" if state.verbose > 1 else " Run again with -vv and report what it prints;")
            + ("" if state.verbose > 1 else " it holds no patient data.")
        )
        _trace(error, state)
        return SOFTWARE
    return code if isinstance(code, int) else 0


def main() -> NoReturn:
    """Entry point of the console script."""
    gc.set_threshold(
        50_000, 20, 50
    )  # what a start makes stays: to look through it each time costs a tenth of it
    prepare()
    for number in ending()[1:]:  # SIGINT does so by itself
        signal.signal(number, _terminate)
    sys.exit(run())


def _terminate(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _left() -> int:
    """Whoever read our output has left, which is no news to who asked for it, such as by ``head``."""
    # Python would complain once more when it closes stdout; one without a file behind it has nothing left to write
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ReaderGoneError.exit_code


def _say(text: str) -> None:
    click.echo(text, err=True)


def _told(error: BaseException) -> str:
    """Say what the interrupted part says about going on; click wraps an interrupt in an Abort."""
    said = str(error) or str(error.__cause__ or "")
    return f": {said}" if said else ""


def _trace(error: BaseException, state: State) -> None:
    """Files, lines and names only: neither messages nor locals, both may hold a patient's value."""
    if state.verbose < 2:
        return
    link: BaseException | None = error
    while link is not None:
        _say(f"{type(link).__name__}, last call last:")
        for line in traceback.format_list(traceback.extract_tb(link.__traceback__)):
            _say(line.rstrip())
        link = link.__cause__ or link.__context__
