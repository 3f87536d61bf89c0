"""``dcm2fhir explain``: rule, file, keyword and code row of a value; the reason for its absence."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from converter.cli.main import run
from tools.dicom_writer import encode

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = ROOT / "testdata" / "dicom" / "demo"


def rows(capsys, *arguments):
    assert run(["explain", *map(str, arguments)]) == 0
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_a_value_has_its_keyword_rule_code_row_and_file(capsys):
    (row,) = rows(capsys, DEMO / "us-abdomen", "ImagingStudy.series.bodySite")
    path, value, keywords, rule, code, source = row
    assert path.endswith(".bodySite")
    assert "http://snomed.info/sct" in value
    assert keywords == "BodyPartExamined"
    assert rule == "base/imaging-study.toml: ImagingStudy.series.bodySite"
    assert code.startswith("body-part.csv:")
    assert source == "1.dcm"


def test_a_member_is_shown_with_the_archive_that_it_is_of(capsys, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(DEMO / "us-abdomen" / "1.dcm", "1.dcm")
    for given in (tmp_path, tmp_path / "a.zip"):
        ((*_, source),) = rows(capsys, given, "series.bodySite")
        assert source == "a.zip!/1.dcm"


def test_what_is_absent_says_why(capsys):
    ((path, value, *_),) = rows(capsys, DEMO / "us-abdomen", "encounter")
    assert path == "ImagingStudy.encounter"
    assert value == "(absent: no value in AdmissionID)"


def test_the_code_row_named_is_that_of_the_table(capsys):
    ((*_, code, _),) = rows(capsys, DEMO / "us-abdomen", "series.bodySite")
    name, _, line = code.partition(":")
    held = (ROOT / "mappings" / "codes" / name).read_text(encoding="utf-8").splitlines()
    assert held[int(line) - 1].startswith("ABDOMEN,")


def test_what_a_site_changed_is_told_by_its_file(capsys, tmp_path):
    (tmp_path / "codes").mkdir()
    table = "term,code,display,paired\nABDOMEN,818983003,Bauch,no\n"
    (tmp_path / "codes" / "body-part.csv").write_text(table)
    (tmp_path / "site.toml").write_text("[ImagingStudy]\nencounter = false\n")
    ((*_, code, _),) = rows(capsys, DEMO / "us-abdomen", "bodySite", "--mappings", tmp_path)
    assert code == f"{tmp_path.name}/codes/body-part.csv:2"
    ((path, value, _, rule, *_),) = rows(
        capsys, DEMO / "us-abdomen", "encounter", "--mappings", tmp_path
    )
    assert (path, value) == ("ImagingStudy.encounter", "(absent: the rule is taken away)")
    assert rule == "site.toml: ImagingStudy.encounter"


def test_an_element_stands_for_what_is_below_it(capsys):
    paths = [row[0] for row in rows(capsys, DEMO / "us-abdomen", "ImagingStudy.series.instance")]
    assert len({path.rpartition(".")[0] for path in paths}) == 2
    assert all(".instance." in path for path in paths)


def test_without_an_element_everything_is_told_but_of_the_instances_the_first(capsys):
    paths = [row[0] for row in rows(capsys, DEMO / "us-abdomen")]
    assert "ImagingStudy.started" in paths
    assert "Patient.birthDate" in paths
    assert len({path.rpartition(".")[0] for path in paths if ".instance." in path}) == 1


def test_json_is_one_entry_a_study(capsys):
    assert run(["explain", str(DEMO), "started", "--format", "json"]) == 0
    studies = json.loads(capsys.readouterr().out)
    assert [study["studyInstanceUid"] for study in studies] == [
        "2.999.1.1",
        "2.999.1.2",
        "2.999.1.3",
    ]
    assert all(
        element["path"] == "ImagingStudy.started"
        for study in studies
        for element in study["elements"]
    )


def test_a_site_s_rule_is_named_by_its_file(capsys, tmp_path):
    (tmp_path / "mine.toml").write_text(
        "[ImagingStudy]\ndescription = { from = 'StudyID', as = 'string' }"
    )
    ((_, _, keywords, rule, *_),) = rows(
        capsys, DEMO / "us-abdomen", "ImagingStudy.description", "--mappings", tmp_path
    )
    assert keywords == "StudyID"
    assert rule.startswith("mine.toml: ")


def test_an_element_that_nothing_is_about_is_wrong_use(capsys):
    assert run(["explain", str(DEMO / "us-abdomen"), "nothing"]) == 2
    assert "No rule or profile is about nothing" in capsys.readouterr().err


def test_a_name_finds_every_element_that_has_it(capsys):
    ((path, *_),) = rows(capsys, DEMO / "us-abdomen", "bodySite")
    assert path.endswith(".bodySite")
    found = rows(capsys, DEMO / "us-abdomen", "birthDate")
    assert [row[0] for row in found] == ["Patient.birthDate"]


def test_a_name_that_is_nearly_one_is_told(capsys):
    assert run(["explain", str(DEMO / "us-abdomen"), "bodysite"]) == 2
    assert "Did you mean bodySite?" in capsys.readouterr().err


def test_a_value_that_lost_something_says_so(capsys, tmp_path):
    ((_, value, keywords, *_),) = rows(capsys, write(tmp_path, "a", "P1"), "started")
    assert value == "2024-03-13 (no-time-zone)"
    assert keywords == "StudyDate, StudyTime"


@pytest.mark.parametrize("element", [(), ("started",)])
def test_a_study_in_conflict_says_which_keyword_and_files(capsys, tmp_path, element):
    write(tmp_path, "a", "P1")
    write(tmp_path, "b", "P2")
    found = rows(capsys, tmp_path, *element)
    assert [(row[2], row[-1]) for row in found] == [("PatientID", "a"), ("PatientID", "b")]
    assert all(row[1].startswith("(held back: patient-conflict: ") for row in found)
    assert "P1" not in str(found)


def write(folder, name, patient_id):
    instance = {
        "SOPClassUID": "CTImageStorage",
        "SOPInstanceUID": f"2.999.7.{ord(name)}",
        "StudyInstanceUID": "2.999.7",
        "SeriesInstanceUID": "2.999.7.1",
        "PatientID": patient_id,
        "StudyDate": "20240313",
        "StudyTime": "0905",
    }
    (folder / name).write_bytes(encode(instance, "2.999"))
    return folder / name


def test_no_study_is_exit_4_and_says_why(capsys, tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    assert run(["explain", str(tmp_path)]) == 4
    assert "not-dicom (1)" in capsys.readouterr().err


def test_an_input_that_is_not_there_is_wrong_use():
    assert run(["explain", "nowhere"]) == 2


@pytest.mark.parametrize("columns", ["80", "200"])
def test_on_a_terminal_studies_series_and_instances_have_headings(columns):
    main, other = pty.openpty()
    command = [sys.executable, "-m", "converter", "explain", str(DEMO / "us-abdomen")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": columns}
    process = subprocess.Popen(command, stdout=other, stderr=subprocess.DEVNULL, env=environment)
    os.close(other)
    shown = b""
    while True:
        try:
            shown += os.read(main, 4096)
        except OSError:  # the other side has closed
            break
    os.close(main)
    assert process.wait() == 0
    text = shown.decode()
    assert "Study 2.999.1.3\x1b" in text
    assert "Study 2.999.1.3, series 2.999.1.3.1, instance 2.999.1.3.1.1" in text
    assert "where(" not in text
