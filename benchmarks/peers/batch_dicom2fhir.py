"""dicom2fhir, once a study: ImagingStudy, Patient, Device, Observation in one bundle.

Usage: batch_dicom2fhir.py FOLDER OUTPUT
"""

import asyncio
import logging
import sys
from pathlib import Path

from dicom2fhir.dicom2fhir import from_directory


def main():
    logging.disable()
    folder, output = Path(sys.argv[1]), Path(sys.argv[2])
    output.mkdir(parents=True)
    for number, study in enumerate(sorted(folder.iterdir())):
        bundle = asyncio.run(from_directory(study, {"dicom_timezone": "UTC"}))
        (output / f"{number}.json").write_text(bundle.model_dump_json())


main()
