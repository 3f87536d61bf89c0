"""Runs with small stand-ins for mapping and engine; the readers, the store and the sink are the real ones."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest

# Workers import the stand-ins by name, so they need a place on the path.
sys.path.insert(0, str(Path(__file__).parent))
import pipeline_standins as standins

from converter.pipeline import Parts, Request, run
from converter.sinks import FileSink
from converter.store import place_of


@pytest.fixture(params=["file", "server"])
def state(request, tmp_path):
    """Where a state is kept: a file, or a schema of a PostgreSQL server."""
    if request.param == "file":
        return tmp_path / "state.db"
    return place_of(request.getfixturevalue("postgres").url())


@pytest.fixture
def parts():
    return Parts(
        standins.read_file,
        standins.read_stream,
        standins.convert,
        standins.reduce,
        standins.unite,
    )


@pytest.fixture
def convert(tmp_path, parts):
    """Run over inputs into a folder, and give the result with what stands there."""

    def go(*inputs, out="out", rules="1", **options):
        dry = options.pop("dry", False)
        sink = options.pop("sink", None) or (None if dry else FileSink(tmp_path / out))
        progress = options.pop("progress", None)
        request = Request(
            [str(item) for item in inputs],
            SimpleNamespace(wanted=standins.WANTED, version=rules),
            options.pop("options", "options"),
            options.pop("parts", parts),
            sink=sink,
            **options,
        )
        with run(request, progress=progress) as result:
            result.all_studies = list(result.studies())
            result.all_skipped = list(result.skipped())
        return result

    return go


@pytest.fixture
def standing(tmp_path):
    """What stands in an output folder: relative path to bytes."""

    def look(out="out"):
        root = tmp_path / out
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*.json"))
            if not path.name.startswith(".")
        }

    return look


@pytest.fixture
def instances():
    """SOP Instance UIDs of a resource in bytes."""

    def look(data):
        return sorted(
            instance["uid"]
            for series in orjson.loads(data)["series"]
            for instance in series["instance"]
        )

    return look
