"""Writing in workers: the same files and the same report as without, and nothing lost where one of them dies."""

from __future__ import annotations

import os
import re
import resource as limits
from dataclasses import replace
from multiprocessing import active_children

import pipeline_standins as standins
import pytest

from converter.core.issues import Issue
from converter.errors import SinkError
from converter.pipeline import Verdict, pool, writing
from converter.pipeline.publishing import Draft, lost
from converter.pipeline.request import no_judge
from converter.sinks import files
from converter.store import Converted

RUN = os.getpid()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch):
    monkeypatch.setattr(writing, "FEW", 0)
    monkeypatch.setattr(writing, "A_TASK", 3)


@pytest.fixture
def folder(tmp_path, make_dicom):
    """Twenty studies of four patients."""
    root = tmp_path / "in"
    root.mkdir()
    for index in range(20):
        made = make_dicom(f"1.2.{index}", sop=f"1.9.{index}", patient=f"P{index % 4}")
        (root / f"{index:02}").write_bytes(made)
    return root


def told(result):
    names = ("counts", "resources", "held_counts", "issue_counts", "profiles_met", "all_studies")
    return {name: getattr(result, name) for name in (*names, "exit_code", "outputs")}


def leftovers(folder):
    return [path.name for path in folder.rglob(".*")]


@pytest.mark.parametrize("started", ["as may be", "spawned"])
def test_workers_write_and_tell_what_one_process_does(
    folder, tmp_path, convert, standing, parts, make_dicom, monkeypatch, started
):
    if started == "spawned":
        monkeypatch.setattr(pool, "_start_method", lambda: "spawn")
    (folder / "x0").write_bytes(make_dicom("1.7.1", sop="1.9.70", patient="A"))
    (folder / "x1").write_bytes(make_dicom("1.7.1", sop="1.9.71", patient="B"))
    (folder / "x2").write_bytes(make_dicom("1.7.2", sop="1.9.72", patient="BROKEN"))
    parts = replace(parts, convert=standins.convert_with_device)
    for out in ("one", "two"):
        # of somebody else, unreadable, of more instances, and the same
        for number, body in enumerate(
            (
                b'{"resourceType": "ImagingStudy", "subject": {"reference": "Patient/Z"}}',
                b"{",
                (
                    b'{"resourceType": "ImagingStudy", "subject": {"reference": "Patient/P2"}, '
                    b'"series": [{"uid": "1.5", "instance": [{"uid": "1.6"}]}]}'
                ),
            )
        ):
            path = tmp_path / out / "ImagingStudy" / f"s-1.2.{number}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
    for _ in ("anew", "again"):
        one = convert(folder, out="one", parts=parts)
        two = convert(folder, out="two", parts=parts, jobs=2, worker_judge=no_judge)
        assert told(one) == told(two)
        assert one.held_counts["subject-mismatch"] == one.held_counts["standing-unreadable"] == 1
        assert standing("one") == standing("two")
        assert len(standing("two")) > 20
    assert not leftovers(tmp_path / "two")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_patient_of_one_study_is_written_with_it_and_only_if_it_is(
    folder, tmp_path, convert, standing, make_dicom, jobs
):
    for number, name in enumerate(("ALONE", "HELD")):
        made = make_dicom(f"1.7.{number}", sop=f"1.9.7{number}", patient=name)
        (folder / name).write_bytes(made)
    other = tmp_path / "out" / "ImagingStudy" / "s-1.7.1.json"
    other.parent.mkdir(parents=True)
    other.write_bytes(b'{"resourceType": "ImagingStudy", "subject": {"reference": "Patient/Z"}}')
    asked = []

    def judge(resource, _patient, _dropped):
        asked.append(resource["id"])
        return Verdict([Issue("warning", f"of-{resource['id']}")], [])

    result = convert(folder, judge=judge, worker_judge=no_judge if jobs > 1 else None, jobs=jobs)
    assert result.held_counts == {"subject-mismatch": 1}
    assert "Patient/ALONE.json" in standing()
    assert "Patient/HELD.json" not in standing()
    assert result.resources["Patient"] == 5
    if jobs == 1:
        assert asked[-4:] == ["P0", "P1", "P2", "P3"]
        assert asked[asked.index("s-1.7.0") + 1] == "ALONE"
        assert asked.count("ALONE") == 1
        assert result.issue_counts["of-ALONE"] == 1


def test_what_a_worker_is_unsure_of_is_left_to_the_run_which_goes_by_uid(folder, convert, standing):
    seen = []

    def judge(resource, patient, dropped):
        assert os.getpid() == RUN
        seen.append(resource["id"])
        return Verdict([Issue("warning", "models-disagree")], ["urn:p"])

    told = []
    result = convert(
        folder,
        judge=judge,
        worker_judge=standins.UnsureJudge({"s-1.2.3", "s-1.2.12"}, {"s-1.2.17"}),
        jobs=2,
        progress=Told(told),
    )
    # the Patients that it saw with them are its own, too: it may have more to say of those
    assert seen == ["s-1.2.12", "s-1.2.17", "s-1.2.3", "P0", "P1", "P3"]
    assert result.issue_counts["models-disagree"] == 6
    assert len(standing()) == 24
    assert all(b'"urn:p"' in data for data in standing().values())
    assert told[-1] == ("writing", 24, 24)


class Told:
    def __init__(self, phases):
        self.phases = phases

    def phase(self, name, total=None):
        self.phases.append((name, total, 0))

    def advance(self, count=1):
        name, total, done = self.phases[-1]
        self.phases[-1] = (name, total, done + count)


def test_a_worker_that_is_killed_in_a_file_costs_nothing(folder, tmp_path, convert, standing):
    one = convert(folder, out="one")
    deadly = standins.DeadlyJudge("s-1.2.7", tmp_path / "two", 1)
    two = convert(folder, out="two", jobs=2, worker_judge=deadly)
    assert len(list((tmp_path / "seen").iterdir())) == 1
    assert told(one) == told(two)
    assert standing("one") == standing("two")
    assert not leftovers(tmp_path / "two")


def test_a_study_that_kills_every_worker_is_held_and_the_others_are_written(
    folder, tmp_path, convert, standing
):
    one = convert(folder, out="one")
    deadly = standins.DeadlyJudge("s-1.2.7", tmp_path / "two", 99)
    result = convert(folder, out="two", jobs=2, worker_judge=deadly)
    assert result.held_counts == {"study-failed": 1}
    assert result.exit_code == 1
    (failed,) = (study for study in result.all_studies if study.reason)
    assert failed.study_instance_uid == "1.2.7"
    assert [issue.message for issue in failed.issues] == ["The process that wrote it died."]
    assert one.counts == result.counts
    assert standing("one").keys() - standing("two").keys() == {"ImagingStudy/s-1.2.7.json"}
    assert not leftovers(tmp_path / "two")


def test_a_held_study_whose_process_dies_stays_held_for_its_reason():
    item = Converted("1.2.3", "conflict", b"", [], [], 1, 1, [], [])
    assert lost(Draft(item, "patient-conflict")) is None


def test_patients_that_the_run_saw_with_their_studies_are_not_given_to_workers(
    folder, convert, standing, monkeypatch
):
    seen = []

    def judge(resource, patient, dropped):
        seen.append(resource["id"])
        return Verdict([], [])

    studies = writing._Writer.studies
    monkeypatch.setattr(
        writing._Writer, "studies", lambda self, *, shared: studies(self, shared=False)
    )
    convert(folder, judge=judge, worker_judge=no_judge, jobs=2)
    assert {"P0", "P1", "P2", "P3"} < set(seen)
    assert len(seen) == len(standing()) == 24


def test_a_companion_that_kills_its_worker_is_written_by_the_run(
    folder, tmp_path, convert, standing
):
    one = convert(folder, out="one")
    deadly = standins.DeadlyJudge("P2", tmp_path / "two", 99)
    assert told(convert(folder, out="two", jobs=2, worker_judge=deadly)) == told(one)
    assert standing("one") == standing("two")


def test_a_full_disk_in_a_worker_ends_the_run_and_leaves_whole_files(
    folder, tmp_path, convert, standing, make_dicom
):
    for index in range(300):
        made = make_dicom("1.2.7", sop=f"1.9.1{index:03}", patient="P3")
        (folder / f"more{index}").write_bytes(made)
    whole = convert(folder, out="whole")
    assert whole.exit_code == 0
    before = limits.getrlimit(limits.RLIMIT_FSIZE)

    def begin(name, total=None):
        if name == "writing":  # the store is larger, and is written no more before the workers fail
            for pid in [os.getpid(), *(child.pid for child in active_children())]:
                limits.prlimit(pid, limits.RLIMIT_FSIZE, (4096, before[1]))

    progress = Told([])
    progress.phase, progress.advance = begin, lambda count=1: None
    try:
        with pytest.raises(SinkError, match=r"No space left for .*: free some") as caught:
            convert(folder, jobs=2, worker_judge=no_judge, progress=progress)
    finally:
        limits.setrlimit(limits.RLIMIT_FSIZE, before)
    assert caught.value.exit_code == 7
    assert "s-1.2" not in str(caught.value)
    assert standing().items() < standing("whole").items()
    assert not leftovers(tmp_path / "out")


def test_files_of_killed_workers_are_swept_by_the_next_run_and_others_stay(tmp_path):
    pid = os.fork()
    if pid == 0:
        sink = files.FileSink(tmp_path / "out")
        worker = sink.for_workers()
        worker.in_worker()
        worker.write({"resourceType": "Patient", "id": "1"})
        (tmp_path / "out" / "Patient" / f".dcm2fhir.{os.getpid()}.tmp").write_bytes(b"{")
        os._exit(9)  # as a kill does: nothing is tidied up
    os.waitpid(pid, 0)
    mine = tmp_path / "out" / "Patient" / ".dcm2fhir.notes.tmp"
    mine.write_bytes(b"mine")
    files.FileSink(tmp_path / "out").close()
    assert re.findall(r"\S+", " ".join(leftovers(tmp_path / "out"))) == [mine.name]
