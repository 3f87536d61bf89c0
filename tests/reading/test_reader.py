"""Files as they come: every encoding, cut, odd, hostile."""

from __future__ import annotations

import io
import os
import struct
import time
import warnings
import zlib
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from converter.core.header import Unreadable, items
from converter.core.reasons import REASONS
from converter.reading import Limits, Read, read_bytes, read_file, read_stream
from converter.reading.source import Bytes

CODE = {0x00080100: None, 0x00080104: None, 0x00400100: {0x00080100: None}}
WANTED = {
    0x00100010: None,
    0x00080060: None,
    0x00280010: None,
    0x00081032: CODE,
    0x0040A043: CODE,
    0x00189089: None,
    0x52009229: {0x00209071: {0x00209072: None}},
}
SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
]


def code(value: str) -> Dataset:
    dataset = Dataset()
    dataset.CodeValue = value
    dataset.CodeMeaning = "meaning"
    return dataset


def make(**values: object) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.1"
    dataset.Modality = "CT"
    dataset.PatientName = "Müller^Jörg"
    inner = code("A")
    inner.ContentSequence = Sequence([code("deep")])
    dataset.ProcedureCodeSequence = Sequence([inner, code("B")])
    dataset.ConceptNameCodeSequence = Sequence([code("C")])
    dataset.DiffusionGradientOrientation = [1.0, 0.5, 0.25]
    laterality = Dataset()
    laterality.FrameLaterality = "R"
    shared = Dataset()
    shared.FrameAnatomySequence = Sequence([laterality])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def written(
    dataset: Dataset, syntax: str = ExplicitVRLittleEndian, *, undefined: bool = False
) -> bytes:
    if undefined:
        for element in dataset.iterall():
            if element.VR == "SQ":
                element.is_undefined_length = True
                for item in element.value:
                    item.is_undefined_length_sequence_item = True
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", "1.2")
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2")
    dataset.file_meta = meta
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def parsed(data: bytes, wanted=WANTED, **options) -> Read:
    result = read_bytes(data, wanted, **options)
    assert isinstance(result, Read), result
    return result


def refused(data: bytes, wanted=WANTED, **options) -> str:
    result = read_bytes(data, wanted, **options)
    assert isinstance(result, Unreadable), result
    assert result.reason in REASONS
    return result.reason


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    size = len(value) if length is None else length
    if vr in {b"SQ", b"UN", b"OB", b"UT", b"OW"}:
        return head + struct.pack("<HI", 0, size) + value
    return head + struct.pack("<H", size) + value


UIDS = (
    element(0x00080016, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0")
    + element(0x00080018, b"UI", b"1.2.3.4\0")
    + element(0x0020000D, b"UI", b"1.2.3\0")
    + element(0x0020000E, b"UI", b"1.2.3.1\0")
)


def with_meta(data: bytes, syntax: bytes = b"1.2.840.10008.1.2.1\0") -> bytes:
    return b"\0" * 128 + b"DICM" + element(0x00020010, b"UI", syntax) + data


@pytest.mark.parametrize("undefined", [False, True])
def test_one_object_gives_one_header_in_every_transfer_syntax(undefined: bool) -> None:
    headers = [parsed(written(make(), s, undefined=undefined)).header for s in SYNTAXES]
    assert all(header == headers[0] for header in headers)
    header = headers[0]
    assert header[0x00100010] == "Müller^Jörg".encode() + b" "
    assert struct.unpack("<3d", header[0x00189089]) == (1.0, 0.5, 0.25)
    first, second = items(header[0x00081032])
    assert (first[0x00080100], second[0x00080100]) == (b"A ", b"B ")
    assert 0x00400100 not in first
    shared = items(header[0x52009229])[0]
    assert items(shared[0x00209071])[0][0x00209072] == b"R "


def test_only_what_is_wanted_and_the_identity_is_kept() -> None:
    header = parsed(written(make(PatientID="P1")), {0x00080060: None}).header
    assert sorted(header) == [
        0x00080005,
        0x00080016,
        0x00080018,
        0x00080060,
        0x0020000D,
        0x0020000E,
    ]


def test_character_set_of_an_item_is_kept_with_it() -> None:
    dataset = make()
    dataset.ProcedureCodeSequence[0].SpecificCharacterSet = "ISO_IR 100"
    assert items(parsed(written(dataset)).header[0x00081032])[0][0x00080005] == b"ISO_IR 100"


def test_stream_and_pipe_give_what_the_file_gives(tmp_path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    for syntax in SYNTAXES:
        data = written(make(PixelData=b"\0" * 4, Rows=1, BitsAllocated=8), syntax)
        path = tmp_path / "file"
        path.write_bytes(data)
        expected = read_file(path, WANTED)
        assert isinstance(expected, Read)
        assert read_bytes(data, WANTED) == expected
        assert read_stream(io.BytesIO(data), None, WANTED) == expected
        assert read_stream(io.BytesIO(data), len(data), WANTED) == expected
        assert read_stream(Pipe(data), None, WANTED) == expected


def test_header_beyond_the_first_read_is_read() -> None:
    long = make(PatientComments="x" * 10_000, TextValue="y" * 2_000_000)
    for syntax in SYNTAXES:
        assert parsed(written(long, syntax)).header == parsed(written(make(), syntax)).header
    wanted = {**WANTED, 0x00104000: None}
    assert len(parsed(written(long), wanted).header[0x00104000]) == 10_000


def test_pixels_are_never_read() -> None:
    class Counting(Bytes):
        read_bytes = 0

        def read(self, offset: int, size: int) -> bytes:
            data = super().read(offset, size)
            Counting.read_bytes += len(data)
            return data

    from converter.reading.reader import _read_source
    from converter.reading.result import DEFAULT

    source = Counting(written(make(PixelData=b"\0" * 5_000_000, Rows=1, BitsAllocated=8)))
    assert isinstance(_read_source(source, WANTED, DEFAULT), Read)
    assert Counting.read_bytes <= 16_384


def test_per_frame_groups_are_never_walked() -> None:
    data = with_meta(UIDS + element(0x52009230, b"SQ", b"no items at all", 0xFFFFFFFF))
    assert parsed(data).findings == ()


def test_without_preamble_and_meta_is_read_with_a_finding() -> None:
    assert parsed(UIDS).findings == ("no-preamble",)
    assert parsed(element(0x00020010, b"UI", b"1.2.840.10008.1.2.1\0") + UIDS).findings == (
        "no-preamble",
    )


def test_unknown_vr_is_left_to_pydicom_with_a_finding() -> None:
    data = with_meta(UIDS[:34] + element(0x00080017, b"ZZ", b"12") + UIDS[34:])
    assert parsed(data).findings == ("unknown-vr",)


@pytest.mark.parametrize("value", [b"12", b"", b"twelve"])
@pytest.mark.parametrize("tag", [0x00190010, 0x00190012])
def test_unknown_vr_with_a_length_of_four_bytes_is_read(tag: int, value: bytes) -> None:
    head = struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"ZZ", 0, len(value))
    read = parsed(with_meta(UIDS[:50] + head + value + UIDS[50:]), {**WANTED, 0x00190012: None})
    assert read.findings == ("unknown-vr",)
    assert read.header.get(0x00190012) == (value if tag == 0x00190012 else None)
    assert parsed(with_meta(UIDS + element(0x00400001, b"SQ", b"", 0) + head + value)).findings


def test_unknown_vr_without_value_hides_no_element_after_it() -> None:
    data = with_meta(UIDS[:50] + element(0x00190010, b"ZZ", b"") + UIDS[50:])
    assert parsed(data).findings == ("unknown-vr",)


def test_elements_out_of_order_are_found() -> None:
    name = element(0x00100010, b"PN", b"A^B ")
    early = element(0x00400275, b"LO", b"far ")
    beyond = element(0x52009231, b"LO", b"high")
    for data in (early + UIDS + name, beyond + UIDS + name, UIDS + beyond + name):
        assert parsed(with_meta(data)).header[0x00100010] == b"A^B "


def test_damaged_sequence_costs_itself_only() -> None:
    item = b"\xfe\xff\x00\xe0\x10\0\0\0" + element(0x00080100, b"SH", b"", 500) + b"\0" * 8
    data = (
        UIDS[:50]
        + element(0x00081032, b"SQ", item)
        + UIDS[50:]
        + element(0x00400275, b"LO", b"x" * 600)
    )
    result = parsed(with_meta(data))
    assert result.findings == ("malformed-sequence",)
    assert 0x00080100 not in dict(enumerate(items(result.header.get(0x00081032))))


def test_file_that_may_not_be_read_says_so(monkeypatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "no", "/patients/NAME")

    monkeypatch.setattr(os, "open", refuse)
    assert read_file("x", WANTED) == Unreadable("permission-denied")


def test_fault_of_a_stream_is_left_to_its_owner() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 0:
                raise zlib.error("broken")
            return super().read(size)

    long = element(0x00081199, b"SH", b"x" * 20_000) + UIDS
    for odd in (b"", element(0x00080006, b"ZZ", b"12")):
        with pytest.raises(zlib.error):
            read_stream(Broken(with_meta(odd + long)), None, WANTED)


def test_pipe_holds_no_more_than_its_limit() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    data = with_meta(
        UIDS + element(0x0040A000, b"OB", b"x" * 3_000_000) + element(0x0040A043, b"SQ", b"")
    )
    result = read_stream(Pipe(data), None, WANTED, limits=Limits(header=100_000))
    assert isinstance(result, Read)
    assert 0x0040A043 in result.header


def test_sequence_where_a_text_should_be_is_left_out_with_a_finding() -> None:
    data = with_meta(UIDS[:50] + element(0x00081032, b"LO", b"text") + UIDS[50:])
    result = parsed(data)
    assert result.findings == ("wrong-vr ProcedureCodeSequence",)
    assert 0x00081032 not in result.header


@pytest.mark.parametrize("undefined", [False, True])
def test_un_with_a_known_tag_is_read_as_pydicom_reads_it(undefined: bool) -> None:
    # implicit VR within, PS3.5 section 6.2.2
    item = b"\xfe\xff\x00\xe0\x0a\0\0\0" + b"\x08\0\0\x01\x02\0\0\0UN"
    value = element(0x00081032, b"UN", item)
    if undefined:
        value = element(0x00081032, b"UN", item + b"\xfe\xff\xdd\xe0\0\0\0\0", 0xFFFFFFFF)
    header = parsed(with_meta(UIDS[:50] + value + UIDS[50:])).header
    assert items(header[0x00081032])[0][0x00080100] == b"UN"


def test_trailing_padding_is_no_fault() -> None:
    assert parsed(with_meta(UIDS + element(0xFFFCFFFC, b"OB", b"\0" * 100))).findings == ()
    assert parsed(with_meta(UIDS + b"\0" * 7)).findings == ()


IMPLICIT_UIDS = b"".join(
    struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value
    for tag, value in (
        (0x00080016, b"1.2.840.10008.5.1.4.1.1.2\0"),
        (0x00080018, b"1.2.3.4\0"),
        (0x0020000D, b"1.2.3\0"),
        (0x0020000E, b"1.2.3.1\0"),
    )
)


@pytest.mark.parametrize("size", [8, 4096, 1 << 20])
@pytest.mark.parametrize(
    "data",
    [
        with_meta(UIDS),
        with_meta(IMPLICIT_UIDS, b"1.2.840.10008.1.2\0"),
        with_meta(UIDS + element(0x54000100, b"LO", b"late")),
        with_meta(element(0x00080001, b"ZZ", b"12") + UIDS),
    ],
    ids=["explicit", "implicit", "after-a-late-element", "with-pydicom"],
)
def test_zeros_after_the_header_end_it_with_a_finding(data: bytes, size: int) -> None:
    findings = parsed(data + bytes(size)).findings
    assert "zero-padding" in findings
    assert "truncated" not in findings


def test_zeros_in_the_place_of_pixels_are_a_cut_file() -> None:
    rows = element(0x00280010, b"US", b"\1\0")
    assert parsed(with_meta(UIDS + rows + bytes(100))).findings == ("truncated", "zero-padding")


@pytest.mark.parametrize(
    ("data", "syntax"),
    [
        (b"", b"1.2.840.10008.1.2.1\0"),
        (UIDS, b"1.2.840.10008.1.2.1\0"),
        (element(0x00080001, b"ZZ", b"12") + UIDS, b"1.2.840.10008.1.2.1\0"),
        (IMPLICIT_UIDS, b"1.2.840.10008.1.2\0"),
    ],
)
def test_zeros_cost_no_time(data: bytes, syntax: bytes) -> None:
    began = time.process_time()
    read_bytes(with_meta(data, syntax) + bytes(64 << 20), WANTED)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "data",
    [
        # within a sequence without an end, in both ways of writing; elements out of order; after odd ones
        with_meta(
            IMPLICIT_UIDS
            + struct.pack("<HHIHHI", 0x29, 0x1010, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
            + bytes(1 << 16),
            b"1.2.840.10008.1.2\0",
        ),
        with_meta(
            UIDS
            + element(0x00291010, b"SQ", b"\xfe\xff\0\xe0\xff\xff\xff\xff", 0xFFFFFFFF)
            + bytes(1 << 16)
        ),
        with_meta(UIDS + element(0x00090010, b"LO", b"") * (1 << 15)),
        with_meta(
            element(0x00080001, b"ZZ", b"12") + UIDS + element(0x00090010, b"LO", b"") * 4000
        ),
    ],
    ids=["implicit-items", "explicit-items", "out-of-order", "with-pydicom"],
)
def test_elements_without_end_are_refused(data: bytes) -> None:
    limits = Limits(elements=1000, asked=1000, walk=100_000)
    assert refused(data, limits=limits) == "header-limit"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, this is a text and nothing else" * 10, "not-dicom"),
        (b"PK\x03\x04" + b"\0" * 200, "not-dicom"),
        (b"\x1f\x8b" + b"\0" * 200, "not-dicom"),
        (b"\0" * 5000, "not-dicom"),
        (b"\x08\0\x05\0" + b"\x55" * 400, "not-dicom"),
        (b"\0" * 128 + b"DICM", "truncated-header"),
        (with_meta(b""), "truncated-header"),
        (with_meta(bytes(5000)), "truncated-header"),
        (with_meta(UIDS[:50]), "no-study-uid"),
        (with_meta(UIDS[:50] + UIDS[64:]), "no-study-uid"),
        (with_meta(UIDS[:-16]), "no-series-uid"),
        (with_meta(UIDS[34:]), "no-sop-uid"),
        (with_meta(UIDS[:34] + UIDS[50:]), "no-sop-uid"),
        (with_meta(UIDS.replace(b"1.2.3.4\0", b"../../x\0")), "invalid-uid"),
        (with_meta(UIDS.replace(b"1.2.3.4\0", b"1.02.34\0")), "invalid-uid"),
        (with_meta(UIDS.replace(b"5.1.4.1.1.2\0", b"5.1.4.31\0\0\0\0")), "not-an-instance"),
        (with_meta(UIDS.replace(b"5.1.4.1.1.2\0", b"1.3.10\0\0\0\0\0\0")), "dicomdir"),
    ],
)
def test_what_is_no_instance_says_why(data: bytes, reason: str) -> None:
    assert refused(data) == reason


def test_system_faults_are_reasons(tmp_path) -> None:
    assert read_file(tmp_path, WANTED) == Unreadable("read-error", "Is a directory")
    missing = read_file(tmp_path / "SECRET^NAME", WANTED)
    assert missing == Unreadable("read-error", "No such file or directory")


def test_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(with_meta(UIDS))
    real = os.pread

    def grow(descriptor: int, size: int, offset: int) -> bytes:
        data = real(descriptor, size, offset)
        with path.open("ab") as file:
            file.write(b"more")
        return data

    monkeypatch.setattr(os, "pread", grow)
    assert read_file(path, WANTED) == Unreadable("changed-while-reading")
    assert isinstance(read_file(path, WANTED, ignore_changed=True), Read)


def test_cut_anywhere_is_never_silent() -> None:
    with Path(get_testdata_file("CT_small.dcm")).open("rb") as file:
        whole = file.read()
    assert parsed(whole).findings == ()
    outcomes = set()
    for size in [*(len(whole) * percent // 100 for percent in range(1, 100)), *range(132, 7000, 7)]:
        result = read_bytes(whole[:size], WANTED)
        if isinstance(result, Read):
            outcomes.add(result.findings)
        else:
            outcomes.add(result.reason)
    assert outcomes <= {
        "truncated-header", "not-dicom", "no-study-uid", "no-series-uid", "no-sop-uid",
        ("truncated",), (),
    }  # fmt: skip
    for percent in range(20, 100):  # from the pixel data on
        assert parsed(whole[: len(whole) * percent // 100]).findings == ("truncated",)


def test_cut_compressed_pixels_are_noticed() -> None:
    dataset = make(Rows=1)
    dataset.PixelData = pydicom.encaps.encapsulate([b"\1" * 1000, b"\2" * 1000])
    dataset["PixelData"].is_undefined_length = True
    whole = written(dataset, JPEGBaseline8Bit)
    assert parsed(whole).findings == ()
    for cut in (1, 9, 500, 1500):
        assert parsed(whole[:-cut]).findings == ("truncated",)


def test_cut_inside_a_wanted_value_is_a_cut_header() -> None:
    data = with_meta(UIDS + element(0x0040A043, b"SQ", b"\xfe\xff\x00\xe0\x08\0\0\0", 64))
    assert refused(data) == "truncated-header"


@pytest.mark.parametrize("tag", [0x00081199, 0x0040A730])
@pytest.mark.parametrize("depth", [63, 64, 65, 250, 1000, 100_000])
@pytest.mark.parametrize("defined", [False, True])
def test_nesting_never_breaks_the_reader(depth: int, tag: int, defined: bool) -> None:
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + b"SQ\0\0"
    if defined:
        parts, size = [], 0
        for _ in range(depth):
            parts.append(
                head + struct.pack("<I", size + 8) + b"\xfe\xff\x00\xe0" + struct.pack("<I", size)
            )
            size += 20
        nest = b"".join(reversed(parts))
    else:
        nest = (head + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4) * depth
        nest += b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * depth
    recursive: dict = {0x00080100: None}
    for _ in range(80):
        recursive = {tag: recursive}
    for wanted in (WANTED, recursive):
        began = time.process_time()
        at = 50 if tag < 0x00200000 else len(UIDS)
        result = read_bytes(with_meta(UIDS[:at] + nest + UIDS[at:]), wanted)
        assert time.process_time() - began < 1
        passed_over = wanted is WANTED and defined
        if depth <= 64 or passed_over:
            assert isinstance(result, Read), result
        elif not isinstance(result, Read):
            assert result.reason == "too-deep"
        else:
            assert wanted is WANTED or defined


def test_nesting_that_pydicom_is_asked_for_never_breaks_the_reader() -> None:
    odd = element(0x00080017, b"ZZ", b"12")
    head = b"\x08\0\x99\x11SQ\0\0" + b"\xff" * 4 + b"\xfe\xff\x00\xe0" + b"\xff" * 4
    assert refused(with_meta(odd + head * 2000 + UIDS)) == "too-deep"


@pytest.mark.parametrize("odd", [b"", element(0x00080006, b"ZZ", b"12")])
def test_deflate_bomb_is_refused_before_it_goes_off(odd: bytes) -> None:
    bomb = odd + element(0x00080010, b"UN", b"\0" * 3_000_000) + UIDS
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = with_meta(deflater.compress(bomb) + deflater.flush(), b"1.2.840.10008.1.2.1.99")
    assert refused(data, limits=Limits(inflate=1_000_000)) == "inflate-limit"
    assert isinstance(read_bytes(data, WANTED), Read)


def test_broken_deflate_is_malformed() -> None:
    assert refused(with_meta(b"\xff" * 100, b"1.2.840.10008.1.2.1.99")) == "malformed"


def test_no_claimed_length_makes_us_hold_it() -> None:
    data = with_meta(UIDS + element(0x0040A043, b"SQ", b"", 0xFFFFFFF0))
    assert refused(data) == "truncated-header"
    data = with_meta(UIDS[:50] + element(0x00100010, b"UT", b"x" * 5000) + UIDS[50:])
    assert refused(data, limits=Limits(header=1000)) == "header-limit"


def test_nothing_is_said_of_a_value(caplog, recwarn, capfd) -> None:
    canary = b"CANARY^VALUE"
    data = with_meta(
        UIDS[:50] + element(0x00100010, b"ZZ", canary) + element(0x00100030, b"DA", canary)
    )
    for cut in range(len(data) - 40, len(data)):
        result = read_bytes(data[:cut] + b"\xff" * 9, WANTED)
        assert "CANARY" not in repr(result) or isinstance(result, Read)
    assert not caplog.records
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")


@given(
    st.binary(max_size=600),
    st.sampled_from(
        [
            b"1.2.840.10008.1.2",
            b"1.2.840.10008.1.2.1\0",
            b"1.2.840.10008.1.2.2\0",
            b"1.2.840.10008.1.2.1.99",
        ]
    ),
)
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_an_answer(junk: bytes, syntax: bytes) -> None:
    for data in (
        junk,
        with_meta(junk, syntax),
        with_meta(UIDS + junk, syntax),
        with_meta(junk + UIDS, syntax),
    ):
        result = read_bytes(data, WANTED)
        assert isinstance(result, Read) or result.reason in REASONS


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_damage_gives_an_answer(data) -> None:
    whole = bytearray(
        written(make(), data.draw(st.sampled_from(SYNTAXES)), undefined=data.draw(st.booleans()))
    )
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(132, len(whole) - 1))] = data.draw(st.integers(0, 255))
    result = read_bytes(bytes(whole), WANTED)
    assert isinstance(result, Read) or result.reason in REASONS


TEXT = st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=16)


@given(
    values=st.dictionaries(
        st.sampled_from(
            ["PatientID", "StudyDescription", "SeriesDescription", "StationName", "ProtocolName"]
        ),
        TEXT,
    ),
    codes=st.lists(TEXT, max_size=4),
    syntax=st.sampled_from(SYNTAXES),
    undefined=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_made_headers_come_back(values, codes, syntax, undefined) -> None:
    dataset = make(**values, ProcedureCodeSequence=Sequence([code(c) for c in codes]))
    tags = {pydicom.datadict.tag_for_keyword(k): v for k, v in values.items()}
    header = parsed(
        written(dataset, syntax, undefined=undefined), {**WANTED, **dict.fromkeys(tags)}
    ).header
    for tag, value in tags.items():
        assert header[tag].decode().rstrip(" ") == value
    assert [i[0x00080100].decode().rstrip() for i in items(header[0x00081032])] == codes
