"""The straightforward program: pydicom reads, fhir.resources models are built, validated and written.

Usage: batch_pydicom.py FOLDER OUTPUT
"""

import sys
from pathlib import Path

import pydicom
from fhir.resources.R4B.imagingstudy import ImagingStudy
from fhir.resources.R4B.patient import Patient

DCM = "http://dicom.nema.org/resources/ontology/DCM"


def day(text):
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if text else None


def moment(date, time):
    return f"{day(date)}T{time[:2]}:{time[2:4]}:{time[4:6]}+00:00" if date and time else day(date)


def clean(body):
    return {key: value for key, value in body.items() if value not in (None, [], "")}


def patient_of(ds, number):
    name = ds.get("PatientName")
    return Patient.model_validate(
        clean(
            {
                "id": f"p{number}",
                "identifier": [{"value": str(ds.PatientID)}],
                "name": [{"family": name.family_name, "given": name.given_name.split()}],
                "birthDate": day(ds.get("PatientBirthDate")),
                "gender": {"M": "male", "F": "female"}.get(ds.get("PatientSex")),
            }
        )
    )


def study_of(uid, series, number):
    first = next(iter(next(iter(series.values())).values()))
    made = []
    for series_uid, instances in series.items():
        ds = next(iter(instances.values()))
        made.append(
            clean(
                {
                    "uid": series_uid,
                    "number": int(ds.SeriesNumber),
                    "modality": {"system": DCM, "code": str(ds.Modality)},
                    "description": ds.get("SeriesDescription"),
                    "numberOfInstances": len(instances),
                    "started": moment(ds.get("SeriesDate"), ds.get("SeriesTime")),
                    "bodySite": {"display": str(ds.get("BodyPartExamined"))},
                    "instance": [
                        {
                            "uid": sop,
                            "number": int(one.InstanceNumber),
                            "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{one.SOPClassUID}"},
                            "title": "\\".join(one.get("ImageType", [])),
                        }
                        for sop, one in instances.items()
                    ],
                }
            )
        )  # fmt: skip
    return ImagingStudy.model_validate(
        clean(
            {
                "id": f"s{number}",
                "identifier": [
                    {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"},
                    {"value": str(first.get("AccessionNumber"))},
                ],
                "status": "available",
                "subject": {"reference": f"Patient/p{number}"},
                "started": moment(first.get("StudyDate"), first.get("StudyTime")),
                "referrer": {"display": str(first.get("ReferringPhysicianName"))},
                "description": first.get("StudyDescription"),
                "procedureCode": [
                    {"coding": [{"code": item.CodeValue, "display": item.CodeMeaning}]}
                    for item in first.get("ProcedureCodeSequence", [])
                ],
                "modality": [
                    {"system": DCM, "code": code}
                    for code in sorted({one["modality"]["code"] for one in made})
                ],
                "numberOfSeries": len(made),
                "numberOfInstances": sum(one["numberOfInstances"] for one in made),
                "series": made,
            }
        )
    )


def main():
    folder, output = Path(sys.argv[1]), Path(sys.argv[2])
    studies = {}
    for path in sorted(folder.rglob("*.dcm")):
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        series = studies.setdefault(ds.StudyInstanceUID, {})
        series.setdefault(ds.SeriesInstanceUID, {})[ds.SOPInstanceUID] = ds
    output.mkdir(parents=True)
    for number, (uid, series) in enumerate(studies.items()):
        first = next(iter(next(iter(series.values())).values()))
        patient, study = patient_of(first, number), study_of(uid, series, number)
        (output / f"Patient-{number}.json").write_text(patient.model_dump_json())
        (output / f"ImagingStudy-{number}.json").write_text(study.model_dump_json())


main()
