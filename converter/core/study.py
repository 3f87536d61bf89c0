"""A study as the store gives it: blocks of instances, assembled, de-duplicated and sorted.

A `Block` holds instances of one series in columns: attributes that are the same in all stand once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import repeat
from operator import itemgetter
from typing import NamedTuple, TypeAlias

import msgspec

from converter.core.header import Header, Split, digest
from converter.core.issues import Issue

__all__ = [
    "Block",
    "Instance",
    "Row",
    "Series",
    "Study",
    "assemble",
    "pack",
    "pack_block",
    "unpack_block",
]


class Row(msgspec.Struct, array_like=True, gc=False):
    """One instance in a block."""

    sop_instance_uid: str
    """SOP Instance UID, checked when read."""
    digest: bytes
    """Empty: it is computed where there are copies. Blocks of older states may hold it."""
    source: str
    """Where it came from: input path, or ``archive.zip!/member``. May name a patient: never logged."""
    findings: list[str]
    """Codes found while reading, such as ``truncated``."""
    values: list[bytes | None]
    """Values of the block's varying tags, in their order; ``None`` where absent."""


class Block(msgspec.Struct, array_like=True):
    """Instances of one series, in columns."""

    study_instance_uid: str
    series_instance_uid: str
    shared: dict[int, bytes]
    """Attributes that are the same in every row."""
    tags: list[int]
    """Tags in which the rows differ, sorted."""
    rows: list[Row]

    def header(self, index: int) -> Header:
        """Whole header of one row."""
        header = dict(self.shared)
        varying = zip(self.tags, self.rows[index].values, strict=True)
        header.update({tag: value for tag, value in varying if value is not None})
        return header


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Block)


def pack_block(block: Block) -> bytes:
    """Serialise a block for the store."""
    return _encoder.encode(block)


def unpack_block(data: bytes) -> Block:
    """Read back what `pack_block` wrote.

    Raises
    ------
    msgspec.MsgspecError
        The bytes are no block.
    """
    return _decoder.decode(data)


def pack(
    study_instance_uid: str,
    series_instance_uid: str,
    instances: Sequence[tuple[str, Header | Split, str, Sequence[str]]],
) -> Block:
    """Make a block of (SOP Instance UID, header, source, findings) of one series.

    Parameters
    ----------
    study_instance_uid, series_instance_uid : str
    instances : sequence of (str, Header or Split, str, sequence of str)
        At least one.
    """
    together = _together([kept for _, kept, _, _ in instances])
    if together is None:
        headers = [kept.whole() if isinstance(kept, Split) else kept for _, kept, _, _ in instances]
        together = _apart(headers)
    rows = [
        Row(uid, b"", source, list(findings), values)
        for (uid, _, source, findings), values in zip(instances, together.values, strict=True)
    ]
    return Block(study_instance_uid, series_instance_uid, together.shared, together.tags, rows)


class _Columns(NamedTuple):
    shared: Header
    tags: list[int]
    values: list[list[bytes | None]]


def _together(kept: Sequence[Header | Split]) -> _Columns | None:
    """Columns of headers that were taken apart alike, and of whole ones that are like them; else nothing."""
    model = next((one for one in kept if isinstance(one, Split)), None)
    if model is None or len(model.tags) < 2:
        return None
    shared, tags, _ = model
    take = itemgetter(*tags)
    keys = shared.keys() | set(tags)
    rows: list[tuple[bytes, ...]] = []
    for one in kept:
        if isinstance(one, Split):
            if one.shared is not shared:
                return None
            rows.append(one.values)
        elif one.keys() == keys and shared.items() <= one.items():
            rows.append(take(one))
        else:
            return None
    columns = list(zip(*rows, strict=True))
    vary = [index for index, column in enumerate(columns) if column.count(column[0]) < len(rows)]
    vary.sort(key=tags.__getitem__)
    same = {tag: columns[index][0] for index, tag in enumerate(tags) if index not in vary}
    values = map(list, zip(*(columns[index] for index in vary), strict=True))
    return _Columns(
        shared | same, [tags[index] for index in vary], list(values) if vary else [[] for _ in rows]
    )


def _apart(headers: Sequence[Header]) -> _Columns:
    """Columns of any headers."""
    first = headers[0]
    if len(headers) == 1:
        return _Columns(first, [], [[]])
    everywhere: AbstractSet[int] = first.keys()
    tags: set[int] = set()
    if any(header.keys() != everywhere for header in headers):
        everywhere = set(first).intersection(*headers)
        tags = set().union(*headers) - everywhere
    shared: Header = {}
    if len(everywhere) > 1:
        columns = zip(*map(itemgetter(*everywhere), headers), strict=True)
        for tag, column in zip(everywhere, columns, strict=True):
            if column.count(column[0]) == len(headers):
                shared[tag] = column[0]
            else:
                tags.add(tag)
    else:
        tags.update(everywhere)
    order = sorted(tags)
    return _Columns(shared, order, [[header.get(tag) for tag in order] for header in headers])


class Instance(msgspec.Struct, gc=False):
    """One instance of a series: a row of a block."""

    uid: str
    block: Block
    row: Row

    def header(self) -> Header:
        """All of its attributes."""
        if not self.block.tags:
            return dict(self.block.shared)
        varying = zip(self.block.tags, self.row.values, strict=True)
        return {**self.block.shared, **{tag: value for tag, value in varying if value is not None}}

    def get(self, tag: int) -> bytes | None:
        """Value of one attribute, or ``None``."""
        value = self.block.shared.get(tag)
        if value is None and tag in self.block.tags:
            return self.row.values[self.block.tags.index(tag)]
        return value


@dataclass(slots=True)
class Series:
    """Instances of one series, sorted by UID (the engine sorts by number)."""

    uid: str
    instances: list[Instance]
    _blocks: list[tuple[Block, int]] = field(default_factory=list, repr=False, compare=False)
    """Blocks that hold the instances, and how many each; filled when first asked for."""
    _varying: set[int] = field(default_factory=set, repr=False, compare=False)
    """Attributes that differ within one of them."""

    def keys(self, tags: Sequence[int]) -> list[tuple[bytes | None, ...]]:
        """Value tuple of some attributes for each instance, in their order."""
        if len(self.instances) == 1 and not self.instances[0].block.tags:
            return [tuple(map(self.instances[0].block.shared.get, tags))]
        counted = self._counted()
        if len(counted) == 1:
            [(block, count)] = counted
            if self._varying.isdisjoint(tags):
                return [tuple(map(block.shared.get, tags))] * count
            where = {tag: index for index, tag in enumerate(block.tags)}
            columns = [
                [one.row.values[where[tag]] for one in self.instances]
                if tag in where
                else repeat(block.shared.get(tag))
                for tag in tags
            ]
            return list(zip(*columns, strict=False))
        found: list[tuple[bytes | None, ...]] = []
        plans: dict[int, tuple[tuple[bytes | None, ...], list[tuple[int, int]]]] = {}
        for instance in self.instances:
            block = instance.block
            plan = plans.get(id(block))
            if plan is None:
                base = tuple(block.shared.get(tag) for tag in tags)
                where = {tag: index for index, tag in enumerate(block.tags)}
                vary = [(i, where[tag]) for i, tag in enumerate(tags) if tag in where]
                plan = plans[id(block)] = (base, vary)
            base, vary = plan
            if vary:
                key = list(base)
                values = instance.row.values
                for i, column in vary:
                    key[i] = values[column]
                found.append(tuple(key))
            else:
                found.append(base)
        return found

    def tally(self, tags: Sequence[int]) -> Mapping[tuple[bytes | None, ...], int]:
        """Count the distinct value tuples of some attributes over the instances."""
        if len(self.instances) == 1:
            return {self.keys(tags)[0]: 1}
        counted = self._counted()
        if not self._varying.isdisjoint(tags):
            return Counter(self.keys(tags))
        # nothing varies within a block: what it shares counts for all of its instances
        tally: dict[tuple[bytes | None, ...], int] = {}
        for block, count in counted:
            key = tuple(map(block.shared.get, tags))
            tally[key] = tally.get(key, 0) + count
        return tally

    def _counted(self) -> list[tuple[Block, int]]:
        if not self._blocks:
            counts = Counter(id(one.block) for one in self.instances)
            held = {id(one.block): one.block for one in self.instances}
            self._blocks.extend((held[key], count) for key, count in counts.items())
            self._varying.update(*(block.tags for block, _ in self._blocks))
        return self._blocks


@dataclass(slots=True)
class Study:
    """A whole study, as far as the store holds it."""

    uid: str
    series: list[Series]
    issues: list[Issue] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    """Sources of identical copies that were left out (reason ``duplicate``)."""
    others: list[Instance] = field(default_factory=list)
    """Differing copies that were left out: they still tell whether two patients share the study."""
    replaced: list[str] = field(default_factory=list)
    """Sources of differing copies that were left out (reason ``duplicate-differs``)."""

    @property
    def count(self) -> int:
        """Number of instances."""
        return sum(len(series.instances) for series in self.series)


_Copy: TypeAlias = tuple[str, Block, Row]
"""Series UID, and where it stands."""


def _copy_key(copy: _Copy) -> tuple[bytes, str, str]:
    series_uid, block, row = copy
    return row.digest or digest(Instance("", block, row).header()), series_uid, row.source


def assemble(study_instance_uid: str, blocks: Iterable[Block]) -> Study:
    """Assemble blocks into a study, each SOP Instance UID once.

    Of two instances of one UID the smaller (digest, series UID, source) stands, so that the order of
    files changes nothing; where they differ in content that is a finding.
    """
    chosen: dict[str, _Copy] = {}
    copies: dict[str, list[_Copy]] = {}
    study = Study(study_instance_uid, [])
    for block in blocks:
        series_uid = block.series_instance_uid
        for row in block.rows:
            entry = (series_uid, block, row)
            held = chosen.setdefault(row.sop_instance_uid, entry)
            if held is not entry:
                copies.setdefault(row.sop_instance_uid, [held]).append(entry)
    for uid in sorted(copies):
        # what is a duplicate is told only once all copies are known: their order must change nothing
        keyed = [(_copy_key(copy), copy) for copy in copies[uid]]
        keyed.sort(key=itemgetter(0))
        (least, _, _), chosen[uid] = keyed[0]
        for (digest_, _, source), (_, block, row) in keyed[1:]:
            if digest_ == least:
                study.duplicates.append(source)
                continue
            study.replaced.append(source)
            study.others.append(Instance(uid, block, row))
            study.issues.append(
                Issue(
                    "warning",
                    "duplicate-differs",
                    "ImagingStudy.series.instance",
                    "SOPInstanceUID",
                    "The same SOP Instance UID came with different content; one of them is used.",
                    (uid,),
                )
            )
    by_series: dict[str, list[Instance]] = {}
    for uid in sorted(chosen):
        series_uid, block, row = chosen[uid]
        by_series.setdefault(series_uid, []).append(Instance(uid, block, row))
    study.series = [Series(uid, by_series[uid]) for uid in sorted(by_series)]
    study.duplicates.sort()
    study.replaced.sort()
    return study
