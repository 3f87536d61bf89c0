"""The fast path and pynetdicom's own answer the same and keep the same, over a corpus of good and bad objects."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from pydicom.data import DATA_ROOT

from converter.core.values import parse_uid
from converter.listener.policy import Policy, storable
from tools.dicom_sender import CT, EXPLICIT, Gone, Sender, command, pdu, pdv
from tools.make_hostile import make

FILES = sorted(
    path
    for path in Path(DATA_ROOT, "test_files").rglob("*")
    if path.is_file() and path.stat().st_size < 200_000
)


def parts(content):
    """(SOP class, SOP instance, transfer syntax, data set) of a file, as a sender would send it."""
    values = {0x02: CT, 0x03: "1.2.3", 0x10: EXPLICIT}
    if content[128:132] != b"DICM":
        return values[2], values[3], values[0x10], content
    at = 132
    while content[at : at + 2] == b"\2\0" and len(content) >= at + 8:
        number = struct.unpack_from("<H", content, at + 2)[0]
        long = content[at + 4 : at + 6] in {b"OB", b"UN"}
        form, where, head = ("<I", at + 8, 12) if long else ("<H", at + 6, 8)
        if len(content) < at + head:
            break
        size = struct.unpack_from(form, content, where)[0]
        if number in values:
            value = content[at + head : at + head + size].rstrip(b"\0 ")
            values[number] = value.decode("latin_1")
        at += head + size
    sop_class = values[2] if storable(values[2]) != "no" else CT
    sop_instance = values[3] if parse_uid(values[3].encode("latin_1")).value else "1.2.3"
    return sop_class, sop_instance, values[0x10], content[at:]


def outcomes(listening, contents, *, fast):
    found = []
    policy = Policy(accept_private=True)
    with listening(fast=fast, policy=policy, pdu_timeout=10.0) as running:
        for number, content in enumerate(contents):
            sop_class, sop_instance, syntax, data = parts(content)
            with Sender(running.port) as sender:
                try:
                    sender.associate([(1, sop_class, (syntax,))])
                    if not sender.accepted:
                        found.append("context refused")
                        continue
                    size = (300, 16384, 131072)[number % 3] if len(data) < 20_000 else 131072
                    response = sender.store(data, sop_instance, sop_class, max_pdu=size)
                    found.append((response.status, response.comment))
                    sender.release()
                except Gone:
                    found.append("gone")
        kept = [(r.sop_instance_uid, r.findings, r.header) for r in running.kept()]
    return found, kept


def test_real_objects(listening):
    contents = [path.read_bytes() for path in FILES]
    fast, kept = outcomes(listening, contents, fast=True)
    assert sum(isinstance(one, tuple) and one[0] == 0 for one in fast) > 50
    assert "gone" not in fast
    stock, kept_by_stock = outcomes(listening, contents, fast=False)
    assert [
        (FILES[index].name, a, b)
        for index, (a, b) in enumerate(zip(fast, stock, strict=True))
        if a != b
    ] == []
    assert kept_by_stock[len(kept) :] == kept


def test_hostile_objects(listening, tmp_path):
    made = make(tmp_path / "hostile", 140, seed=7)
    contents = [(tmp_path / "hostile" / one.name).read_bytes() for one in made]
    fast, kept = outcomes(listening, contents, fast=True)
    stock, kept_by_stock = outcomes(listening, contents, fast=False)
    assert [
        (made[index].name, a, b)
        for index, (a, b) in enumerate(zip(fast, stock, strict=True))
        if a != b
    ] == []
    assert kept_by_stock[len(kept) :] == kept
    acknowledged = sum(isinstance(one, tuple) and one[0] == 0 for one in fast)
    assert acknowledged == len(kept)
    for _, _, header in kept:
        for tag in (0x00080018, 0x0020000D, 0x0020000E):
            assert parse_uid(header[tag]).value


@pytest.mark.parametrize("fast", [True, False])
def test_after_each_hostile_object_the_next_good_one_is_taken(listening, tmp_path, data_set, fast):
    made = make(tmp_path / "hostile", 60, seed=8)
    good, uid = data_set()
    with listening(fast=fast) as running, Sender(running.port).associate() as sender:
        for one in made:
            *_, data = parts((tmp_path / "hostile" / one.name).read_bytes())
            head = command(1, 1, sop_class=CT, sop_instance=uid)
            step = 100_000
            pieces = [data[at : at + step] for at in range(0, max(len(data), 1), step)]
            sender.send(pdu(pdv(1, head, is_command=True)))
            for index, piece in enumerate(pieces):
                sender.send(pdu(pdv(1, piece, last=index == len(pieces) - 1)))
            sender.response()
            assert sender.store(good, uid).status == 0
        sender.release()
