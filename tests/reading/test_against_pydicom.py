"""Value for value against pydicom, on every file that pydicom brings along."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.data import DATA_ROOT
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement

from converter.core.header import Unreadable, items
from converter.reading import read_bytes, read_file
from converter.reading.encoding import little_endian
from converter.reading.walk import plan

FILES = sorted(
    path
    for folder in ("test_files", "charset_files")
    for path in Path(DATA_ROOT, folder).rglob("*")
    if path.is_file() and path.suffix != ".py"
)
ALWAYS = {0x00080005, 0x00080016, 0x00080018, 0x0020000D, 0x0020000E}
STOP = {0x7FE00008, 0x7FE00009, 0x7FE00010, 0x52009230}


def stop_when(tag: int, vr: str | None, length: int) -> bool:
    return tag in STOP


def vr_of(dataset: Any, tag: int) -> str:
    vr = dataset.get_item(tag).VR
    if vr in {None, "UN"}:
        try:
            return dictionary_VR(tag)
        except KeyError:
            return vr or "UN"
    return vr


def tree(dataset: Any) -> tuple[dict[int, Any], dict[int, Any]]:
    """All tags of a data set as wanted tags, and the values that pydicom has for them."""
    wanted: dict[int, Any] = {}
    values: dict[int, Any] = {}
    for tag in dataset.keys():  # noqa: SIM118  # iterating gives elements
        if tag >> 16 == 0:
            continue
        vr = vr_of(dataset, tag)
        if vr == "SQ":
            inner: dict[int, Any] = {}
            held = []
            for item in dataset[tag].value:
                more, value = tree(item)
                merge(inner, more)
                held.append(value)
            wanted[int(tag)] = inner
            values[int(tag)] = held
        else:
            element = dataset.get_item(tag, keep_deferred=True)
            if tag == 0x00080005 and not isinstance(element, RawDataElement):
                names = [element.value] if isinstance(element.value, str) else element.value or []
                text = "\\".join(names).encode()
                wanted[int(tag)], values[int(tag)] = None, text + b" " * (len(text) % 2)
                continue
            if not isinstance(element, RawDataElement) or element.length == 0xFFFFFFFF:
                continue
            value = element.value or b""
            wanted[int(tag)] = None
            values[int(tag)] = (
                value if element.is_little_endian else little_endian(value, vr[:2].encode())
            )
    return wanted, values


def merge(into: dict[int, Any], more: dict[int, Any]) -> None:
    for tag, inner in more.items():
        if inner is not None and into.get(tag) is not None:
            merge(into[tag], inner)
        else:
            into[tag] = inner


def same(header: dict[int, bytes], values: dict[int, Any], where: str = "") -> list[str]:
    differing = [f"{where}{tag:08x} extra" for tag in header.keys() - values.keys()]
    for tag, value in values.items():
        if tag not in header:
            differing.append(f"{where}{tag:08x} missing")
        elif isinstance(value, list):
            got = items(header[tag])
            if len(got) != len(value):
                differing.append(f"{where}{tag:08x} items")
            else:
                for one, other in zip(got, value, strict=True):
                    differing += same(one, other, f"{where}{tag:08x}.")
        elif header[tag] != value:
            differing.append(f"{where}{tag:08x} value")
    return differing


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(DATA_ROOT)) for p in FILES])
def test_every_value_is_the_one_that_pydicom_reads(path: Path) -> None:
    logging.getLogger("pydicom").disabled = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with path.open("rb") as file:
                dataset = pydicom.filereader.read_partial(file, stop_when=stop_when, force=True)
            wanted, values = tree(dataset)
        except Exception:  # noqa: BLE001  # pydicom cannot: we must say so, too
            assert isinstance(read_file(path, {0x00100010: None}), Unreadable)
            return
    result = read_file(path, wanted)
    if isinstance(result, Unreadable):
        complete = all(dataset.get_item(tag) is not None for tag in ALWAYS)
        assert not complete or result.reason in {
            "dicomdir",
            "invalid-uid",
            "truncated-header",
            "not-an-instance",
        }
        return
    assert same(result.header, values) == []
    for explicit in (True, False):
        plan(wanted).known(
            explicit=explicit, little=True
        )._compile()  # what was seen once is enough
    assert read_bytes(path.read_bytes(), wanted) == result
