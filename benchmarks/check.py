"""What the check of a run costs: ``python -m benchmarks.check``.

Times are the best of several rounds; the ratio to `orjson.dumps` of the same resource holds on any machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import orjson

from converter.fhir.claims import claims
from converter.fhir.shipped import shipped_checker

if TYPE_CHECKING:
    from collections.abc import Callable

DCM = "http://dicom.nema.org/resources/ontology/DCM"
CT = "urn:oid:1.2.840.10008.5.1.4.1.1.2"
ROOT = "1.2.826.0.1.3680043.10.1500"
MANY = 10_000
INSTANCE_LIMIT = 1.0
STUDY_LIMIT = 50.0


def study(instances: int) -> dict[str, Any]:
    """A CT study with one series, as a run makes it."""
    return {
        "resourceType": "ImagingStudy",
        "id": "6b5b7f0e-1b1c-5d52-8d2e-0d9b5f7f5a01",
        "text": {
            "status": "generated",
            "div": '<div xmlns="http://www.w3.org/1999/xhtml">CT, 1 series</div>',
        },
        "identifier": [
            {
                "use": "official",
                "type": {
                    "coding": [{"system": DCM, "code": "110180", "display": "Study Instance UID"}]
                },
                "system": "urn:dicom:uid",
                "value": f"urn:oid:{ROOT}.1",
            },
            {
                "type": {
                    "coding": [
                        {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}
                    ]
                },
                "system": "http://hospital.example/accession",
                "value": "A1",
            },
        ],
        "status": "available",
        "modality": [{"system": DCM, "code": "CT", "display": "Computed Tomography"}],
        "subject": {"reference": "Patient/p1", "type": "Patient"},
        "started": "2023-01-24T09:01:20+00:00",
        "referrer": {"type": "Practitioner", "display": "Referrer"},
        "numberOfSeries": 1,
        "numberOfInstances": instances,
        "description": "CT Chest",
        "series": [
            {
                "uid": f"{ROOT}.2",
                "number": 1,
                "modality": {"system": DCM, "code": "CT", "display": "Computed Tomography"},
                "description": "Axial",
                "numberOfInstances": instances,
                "bodySite": {"system": "http://snomed.info/sct", "code": "816094009"},
                "started": "2023-01-24T09:05:00+00:00",
                "instance": [
                    {
                        "uid": f"{ROOT}.3.{number}",
                        "sopClass": {"system": "urn:ietf:rfc:3986", "code": CT},
                        "number": number,
                        "title": "ORIGINAL\\PRIMARY\\AXIAL",
                    }
                    for number in range(1, instances + 1)
                ],
            }
        ],
    }


def best(action: Callable[[], object], times: int, rounds: int) -> float:
    """Microseconds of one call, in the best round."""
    found = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(times):
            action()
        found = min(found, (time.perf_counter() - start) / times)
    return found * 1e6


def main() -> int:
    """Measure and print; 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    checker = shipped_checker()
    profiles = [checker.profiles["uk-core"], checker.profiles["ips"]]
    one, many = study(1), study(MANY)

    def whole(resource: dict[str, Any]) -> None:
        issues = checker.check(resource, trusted_uids=True)
        for profile in profiles:
            issues += checker.check_profile(resource, profile.name)
        assert not issues

    canonicals, issues = claims(one, None, checker, profiles[:1])
    assert (len(canonicals), issues) == (1, [])
    small = best(lambda: whole(one), 200, arguments.rounds)
    large = best(lambda: whole(many), 1, arguments.rounds) / MANY
    result = {
        "one_image_study_us": round(small, 1),
        "one_image_study_to_orjson": round(
            small / best(lambda: orjson.dumps(one), 1000, arguments.rounds), 1
        ),
        "instance_of_10000_us": round(large, 3),
        "instance_to_orjson": round(
            large / (best(lambda: orjson.dumps(many), 1, arguments.rounds) / MANY), 1
        ),
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        print(
            f"one-image study, check and uk-core and ips: {result['one_image_study_us']} us", end=""
        )
        print(
            f" (limit {STUDY_LIMIT:.0f}; {result['one_image_study_to_orjson']} times orjson.dumps)"
        )
        print(
            f"an instance of {MANY}:                        {result['instance_of_10000_us']} us",
            end="",
        )
        print(f" (limit {INSTANCE_LIMIT:.0f}; {result['instance_to_orjson']} times orjson.dumps)")
    return int(small > STUDY_LIMIT or large > INSTANCE_LIMIT)


if __name__ == "__main__":
    sys.exit(main())
