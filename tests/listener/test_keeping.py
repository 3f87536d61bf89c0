"""Whole headers: up to the pixel data, as a file, compressed and bounded, beside the wanted attributes."""

from __future__ import annotations

import io
import struct
import zlib

import pydicom
import pytest
from test_receiver import pixels
from test_same_as_batch import BIG, EXPLICIT, IMPLICIT, JPEG, data_set

from converter.reading import header_bytes
from tools.dicom_sender import CT, Sender

DEFLATED = "1.2.840.10008.1.2.1.99"
TEXTS = {"ImageComments": "seldom read", "PatientComments": "seldom read either"}


def stored(both, syntax, data, **settings):
    with both(keep_headers=True, **settings) as running:
        with Sender(running.port) as sender:
            sender.associate([(1, CT, (syntax,))])
            assert sender.store(data, "1.2.3.4.1", CT, max_pdu=16384).status == 0
            sender.release()
        (received,) = running.kept()
    return received


def inflated(received):
    return pydicom.dcmread(io.BytesIO(zlib.decompress(received.kept)))


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("size", [0, 2000, 100_000, 2_000_000])
def test_the_header_is_all_before_the_pixel_data(both, syntax, size):
    data = data_set(1, syntax, pixels=bytes(size), **TEXTS)
    received = stored(both, syntax, data)
    read = inflated(received)
    assert read.file_meta.TransferSyntaxUID == syntax
    assert (read.ImageComments, read.PatientComments) == tuple(TEXTS.values())
    assert "PixelData" not in read
    assert read.get("Rows") == (200 if size else None)
    assert received.findings == []
    assert len(received.kept) < 1000


def test_of_fragments_none_is_kept(both):
    from pydicom.encaps import encapsulate

    data = data_set(1, JPEG, pixels=encapsulate([bytes(9000)] * 20), **TEXTS)
    read = inflated(stored(both, JPEG, data))
    assert read.ImageComments == "seldom read"
    assert "PixelData" not in read


def test_a_deflated_object_is_kept_inflated(both):
    data = data_set(1, EXPLICIT, pixels=bytes(300_000), **TEXTS)
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    read = inflated(stored(both, DEFLATED, deflater.compress(data) + deflater.flush()))
    assert read.file_meta.TransferSyntaxUID == EXPLICIT
    assert read.ImageComments == "seldom read"
    assert "PixelData" not in read


@pytest.mark.parametrize("size", [90_000, 1_100_000])
def test_a_larger_header_is_not_kept_and_that_is_a_finding(both, size):
    import random

    noise = random.Random(1).randbytes(size)
    data = data_set(1, EXPLICIT, EncapsulatedDocument=noise, **TEXTS)
    received = stored(both, EXPLICIT, data)
    assert received.kept == b""
    assert received.findings == ["header-not-kept"]
    assert received.header[0x00100020].strip() == b"1"


def test_a_large_header_that_compresses_is_kept(both):
    data = data_set(1, EXPLICIT, EncapsulatedDocument=bytes(900_000), **TEXTS)
    received = stored(both, EXPLICIT, data)
    assert len(inflated(received).EncapsulatedDocument) == 900_000
    assert len(received.kept) < 65_536


def test_without_the_option_nothing_more_is_kept(both):
    with both() as running, Sender(running.port) as sender:
        sender.associate([(1, CT, (EXPLICIT,))])
        assert sender.store(data_set(1, EXPLICIT), "1.2.3.4.1", CT).status == 0
        sender.release()
        (received,) = running.kept()
    assert (received.kept, received.file, received.findings) == (b"", "", [])


def test_header_and_file_together(both, tmp_path):
    data = data_set(1, EXPLICIT, pixels=bytes(500_000), **TEXTS)
    received = stored(both, EXPLICIT, data, keep_files=str(tmp_path))
    assert inflated(received).ImageComments == "seldom read"
    assert len(pydicom.dcmread(received.file).PixelData) == 500_000


def whole(data, *, complete=True, limit=1 << 20):
    from converter.listener.dataset import preamble

    return header_bytes(preamble(EXPLICIT) + data, limit, complete=complete)


def test_a_header_that_is_not_all_there_is_none():
    data = data_set(1, EXPLICIT, **TEXTS)
    assert whole(data) == (data, False)
    assert whole(data, complete=False) is None
    assert whole(data[:-3]) is None
    assert whole(data + pixels(50), complete=False) == (data, False)
    assert whole(data + struct.pack("<HH", 0x0029, 0x1010) + b"!!") is None
