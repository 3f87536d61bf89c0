"""Builds the judge once and asks it about many files at a time."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converter.fhir.definitions import load_tables
from converter.fhir.terminology import CID29, DCM

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
SOURCES = (HERE / "pom.xml", *(HERE / "src").rglob("*.java"))
CLASSPATH = HERE / "target" / "classpath.txt"
CLASSES = HERE / "target" / "classes"


@dataclass(frozen=True)
class Message:
    severity: str
    place: str
    text: str

    @property
    def error(self) -> bool:
        return self.severity in {"error", "fatal"}


def build() -> None:
    """Compile the harness unless that was done since its sources changed."""
    if CLASSPATH.exists() and CLASSES.exists():
        made = CLASSPATH.stat().st_mtime
        if all(path.stat().st_mtime <= made for path in SOURCES):
            return
    subprocess.run(["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "compile"], check=True)


def definitions(folder: Path) -> Path:
    """Lay out the definitions that the judge gets beside R4's own."""
    shutil.copytree(HERE / "definitions", folder)
    tables = load_tables()
    acquisition = [
        code for code, row in tables["modality"].rows.items() if row["acquisition"] == "yes"
    ]
    system = {
        "resourceType": "CodeSystem",
        "id": "dcm",
        "url": DCM,
        "name": "DCM",
        "status": "active",
        "content": "complete",
        "caseSensitive": True,
        "concept": [{"code": code} for code in tables["dcm"].rows],
    }
    values = {
        "resourceType": "ValueSet",
        "id": "cid-29",
        "url": CID29,
        "name": "CID29",
        "status": "active",
        "compose": {
            "include": [{"system": DCM, "concept": [{"code": code} for code in acquisition]}]
        },
    }
    for resource in (system, values):
        (folder / f"{resource['id']}.json").write_text(json.dumps(resource))
    return folder


def judge(paths: Sequence[Path], work: Path) -> list[list[Message]]:
    """Ask the judge about files.

    Parameters
    ----------
    paths : sequence of Path
    work : Path
        Folder that does not exist yet.

    Returns
    -------
    list of list of Message
        One list a file, in their order.
    """
    build()
    given = definitions(work)
    answer = subprocess.run(
        [
            "java",
            "-XX:+UseSerialGC",
            "-Xss4m",
            "-cp",
            f"{CLASSES}:{CLASSPATH.read_text()}",
            "judge.Judge",
            str(given),
        ],
        input="".join(f"{path}\n" for path in paths),
        capture_output=True,
        text=True,
        check=True,
    )
    blocks: list[list[Message]] = []
    current: list[Message] = []
    for line in answer.stdout.splitlines():
        if line:
            current.append(Message(*line.split("\t", 2)))
        else:
            blocks.append(current)
            current = []
    assert len(blocks) == len(paths), answer.stderr[-2000:]
    return blocks
