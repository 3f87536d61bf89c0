"""What reading gives, what bounds it, and the signals inside of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from converter.core.header import Header, Split

__all__ = ["DEFAULT", "HandOver", "Limits", "Read", "Refused"]


class Read(msgspec.Struct, frozen=True, eq=False):
    """One composite instance: its kept attributes and its identity, checked."""

    kept: Header | Split
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    findings: tuple[str, ...] = ()
    """Codes such as ``truncated``; behind a blank the keyword, where one attribute is concerned."""

    @property
    def header(self) -> Header:
        """All kept attributes."""
        kept = self.kept
        return kept.whole() if isinstance(kept, Split) else kept

    def __eq__(self, other: object) -> bool:
        """Whether another says the same, in whatever parts."""
        if not isinstance(other, Read):
            return NotImplemented
        return self.header == other.header and self._identity() == other._identity()

    def __ne__(self, other: object) -> bool:
        # a Struct without one compares identities
        return not self == other

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, ...]:
        uids = (self.study_instance_uid, self.series_instance_uid, self.sop_instance_uid)
        return (*uids, self.sop_class_uid, self.findings)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that hold whatever a file claims."""

    first: int = 8192
    """Bytes of the first read: enough for an ordinary header, without waking the readahead."""
    header: int = 16 * 1024 * 1024
    """Bytes of any one value or sequence that is kept, and of what a pipe makes us hold."""
    inflate: int = 64 * 1024 * 1024
    """Bytes that a deflated data set may inflate to before its header ends."""
    depth: int = 64
    """Nesting of sequences."""
    elements: int = 1 << 21
    """Elements and items within sequences that are walked one by one."""
    asked: int = 1 << 19
    """Reads that pydicom may ask for, which takes several microseconds each."""
    walk: int = 256 * 1024 * 1024
    """Bytes that are looked at for elements of the data set itself."""

    wide: bool = field(init=False)
    """Whether nothing within one window of a walk can exceed them, so that traces and quick walks need not count."""

    def __post_init__(self) -> None:
        wide = self.header >= 1 << 20 and self.depth >= 8 and self.elements >= 1 << 17
        object.__setattr__(self, "wide", wide)


DEFAULT = Limits()


class HandOver(Exception):  # noqa: N818  # a signal inside the package, never an error of a caller
    """The fast reader does not take this file: pydicom's turn."""

    def __init__(self, finding: str = "") -> None:
        self.finding = finding
        super().__init__(finding)


class Refused(Exception):  # noqa: N818
    """The file gives no instance."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(reason)
