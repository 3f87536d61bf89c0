"""The header of an object as it stands: the bytes before its pixel data."""

from __future__ import annotations

from typing import Final

from converter.reading.cursor import Cursor
from converter.reading.elements import PIXELS
from converter.reading.encoding import SHORT, UNDEFINED
from converter.reading.result import HandOver, Limits, Refused
from converter.reading.source import Bytes, Inflated
from converter.reading.start import read_start

__all__ = ["header_bytes"]

_MOST: Final = 4096
_steps: Final[dict[tuple[bool, bool], dict[bytes, int]]] = {}
"""Of elements whose length stands in their first eight bytes: these, and their whole length."""


def header_bytes(content: bytes, limit: int, *, complete: bool) -> tuple[bytes, bool] | None:
    """Cut an object (a file, or preamble and transfer syntax before a data set) where its pixel data begin.

    Parameters
    ----------
    content : bytes
        The object or its beginning.
    limit : int
        Bytes that a deflated data set is inflated to.
    complete : bool
        It is all of the object.

    Returns
    -------
    (bytes, bool) or None
        Data set up to its pixel data or its end, and whether it was deflated (then it is explicit little endian);
        ``None`` where that is not all there, or cannot be told.
    """
    limits = Limits(header=limit, inflate=limit)
    try:
        cursor = Cursor(Bytes(content), content, limits)
        deflated = read_start(cursor)
        data = content[cursor.offset :]
        if deflated:
            data = Inflated(Bytes(content), cursor.offset, limit + 1).read(0, limit)
            complete = complete and len(data) < limit
        end = _end(data, limits, explicit=cursor.explicit, little=cursor.little, complete=complete)
    except (HandOver, Refused):
        return None
    return None if end is None else (data[:end], deflated)


def _end(
    data: bytes, limits: Limits, *, explicit: bool, little: bool, complete: bool
) -> int | None:
    cursor = Cursor(Bytes(data), data, limits)
    cursor.syntax(explicit=explicit, little=little)
    steps = _steps.setdefault((explicit, little), {})
    at, size = 0, len(data)
    while at + 8 <= size:
        head = data[at : at + 8]
        step = steps.get(head)
        if step is None:
            cursor.data, cursor.base, cursor.at = data, 0, at
            tag, vr, length = cursor.element()
            if tag in PIXELS:
                return at
            alone = length != UNDEFINED and (vr in SHORT or not explicit)
            cursor.ignore(vr, length, 0)
            step = cursor.offset - at
            if alone and len(steps) < _MOST:
                steps[head] = step
        at += step
    return size if complete and at == size else None
