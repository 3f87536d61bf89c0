"""Studies a second into a stub server, and memory while it goes on.

``python benchmarks/delivery.py [STUDIES] [INSTANCES]``: a state is filled with converted studies (one Patient for
five of them), then drained by the real sender with the real check. The stub is a process of its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from converter.cli.delivering import Destinations  # noqa: E402
from converter.core.ids import patient_id, study_id  # noqa: E402
from converter.settings import Config, DestinationSettings  # noqa: E402
from converter.store import Converted, open_kept  # noqa: E402

SYSTEM = "https://hospital.example/mrn"
CT = {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"}
SOP = {"system": "urn:ietf:rfc:3986", "code": "urn:oid:1.2.840.10008.5.1.4.1.1.2"}


def patient(number):
    return {
        "resourceType": "Patient",
        "id": patient_id(SYSTEM, str(number), ""),
        "identifier": [{"system": SYSTEM, "value": str(number)}],
        "name": [{"family": f"F{number}", "given": ["G"]}],
        "birthDate": "1970-01-01",
    }


def study(number, instances):
    uid = f"1.2.826.0.1.{number}"
    person = patient(number // 5)
    listed = [
        {"uid": f"{uid}.1.{n}", "sopClass": SOP, "number": n} for n in range(1, instances + 1)
    ]
    return uid, person, {
        "resourceType": "ImagingStudy",
        "id": study_id(uid),
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        "status": "available",
        "modality": [CT],
        "subject": {
            "reference": f"Patient/{person['id']}",
            "type": "Patient",
            "identifier": {"system": SYSTEM, "value": str(number // 5)},
        },
        "started": "2024-07-04",
        "numberOfSeries": 1,
        "numberOfInstances": instances,
        "series": [
            {"uid": f"{uid}.1", "number": 1, "modality": CT, "numberOfInstances": instances, "instance": listed}
        ],
    }  # fmt: skip


def filled(path, studies, instances, config):
    from converter.cli.rules import options_of, rules_of
    from converter.delivery.rendering import fingerprint_of

    store = open_kept(path)
    store.begin_converting(fingerprint_of(rules_of(config), options_of(config.convert)))
    uids = []
    for first in range(0, studies, 100):
        made = []
        for number in range(first, min(first + 100, studies)):
            uid, person, body = study(number, instances)
            uids.append(uid)
            named = [("Patient", person["id"], orjson.dumps(person))]
            made.append(
                Converted(uid, "converted", orjson.dumps(body), [], [], 1, instances, named, [])
            )
        store.save(made)
    return store, uids


def rss():
    """Resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main(studies=1000, instances=40):
    stub = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "servers" / "stub.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    base = stub.stdout.readline().strip()
    config = Config()
    with tempfile.TemporaryDirectory() as folder:
        store, uids = filled(Path(folder) / "state.db", studies, instances, config)
        store.outbox.enqueue([base], time.time(), uids)
        destinations = Destinations({base: config}, {base: DestinationSettings(url=base)})
        memory = []

        def settled(_row, _delivery):
            if not len(memory) % 100:
                memory.append(rss())
            else:
                memory.append(memory[-1])

        sender = destinations.sender(store, settled)
        before = time.perf_counter()
        cpu = time.process_time()
        tally = sender.run()
        took = time.perf_counter() - before
        cpu = time.process_time() - cpu
        assert tally.delivered == studies, tally
        destinations.close()
        store.close()
    told, _ = stub.communicate()
    counts = json.loads(told)
    assert counts["studies"] == studies, counts
    print(
        f"{studies} studies of {instances} instances in {took:.2f} s: {studies / took:.0f} studies/s"
    )
    print(f"{counts['requests']} requests, {counts['requests'] / took:.0f}/s, over {counts['connections']} connections; this process used {100 * cpu / took:.0f} % of a core")  # fmt: skip
    tenth = max(1, studies // 10)
    print(f"memory: {memory[tenth]:.0f} MiB after a tenth, {memory[-1]:.0f} MiB at the end")
    return studies / took, memory[-1] - memory[tenth]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
