"""Reading tasks: files, archives of every kind, filters, bounds."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import struct
import tarfile
import zipfile

import pytest

from converter.sources import Filters, archives, worker


def zipped(members, **options):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(members, mode="w"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def members(make_dicom):
    return {
        "p/1.dcm": make_dicom(sop="1.2.3.1.1"),
        "p/2": make_dicom(sop="1.2.3.1.2"),
        "notes.txt": b"no DICOM at all, just words\n" * 40,
    }


WRITERS = {
    "zip": zipped,
    "tar": tarred,
    "tar.gz": lambda m: tarred(m, "w:gz"),
    "tgz": lambda m: tarred(m, "w:gz"),
    "tar.bz2": lambda m: tarred(m, "w:bz2"),
    "tar.xz": lambda m: tarred(m, "w:xz"),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("name", ["a.{}", "deep/a.{}", "no-extension"])
def test_an_archive_is_read_without_unpacking_it(tmp_path, gather, members, kind, name):
    name = name.format(kind)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(WRITERS[kind](members))
    before = sorted(tmp_path.rglob("*"))
    gathered = gather(tmp_path)
    assert gathered.sources == [f"{name}!/p/1.dcm", f"{name}!/p/2"]
    assert gathered.skipped == [(f"{name}!/notes.txt", "not-dicom", gathered.skipped[0][2])]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", WRITERS)
def test_an_archive_larger_than_any_buffer_is_read_to_its_end(tmp_path, gather, make_dicom, kind):
    noise = {f"noise{index}": random.Random(index).randbytes(200_000) for index in range(3)}
    members = {**noise, "1.dcm": make_dicom(), **{f"{name}b": noise[name] for name in noise}}
    (tmp_path / "a").write_bytes(WRITERS[kind]({**members, "2.dcm": make_dicom(sop="1.2.9")}))
    gathered = gather(tmp_path)
    assert gathered.sources == ["a!/1.dcm", "a!/2.dcm"]
    assert set(gathered.reasons.values()) == {"not-dicom"}


@pytest.mark.parametrize("squeeze", [gzip.compress, bz2.compress, lzma.compress])
def test_one_compressed_file_is_an_archive_of_one(tmp_path, gather, make_dicom, squeeze):
    suffix = {"gzip": "gz", "bz2": "bz2", "lzma": "xz"}[squeeze.__module__]
    (tmp_path / f"1.dcm.{suffix}").write_bytes(squeeze(make_dicom()))
    assert gather(tmp_path).sources == [f"1.dcm.{suffix}!/1.dcm"]


def test_a_wrong_extension_does_not_hide_a_file(tmp_path, gather, make_dicom):
    (tmp_path / "scan.zip").write_bytes(make_dicom())
    assert gather(tmp_path).sources == ["scan.zip"]


def test_an_archive_in_an_archive_is_skipped(tmp_path, gather, members):
    outer = {"inner.zip": zipped(members), "inner.tar": tarred(members), **members}
    (tmp_path / "a.zip").write_bytes(zipped(outer))
    gathered = gather(tmp_path / "a.zip")
    assert gathered.reasons["a.zip!/inner.zip"] == "nested-archive"
    assert gathered.reasons["a.zip!/inner.tar"] == "nested-archive"
    assert len(gathered.sources) == 2


def test_a_document_that_is_a_zip_underneath_is_no_archive(tmp_path, gather, members):
    (tmp_path / "report.docx").write_bytes(zipped(members))
    assert gather(tmp_path).reasons == {"report.docx": "not-dicom"}


def test_an_encrypted_member_is_told_and_the_next_one_is_read(tmp_path, gather, members):
    data = bytearray(zipped(members))
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # APPNOTE 4.3.7 and 4.3.12
        at = data.find(signature)
        data[at + flags] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    gathered = gather(tmp_path)
    assert gathered.reasons["a.zip!/p/1.dcm"] == "encrypted-member"
    assert gathered.sources == ["a.zip!/p/2"]


def test_a_damaged_member_is_told_and_the_next_one_is_read(tmp_path, gather, members):
    data = bytearray(zipped(members))
    length = struct.unpack_from("<H", data, 26)[0]
    data[30 + length : 30 + length + 40] = b"\xff" * 40
    (tmp_path / "a.zip").write_bytes(data)
    gathered = gather(tmp_path)
    assert gathered.reasons["a.zip!/p/1.dcm"] == "unreadable-member"
    assert gathered.sources == ["a.zip!/p/2"]
    (detail,) = [detail for _, reason, detail in gathered.skipped if reason == "unreadable-member"]
    assert detail.startswith("Error -3 while decompressing data")


def test_what_is_said_of_damage_ends_before_the_name_that_it_quotes(tmp_path, gather, members):
    data = bytearray(zipped(members))
    at = data.find(b"PK\1\2") + 16  # CRC in the central directory (APPNOTE 4.3.12)
    data[at : at + 4] = b"\0\0\0\0"
    (tmp_path / "a.zip").write_bytes(data)
    skipped = {path: detail for path, _, detail in gather(tmp_path).skipped}
    assert skipped["a.zip!/p/1.dcm"] == "Bad CRC-32"


@pytest.mark.parametrize("kind", WRITERS)
def test_an_archive_that_breaks_off_is_told_and_the_next_file_is_read(
    tmp_path, gather, make_dicom, kind
):
    noise = {str(i): make_dicom(sop=f"1.2.3.1.{i}") + os.urandom(3000) for i in range(1, 20)}
    whole = WRITERS[kind](noise)
    (tmp_path / f"a.{kind}").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b.dcm").write_bytes(make_dicom(sop="1.2.3.1.99"))
    gathered = gather(tmp_path)
    assert gathered.reasons[f"a.{kind}"] == "unreadable-archive"
    assert "b.dcm" in gathered.sources


def test_a_damaged_header_within_a_tar_is_no_quiet_end(tmp_path, gather, members):
    data = bytearray(tarred(members))
    at = data.find(b"p/2\0")
    data[at + 148 : at + 156] = b"garbage!"
    (tmp_path / "a.tar").write_bytes(data)
    gathered = gather(tmp_path)
    assert gathered.sources == ["a.tar!/p/1.dcm"]
    assert gathered.reasons["a.tar"] == "unreadable-archive"


def test_a_tar_without_its_end_mark_is_told(tmp_path, gather, make_dicom):
    data = tarred({"1": make_dicom()})
    (tmp_path / "a.tar").write_bytes(data[: 512 + 512])
    gathered = gather(tmp_path)
    assert gathered.reasons == {"a.tar": "unreadable-archive"}


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress])
def test_a_second_archive_behind_a_tar_is_told(tmp_path, gather, members, make_dicom, squeeze):
    second = tarred({"3": make_dicom(sop="1.2.3.1.3")})
    (tmp_path / "a.tar").write_bytes(squeeze(tarred(members)) + squeeze(second))
    (tmp_path / "b.tar").write_bytes(squeeze(second) + b"a signature")
    gathered = gather(tmp_path)
    assert gathered.reasons["a.tar"] == "unreadable-archive"
    assert gathered.sources == ["a.tar!/p/1.dcm", "a.tar!/p/2", "b.tar!/3"]
    assert "b.tar" not in gathered.reasons


def test_links_and_devices_in_a_tar_are_not_followed(tmp_path, gather):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("s", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE), ("f", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    assert gather(tmp_path).reasons == {
        "a.tar!/f": "special-file",
        "a.tar!/h": "symbolic-link",
        "a.tar!/s": "symbolic-link",
    }


def test_names_that_climb_are_only_names(tmp_path, gather, make_dicom):
    (tmp_path / "a.zip").write_bytes(zipped({"../../x": make_dicom()}))
    (tmp_path / "a.tar").write_bytes(tarred({"../../x": make_dicom(), "/etc/x": make_dicom()}))
    assert gather(tmp_path).sources == ["a.tar!/../../x", "a.tar!//etc/x", "a.zip!/../../x"]


def test_a_member_that_inflates_beyond_the_limit_is_refused(
    tmp_path, gather, make_dicom, monkeypatch
):
    monkeypatch.setattr(archives, "MEMBER_LIMIT", 1 << 20)
    private = b"\x09\x00\x01\x10OB\0\0" + (8 << 20).to_bytes(4, "little") + bytes(8 << 20)
    data = make_dicom()
    at = data.find(b"\x10\0\x10\0PN")
    (tmp_path / "a.zip").write_bytes(zipped({"bomb": data[:at] + private + data[at:], "ok": data}))
    gathered = gather(tmp_path)
    assert gathered.reasons == {"a.zip!/bomb": "inflate-limit"}
    assert gathered.sources == ["a.zip!/ok"]


def test_a_tar_that_inflates_beyond_the_limit_is_refused(tmp_path, gather, make_dicom, monkeypatch):
    monkeypatch.setattr(archives, "ARCHIVE_LIMIT", 1 << 20)
    monkeypatch.setattr(archives, "ARCHIVE_RATIO", 2)
    bomb = {"1": make_dicom(), "2": bytes(4 << 20), "3": make_dicom(sop="1.9")}
    (tmp_path / "a.tgz").write_bytes(tarred(bomb, "w:gz"))
    gathered = gather(tmp_path)
    assert gathered.sources == ["a.tgz!/1"]
    assert gathered.reasons["a.tgz"] == "inflate-limit"


def test_filters_leave_out_and_count(tmp_path, gather, make_dicom):
    for index, (study, modality) in enumerate([("1.1", "CT"), ("1.2", "CT"), ("1.1", "MR")]):
        sop = f"1.3.{index + 1}"
        (tmp_path / str(index)).write_bytes(make_dicom(study, sop=sop, modality=modality))
    filters = Filters(modalities=("CT",), study_uids=frozenset({"1.1"}))
    gathered = gather(tmp_path, filters=filters)
    assert gathered.sources == ["0"]
    assert gathered.reasons == {"1": "filtered", "2": "filtered"}


def test_an_include_names_members_and_not_the_archive_that_holds_them(tmp_path, gather, members):
    (tmp_path / "a.zip").write_bytes(zipped(members))
    gathered = gather(tmp_path, filters=Filters(include=("*.dcm",)))
    assert gathered.sources == ["a.zip!/p/1.dcm"]
    assert gathered.reasons["a.zip!/p/2"] == "filtered"


def test_what_an_include_does_not_name_is_no_failure_when_it_cannot_be_read(
    tmp_path, gather, members
):
    encrypted = bytearray(zipped(members))
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        encrypted[encrypted.find(signature) + flags] |= 1
    (tmp_path / "a.zip").write_bytes(encrypted)
    (tmp_path / "b.zip").write_bytes(b"PK\3\4" + b"x" * 200)
    gathered = gather(tmp_path, filters=Filters(include=("*.ima",)))
    assert set(gathered.reasons.values()) == {"filtered"}
    for globs in (("*.zip", "*.dcm"), ("b*/*.zip", "p/*.dcm", "*.zip")):
        told = gather(tmp_path, filters=Filters(include=globs)).reasons
        assert (told["b.zip"], told["a.zip!/p/1.dcm"]) == ("unreadable-archive", "encrypted-member")


def test_an_archive_that_breaks_off_after_what_an_include_names_is_a_failure(
    tmp_path, gather, members
):
    (tmp_path / "a.tar").write_bytes(tarred(members)[:-9000])
    told = gather(tmp_path, filters=Filters(include=("*.dcm",))).reasons
    assert told["a.tar"] == "unreadable-archive"
    assert gather(tmp_path, filters=Filters(include=("*.ima",))).reasons["a.tar"] == "filtered"


def test_a_result_comes_in_bounded_parts(tmp_path, gather, make_dicom, monkeypatch):
    monkeypatch.setattr(worker, "ROWS", 10)
    many = {str(i): make_dicom(sop=f"1.2.{i + 1}") for i in range(35)}
    (tmp_path / "a.tar").write_bytes(tarred(many))
    gathered = gather(tmp_path)
    assert len(gathered.sources) == 35
    assert [part.instances for part in gathered.parts] == [10, 10, 10, 5]
    assert [part.done for part in gathered.parts] == [0, 0, 0, 1]


def test_a_large_zip_is_read_in_ranges(tmp_path, gather, make_dicom, monkeypatch):
    monkeypatch.setattr("converter.sources.planning.MEMBERS", 10)
    many = {str(i): make_dicom(sop=f"1.2.{i + 1}") for i in range(35)}
    (tmp_path / "a.zip").write_bytes(zipped(many))
    gathered = gather(tmp_path)
    assert [(task.first, task.last) for task in gathered.tasks] == [
        (0, 10),
        (10, 20),
        (20, 30),
        (30, 35),
    ]
    assert len(gathered.sources) == 35


def test_a_task_halves_down_to_one_file(tmp_path, gather, members):
    for name, data in members.items():
        (tmp_path / name.replace("/", "-")).write_bytes(data)
    (task,) = gather(tmp_path).tasks
    halves = task.halves()
    assert sorted(entry for half in halves for entry in half.entries) == sorted(task.entries)
    assert halves[0].halves() == []
