"""docs/mapping.md is what the data say; every element without a rule has a reason."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path

from converter.core.compile import OPTIONS
from converter.core.transforms import TRANSFORMS
from converter.data import data_path
from converter.fhir.definitions import load_structure
from converter.mapping import load, shipped

ROOT = Path(__file__).resolve().parent.parent
TOOL = runpy.run_path(str(ROOT / "tools" / "build_mapping.py"))
REASONS = tomllib.loads(data_path("unmapped.toml").read_text(encoding="utf-8"))


def unmapped():
    structure = load_structure()
    return [
        pair
        for node in load(("r4",)).resources.values()
        for pair in TOOL["missing"](node, structure)
    ]


def test_page_of_the_mapping_is_current():
    page = (ROOT / "docs" / "mapping.md").read_text(encoding="utf-8")
    assert page == TOOL["current"](), "run make docs"


def test_every_element_without_a_rule_has_a_reason():
    for resource, element in unmapped():
        assert TOOL["reason"](REASONS, resource, element)


def test_no_reason_is_given_for_what_is_mapped():
    found = set(unmapped())
    given = {
        (resource, element)
        for resource, told in REASONS.items()
        for element in told
        if element != "*"
    }
    assert given - found == set()


def test_every_option_transform_and_profile_is_on_the_page():
    page = TOOL["current"]()
    assert list(TOOL["MEANINGS"]) == list(OPTIONS)
    for name in (*OPTIONS, *TRANSFORMS):
        assert f"\n| `{name}` | " in page
    for file in shipped():
        if file.kind == "profile":
            assert f"\n| `{file.name}` | " in page
