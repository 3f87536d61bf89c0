"""The shipped code tables: well formed, small, and the facts that the mapping rests on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from converter.core.tables import CodeTable, parse_table

FOLDER = Path(__file__).resolve().parent.parent / "mappings" / "codes"
FILES = sorted(FOLDER.glob("*.csv"))
DCM = "http://dicom.nema.org/resources/ontology/DCM"


def table(name: str) -> CodeTable:
    return parse_table(name, (FOLDER / f"{name}.csv").read_text("utf-8"))


def with_value(codes: CodeTable, column: str, value: str) -> set[str]:
    return {key for key, row in codes.rows.items() if row[column] == value}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_table_parses_names_its_source_and_stays_small(path):
    text = path.read_text("utf-8")
    assert text.startswith("# ")
    assert len(parse_table(path.name, text)) > 0
    assert path.stat().st_size < 300_000


def test_every_table_stands_in_the_readme():
    text = (FOLDER / "README.md").read_text("utf-8")
    assert {path.stem for path in FILES} == set(
        re.findall(r"^\| `([a-z0-9-]+)` \|", text, re.MULTILINE)
    )


def test_modality_holds_cid_29_and_cid_32_and_what_an_iod_asks_for_beside_them():
    codes = table("modality")
    current = with_value(codes, "status", "current")
    assert len(with_value(codes, "acquisition", "yes")) == 51
    assert current - with_value(codes, "acquisition", "yes") == {
        "ANN",
        "ASMT",
        "AU",
        "CTPROTOCOL",
        "DOC",
        "FID",
        "HC",
        "IOL",
        "KO",
        "M3D",
        "OT",
        "PLAN",
        "PR",
        "REG",
        "RTDOSE",
        "RTPLAN",
        "RTRECORD",
        "RTSTRUCT",
        "RWV",
        "SEG",
        "SMR",
        "SR",
        "STAIN",
        "TEXTUREMAP",
    }
    assert codes.rows["RTIMAGE"]["acquisition"] == "yes"
    assert codes.rows["RTDOSE"]["display"] == "RT Dose"


def test_retired_modalities_are_kept_but_are_no_acquisition():
    codes = table("modality")
    retired = with_value(codes, "status", "retired")
    assert {
        "MA",
        "CF",
        "DF",
        "DS",
        "EC",
        "ST",
        "VF",
        "FS",
        "LP",
        "CP",
        "CS",
        "DD",
        "DM",
        "OPR",
    } <= retired
    assert not retired & with_value(codes, "acquisition", "yes")
    assert all(codes.rows[code]["display"] for code in retired)
    r4 = table("dcm")
    assert {code for code in retired if r4.rows[code]["r4"] != "yes"} == set()


def test_every_modality_is_a_dcm_code():
    assert set(table("modality").rows) <= set(table("dcm").rows)


def test_modality_of_a_sop_class_is_a_current_modality_of_a_composite_class():
    modality, classes = table("modality"), table("sop-classes")
    for uid, row in table("sop-class-modality").rows.items():
        assert modality.rows[row["code"]]["status"] == "current"
        assert classes.rows[uid]["composite"] == "yes"


@pytest.mark.parametrize(
    ("uid", "code"),
    [
        ("1.2.840.10008.5.1.4.1.1.2", "CT"),
        ("1.2.840.10008.5.1.4.1.1.88.67", "SR"),
        ("1.2.840.10008.5.1.4.1.1.77.1.6", "SM"),
        ("1.2.840.10008.5.1.4.1.1.7", None),
        ("1.2.840.10008.5.1.4.1.1.104.1", None),
    ],
)
def test_a_class_decides_the_modality_or_leaves_it_open(uid, code):
    row = table("sop-class-modality").get(uid)
    assert (row["code"] if row else None) == code


@pytest.mark.parametrize(
    ("uid", "composite"),
    [
        ("1.2.840.10008.1.3.10", "no"),  # media directory
        ("1.2.840.10008.1.20.1", "no"),  # storage commitment
        ("1.2.840.10008.3.1.2.3.3", "no"),  # performed procedure step
        ("1.2.840.10008.5.1.4.38.1", "no"),  # hanging protocol
        ("1.2.840.10008.5.1.4.1.1.2", "yes"),
        ("1.2.840.10008.5.1.4.1.1.5", "yes"),  # nuclear medicine, retired
        ("1.2.840.10008.5.1.4.1.1.88.59", "yes"),
        ("1.2.840.10008.5.1.4.34.7", "yes"),
    ],
)
def test_which_classes_give_instances_of_a_study(uid, composite):
    assert table("sop-classes").rows[uid]["composite"] == composite


def test_laterality_is_cid_244_without_unpaired():
    assert {key: row["code"] for key, row in table("laterality").rows.items()} == {
        "R": "24028007",
        "L": "7771000",
        "B": "51440002",
    }


def test_body_part_terms_are_normal_and_chest_is_the_current_code():
    codes = table("body-part")
    assert len(codes) == 317
    assert all(re.fullmatch(r"[A-Z0-9]+", term) for term in codes.rows)
    assert codes.rows["CHEST"]["code"] == codes.rows["THORAX"]["code"] == "816094009"
    assert codes.rows["PHANTOM"]["code"] == ""
    assert [term for term, row in codes.rows.items() if not row["code"]] == ["PHANTOM"]


@pytest.mark.parametrize("name", ["body-part", "laterality", "srt-to-sct"])
def test_snomed_ct_codes_have_a_right_check_digit(name):
    for row in table(name).rows.values():
        if row["code"]:
            assert verhoeff(row["code"]), row["code"]


def verhoeff(code: str) -> bool:
    multiply = [[(a + b) % 5 if b < 5 else 5 + (a + b) % 5 for b in range(10)] for a in range(5)]
    multiply += [
        [5 + (a - b) % 5 if b < 5 else (a - b) % 5 for b in range(10)] for a in range(5, 10)
    ]
    permute = [list(range(10)), [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
    for _ in range(6):
        permute.append([permute[-1][digit] for digit in permute[1]])
    check = 0
    for index, digit in enumerate(reversed(code)):
        check = multiply[check][permute[index % 8][int(digit)]]
    return check == 0


def test_coding_schemes_convert_old_snomed_and_never_repeat_the_designator():
    codes = table("coding-schemes")
    assert codes.rows["DCM"]["system"] == DCM
    assert with_value(codes, "convert", "srt-to-sct") == {"SRT", "SNM3", "99SDM"}
    assert {row["convert"] for row in codes.rows.values()} <= {"", *(path.stem for path in FILES)}
    for row in codes.rows.values():
        assert re.match(r"(https?://|urn:)", row["system"])


def test_srt_to_sct_converts_the_whole_of_the_table():
    codes = table("srt-to-sct")
    assert len(codes) == 7990
    assert codes.rows["T-D3000"]["code"] == "51185008"


def test_gender_has_dicoms_three_values():
    assert {key: row["code"] for key, row in table("gender").rows.items()} == {
        "M": "male",
        "F": "female",
        "O": "other",
    }


def test_codes_that_the_mappings_write_are_there():
    assert {"ACSN", "MR", "NH", "PLAC", "FILL", "VN", "SNO", "PI", "PPN", "SS"} <= set(
        table("identifier-type").rows
    )
    assert {"CON", "VRF", "PRF", "SPRF", "REF"} <= set(table("participation").rows)
    assert "dicom-wado-rs" in table("endpoint-connection-type")
    assert {"110180", "121022", "113014"} <= set(table("dcm").rows)
