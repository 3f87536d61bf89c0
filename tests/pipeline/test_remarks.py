"""What is said of studies beside each other, once all of them are known."""

from __future__ import annotations


def told(result, code):
    return {
        study.study_instance_uid: (issue.examples, issue.count)
        for study in result.all_studies
        for issue in study.issues
        if issue.code == code
    }


def test_a_series_in_two_studies_stays_in_both_with_a_finding(tmp_path, convert, make_dicom):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "1").write_bytes(make_dicom("1.1", series="1.5", sop="1.9.1", patient="A"))
    (folder / "2").write_bytes(make_dicom("1.2", series="1.6", sop="1.9.2", patient="A"))
    assert "series-in-several-studies" not in convert(folder).issue_counts
    (folder / "3").write_bytes(make_dicom("1.2", series="1.5", sop="1.9.3", patient="A"))
    result = convert(folder, out="again")
    assert result.exit_code == 0
    assert result.counts["series"] == 3
    found = told(result, "series-in-several-studies")
    assert found == {"1.1": (("1.5",), 1), "1.2": (("1.5",), 1)}
    assert "instance-in-several-studies" not in result.issue_counts


def test_a_study_may_share_instances_and_series(tmp_path, convert, make_dicom):
    folder = tmp_path / "in"
    folder.mkdir()
    for study in ("1.1", "1.2"):
        data = make_dicom(study, series="1.5", sop="1.9.1", patient="A")
        (folder / study).write_bytes(data)
    counts = convert(folder).issue_counts
    assert counts["series-in-several-studies"] == counts["instance-in-several-studies"] == 2
