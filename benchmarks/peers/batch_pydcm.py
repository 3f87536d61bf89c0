"""pydcm.fhir.imaging_study, once a study; as it wants a folder of each, the studies' folders are given.

Usage: batch_pydcm.py FOLDER OUTPUT
"""

import json
import sys
from pathlib import Path

from pydcm.fhir import imaging_study


def main():
    folder, output = Path(sys.argv[1]), Path(sys.argv[2])
    output.mkdir(parents=True)
    for number, study in enumerate(sorted(folder.iterdir())):
        made = imaging_study(study)
        (output / f"{number}.json").write_text(json.dumps(made))


main()
