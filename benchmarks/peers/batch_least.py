"""The least that a program in Python does which writes two files a study: no DICOM, no FHIR, no check.

Usage: batch_least.py FOLDER OUTPUT
"""

import os
import sys
from pathlib import Path

STUDY, PATIENT = b"s" * 4096, b"p" * 1024


def write(folder, name, data):
    temporary = f"{folder}/.tmp"
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, data)
    os.close(descriptor)
    os.replace(temporary, f"{folder}/{name}.json")


def main():
    folder, output = sys.argv[1], Path(sys.argv[2])
    for kind in ("Patient", "ImagingStudy"):
        (output / kind).mkdir(parents=True)
    number = 0
    for place, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(f"{place}/{name}", os.O_RDONLY)
            os.read(descriptor, 8192)
            os.close(descriptor)
            write(f"{output}/Patient", number, PATIENT)
            write(f"{output}/ImagingStudy", number, STUDY)
            number += 1


main()
