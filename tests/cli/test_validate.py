"""``dcm2fhir validate``: inputs, output, exit codes."""

from __future__ import annotations

import io
import json
import sys

import pytest

from converter.cli.main import run
from converter.fhir.judging import judge
from converter.fhir.shipped import shipped_checker
from tests.fhir.cases import BASES

STUDY = BASES["study"]
BAD = STUDY.replace(b'"available"', b'"done"')
FOREIGN = STUDY.replace(
    b"http://dicom.nema.org/resources/ontology/DCM", b"http://x.example/modality"
)


def line(data):
    return json.dumps(json.loads(data)).encode() + b"\n"


@pytest.fixture
def write(tmp_path):
    def write(name, data):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return str(path)

    return write


@pytest.fixture
def stdin(monkeypatch):
    def stdin(data):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return stdin


def rows(capsys):
    return [text.split("\t") for text in capsys.readouterr().out.splitlines()]


def test_good_file_is_0(write, capsys):
    assert run(["validate", write("a.json", STUDY)]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "1 checked; 1 conform" in told.err


def test_bad_file_is_1_and_named_with_the_place(write, capsys):
    path = write("a.json", BAD)
    assert run(["validate", path]) == 1
    assert [row[:4] for row in rows(capsys)] == [
        [path, "error", "code-outside-binding", "ImagingStudy.status"]
    ]


def test_strict_alone_is_5(write, capsys):
    path = write("a.json", FOREIGN)
    assert run(["validate", path]) == 0
    assert {row[1] for row in rows(capsys)} == {"warning"}
    assert run(["validate", path, "--strict"]) == 5
    assert ["error", "modality-system"] in [row[1:3] for row in rows(capsys)]


def test_error_and_strict_together_are_1(write):
    assert run(["validate", write("a.json", FOREIGN), write("b.json", BAD), "--strict"]) == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "json-syntax"),
        (b"not json", "json-syntax"),
        (b'{"a": ', "json-syntax"),
        (b"\xff\xfe{\0}\0", "encoding"),
        (b'{"a": "\xe4"}', "encoding"),
        (b"[]", "not-fhir"),
        (b'"x"', "not-fhir"),
        (b'{"a": 1}', "not-fhir"),
        (b'{"resourceType": "Nonsense"}', "unknown-resource-type"),
        (b'{"resourceType": "Observation", "status": "final"}', "wrong-resource-type"),
        (b'{"resourceType": ["ImagingStudy"]}', "unknown-resource-type"),
        (b"[" * 5000, "too-deep-json"),
    ],
)
def test_what_is_no_resource_is_told_and_the_next_file_checked(write, capsys, data, code):
    first, second = write("a.json", data), write("b.json", BAD)
    assert run(["validate", first, second]) == 1
    told = [row[:3] for row in rows(capsys)]
    assert told == [[first, "error", code], [second, "error", "code-outside-binding"]]


def test_byte_order_mark_is_a_warning(write, capsys):
    assert run(["validate", write("a.json", b"\xef\xbb\xbf" + STUDY)]) == 0
    assert [row[2] for row in rows(capsys)] == ["byte-order-mark"]


@pytest.mark.parametrize(
    ("change", "version"),
    [
        ({"modality": [{"coding": [{"code": "CT"}]}]}, "R5"),
        ({"reason": [{"concept": {"text": "x"}}]}, "R5"),
        ({"availability": "ONLINE"}, "STU3"),
        ({"fhirVersion": "5.0.0"}, "5.0.0"),
    ],
)
def test_other_fhir_version_is_named(write, capsys, change, version):
    data = json.dumps(json.loads(STUDY) | change).encode()
    assert run(["validate", write("a.json", data)]) == 1
    assert any(row[2] == "other-fhir-version" and version in row[4] for row in rows(capsys))


def test_folder_is_walked_in_order_and_other_files_left_alone(write, tmp_path, capsys):
    write("b/2.json", BAD)
    write("a/1.json", BAD)
    write("a/x.txt", b"nothing")
    write("c.ndjson", line(STUDY) + line(BAD))
    assert run(["validate", str(tmp_path)]) == 1
    assert [row[0].removeprefix(str(tmp_path)) for row in rows(capsys)] == [
        "/a/1.json",
        "/b/2.json",
        "/c.ndjson:2",
    ]


def test_nothing_found_is_4(tmp_path, capsys):
    assert run(["validate", str(tmp_path)]) == 4
    assert "no FHIR JSON" in capsys.readouterr().err


def test_missing_file_and_wrong_use_are_2(tmp_path):
    assert run(["validate"]) == 2
    assert run(["validate", str(tmp_path / "none.json")]) == 2


def test_unknown_profile_is_3(write, capsys):
    assert run(["validate", write("a.json", STUDY), "--profile", "uk-cor"]) == 3
    assert "uk-core" in capsys.readouterr().err


def test_profile_is_held_against_what_does_not_claim_it(write, capsys):
    data = STUDY.replace(b'"Patient/p1"', b'"Device/1"').replace(
        b'"type": "Patient"', b'"type": "Device"'
    )
    path = write("a.json", data)
    assert run(["validate", path]) == 0
    assert run(["validate", path, "--profile", "ips"]) == 1
    assert rows(capsys)[0][2:4] == ["profile-target", "ImagingStudy.subject.reference"]


def test_profile_of_the_site(write, capsys):
    site = b'[profile]\nname = "site"\ntitle = "Site"\n[[constraint]]\npath = "ImagingStudy.interpreter"\nmin = 1\n'
    assert run(["validate", write("a.json", STUDY), "--profile", write("site.toml", site)]) == 1
    assert rows(capsys)[0][2:4] == ["profile-missing", "ImagingStudy.interpreter"]


def test_what_the_mapping_of_the_site_defines_is_known(write, tmp_path, capsys):
    url, claim = "https://a.example/protocol", "https://a.example/mine"
    rules = f'[ImagingStudy."extension:a"]\nurl = {{ const = "{url}" }}\nvalueString = {{ from = "ProtocolName", required = true }}\n'
    head = f'[profile]\nname = "mine"\ntitle = "M"\nclaims = {{ ImagingStudy = "{claim}" }}\n'
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a.toml").write_text(rules + head)
    held = {**json.loads(STUDY), "extension": [{"url": url, "valueString": "x"}], "meta": {"profile": [claim]}}  # fmt: skip
    path = write("a.json", json.dumps(held).encode())
    assert run(["validate", path]) == 1
    assert [row[2] for row in rows(capsys) if row[1] == "error"] == [
        "unknown-extension",
        "unknown-profile",
    ]
    assert run(["validate", path, "--mappings", str(tmp_path / "m")]) == 0
    assert run(["validate", path, "--profile", str(tmp_path / "m" / "a.toml")]) == 0


def test_profile_of_the_site_with_a_fault_is_3(write, capsys):
    assert (
        run(["validate", write("a.json", STUDY), "--profile", write("site.toml", b"[profile")]) == 3
    )
    assert "site.toml" in capsys.readouterr().err


def test_standard_input_takes_json(stdin, capsys):
    stdin(BAD)
    assert run(["validate", "-"]) == 1
    assert rows(capsys)[0][0] == "-"


def test_standard_input_takes_ndjson(stdin, capsys):
    stdin(line(STUDY) + b"\n" + line(BAD) + b"{\n")
    assert run(["validate", "-"]) == 1
    assert [row[0] for row in rows(capsys)] == ["-:3", "-:4"]


def test_ndjson_line_over_the_limit_is_told_and_the_next_checked(write, capsys):
    long = json.dumps({"resourceType": "Patient", "gender": "x" * 5000}).encode() + b"\n"
    path = write("a.ndjson", line(BASES["operation-outcome"]) + long + line(BASES["patient"]))
    assert run(["validate", path, "--max-size", "2KiB"]) == 1
    assert [row[:3] for row in rows(capsys)] == [[f"{path}:2", "error", "too-large"]]


def test_file_over_the_limit_is_told(write, capsys):
    path = write("a.json", STUDY)
    assert run(["validate", path, "--max-size", "1KiB"]) == 1
    assert [row[:3] for row in rows(capsys)] == [[path, "error", "too-large"]]


def test_bundle_is_checked_inside(write, capsys):
    data = BASES["transaction"].replace(b'"available"', b'"done"')
    assert run(["validate", write("a.json", data)]) == 1
    assert "Bundle.entry[1].resource.status" in [row[3] for row in rows(capsys)]


def test_operation_outcome_is_itself_valid_and_one_a_resource(write, capsys):
    paths = [write("a.json", BAD), write("b.json", STUDY), write("c.json", FOREIGN)]
    assert run(["validate", *paths, "--format", "operation-outcome", "--strict"]) == 1
    outcomes = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert len(outcomes) == 3
    checker = shipped_checker()
    for outcome in outcomes:
        verdict = judge(json.dumps(outcome).encode(), "outcome", checker)
        assert {issue.code for issue in verdict.issues} == {"dom-6"}
    first = outcomes[0]["issue"][0]
    assert first["severity"] == "error"
    assert first["code"] == "code-invalid"
    assert first["details"]["coding"][0]["code"] == "code-outside-binding"
    assert first["expression"] == ["ImagingStudy.status"]
    assert first["diagnostics"] == paths[0]
    assert outcomes[1]["issue"][0]["severity"] == "information"
    assert "error" in {issue["severity"] for issue in outcomes[2]["issue"]}


def test_quiet_says_errors_only(write, capsys):
    assert run(["validate", "-q", write("a.json", FOREIGN), write("b.json", BAD)]) == 1
    told = capsys.readouterr()
    assert told.err == ""
    assert {text.split("\t")[1] for text in told.out.splitlines()} == {"error"}


def test_verbose_tells_absent_must_support_elements(write, capsys):
    path = write("a.json", STUDY)
    assert run(["validate", path, "--profile", "uk-core", "-v"]) == 0
    assert [path, "information", "must-support", "ImagingStudy.series[0].specimen"] in [
        row[:4] for row in rows(capsys)
    ]


@pytest.mark.parametrize("form", ["table", "operation-outcome"])
def test_half_a_surrogate_in_a_key_or_a_file_name_is_printed(write, capsys, form):
    data = STUDY.replace(b'"description"', b'"descri\\ud800ption"')
    assert run(["validate", write("a\udcff.json", data), "--format", form]) == 1
    assert "ud800" in capsys.readouterr().out


def test_broken_line_is_named_once(write, capsys):
    path = write("a.ndjson", line(STUDY) + b'{"resourceType":\n' + line(STUDY))
    assert run(["validate", path]) == 1
    ((name, _, code, _, message),) = rows(capsys)
    assert (name, code) == (f"{path}:2", "json-syntax")
    assert message.startswith("column 17: ")
