"""A file, a stream or bytes in, one instance or the reason why not out."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from converter.core.header import (
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    Header,
    Unreadable,
    Wanted,
)
from converter.reading.cursor import Cursor
from converter.reading.fallback import read_with_pydicom
from converter.reading.identify import identify
from converter.reading.layout import BEGIN
from converter.reading.result import DEFAULT, HandOver, Limits, Read, Refused
from converter.reading.source import Bytes, Descriptor, Inflated, Pipe, Seekable, Source
from converter.reading.start import read_start
from converter.reading.trace import Followed, Follower
from converter.reading.walk import ROWS, Plan, plan, walk

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["Opened", "open_file", "read_bytes", "read_file", "read_stream"]

_PERHAPS_NOT_DICOM = frozenset({"truncated-header", "malformed", "header-limit", "too-deep"})
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class Opened(NamedTuple):
    """A file that was opened ahead of reading it."""

    descriptor: int
    """Closed by who reads it."""
    status: os.stat_result
    head: bytes
    """First bytes."""


def open_file(path: str, limits: Limits = DEFAULT) -> Opened | None:
    """Open a file ahead of reading it; nothing where that is better left to who reads it.

    Parameters
    ----------
    path : str
    limits : Limits
        Those that it will be read with.
    """
    descriptor = -1
    try:
        # whatever it is, opening it waits for nobody
        descriptor = os.open(path, _FLAGS | getattr(os, "O_NONBLOCK", 0))
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            return Opened(descriptor, status, os.pread(descriptor, limits.first, 0))
    except OSError:
        pass  # reading it tells
    if descriptor >= 0:
        os.close(descriptor)
    return None


def read_file(
    path: str | os.PathLike[str],
    wanted: Wanted,
    *,
    ignore_changed: bool = False,
    limits: Limits = DEFAULT,
    opened: Opened | None = None,
) -> Read | Unreadable:
    """Read the wanted attributes of one file.

    Parameters
    ----------
    path : path
        Of a regular file.
    wanted : Wanted
        Must not change between calls: what is learned about it is kept. The identifying UIDs and the
        character sets are always read.
    ignore_changed : bool
        Do not ask whether the file changed while it was read.
    limits : Limits
    opened : Opened, optional
        The file, where it was opened ahead; it is closed.

    Returns
    -------
    Read or Unreadable
        Nothing is raised for what is wrong with a file.
    """
    try:
        descriptor = os.open(path, _FLAGS) if opened is None else opened.descriptor
    except PermissionError:
        return Unreadable("permission-denied")
    except OSError as error:
        return Unreadable("read-error", _words(error))
    try:
        before = os.fstat(descriptor) if opened is None else opened.status
        source = Descriptor(descriptor, before.st_size)
        head = os.pread(descriptor, limits.first, 0) if opened is None else opened.head
        if len(head) < limits.first and len(head) < before.st_size:
            head = source.read(0, limits.first)  # interrupted
        result = _read(source, head, wanted, limits)
        if not ignore_changed:
            after = os.fstat(descriptor)
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                return Unreadable("changed-while-reading")
    except OSError as error:
        return Unreadable("read-error", _words(error))
    else:
        return result
    finally:
        os.close(descriptor)


def read_stream(
    stream: BinaryIO, size: int | None, wanted: Wanted, *, limits: Limits = DEFAULT
) -> Read | Unreadable:
    """Read the wanted attributes of an object in a stream, such as a member of an archive.

    Parameters
    ----------
    stream : binary file
        At the first byte of the object. What is not needed is not read, where the stream can seek.
    size : int or None
        Size of the object, where it is known.
    wanted, limits
        As in `read_file`.

    Raises
    ------
    Exception
        Whatever the stream itself raises, since only its owner knows what that means.
    """
    if stream.seekable() and stream.tell() == 0:
        return _read_source(Seekable(stream, size), wanted, limits)
    return _read_source(Pipe(stream, size, limits.header), wanted, limits)


def read_bytes(data: bytes, wanted: Wanted, *, limits: Limits = DEFAULT) -> Read | Unreadable:
    """Read the wanted attributes of an object in memory; as `read_file`."""
    return _read_source(Bytes(data), wanted, limits)


def _words(error: OSError) -> str:
    """Say what the system says, without the path, which may name a patient."""
    return os.strerror(error.errno) if error.errno else type(error).__name__


def _read_source(source: Source, wanted: Wanted, limits: Limits) -> Read | Unreadable:
    return _read(source, source.read(0, limits.first), wanted, limits)


def _read(source: Source, head: bytes, wanted: Wanted, limits: Limits) -> Read | Unreadable:
    what = plan(wanted)
    header: Header = {}
    findings: dict[str, None] = {}
    try:
        follower = None
        if limits.wide:
            follower = what.follower or _follower(what)
        followed = follower.follow(source, head, header, limits) if follower else None
        if followed is None:
            followed = _walk(source, head, what, limits, header, findings, follower)
        if isinstance(followed, Read):
            return followed
        if followed is None:
            pass
        elif followed.cursor is not None:
            _walk_on(followed.cursor, followed.tag, what, header, findings)
        elif followed.truncated:
            findings["truncated"] = None
    except Refused as refused:
        if refused.reason in _PERHAPS_NOT_DICOM and _never_was(head, header):
            return Unreadable("not-dicom")
        return Unreadable(refused.reason, refused.detail)
    if not what.keeps_rows:
        header.pop(ROWS, None)
    result = identify(header, findings)
    if isinstance(result, Unreadable) and _never_was(head, header):
        return Unreadable("not-dicom")
    return result


def _follower(what: Plan) -> Follower:
    follower = what.follower = Follower(what)
    return follower


def _walk(
    source: Source,
    head: bytes,
    what: Plan,
    limits: Limits,
    header: Header,
    findings: dict[str, None],
    follower: Follower | None,
) -> Followed | Read | None:
    """Walk all; where the data set is deflated it may be that it follows a trace, and then give where that led."""
    cursor = Cursor(source, head, limits)
    cursor.findings = findings
    begin = BEGIN
    try:
        if read_start(cursor):
            begin, at = 0, cursor.offset
            source = Inflated(source, at, limits.inflate, head[at:])
            head = source.read(0, limits.first)
            if follower is not None and not findings:
                followed = follower.follow(source, head, header, limits, begin)
                if followed is not None:
                    return followed
            cursor = Cursor(source, head, limits)
            cursor.findings = findings
        walk(cursor, what, header)
    except HandOver as signal:
        _hand_over(source, signal, what, limits, header, findings)
    else:
        if follower is not None and not findings:
            follower.missed(head, header, begin)
    return None


def _walk_on(
    cursor: Cursor, previous: int, what: Plan, header: Header, findings: dict[str, None]
) -> None:
    """Walk from where a trace ends."""
    cursor.findings = findings
    try:
        walk(cursor, what, header, previous)
    except HandOver as signal:
        _hand_over(cursor.source, signal, what, cursor.limits, header, findings)


def _hand_over(
    source: Source,
    signal: HandOver,
    what: Plan,
    limits: Limits,
    header: Header,
    findings: dict[str, None],
) -> None:
    header.clear()
    if signal.finding:
        findings[signal.finding] = None
    inflated = isinstance(source, Inflated)
    read_with_pydicom(source.restart(), what, limits, header, findings, inflated=inflated)


def _never_was(head: bytes, header: Header) -> bool:
    """Tell whether a file without preamble that gave no identity was taken for DICOM by chance."""
    if STUDY_INSTANCE_UID in header or SOP_CLASS_UID in header or SOP_INSTANCE_UID in header:
        return False
    # ACR-NEMA begins with the length of group 0008, file meta information with that of group 0002
    return head[128:132] != b"DICM" and head[:4] not in {b"\x08\0\0\0", b"\x02\0\0\0"}
