"""Log lines hold nothing of what libraries say about values."""

from __future__ import annotations

import io
import json
import logging
import warnings

import pytest

from converter.cli import logs


def started(form="text", **options):
    stream = io.StringIO()
    logs.start(form, stream=stream, **options)
    return stream


def test_text_is_level_and_message():
    stream = started()
    logging.getLogger("converter.pipeline").warning("%d files", 3)
    assert stream.getvalue() == "warning: 3 files\n"


def test_json_is_one_object_a_line_in_utc():
    stream = started("json")
    logging.getLogger("converter.pipeline").warning("%d files", 3)
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {"level": "warning", "logger": "converter.pipeline", "message": "3 files"}


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_only_its_class(form):
    stream = started(form)
    try:
        raise ValueError("DOE^JANE")  # noqa: TRY301
    except ValueError:
        logging.getLogger("converter").exception("a file could not be read")
    assert "(ValueError)" in stream.getvalue()
    assert "DOE" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("options", "levels"),
    [
        ({"quiet": True}, ["error"]),
        ({}, ["error", "warning"]),
        ({"verbose": 1}, ["error", "warning", "info"]),
        ({"verbose": 2}, ["error", "warning", "info", "debug"]),
    ],
)
def test_verbosity(options, levels):
    stream = started(**options)
    for level in ("error", "warning", "info", "debug"):
        logging.getLogger("converter").log(logging.getLevelName(level.upper()), "x")
    assert stream.getvalue().splitlines() == [f"{level}: x" for level in levels]


def test_libraries_are_silent_and_their_warnings_are_class_and_place(capfd):
    stream = started(verbose=2)
    logging.getLogger("pydicom").error("Invalid value DOE^JANE")
    logging.getLogger("pynetdicom.acse").error("DOE^JANE")
    logging.getLogger("of.somebody.else").error("scans/DOE^JANE.dcm")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = logs._warned
        warnings.warn("Invalid value for VR PN: 'DOE^JANE'", UserWarning, stacklevel=1)
    assert "DOE" not in stream.getvalue() + "".join(capfd.readouterr())
    assert stream.getvalue().startswith("debug: UserWarning in test_logs.py, line ")


def test_starting_twice_says_things_once():
    started()
    stream = started()
    logging.getLogger("converter").warning("x")
    assert stream.getvalue() == "warning: x\n"
