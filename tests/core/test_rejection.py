"""Rejection notes: what they name in their own study, and what is left of it."""

from __future__ import annotations

import random

import pytest

from converter.core import rejection
from converter.core.engine import convert, explain
from converter.core.header import SOP_CLASS_UID, pack_items
from converter.core.rejection import EVIDENCE, TITLES, is_note, is_withdrawn, notes_of, reject
from converter.core.site import RejectionSettings
from converter.core.study import assemble, pack
from converter.core.wanted import wanted
from tests.core.making import shipped_rules, site, with_site

STUDY = "1.2.3"
CT = b"1.2.840.10008.5.1.4.1.1.2"
TITLE, EVIDENCE_TAG = 0x0040A043, 0x0040A375
APPLY = RejectionSettings()


def image(number, **more):
    return {
        SOP_CLASS_UID: CT,
        0x0020000D: STUDY.encode(),
        0x00080060: b"CT",
        0x00200013: str(number).encode(),
        **more,
    }


def evidence(*sops, study=STUDY, series="1.2.3.1"):
    return {
        0x0020000D: study.encode(),
        0x00081115: pack_items(
            [
                {
                    0x0020000E: series.encode(),
                    0x00081199: pack_items([{0x00081155: sop.encode() + b"\0"} for sop in sops]),
                }
            ]
        ),
    }


def note(*items, title="113037", scheme="DCM", sop_class=rejection.KEY_OBJECT, **more):
    code = {0x00080100: title.encode(), 0x00080102: scheme.encode() + b" "}
    return {
        SOP_CLASS_UID: sop_class + b"\0",
        0x00080060: b"KO",
        TITLE: pack_items([code]),
        EVIDENCE_TAG: pack_items(items),
        **more,
    }


def study(notes, images=3, order=None):
    """A study with images 1.2.3.1.N, and notes 1.2.3.9.N."""
    blocks = [
        pack(STUDY, "1.2.3.1", [(f"1.2.3.1.{n}", image(n), f"{n}.dcm", ())])
        for n in range(1, images + 1)
    ]
    blocks += [
        pack(STUDY, "1.2.3.9", [(f"1.2.3.9.{n}", header, f"note{n}.dcm", ())])
        for n, header in enumerate(notes, 1)
    ]
    if order is not None:
        random.Random(order).shuffle(blocks)
    return assemble(STUDY, blocks)


def live(made):
    return [one.uid for series in made.live.series for one in series.instances]


def codes(made):
    return sorted(issue.code for issue in made.issues)


@pytest.mark.parametrize("title", TITLES)
def test_each_title_rejects_and_says_why(title):
    made = reject(study([note(evidence("1.2.3.1.2"), title=title)]), APPLY)
    assert live(made) == ["1.2.3.1.1", "1.2.3.1.3"]
    assert made.tombstones == ("1.2.3.1.2", "1.2.3.9.1", "1.2.3.9:1")
    assert codes(made) == sorted([f"rejected-{TITLES[title]}", "rejection-note"])


@pytest.mark.parametrize("title", TITLES)
def test_each_title_may_be_ignored_by_itself(title):
    others = [other for other in TITLES if other != title]
    ignoring = RejectionSettings(**{TITLES[title]: "ignore"})
    notes = [
        note(evidence(f"1.2.3.1.{n}"), title=code) for n, code in enumerate([title, *others], 1)
    ]
    made = reject(study(notes, images=4), ignoring)
    assert live(made) == ["1.2.3.1.1", "1.2.3.9.1"]


@pytest.mark.parametrize(
    "header",
    [
        note(evidence("1.2.3.1.1"), title="113000"),
        note(evidence("1.2.3.1.1"), scheme="99LOCAL"),
        note(evidence("1.2.3.1.1"), sop_class=b"1.2.840.10008.5.1.4.1.1.88.22"),
        {SOP_CLASS_UID: rejection.KEY_OBJECT},
    ],
)
def test_what_is_no_rejection_note_is_content(header):
    whole = study([header])
    assert not is_note(header)
    assert reject(whole, APPLY).live is whole


def test_a_note_is_known_by_its_header():
    assert is_note(note())


@pytest.mark.parametrize("order", range(5))
def test_the_order_changes_nothing(order):
    notes = [note(evidence("1.2.3.1.2")), note(evidence("1.2.3.1.3", "1.2.3.8.8"), title="113001")]
    first, again = (reject(study(notes, order=o), APPLY) for o in (None, order))
    assert (live(first), first.tombstones, first.issues) == (
        live(again),
        again.tombstones,
        again.issues,
    )
    assert "1.2.3.8.8" in again.tombstones, "what is not there yet is rejected as well"


def test_an_instance_that_several_notes_reject_counts_once_under_the_gravest_reason():
    notes = [note(evidence("1.2.3.1.2"), title=title) for title in reversed(TITLES)]
    assert [c for c in codes(reject(study(notes), APPLY)) if c != "rejection-note"] == [
        "rejected-safety"
    ]


def test_a_note_speaks_of_its_own_study_alone():
    made = reject(study([note(evidence("1.2.3.1.1", study="1.2.4"))]), APPLY)
    assert live(made) == ["1.2.3.1.1", "1.2.3.1.2", "1.2.3.1.3"]
    assert made.tombstones == ("1.2.3.9.1", "1.2.3.9:1")
    assert codes(made) == ["rejection-elsewhere", "rejection-note"]


@pytest.mark.parametrize(
    "items", [(), ({},), ({0x0020000D: STUDY.encode()},), (evidence("", "x:1", "1" * 65),)]
)
def test_a_note_that_names_nothing_rejects_nothing_and_is_no_content(items):
    made = reject(study([note(*items)]), APPLY)
    assert live(made) == ["1.2.3.1.1", "1.2.3.1.2", "1.2.3.1.3"]
    assert codes(made) == ["rejection-note", "rejection-of-nothing"]


def test_a_note_that_names_notes_removes_no_note():
    notes = [note(evidence("1.2.3.9.2")), note(evidence("1.2.3.1.1"))]
    made = reject(study(notes), APPLY)
    assert live(made) == ["1.2.3.1.2", "1.2.3.1.3"]
    assert [one.uid for one in notes_of(study(notes))] == ["1.2.3.9.1", "1.2.3.9.2"]


def test_what_a_note_names_beyond_reason_is_not_all_remembered(monkeypatch):
    monkeypatch.setattr(rejection, "MOST", 10)
    named = ["1.2.3.1.1", *(f"1.2.3.7.{n}" for n in range(100))]
    made = reject(study([note(evidence(*named))]), APPLY)
    assert len(made.tombstones) == 10 + 3
    assert live(made) == ["1.2.3.1.2", "1.2.3.1.3"]


def test_a_study_of_which_nothing_is_left_says_who_it_is_of_and_no_more():
    rules = with_site(shipped_rules(), patient={"system": "https://hospital.example/mrn"})
    patient = {0x00100020: b"P1", 0x00100010: b"Canary^Robin"}
    whole = study([note(evidence("1.2.3.1.1")) | patient], images=1)
    made = convert(whole, rules)
    assert (made.state, made.withdrawn, made.series, made.instances) == (
        "converted",
        "rejected",
        0,
        0,
    )
    assert is_withdrawn(made.resource)
    assert made.resource.keys() == {
        "resourceType", "id", "text", "identifier", "status", "subject", "numberOfSeries", "numberOfInstances",
    }  # fmt: skip
    assert [one["resourceType"] for one in made.companions] == ["Patient"]
    assert {"1.2.3.1:1", "1.2.3.1.1", "1.2.3.9:1", "1.2.3.9.1"} == set(made.tombstones)


def test_a_study_in_conflict_is_not_put_right_by_a_note():
    whole = assemble(
        STUDY,
        [
            pack(STUDY, "1.2.3.1", [("1.2.3.1.1", image(1) | {0x00100020: b"P1"}, "", ())]),
            pack(STUDY, "1.2.3.1", [("1.2.3.1.2", image(2) | {0x00100020: b"P2"}, "", ())]),
            pack(STUDY, "1.2.3.9", [("1.2.3.9.1", note(evidence("1.2.3.1.2")), "", ())]),
        ],
    )
    assert convert(whole, shipped_rules()).state == "conflict"


def test_what_is_rejected_speaks_for_nothing():
    whole = assemble(
        STUDY,
        [
            pack(STUDY, "1.2.3.1", [("1.2.3.1.1", image(1) | {0x00081030: b"Right"}, "", ())]),
            pack(STUDY, "1.2.3.1", [("1.2.3.1.2", image(2) | {0x00081030: b"Left"}, "", ())]),
            pack(STUDY, "1.2.3.9", [("1.2.3.9.1", note(evidence("1.2.3.1.2")), "", ())]),
        ],
    )
    made = convert(whole, shipped_rules())
    assert made.resource["description"] == "Right"
    assert "values-differ" not in {issue.code for issue in made.issues}
    assert convert(whole, shipped_rules()) == made, "converting changes nothing of a study"


def test_explaining_names_the_note():
    told = explain(study([note(evidence("1.2.3.1.2", "1.2.3.1.3"))]), shipped_rules())
    [row] = [one for one in told if one.reason.startswith("rejected-")]
    assert row.path == "ImagingStudy.series.where(uid='1.2.3.1').instance"
    assert row.reason == "rejected-safety by the note 1.2.3.9.1, instances: 2"
    assert (row.source, row.keywords) == ("note1.dcm", (EVIDENCE,))


def test_what_a_note_needs_leaves_the_reader_whatever_the_rules_read():
    kept = wanted({})
    assert kept[TITLE].keys() >= {0x00080100, 0x00080102}
    assert kept[EVIDENCE_TAG][0x00081115][0x00081199].keys() >= {0x00081155}


def test_settings_are_words():
    with pytest.raises(ValueError, match="Invalid enum value"):
        site(rejection_notes={"quality": "sometimes"})
