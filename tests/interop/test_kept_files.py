"""Whole objects (`--keep-files`) under kills and from dcmtk, and what memory a large one takes."""

from __future__ import annotations

import os
import random
import re
import struct
import threading
import time
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from converter.listener.files import place_of
from tools.dicom_sender import CT, Rejected, Sender, command, pdu, pdv

pytestmark = pytest.mark.interop

KILLS = int(os.environ.get("DCM2FHIR_TEST_KILLS", "50")) // 5
SENDERS = 3


@pytest.fixture
def instance(make_dicom):
    """A data set with pixel data, which are made of its number, and its SOP Instance UID."""

    def make_one(study, number=1, size=60_000):
        uid = f"{study}.1.{number}"
        whole = make_dicom(study=study, sop=uid, number=str(number))
        head = whole[144 + int.from_bytes(whole[140:144], "little") :]
        pixels = random.Random(uid).randbytes(size)
        return head + b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<I", size) + pixels, uid, pixels

    return make_one


def test_of_all_that_was_acknowledged_the_whole_file_is_there_after_kills(
    daemon, instance, tmp_path
):
    chance = random.Random(2)
    root = tmp_path / "files"
    options = ("--keep-files", str(root))
    running = daemon(*options)
    port = running.port
    acknowledged: list[list[tuple[str, str, bytes]]] = [[] for _ in range(SENDERS)]
    stopping = threading.Event()

    def sends(index):
        number = 0
        while not stopping.is_set():
            try:
                with Sender(port, timeout=5) as sender:
                    sender.associate()
                    while not stopping.is_set():
                        study = f"1.2.{index + 1}.{number // 25}"
                        data, uid, pixels = instance(study, number % 25 + 1)
                        if sender.store(data, uid).status == 0:
                            acknowledged[index].append((study, uid, pixels))
                            number += 1
            except (OSError, Rejected):
                stopping.wait(0.05)

    threads = [threading.Thread(target=sends, args=(index,)) for index in range(SENDERS)]
    for thread in threads:
        thread.start()
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.2, 0.8))
        running.kill()
        running = daemon("--port", str(port), *options)
    stopping.set()
    for thread in threads:
        thread.join(30)
    sent = [one for part in acknowledged for one in part]
    assert len(sent) > 5 * KILLS
    running.end()
    running = daemon(*options)
    for study, uid, pixels in sent:
        read = pydicom.dcmread(place_of(root, study, uid))
        assert (read.SOPInstanceUID, read.StudyInstanceUID) == (uid, study)
        assert read.PixelData == pixels
    assert list(root.glob("incoming/*/*")) == []
    # in flight at a kill: at most one a sender and kill was taken in and not acknowledged
    assert len(list(root.rglob("*.dcm"))) <= len(sent) + SENDERS * (KILLS + 1)
    running.end()


def test_what_dcmtk_sends_is_kept_byte_for_byte(daemon, dcmtk, tmp_path):
    root = tmp_path / "files"
    running = daemon("--keep-files", str(root), "--keep-headers")
    names = ["CT_small.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm", "image_dfl.dcm"]
    files = [get_testdata_file(name) for name in names]
    for file in files:
        dcmtk("storescu", "-aec", "DCM2FHIR", "-xf", *_profile(tmp_path, file), "127.0.0.1",
              running.port, file)  # fmt: skip
    dcmtk("dcmsend", "127.0.0.1", running.port, files[0])
    running.until(lambda: len(list(root.glob("??/*/*.dcm"))) == len(files))
    for file in files:
        sent = pydicom.dcmread(file)
        kept = pydicom.dcmread(place_of(root, sent.StudyInstanceUID, sent.SOPInstanceUID))
        assert kept.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
        assert kept.PixelData == sent.PixelData
    running.end()


def _profile(folder, file):
    """Association of storescu that proposes just what a file is written in."""
    read = pydicom.dcmread(file, stop_before_pixels=True)
    path = folder / "storescu.cfg"
    path.write_text(
        f"[[TransferSyntaxes]]\n[T]\nTransferSyntax1 = {read.file_meta.TransferSyntaxUID}\n"
        f"[[PresentationContexts]]\n[C]\nPresentationContext1 = {read.SOPClassUID}\\T\n"
        "[[Profiles]]\n[P]\nPresentationContexts = C\n"
    )
    return path, "P"


def test_a_large_object_takes_little_memory_and_is_whole(daemon, instance, tmp_path):
    root = tmp_path / "files"
    running = daemon("--keep-files", str(root), "--keep-headers", "--receivers", "1")
    size = 300 << 20
    head, uid, _ = instance("1.2.3", size=0)
    head = head[:-4] + struct.pack("<I", size)
    step = bytes(range(256)) * 400
    with Sender(running.port, timeout=120).associate() as sender:
        sender.send(pdu(pdv(1, command(1, 1, sop_class=CT, sop_instance=uid), is_command=True)))
        sender.send(pdu(pdv(1, head, last=False)))
        left = size
        while left:
            piece = step[: min(left, len(step))]
            left -= len(piece)
            sender.send(pdu(pdv(1, piece, last=not left)))
        assert sender.response().status == 0
        sender.release()
    for path in Path("/proc").glob("[0-9]*/status"):
        text = _text(path)
        if re.search(rf"^PPid:\s+{running.process.pid}$", text, re.MULTILINE):
            peak = int(re.search(r"^VmHWM:\s+(\d+)", text, re.MULTILINE)[1]) / 1024
            assert peak < 120
    running.published(1, 1)
    place = place_of(root, "1.2.3", uid)
    with place.open("rb") as file:
        file.seek(-size, os.SEEK_END)
        assert file.read(len(step)) == step
        file.seek(-len(head) - size, os.SEEK_END)
        assert file.read(len(head)) == head
    running.end()


def _text(path):
    try:
        return path.read_text()
    except OSError:
        return ""
