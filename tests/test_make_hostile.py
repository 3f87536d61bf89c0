"""The hostile corpus is the same for the same seed, whole, and really as hostile as it says."""

from __future__ import annotations

import zlib
from collections import Counter
from io import BytesIO
from typing import TYPE_CHECKING

import pydicom
import pytest
from pydicom.uid import UID

from tools.make_hostile import (
    CANARY,
    CANARY_YEAR,
    KINDS,
    MIB,
    bad_uid,
    base,
    bomb,
    cuts,
    make,
    make_good,
    nested,
)

if TYPE_CHECKING:
    from pathlib import Path

ROUND = sum(weight for weight, _ in KINDS.values())


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_seed_gives_the_same_files_and_another_seed_others(tmp_path):
    first = make(tmp_path / "a", 2 * ROUND, seed=7)
    assert make(tmp_path / "b", 2 * ROUND, seed=7) == first
    assert content(tmp_path / "a") == content(tmp_path / "b")
    make(tmp_path / "c", 2 * ROUND, seed=8)
    assert content(tmp_path / "a") != content(tmp_path / "c")


def test_one_round_holds_every_kind_and_the_manifest_names_every_file(tmp_path):
    corpus = make(tmp_path, ROUND)
    assert Counter(file.kind for file in corpus) == {
        kind: weight for kind, (weight, _) in KINDS.items()
    }
    assert {file.name for file in corpus} == set(content(tmp_path))
    assert {file.outcome for file in corpus} == {"skipped", "converted", "either"}


def test_a_file_does_not_depend_on_how_many_there_are(tmp_path):
    make(tmp_path / "few", 10)
    make(tmp_path / "more", 20)
    assert content(tmp_path / "few").items() <= content(tmp_path / "more").items()


@pytest.mark.filterwarnings("ignore")  # pydicom rightly warns of their values
def test_files_that_must_convert_have_whole_uids(tmp_path):
    for file in make(tmp_path, 3 * ROUND):
        if file.outcome == "converted":
            held = pydicom.dcmread(
                tmp_path / file.name,
                specific_tags=["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"],
            )
            assert held.StudyInstanceUID.is_valid
            assert held.SeriesInstanceUID.is_valid
            assert held.SOPInstanceUID.is_valid


def test_bad_uids_are_bad():
    for variant in range(78):
        made = bad_uid(None, 1, variant)
        held = pydicom.dcmread(
            BytesIO(made.content), specific_tags=["StudyID"], stop_before_pixels=True
        )
        assert "StudyID" in held
        assert made.outcome == "skipped"


def test_good_files_are_sound_and_full_of_canaries(tmp_path):
    for path in make_good(tmp_path, 6):
        held = pydicom.dcmread(path)
        assert UID(held.StudyInstanceUID).is_valid
        for element in held.iterall():
            if (
                element.VR in {"PN", "LO", "SH", "LT", "ST"}
                and element.keyword != "CodingSchemeDesignator"
            ):
                assert CANARY in str(element.value), element.keyword
            if element.VR == "DA":
                assert str(element.value).startswith(CANARY_YEAR)


def test_canaries_are_unique():
    texts = Counter(
        value
        for number in (1, 2)
        for value in base(number).values()
        if CANARY in str(value) and isinstance(value, str)
    )
    assert max(texts.values()) == 1


@pytest.mark.parametrize("in_header", [True, False])
def test_a_bomb_is_a_thousand_times_smaller_and_a_sound_deflate_stream(in_header):
    size = 8 * MIB
    made = bomb(size, in_header=in_header)
    assert len(made) < size // 500
    held = pydicom.dcmread(BytesIO(made))
    bulk = held[0x00091001] if in_header else held[0x7FE00010]
    assert len(bulk.value) == size
    assert held.StudyInstanceUID == "2.999.9.0"


def test_a_bomb_of_a_gibibyte_is_about_a_mebibyte():
    made = bomb(1024 * MIB)
    assert len(made) < 1.1 * MIB
    start = made.index(b"DICM")
    assert zlib.crc32(made[start:]) == zlib.crc32(bomb(1024 * MIB)[start:])


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("implicit", [True, False])
def test_nesting_is_as_deep_as_it_says(undefined, implicit):
    held = pydicom.dcmread(BytesIO(nested(40, undefined=undefined, implicit=implicit)))
    depth = 0
    while "RequestAttributesSequence" in held:
        held, depth = held.RequestAttributesSequence[0], depth + 1
    assert depth == 40


def test_deepest_nesting_is_made_fast_and_stays_small():
    for undefined in (True, False):
        assert len(nested(100_000, undefined=undefined)) < 4 * MIB


def test_cuts_run_from_one_to_ninety_nine_percent():
    made = list(cuts(b"x" * 1000))
    assert [percent for percent, _ in made] == list(range(1, 100))
    assert [len(part) for _, part in made] == [percent * 10 for percent in range(1, 100)]
