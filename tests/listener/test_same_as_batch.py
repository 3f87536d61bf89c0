"""What is kept and found of an object is the same whether it came as a file or by C-STORE."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.data import DATA_ROOT
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from test_paths_agree import parts

from converter.listener.dataset import preamble
from converter.listener.policy import Policy
from converter.listener.storing import LIMITS
from converter.reading import Read, read_bytes
from tests.listener.conftest import WANTED
from tools.dicom_sender import CT, Sender, command, pdu, pdv

EXPLICIT, IMPLICIT, BIG, JPEG = (
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.4.70",
)
NOT_ALIKE = {"no-preamble"}
"""Findings of a file's own beginning, which is not sent."""


def data_set(number, syntax, *, pixels=b"", **attributes):
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = CT, f"1.2.3.4.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    made.PatientID = "1"
    made.InstanceNumber = number
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    if pixels:
        made.Rows = made.Columns = 200
        made.add_new(0x7FE00010, "OB" if syntax == JPEG else "OW", pixels)
        made["PixelData"].is_undefined_length = syntax == JPEG
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = syntax != BIG, syntax == IMPLICIT
    write_dataset(file, made)
    return file.getvalue()


def corpus():
    """(name, transfer syntax, data set) of objects above what is read as a whole, good and cut."""
    pixels = bytes(range(256)) * 320
    fragments = encapsulate([bytes(9000)] * 12, has_bot=False)
    made = []
    for syntax, name in ((EXPLICIT, "explicit"), (IMPLICIT, "implicit"), (BIG, "big")):
        whole = data_set(1, syntax, pixels=pixels)
        made += [(f"{name}", syntax, whole)]
        made += [(f"{name}, cut by {n}", syntax, whole[:-n]) for n in (1, 2, 30_000, 60_000)]
        made.append((f"{name}, padded", syntax, whole + bytes(64)))
        other = data_set(1, syntax, EncapsulatedDocument=bytes(range(256)) * 160, Rows=7)
        made += [
            (f"{name}, no pixels", syntax, other),
            (f"{name}, document cut", syntax, other[:-9]),
        ]
    whole = data_set(1, JPEG, pixels=fragments)
    made.append(("fragments", JPEG, whole))
    for cut in (1, 8, 9, 5000, 9008, 9016, 60_000):
        made.append((f"fragments, cut by {cut}", JPEG, whole[:-cut]))
    made.append(("fragments, padded", JPEG, whole + bytes(32)))
    many = data_set(1, JPEG, pixels=encapsulate([bytes(100)] * 900, has_bot=True))
    made += [("many fragments", JPEG, many), ("many fragments, cut", JPEG, many[:-30_000])]
    # between what is wanted and the pixels
    overlay = data_set(1, EXPLICIT)
    overlay += b"\0\x60\0\x30OW\0\0" + (50_000).to_bytes(4, "little") + bytes(50_000)
    made += [("overlay", EXPLICIT, overlay), ("overlay cut", EXPLICIT, overlay[:-20_000])]
    return made


CORPUS = corpus()


@pytest.mark.parametrize("max_pdu", [4000, 131072])
def test_large_objects_good_and_cut(both, max_pdu):
    expected, told = {}, {}
    with both() as running:
        for name, syntax, data in CORPUS:
            expected[name] = outcome(read_bytes(preamble(syntax) + data, WANTED, limits=LIMITS))
            with Sender(running.port) as sender:
                sender.associate([(1, CT, (syntax,))])
                status = sender.store(data, "1.2.3.4.1", CT, max_pdu=max_pdu).status
                sender.release()
            kept = running.kept()
            told[name] = (kept[-1].findings, kept[-1].header) if status == 0 else status >= 0xC000
    assert told == expected
    cut = {name for name, (findings, _) in told.items() if "truncated" in findings}
    assert cut == {name for name, _, _ in CORPUS if "cut" in name or "no pixels" in name}


def outcome(read):
    return (list(read.findings), read.header) if isinstance(read, Read) else True


FILES = sorted(
    path
    for path in Path(DATA_ROOT, "test_files").rglob("*")
    if path.is_file() and 32_768 < path.stat().st_size < 2_000_000
)


def test_real_objects_above_what_is_read_as_a_whole(both):
    expected, told = {}, {}
    with both(policy=Policy(accept_private=True)) as running:
        for path in FILES:
            content = path.read_bytes()
            if content[128:132] != b"DICM":
                continue
            sop_class, sop_instance, syntax, data = parts(content)
            with Sender(running.port) as sender:
                sender.associate([(1, sop_class, (syntax,))])
                if not sender.accepted:
                    continue
                status = sender.store(data, sop_instance, sop_class, max_pdu=16384).status
                sender.release()
            if status != 0:
                continue
            read = read_bytes(content, WANTED, limits=LIMITS)
            kept = running.kept()[-1]
            expected[path.name] = (set(read.findings) - NOT_ALIKE, read.header)
            told[path.name] = (set(kept.findings) - NOT_ALIKE, kept.header)
    assert told == expected
    assert len(told) > 10


def test_a_peer_that_goes_away_within_what_pydicom_reads_keeps_nothing(both):
    # of undefined length and unknown: the fast reader hands over, and pydicom reads up to the pixel data
    odd = b"\x09\0\x10\x10UN\0\0\xff\xff\xff\xff" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    head = data_set(1, EXPLICIT)
    at = head.index(b"\x10\0\x20\0")
    data = head[:at] + odd + head[at:] + b"\xe0\x7f\x10\0OW\0\0" + (90_000).to_bytes(4, "little")
    with both() as running:
        sender = Sender(running.port).associate()
        sent = [
            pdu(pdv(1, command(1, 1, sop_class=CT, sop_instance="1.2.3.4.1"), is_command=True)),
            pdu(pdv(1, data + bytes(40_000), last=False)),
        ]
        sender.send(*sent)
        sender.close()
        running.until(lambda: not running.receiver.connections)
        assert running.kept() == []
        counts = running.counts()
        assert "cstore.internal" not in counts
        if both.fast:
            assert counts.get("cstore.interrupted") == 1
