"""A sender in a process of its own, so that what it measures is not its parent's: one association, real headers.

``python -m tests.reliability.sending PORT SENDER STUDIES INSTANCES`` stores each study's instances on one association,
one study after the other, and prints a line of JSON after each: its UID, the instances acknowledged, seconds of each answer.
"""

from __future__ import annotations

import json
import sys
import time

from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from tools.dicom_sender import EXPLICIT, Gone, Rejected, Sender

FILES = ("CT_small.dcm", "MR_small.dcm")
PIXELS = 4096
MOST = 100
"""Times that one instance is tried again."""


def uid(sender, study, number=None):
    """A UID of always the same length."""
    return f"2.999.37.{1000 + sender}.{100000 + study}.{100000 + (number or 0)}"


def data_sets():
    """(SOP class, data set in explicit little endian with the UIDs of `uid` for nought), of each file."""
    found = []
    for name in FILES:
        held = dcmread(str(get_testdata_file(name)))
        held.StudyInstanceUID = uid(0, 0, 0)
        held.SeriesInstanceUID = uid(0, 0, 1)
        held.SOPInstanceUID = uid(0, 0, 2)
        held.PatientID = "SOAK-00000-00000"
        held.PixelData = bytes(PIXELS)
        written = DicomBytesIO()
        written.is_implicit_VR, written.is_little_endian = False, True
        write_dataset(written, held)
        found.append((held.SOPClassUID, written.getvalue()))
    return found


def main(port, sender, studies, instances):
    kinds = data_sets()
    contexts = [(2 * n + 1, kind, (EXPLICIT,)) for n, (kind, _) in enumerate(kinds)]
    open_ = None
    again = 0
    for study in range(studies):
        which = study % len(kinds)
        kind, template = kinds[which]
        template = (
            template.replace(uid(0, 0, 0).encode(), uid(sender, study, 0).encode())
            .replace(uid(0, 0, 1).encode(), uid(sender, study, 1).encode())
            .replace(b"SOAK-00000-00000", b"SOAK-%05d-%05d" % (sender, study))
        )
        seconds = []
        for number in range(instances):
            name = uid(sender, study, number + 2)
            data = template.replace(uid(0, 0, 2).encode(), name.encode())
            for _ in range(MOST):
                try:
                    if open_ is None:
                        open_ = Sender(port, timeout=60).associate(contexts)
                    begin = time.perf_counter()
                    status = open_.store(data, name, kind, context=2 * which + 1).status
                except (Gone, Rejected, OSError):
                    open_, status = None, -1
                if status == 0:
                    seconds.append(round(time.perf_counter() - begin, 5))
                    break
                again += 1
                time.sleep(0.2)
            else:
                raise SystemExit(f"{name} was never taken")
        told = {"study": uid(sender, study, 0), "instances": instances, "seconds": seconds}
        sys.stdout.write(json.dumps({**told, "again": again}) + "\n")
        sys.stdout.flush()
    if open_ is not None:
        open_.release()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
