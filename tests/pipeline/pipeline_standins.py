"""Engine and reducer in their smallest form, picklable, and a reader that a certain file kills."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

from converter.core.issues import Issue
from converter.pipeline import Verdict
from converter.reading import read_file as real_read_file
from converter.reading import read_stream

MODALITY, NAME, PATIENT, BORN = 0x00080060, 0x00100010, 0x00100020, 0x00100030
WANTED = dict.fromkeys(
    (0x00080016, 0x00080018, MODALITY, NAME, PATIENT, BORN, 0x0020000D, 0x0020000E, 0x00200013)
)
KILL = b"KILL THE READER"

__all__ = [
    "KILL",
    "WANTED",
    "DeadlyJudge",
    "UnsureJudge",
    "convert",
    "convert_with_device",
    "read_file",
    "read_stream",
    "reduce",
    "unite",
]


def read_file(path, wanted, *, ignore_changed=False, opened=None):
    if KILL in Path(path).read_bytes():
        os.kill(os.getpid(), signal.SIGKILL)
    return real_read_file(path, wanted, ignore_changed=ignore_changed, opened=opened)


def text(value):
    return (value or b"").decode().strip(" \0")


def convert(study, rules, options):
    instances = [instance for series in study.series for instance in series.instances]
    ids = {text(instance.get(PATIENT)) for instance in instances} - {""}
    common = {"issues": list(study.issues), "dropped": (), "series": len(study.series)}
    common |= {"study_uid": study.uid, "instances": study.count, "tombstones": (), "withdrawn": ""}
    if len(ids) > 1:
        return SimpleNamespace(state="conflict", resource=None, companions=[], **common)
    if "BROKEN" in ids:
        raise ValueError("BROKEN^Patient^Name")
    if "FATAL" in ids:
        os.kill(os.getpid(), signal.SIGKILL)
    patient = "-".join(ids) or f"of-{study.uid}"
    resource = {
        "resourceType": "ImagingStudy",
        "id": f"s-{study.uid}",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{study.uid}"}],
        "subject": {"reference": f"Patient/{patient}"},
        "series": [
            {"uid": series.uid, "instance": [{"uid": one.uid} for one in series.instances]}
            for series in study.series
        ],
    }
    companion = {
        "resourceType": "Patient",
        "id": patient,
        "name": [{"text": text(instances[0].get(NAME))}],
        "birthDate": text(instances[0].get(BORN)),
    }
    return SimpleNamespace(state="converted", resource=resource, companions=[companion], **common)


def convert_with_device(study, rules, options):
    """As `convert`, with a Device that the studies of patient A name."""
    made = convert(study, rules, options)
    if made.resource["subject"]["reference"] == "Patient/A":
        made.companions.append({"resourceType": "Device", "id": "D", "name": "", "birthDate": ""})
    return made


def reduce(contributions):
    bodies = [body for _, body in contributions]
    pairs = {(body["name"][0]["text"], body["birthDate"]) for body in bodies}
    differ = len({a for a, _ in pairs}) > 1 and len({b for _, b in pairs}) > 1
    issues = [Issue("warning", "patient-differs")] if len(pairs) > 1 else []
    body = min(bodies, key=lambda item: (item["name"][0]["text"], item["birthDate"]))
    return SimpleNamespace(resource=body, issues=issues, mismatch=differ)


def unite(standing, ours, ownership, **_):
    if standing["subject"] != ours["subject"]:
        return SimpleNamespace(reason="subject-mismatch")
    if ownership == "replace":
        return ours
    series = {item["uid"]: {i["uid"] for i in item["instance"]} for item in standing["series"]}
    for item in ours["series"]:
        series.setdefault(item["uid"], set()).update(i["uid"] for i in item["instance"])
    united = [
        {"uid": uid, "instance": [{"uid": one} for one in sorted(series[uid])]}
        for uid in sorted(series)
    ]
    return {**ours, "series": united}


class UnsureJudge:
    """A check in a worker that leaves some resources to the run, and breaks at others."""

    def __init__(self, unsure, broken=()):
        self.unsure, self.broken, self.run = unsure, broken, os.getpid()

    def __call__(self, resource, patient, dropped):
        assert os.getpid() != self.run
        if resource["resourceType"] == "ImagingStudy":
            assert patient["id"] == resource["subject"]["reference"].removeprefix("Patient/")
        if resource["id"] in self.broken:
            raise KeyError("Secret^Name")
        return Verdict([], ["urn:p"], unsure=resource["id"] in self.unsure)


class DeadlyJudge:
    """A check in a worker that is killed at a resource, so often, and leaves a part of a file."""

    def __init__(self, id_, folder, times):
        self.id, self.folder, self.times = id_, folder, times

    def __call__(self, resource, patient, dropped):
        if resource["id"] == self.id:
            seen = self.folder.with_name("seen")
            seen.mkdir(exist_ok=True)
            number = len(list(seen.iterdir()))
            if number < self.times:
                (seen / str(number)).touch()
                kind = self.folder / resource["resourceType"]
                kind.mkdir(exist_ok=True)
                (kind / f".dcm2fhir.{os.getpid()}.tmp").write_bytes(b"{")
                os.kill(os.getpid(), signal.SIGKILL)
        return Verdict([], [])
