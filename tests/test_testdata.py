"""The test data is what its declarations say, the same bytes every time, and readable by pydicom."""

from __future__ import annotations

import warnings
from collections import Counter
from io import BytesIO
from typing import TYPE_CHECKING

import msgspec
import pydicom
import pytest

from converter.core.site import Site
from tests.golden.build import CASES, DEFAULT_OPTIONS, case_options, read_case, write_case
from tools.dicom_writer import files
from tools.make_testdata import TESTDATA, make

if TYPE_CHECKING:
    from pathlib import Path

DEMO = TESTDATA / "demo"


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def read(data: bytes) -> pydicom.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cases hold values that pydicom rightly warns of
        return pydicom.dcmread(BytesIO(data), force=True)


def test_stored_files_are_what_their_declarations_give(tmp_path):
    make(tmp_path)
    assert content(tmp_path / "demo") == content(DEMO)


def test_demo_is_small_enough_to_ship():
    assert sum(len(data) for data in content(DEMO).values()) < 200_000


def test_demo_is_three_studies_of_two_patients_that_pydicom_reads_without_a_warning():
    studies, patients = Counter(), set()
    for data in content(DEMO).values():
        held = pydicom.dcmread(BytesIO(data))
        studies[str(held.StudyDescription)] += 1
        patients.add(str(held.PatientName))
        if "PixelData" in held:
            assert held.pixel_array.max() > 0
    assert studies == {"CT Thorax with contrast": 9, "MRI Knee Rt": 5, "US Abdomen": 2}
    assert patients == {"Specimen^Sandra^Ann^Mrs", "Prøve^Jürgen"}


def test_roots_of_cases_differ_so_that_all_can_be_converted_in_one_run():
    roots = Counter(read_case(case)["root"] for case in CASES)
    assert [root for root, count in roots.items() if count > 1] == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_says_why_and_asks_for_options_that_exist(case):
    declared = read_case(case)
    assert declared["why"].endswith(".")
    assert set(declared) <= {"why", "source", "root", "options", "group", "all", "instance"}
    options = case_options(case)
    assert set(options) == set(DEFAULT_OPTIONS)
    assert set(options["profiles"]) <= {"r4", "uk-core", "ips"}
    assert options["patient"] in {"resource", "reference", "logical", "contained"}
    msgspec.convert(options["site"], Site)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_gives_the_same_readable_files_every_time(case, tmp_path):
    first = write_case(case, tmp_path / "first")
    write_case(case, tmp_path / "second")
    assert content(tmp_path / "first") == content(tmp_path / "second")
    assert len(first) == len(set(first)) > 0
    for path in first:
        data = path.read_bytes()
        if case.name.startswith("truncated"):
            continue
        held = read(data)
        assert len(held) > 5
        assert "PatientSex" in held


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("japanese-name", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("japanese-name-katakana", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        ("korean-name", "Hong^Gildong=洪^吉洞=홍^길동"),
        ("chinese-name-gb18030", "Wang^XiaoDong=王^小东="),
        ("utf-8-name", "Ångström^Zoë=王^小东"),
        ("greek-name", "Διονυσιος"),
    ],
)
def test_names_are_encoded_as_their_character_set_says(name, patient):
    declared = next(read_case(case) for case in CASES if case.name == name)
    (file,) = files(declared)
    held = pydicom.dcmread(BytesIO(file.content))
    assert str(held.PatientName).rstrip("=") == patient.rstrip("=")


def test_chinese_name_in_iso_2022_is_that_of_the_standard():
    # PS3.5 annex K. pydicom neither writes nor takes off these escapes.
    declared = next(read_case(case) for case in CASES if case.name == "chinese-name-iso-2022")
    name = bytes.fromhex(declared["all"]["PatientName"]["bytes"])
    assert name.count(b"\x1b$)A") == 2
    assert name.replace(b"\x1b$)A", b"").decode("gb2312") == "Zhang^XiaoDong=张^小东="


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("syntax-implicit", "1.2.840.10008.1.2"),
        ("syntax-big-endian", "1.2.840.10008.1.2.2"),
        ("syntax-deflated", "1.2.840.10008.1.2.1.99"),
        ("syntax-jpeg-2000", "1.2.840.10008.1.2.4.90"),
    ],
)
def test_transfer_syntaxes_are_written_as_declared(name, syntax, tmp_path):
    case = next(case for case in CASES if case.name == name)
    (path,) = write_case(case, tmp_path)
    held = pydicom.dcmread(path)
    assert held.file_meta.TransferSyntaxUID == syntax
    assert held.StudyDescription == "CT Chest"
    if name == "syntax-big-endian":
        assert held.Rows == 512
