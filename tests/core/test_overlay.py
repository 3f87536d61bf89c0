from __future__ import annotations

import tomllib

import pytest

from converter.core.overlay import Layer, RawRule, flatten, lay
from tests.core.making import layer

RULE = '{ from = "StudyDescription" }'


def rules(*layers: Layer) -> dict[str, str]:
    """Path to the file whose rule is in force."""
    found, faults = lay(list(layers))
    assert faults == []
    return {".".join(path): raw.file for path, raw in found.items()}


def faults(*layers: Layer) -> list[str]:
    return [str(fault) for fault in lay(list(layers))[1]]


def test_tables_become_paths_and_a_table_with_from_const_or_ref_is_a_rule():
    flat = layer(
        """
        [ImagingStudy]
        description = { from = "StudyDescription" }
        subject = { ref = "Patient" }
        [ImagingStudy."identifier:uid".type]
        text = { const = "x" }
        """
    )
    assert list(flat.rules) == [
        ("ImagingStudy", "description"),
        ("ImagingStudy", "subject"),
        ("ImagingStudy", "identifier:uid", "type", "text"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[Patient]\nname = "x"', "Patient.name: expected a rule"),
        ("[Patient]\nname = true", "Patient.name: expected a rule"),
        (
            '[Patient]\nname = { form = "PatientName" }',
            "Patient.name.form: is no option of a rule; did you mean from?",
        ),
        (
            '[Patient]\nname = { as = "humanName" }',
            "Patient.name.as: stands in no rule: a rule has from, const or ref",
        ),
        ('extend = "base"', "extend: expected a table of rules; did you mean extends?"),
        ("[Patient.name]", "Patient.name: is empty"),
        ("Patient = 1", "Patient: expected a table of rules"),
    ],
)
def test_what_is_no_rule_is_a_fault_with_its_place(text, message):
    _, found = flatten("x.toml", "base", tomllib.loads(text))
    assert [str(fault) for fault in found if message in str(fault)]


def test_a_later_layer_replaces_a_rule_whole():
    low = layer('[P]\na = { from = "A", as = "string" }', file="low")
    high = layer('[P]\na = { from = "B" }', "site", "high")
    found, _ = lay([low, high])
    assert found[("P", "a")] == RawRule("high", {"from": "B"})


def test_false_removes_a_rule():
    assert rules(layer(f"[P]\na = {RULE}\nb = {RULE}"), layer("[P]\na = false", "site")) == {
        "P.b": "base.toml"
    }


def test_false_removes_all_that_stands_below():
    low = layer(f"[P.a]\nx = {RULE}\ny = {RULE}\n[P.b]\nx = {RULE}")
    assert rules(low, layer("[P]\na = false", "site")) == {"P.b.x": "base.toml"}


def test_removing_what_is_not_there_is_a_fault():
    assert faults(layer(f"[P]\na = {RULE}"), layer("[P]\nc = false", "site")) == [
        "site.toml: P.c: removes a rule that is not there"
    ]


def test_one_rule_for_the_whole_replaces_the_rules_of_its_parts():
    low = layer(f"[P.a]\nx = {RULE}\ny = {RULE}")
    assert rules(low, layer(f"[P]\na = {RULE}", "site")) == {"P.a": "site.toml"}


def test_a_part_of_a_whole_rule_cannot_be_overlaid():
    [fault] = faults(layer(f"[P]\na = {RULE}"), layer(f"[P.a]\nx = {RULE}", "site"))
    assert "one rule for P.a as a whole" in fault


def test_parts_may_take_the_place_of_a_rule_that_is_removed_first():
    low = layer(f"[P]\na = {RULE}")
    middle = layer("[P]\na = false", "profile", "m")
    assert rules(low, middle, layer(f"[P.a]\nx = {RULE}", "site")) == {"P.a.x": "site.toml"}


def test_a_slice_is_a_rule_of_its_own():
    low = layer(f'[P]\n"a:one" = {RULE}\n"a:two" = {RULE}')
    assert rules(low, layer('[P]\n"a:one" = false', "site")) == {"P.a:two": "base.toml"}


def test_two_profiles_that_agree_are_no_fault():
    one, two = (layer(f"[P]\na = {RULE}", "profile", name) for name in ("one", "two"))
    assert faults(layer(f"[P]\nb = {RULE}"), one, two) == []


def test_two_profiles_that_set_one_rule_differently_are_a_fault():
    one = layer('[P]\na = { from = "A" }', "profile", "one")
    two = layer('[P]\na = { from = "B" }', "profile", "two")
    assert faults(one, two) == [
        "two: P.a: one sets this rule differently; decide it in the site's own file"
    ]


def test_two_profiles_of_which_one_removes_and_the_other_sets_a_rule_are_a_fault():
    base = layer('[P]\na = { from = "C" }')
    one = layer("[P]\na = false", "profile", "one")
    two = layer('[P]\na = { from = "B" }', "profile", "two")
    assert len(faults(base, one, two)) == 1


@pytest.mark.parametrize("turned", [False, True])
def test_two_profiles_that_set_a_whole_and_its_part_are_a_fault(turned):
    whole = layer('[P]\na = { from = "A" }', "profile", "whole")
    part = layer('[P.a]\nx = { from = "B" }', "profile", "part")
    found = faults(*((part, whole) if turned else (whole, part)))
    assert any("decide both in the site's own file" in fault for fault in found)


def test_the_site_decides_between_two_profiles():
    one = layer('[P]\na = { from = "A" }', "profile", "one")
    two = layer('[P]\na = { from = "B" }', "profile", "two")
    site = layer('[P]\na = { from = "C" }', "site", "site")
    assert rules(one, two, site) == {"P.a": "site"}


@pytest.mark.parametrize("kind", ["file", "site"])
def test_two_files_of_a_site_that_set_one_rule_differently_are_a_fault(kind):
    one, two = (layer(f'[P]\na = {{ from = "{name}" }}', kind, name) for name in "AB")
    [fault] = faults(one, two)
    assert fault.startswith("B: P.a: A sets this rule differently")


def test_a_file_of_the_site_may_make_parts_of_what_an_earlier_one_removes():
    base = layer(f"[P]\na = {RULE}")
    one, two = layer("[P]\na = false", "site", "A"), layer(f"[P.a]\nx = {RULE}", "site", "B")
    assert rules(base, one, two) == {"P.a.x": "B"}
    assert faults(base, two, one) != []


def test_the_sites_folder_decides_between_two_files():
    one, two = (layer(f'[P]\na = {{ from = "{name}" }}', "file", name) for name in "AB")
    assert rules(one, two, layer('[P]\na = { from = "C" }', "site", "C")) == {"P.a": "C"}


def test_rules_keep_the_order_in_which_they_first_appeared():
    low = layer(f"[P]\na = {RULE}\nb = {RULE}")
    assert list(rules(low, layer('[P]\nc = { from = "X" }\na = { from = "Y" }', "site"))) == [
        "P.a",
        "P.b",
        "P.c",
    ]
