"""Write the DICOM files of ``testdata/dicom`` from their declarations.

``testdata/dicom/NAME.toml`` becomes ``testdata/dicom/NAME/``; what stands there is replaced. The same
declaration gives the same bytes, and a test compares the two::

    python -m tools.make_testdata
"""

from __future__ import annotations

import shutil
import tomllib
from pathlib import Path

from tools.dicom_writer import write

TESTDATA = Path(__file__).resolve().parent.parent / "testdata" / "dicom"


def make(target: Path) -> list[Path]:
    """Write every declared folder below `target`, and give the paths of the files."""
    paths: list[Path] = []
    for declared in sorted(TESTDATA.glob("*.toml")):
        folder = target / declared.stem
        if folder.is_dir():
            shutil.rmtree(folder)
        paths += write(tomllib.loads(declared.read_text("utf-8")), folder)
    return paths


if __name__ == "__main__":
    made = make(TESTDATA)
    print(f"{len(made)} files, {sum(path.stat().st_size for path in made)} bytes")
