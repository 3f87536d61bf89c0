"""The endings of a command line: exit code, one message, no value of a patient's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import click
import pytest

from converter import __version__
from converter.cli import main as entry
from converter.cli.main import COMMANDS, cli, run
from converter.errors import ConfigurationError, Fault, MappingError, SinkError, StoreError

HEAVY = (
    "pydicom",
    "pynetdicom",
    "fhir.resources",
    "fhir",
    "rich",
    "orjson",
    "numpy",
    "msgspec",
    "sqlite3",
)


def loaded_after(*arguments):
    code = (
        "import sys, json\n"
        "from converter.cli.main import run\n"
        f"code = run({list(arguments)!r})\n"
        "print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stderr.splitlines()[-1])


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(argument):
    code, modules = loaded_after(argument)
    assert code == 0
    assert not set(HEAVY) & set(modules)
    commands = {place.partition(":")[0] for place, _ in COMMANDS.values()}
    assert not commands & set(modules)


@pytest.mark.parametrize("group", ["", "config", "mappings", "studies", "dead"])
def test_the_list_of_commands_cuts_no_sentence(capsys, group):
    assert run([*group.split(), "--help"]) == 0
    assert "..." not in capsys.readouterr().out.replace("[ARGS]...", "")


def test_help_is_there_in_a_quarter_of_a_second():
    # one try in twenty will do: the machine that tests may be busy, the program may not
    command = [sys.executable, "-m", "converter", "--help"]
    assert any(timed(command) < 0.25 for _ in range(20))


def timed(command):
    begin = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def test_version_names_the_program(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"dcm2fhir {__version__}\n"


def test_short_help_of_the_table_is_that_of_the_command():
    context = click.Context(cli)
    for name, (_, text) in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None, name
        assert command.get_short_help_str(200) == text


def leaves(command=cli, path=()):
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from leaves(command.get_command(context, name), (*path, name))
    else:
        yield path


@pytest.mark.parametrize("path", list(leaves()), ids=" ".join)
def test_help_of_each_command_has_an_example(path, capsys):
    assert run([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Examples:\n" in shown
    assert f"dcm2fhir {' '.join(path)}" in shown.split("Examples:\n")[1]


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["convert", "--nothing"], ["completion", "tcsh"]]
)
def test_wrong_use_is_exit_2_and_names_the_help(arguments, capsys):
    assert run(arguments) == 2
    assert "--help" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigurationError("no such thing"), 3, "error: no such thing"),
        (
            MappingError([Fault("a.toml", "x.y", "is odd"), Fault("b.toml", "", "too")]),
            3,
            "a.toml: x.y: is odd\nb.toml: too",
        ),
        (StoreError("the store is damaged"), 7, "the store is damaged"),
        (SinkError("the disk is full"), 7, "the disk is full"),
        (OSError(28, "No space left on device", "/data/DOE^JANE"), 7, "No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt("go on with --state x"), 130, "interrupted: go on with --state x"),
        (ValueError("DOE^JANE"), 70, "ValueError"),
        (BrokenPipeError(), 141, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
@pytest.mark.parametrize("verbose", ["-q", "-vv"])
def test_endings(error, code, said, verbose, monkeypatch, capsys):
    @click.command()
    @click.option("-q", is_flag=True)
    @click.option("-v", count=True)
    @click.pass_obj
    def failing(state, q, v):
        state.verbose = v
        PatientName = "DOE^JANE"  # noqa: F841, N806  a local that no traceback may show
        try:
            raise KeyError("DOE^JANE")  # noqa: TRY301
        except KeyError:
            raise error  # noqa: B904

    monkeypatch.setattr(entry.cli, "get_command", lambda *_: failing)
    assert run(["failing", verbose]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "DOE" not in err.replace(
        '"DOE^JANE"', ""
    )  # a source line of this test is no patient's value
    if code == 70:
        assert ("test_main.py" in err) is (verbose == "-vv")


def test_a_reader_that_leaves_early_causes_no_noise():
    command = f"{sys.executable} -m converter config show | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_sigterm_and_a_terminal_that_closes_are_interruptions(tmp_path, number):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    program = (
        "import sys\n"
        "from converter.cli import main as entry\n"
        "import click\n"
        "@click.command()\n"
        "def waiting():\n"
        f"    open({str(fifo)!r}, 'w').close()\n"
        "    import threading; threading.Event().wait()\n"
        "entry.cli.get_command = lambda *_: waiting\n"
        "sys.argv = ['dcm2fhir', 'waiting']\n"
        "entry.main()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    fifo.read_bytes()  # returns when the command runs
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.strip() == "interrupted"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(shell, capsys):
    assert run(["completion", shell]) == 0
    assert "_DCM2FHIR_COMPLETE" in capsys.readouterr().out


def test_completion_answers_with_options(monkeypatch):
    environment = {
        **os.environ,
        "_DCM2FHIR_COMPLETE": "bash_complete",
        "COMP_WORDS": "dcm2fhir convert --pro",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv = ['dcm2fhir']; from converter.cli.main import main; main()",
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "plain,--profile" in done.stdout
