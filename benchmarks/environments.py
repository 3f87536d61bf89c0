"""An environment for each peer, so that nobody's pins stand in anybody's way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from shutil import which

__all__ = ["PEERS", "python_of"]

PEERS: dict[str, tuple[list[str], list[str]]] = {
    "pydicom": ([], []),
    "dicomsdl": (["dicomsdl==0.109.4"], []),
    "fw-file-rs": (["fw-file-rs==0.9.1"], []),
    "gdcm": (["python-gdcm==3.2.6", "pydicom>=3.0.2,<3.1"], []),
    "pydcm": (["pydcm==0.5.0"], ["python3.13", "python3.12"]),
    "dicom2fhir": (
        ["dicom2fhir==0.1.25", "fhir.resources==8.0.0", "pydantic<2.12", "annotated-types<0.8"],
        [],
    ),
}
"""Peer to what is installed, and the interpreters that it wants (ours where none is named)."""


def python_of(peer: str, folder: Path) -> tuple[str, str]:
    """Interpreter of a peer's environment, or nothing and why there is none."""
    packages, wanted = PEERS[peer]
    if not packages:
        return sys.executable, ""
    home = folder / "environments" / peer
    python = home / "bin" / "python"
    if (home / ".whole").exists():
        return str(python), ""
    for base in wanted or [sys.executable]:
        if which(base) is None:
            continue
        made = subprocess.run([base, "-m", "venv", "--clear", home], capture_output=True)
        if made.returncode:
            continue
        pip = [python, "-m", "pip", "install", "-q", *packages]
        if subprocess.run(pip, capture_output=True).returncode == 0:
            (home / ".whole").touch()
            return str(python), ""
    return "", f"{packages[0]} could not be installed" + (
        f" (it wants {' or '.join(wanted)})" if wanted else ""
    )
