"""pydicom, for whatever the fast reader does not take.

pydicom tells of values in its warnings, logs and exceptions: none of them leaves this module.
"""

from __future__ import annotations

import gc
import itertools
import logging
import threading
import warnings
from typing import TYPE_CHECKING, Any, Final

from converter.core.dictionary import keyword_of
from converter.core.header import SPECIFIC_CHARACTER_SET, Header, Wanted, pack_items
from converter.reading.elements import PER_FRAME, PIXELS
from converter.reading.encoding import UNDEFINED, little_endian
from converter.reading.result import Limits, Refused
from converter.reading.start import MEDIA_STORAGE_DIRECTORY
from converter.reading.walk import ROWS, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from converter.reading.source import Source

__all__ = ["read_with_pydicom"]

_WINDOW: Final = 65536
_BACK: Final = 16384
_QUIET: Final = threading.Lock()
"""Warning filters and loggers belong to the process."""
_MEDIA_STORAGE_SOP_CLASS_UID: Final = 0x00020002


class _File:
    """A source as the file that pydicom reads."""

    name = ""

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._at = 0
        self._window = b""
        self._base = 0
        self._left = limits.asked
        self.ended = False
        self.failure: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise Refused("header-limit")
        if size < 0 or size > self._limits.header:
            whole = self._source.size
            if whole is None or whole - self._at > self._limits.header:
                raise Refused("header-limit")
            size = max(0, whole - self._at) if size < 0 else size
        start = self._at - self._base
        if start < 0 or start + size > len(self._window):
            if start < 0:
                self._source = self._source.restart()
            # pydicom looks ahead and goes back a little: that stays in the window
            keep = (
                self._window[max(0, start - _BACK) : start]
                if 0 < start <= len(self._window)
                else b""
            )
            fresh = self._fetch(max(size, _WINDOW))
            self._window = keep + fresh
            self._base = self._at - len(keep)
            start = len(keep)
        data = self._window[start : start + size]
        self._at += len(data)
        self.ended |= len(data) < size
        return data

    def _fetch(self, size: int) -> bytes:
        try:
            return self._source.read(self._at, size)
        except Refused:
            raise
        except Exception as error:
            self.failure = error  # the stream's own: not for the boundary to judge
            raise

    def reaches(self, end: int) -> bool:
        """As `Source.reaches`."""
        try:
            return self._source.reaches(end)
        except Exception as error:
            self.failure = error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 2:
            raise Refused("malformed")
        self._at = offset + (self._at if whence else 0)
        return self._at

    def tell(self) -> int:
        return self._at


class _Last:
    """The last element that pydicom saw, to know whether the file goes on as far as it claims."""

    def __init__(self, file: _File, what: Plan) -> None:
        self._file = file
        self._what = what
        self.tag = 0
        self.end = 0
        self.stopped = False
        self.padded = False

    def __call__(self, tag: int, _vr: str | None, length: int) -> bool:
        if not tag and not length:
            self.padded = True
            return True
        self.tag = int(tag)
        self.end = 0 if length == UNDEFINED else self._file.tell() + length
        self.stopped = tag in PIXELS or tag == PER_FRAME
        return self.stopped


_SWEPT: Final = 500
"""Objects after which garbage is looked for: of some pydicom leaves circles, and others of ours look seldom."""
_read_so_far = itertools.count(1)


def read_with_pydicom(
    source: Source,
    what: Plan,
    limits: Limits,
    header: Header,
    findings: dict[str, None],
    *,
    inflated: bool,
) -> None:
    """Read what is wanted of an object with pydicom.

    Parameters
    ----------
    source : Source
        From its first byte; for a deflated object, from the first byte of the inflated data set.
    what : Plan
    limits : Limits
    header : Header
        Is filled.
    findings : dict
        Codes are added.
    inflated : bool
        The source is a data set in explicit VR little endian without file meta information.

    Raises
    ------
    Refused
    """
    with _QUIET, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger = logging.getLogger("pydicom")
        disabled, logger.disabled = logger.disabled, True
        file = _File(source, limits)
        try:
            _read(file, what, limits, header, findings, inflated=inflated)
        except Refused:
            raise
        except RecursionError:
            raise Refused("too-deep") from None
        except MemoryError:
            raise Refused("header-limit") from None
        except (
            Exception
        ) as error:  # the boundary: anything pydicom raises on bytes that it cannot read
            if file.failure is not None:
                raise
            if isinstance(error.__context__, RecursionError):  # met while it handled another error
                raise Refused("too-deep") from None
            raise Refused("truncated-header" if file.ended else "malformed") from None
        finally:
            logger.disabled = disabled
            if not next(_read_so_far) % _SWEPT:
                gc.collect(1)


def _read(
    file: _File,
    what: Plan,
    limits: Limits,
    header: Header,
    findings: dict[str, None],
    *,
    inflated: bool,
) -> None:
    from pydicom.filereader import read_dataset, read_partial

    last = _Last(file, what)
    tags: list[Any] = list(what.wanted)
    handle: Any = file
    if inflated:
        dataset: Any = read_dataset(handle, False, True, stop_when=last, specific_tags=tags)
    else:
        dataset = read_partial(handle, stop_when=last, force=True, specific_tags=tags)
        meta = dataset.file_meta.get_item(_MEDIA_STORAGE_SOP_CLASS_UID)
        if meta is not None and (meta.value or b"").strip(b" \0") == MEDIA_STORAGE_DIRECTORY:
            raise Refused("dicomdir")
    for tag, value in _values(dataset, what.wanted, findings, limits, 0):
        header[tag] = value
    if not last.tag or (file.ended and not len(dataset)):
        raise Refused("truncated-header")
    if last.padded:
        findings["zero-padding"] = None
    if not last.stopped and header.get(ROWS):
        findings["truncated"] = None
    if not file.reaches(last.end):
        if last.tag <= what.last and not last.stopped:
            raise Refused("truncated-header")
        findings["truncated"] = None


def _values(
    dataset: Any, wanted: Wanted, findings: dict[str, None], limits: Limits, depth: int
) -> Iterator[tuple[int, bytes]]:
    from pydicom.datadict import dictionary_VR
    from pydicom.dataelem import RawDataElement

    if depth > limits.depth:
        raise Refused("too-deep")
    for tag in sorted(wanted):
        if tag not in dataset:
            continue
        inner = wanted[tag]
        element = dataset.get_item(tag, keep_deferred=True)  # an empty value counts as deferred
        vr = element.VR
        if vr is None or vr == "UN":
            try:
                vr = dictionary_VR(tag)
            except KeyError:
                vr = vr or "UN"
        if tag == SPECIFIC_CHARACTER_SET and not isinstance(element, RawDataElement):
            yield tag, _written(element.value)  # pydicom has decoded this one already
        elif (vr == "SQ") != (inner is not None) or (
            not isinstance(element, RawDataElement) and vr != "SQ"
        ):
            findings[f"wrong-vr {keyword_of(tag)}"] = None
        elif inner is not None:
            try:
                items = dataset[tag].value or []
            except RecursionError:
                raise Refused("too-deep") from None
            except Exception:  # noqa: BLE001  # pydicom has its value, but cannot read what is in it
                findings["malformed-sequence"] = None
                continue
            yield (
                tag,
                pack_items(
                    [dict(_values(item, inner, findings, limits, depth + 1)) for item in items]
                ),
            )
        else:
            value = element.value or b""
            if element.length != UNDEFINED and len(value) < element.length:
                if depth:
                    findings["malformed-sequence"] = None
                    continue
                raise Refused("truncated-header")
            little = element.is_little_endian
            yield tag, value if little else little_endian(value, vr[:2].encode())


def _written(value: Any) -> bytes:
    """Write decoded values of VR CS as they stood in the file."""
    values = [value] if isinstance(value, str) else list(value or ())
    text = "\\".join(str(one) for one in values).encode("latin_1", "replace")
    return text + b" " * (len(text) % 2)
