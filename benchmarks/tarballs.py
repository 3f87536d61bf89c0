"""A million instances without a million files: tars of small objects, 50,000 in each."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.corpora import Place

__all__ = ["tiny_tar"]

SERIES = 500
A_TAR = 50_000


def tiny_tar(folder: Path, count: int, instance: Callable[[Place, str], bytes]) -> Path:
    """Folder of tars with so many instances, in series of 500, two series a study."""
    done = folder / ".whole"
    if done.exists():
        return folder / "files"
    (folder / "files").mkdir(parents=True, exist_ok=True)
    archive = None
    template, spots = b"", []
    for index in range(count):
        if index % A_TAR == 0:
            if archive is not None:
                archive.close()
            archive = tarfile.open(folder / "files" / f"{index // A_TAR:03d}.tar", "w")
        series, number = divmod(index, SERIES)
        place = Place(1000 + series // 2, 1 + series % 2, 100 + number)
        if number == 0:
            template = instance(place, "small")
            uid = f".{place.study}.{place.series}.{place.number}".encode()
            spots = [match.start() for match in re.finditer(re.escape(uid), template)]
        data = bytearray(template)
        for spot in spots:  # the same length of number throughout, so that the lengths hold
            end = spot + len(f".{place.study}.{place.series}.")
            data[end : end + 3] = str(place.number).encode()
        info = tarfile.TarInfo(f"{series:06d}/{number:04d}.dcm")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(bytes(data)))
    archive.close()
    done.touch()
    return folder / "files"
