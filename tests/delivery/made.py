"""Studies and patients as the engine makes them, small, and a sender over them."""

from __future__ import annotations

from converter.core.ids import patient_id, study_id
from converter.delivery.client import FhirClient
from converter.delivery.job import Job, Policy
from converter.delivery.study import deliver
from converter.settings import DestinationSettings
from converter.store.outbox import Row

SYSTEM = "https://hospital.example/mrn"
ACCESSIONS = "https://hospital.example/accession"


def client(base, **settings):
    more = {name: settings.pop(name) for name in ("timeout", "connections") if name in settings}
    return FhirClient("there", DestinationSettings(url=base, **settings), **more)


def patient(number="7", system=SYSTEM, **more):
    return {
        "resourceType": "Patient",
        "id": patient_id(system, number, "1.2.3"),
        "identifier": [{**({"system": system} if system else {}), "value": number}],
        "name": [{"family": "Canary", "given": ["Robin"]}],
        "birthDate": "1970-01-01",
        "gender": "female",
        **more,
    }


def series(number, *instances, **more):
    return {
        "uid": f"1.2.3.{number}",
        "number": number,
        "modality": {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"},
        "numberOfInstances": len(instances),
        "instance": [
            {
                "uid": f"1.2.3.{number}.{n}",
                "sopClass": {
                    "system": "urn:ietf:rfc:3986",
                    "code": "urn:oid:1.2.840.10008.5.1.4.1.1.2",
                },
                "number": n,
            }
            for n in instances
        ],
        **more,
    }


def study(*listed, uid="1.2.3", subject=None, **more):
    listed = listed or (series(1, 1, 2),)
    return {
        "resourceType": "ImagingStudy",
        "id": study_id(uid),
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        "status": "available",
        "subject": subject
        or {
            "reference": f"Patient/{patient()['id']}",
            "type": "Patient",
            "identifier": {"system": SYSTEM, "value": "7"},
        },
        "modality": [{"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"}],
        "numberOfSeries": len(listed),
        "numberOfInstances": sum(item["numberOfInstances"] for item in listed),
        "series": list(listed),
        **more,
    }


def row(uid="1.2.3", **more):
    held = {
        "wanted": 1, "delivered": 0, "attempts": 0, "server_id": "", "etag": "", "digest": "",
        "written": {}, "uncertain": False, "token": "t",
    }  # fmt: skip
    return Row(uid, "there", **{**held, **more})


def send(base, resource=None, companions=None, *, policy=None, held=None, **job):
    """Deliver one study; ``held`` is the delivery before, whose memory goes on."""
    made = resource or study()
    memory = {}
    if held is not None:
        memory = {
            "server_id": held.server_id,
            "etag": held.etag,
            "digest": held.digest,
            "written": held.written,
            "uncertain": held.uncertain,
            "delivered": int(held.state == "delivered"),
        }
        job.setdefault("server_ids", held.server_ids)
        job.setdefault("known", {k: v for k, v in held.learnt.items() if v})
    given = [patient()] if companions is None else companions
    speaker = client(base) if isinstance(base, str) else base
    try:
        return deliver(speaker, policy or Policy(), Job(row(**memory), made, given, **job))
    finally:
        if isinstance(base, str):
            speaker.close()


def instances(resource):
    return sorted(i["uid"] for s in resource.get("series", []) for i in s.get("instance", []))
