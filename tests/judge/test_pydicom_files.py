"""What pydicom's own files become is valid FHIR, and meets the profiles that it claims, by the HL7 validator."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom
import pytest

from converter.cli.main import run
from tests.judge.harness import judge

pytestmark = [pytest.mark.judge, pytest.mark.slow]

DATA = Path(pydicom.__file__).parent / "data"
SHAPES = {
    "default": [],
    "companions": ["--companions", "--timezone", "Europe/London"],
    "contained": ["--patient", "contained"],
    "logical": ["--patient", "logical", "--instances", "none"],
    "bundles": ["--format", "bundle"],
    "collections": ["--format", "bundle", "--bundle-type", "collection", "--companions"],
}


def test_the_validator_finds_no_error_in_any_shape_of_the_output(tmp_path):
    paths: list[Path] = []
    for name, options in SHAPES.items():
        arguments = [str(DATA), "-o", str(tmp_path / name), "-q", *options]
        assert run(["convert", *arguments, "--profile", "uk-core", "--profile", "ips"]) == 1
        paths += sorted((tmp_path / name).rglob("*.json"))
    claimed = [p for p in paths if "ImagingStudy-uv-ips" in p.read_text("utf-8")]
    assert len(paths) > 250
    assert len(claimed) > 90
    answers = judge(paths, tmp_path / "definitions")
    errors = {
        str(path.relative_to(tmp_path)): [str(m) for m in messages if m.error]
        for path, messages in zip(paths, answers, strict=True)
    }
    found = {name: messages for name, messages in errors.items() if messages}
    assert not found, json.dumps(found, indent=1)
