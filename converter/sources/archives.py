"""Archives, opened without unpacking to disk: zip, tar, compressed tar, one compressed file.

What an archive is, its content says; the name is a hint of where looking is worth it. Nothing is
trusted: sizes that are declared, names (they are only names), the end of the archive.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from converter.core.header import Unreadable
from converter.sources.task import is_remote, legible, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

__all__ = [
    "BROKEN",
    "BoundedStream",
    "InflateLimitError",
    "Member",
    "count",
    "hinted",
    "is_document",
    "members",
    "sniff",
    "sniff_bytes",
    "words",
]

MEMBER_LIMIT = 256 << 20
"""Bytes of one member that are inflated at most: headers end long before."""
ARCHIVE_LIMIT = 1 << 30
ARCHIVE_RATIO = 100
"""A compressed tar may inflate to `ARCHIVE_LIMIT` and this many times its size."""
RECORD_LIMIT = 1 << 20
"""Bytes of zeros behind the end of a tar that are looked through: twenty blocks are usual."""

_HINTS = (".zip", ".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".gz", ".bz2", ".xz")
_DOCUMENTS = frozenset(
    {".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp", ".jar", ".epub", ".apk", ".whl", ".npz"}
)
"""Zip files by format that nobody means as an archive."""

BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    ValueError,
)
"""What the standard library raises for damaged or unknown archive content (beside OSError)."""


def words(error: Exception) -> str:
    """Say what the system or the library says of damage, up to where it quotes: names may be a patient's."""
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    known = isinstance(error, BROKEN) and not isinstance(error, ValueError)
    said = re.split(r" for file |['\"\n]", str(error))[0].strip() if known else ""
    return said or type(error).__name__


class InflateLimitError(Exception):
    """Compressed data inflates beyond the limit."""


class Member(NamedTuple):
    """One member of an archive."""

    name: str
    size: int
    """Declared size; -1 where it is not."""
    open: Callable[[], AbstractContextManager[BoundedStream]]


def hinted(name: str) -> bool:
    """Whether the name looks like an archive's."""
    return name.lower().endswith(_HINTS)


def is_document(name: str) -> bool:
    """Whether the name is of a document format that is a zip file underneath."""
    return os.path.splitext(name)[1].lower() in _DOCUMENTS


def sniff_bytes(start: bytes) -> str:
    """Kind of archive that begins so: ``zip``, ``tar``, ``gz``, ``bz2``, ``xz`` or empty."""
    if start[:4] in {b"PK\3\4", b"PK\5\6", b"PK\7\x08"}:
        return "zip"
    if start[:3] == b"\x1f\x8b\x08":
        return "gz"
    if start[:3] == b"BZh" and start[4:10] in {b"1AY&SY", b"\x17rE8P\x90"}:
        return "bz2"
    if start[:6] == b"\xfd7zXZ\0":
        return "xz"
    return "tar" if _is_tar(start) else ""


def _is_tar(start: bytes) -> bool:
    """Old tar has no magic but a checksum of its first header (POSIX pax, ``chksum``)."""
    if len(start) < 512 or not start[0]:
        return False
    try:
        stated = int(start[148:156].rstrip(b" \0") or b"x", 8)
    except ValueError:
        return False
    return stated == sum(start[:148]) + 8 * 0x20 + sum(start[156:512])


def sniff(path: str) -> str:
    """Kind of archive that a file is, or empty; what cannot be opened is none (reading it tells)."""
    if is_document(path):
        return ""
    try:
        with _open(path) as file:
            return sniff_bytes(file.read(512))
    except OSError:
        return ""


def _open(path: str) -> BinaryIO:
    if is_remote(path):
        from converter.sources.ranges import RangeFile

        return cast("BinaryIO", RangeFile(path))
    return open(path, "rb", opener=_descriptor)


def _descriptor(path: str, flags: int) -> int:
    """Open a regular file, and wait for nobody where a pipe took its place."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return descriptor


def count(path: str) -> int | None:
    """Number of members where the archive has a directory (zip), else ``None``."""
    if sniff(path) != "zip":
        return None
    try:
        with _open(path) as file, zipfile.ZipFile(file) as archive:
            return len(archive.infolist())
    except (*BROKEN, OSError):
        return None  # reading it tells


class BoundedStream(io.RawIOBase):
    """A member's bytes up to a limit, with the first bytes kept for a look.

    Winding is offered only where going back does not mean to inflate everything before it again.
    """

    def __init__(self, raw: BinaryIO, limit: int = 0, *, rewind: bool = False) -> None:
        self._raw = raw
        self._rewind = rewind
        self._limit = limit or MEMBER_LIMIT
        self._at = 0
        self.head = self._fill(512)
        """The first bytes, up to 512."""

    def _fill(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0 and (data := self._raw.read(size)):
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def close(self) -> None:
        """Close the member as well."""
        self._raw.close()
        super().close()

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say whether winding is offered."""
        return self._rewind

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Wind to an offset from the start; forward by reading, so that the limit holds."""
        if whence or not self._rewind:
            raise io.UnsupportedOperation
        if offset < self._at:
            self._raw.seek(0)
            self.head = self._fill(512)
            self._at = 0
        while self._at < offset and self.read(min(offset - self._at, 1 << 16)):
            pass
        return self._at

    def tell(self) -> int:
        """Offset of the next byte."""
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on, as a file does; beyond the limit is an error, never a short read."""
        if size is None or size < 0:
            size = self._limit - self._at + 1
        if self._at + size > self._limit + 1:
            size = self._limit + 1 - self._at
        data = self.head[self._at : self._at + size]
        if len(data) < size:
            data += self._fill(size - len(data))
        self._at += len(data)
        if self._at > self._limit:
            raise InflateLimitError
        return data

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer; see `read`."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def members(
    path: str, first: int = 0, last: int | None = None
) -> Iterator[Member | tuple[str, Unreadable]]:
    """Members of an archive in their order, and (name, reason) for those that cannot be opened.

    An empty name stands for the archive itself. A member must be read before the next is asked for.

    Parameters
    ----------
    path : str
    first, last : int
        Range of members, of an archive that has a directory.
    """
    kind = sniff(path)
    try:
        if kind == "zip":
            yield from _zip(path, first, last)
        elif kind == "tar":
            with _open(path) as file:
                yield from _tar(file, rewind=True)
        else:
            yield from _compressed(path, kind)
    except InflateLimitError:
        yield "", Unreadable("inflate-limit", "The archive inflates beyond the limit.")
    except (*BROKEN, OSError) as error:
        yield (
            "",
            Unreadable("unreadable-archive", f"The archive breaks off ({words(error)})."),
        )


def _zip(path: str, first: int, last: int | None) -> Iterator[Member | tuple[str, Unreadable]]:
    with _open(path) as file, _directory(file) as archive:
        for info in archive.infolist()[first:last]:
            name = legible(info.filename)
            if info.is_dir():
                continue
            if info.flag_bits & 0x41:  # encrypted, strongly encrypted: APPNOTE 4.4.4
                yield name, Unreadable("encrypted-member")
            elif (info.external_attr >> 16) & 0o170000 == 0o120000:
                yield name, Unreadable("symbolic-link")
            else:
                yield Member(name, info.file_size, _opener(archive, info))


def _directory(file: BinaryIO) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except zipfile.BadZipFile as error:
        if isinstance(error.__context__, OSError):  # not read, and called no zip file
            raise error.__context__ from None
        raise


def _opener(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo
) -> Callable[[], AbstractContextManager[BoundedStream]]:
    return lambda: BoundedStream(cast("BinaryIO", archive.open(info)), rewind=True)


def _compressed(path: str, kind: str) -> Iterator[Member | tuple[str, Unreadable]]:
    with _open(path) as file:
        limit = ARCHIVE_LIMIT + ARCHIVE_RATIO * file.seek(0, os.SEEK_END)
        file.seek(0)  # before anything inflates: what does would read on from wherever this stands
        with _inflating(file, kind) as opened:
            tar = _is_tar(opened.read(512))
            opened.seek(0)
            if tar:
                yield from _tar(_Limited(opened, limit))
                return
            # One compressed file: an archive of one member, with the name that is left.
            name = os.path.splitext(os.path.basename(printable(path)))[0]
            yield Member(name, -1, lambda: BoundedStream(opened))


def _inflating(file: BinaryIO, kind: str) -> BinaryIO:
    if kind == "gz":
        return cast("BinaryIO", gzip.GzipFile(fileobj=file))
    if kind == "bz2":
        return cast("BinaryIO", bz2.BZ2File(file))
    return cast("BinaryIO", lzma.LZMAFile(file))


class _Limited:
    """A decompressing file that refuses to be read beyond a limit (a bomb costs time, not memory)."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file = file
        self._limit = limit

    def read(self, size: int = -1, /) -> bytes:
        self._check(self._file.tell() + max(size, 0))
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._check(offset)
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def _check(self, offset: int) -> None:
        if offset > self._limit:
            raise InflateLimitError


def _tar(
    file: BinaryIO | _Limited, *, rewind: bool = False
) -> Iterator[Member | tuple[str, Unreadable]]:
    with tarfile.open(fileobj=cast("BinaryIO", file), mode="r:", encoding="utf-8") as archive:
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # else memory grows with the archive
            name = legible(info.name)
            if info.isdir():
                continue
            if info.isreg():
                yield Member(name, info.size, _tar_opener(archive, info, rewind))
            elif info.issym() or info.islnk():
                yield name, Unreadable("symbolic-link", "A link to another file.")
            else:
                yield name, Unreadable("special-file")
        # tarfile ends quietly at a damaged header; only a block of zeros is the end (POSIX pax).
        file.seek(archive.offset)
        block = file.read(512)
        if block.strip(b"\0") or len(block) < 512:
            why = "The archive has no end mark; members may be missing."
            yield "", Unreadable("unreadable-archive", why)
        elif _another_follows(file):
            why = "Another archive follows behind its end; take them apart."
            yield "", Unreadable("unreadable-archive", why)


def _another_follows(file: BinaryIO | _Limited) -> bool:
    """Whether ``cat`` put a second archive behind the zeros that fill the last record of this one."""
    try:
        for _ in range(RECORD_LIMIT // 512):
            block = file.read(512)
            if block.strip(b"\0") or not block:
                return _is_tar(block)
    except (*BROKEN, OSError):  # what is no part of the archive, such as a signature
        return False
    return False


def _tar_opener(
    archive: tarfile.TarFile, info: tarfile.TarInfo, rewind: bool
) -> Callable[[], AbstractContextManager[BoundedStream]]:
    return lambda: BoundedStream(cast("BinaryIO", archive.extractfile(info)), rewind=rewind)
