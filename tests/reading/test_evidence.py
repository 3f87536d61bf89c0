"""The evidence of key objects and reports: kept to know what a rejection note rejects, up to a bound."""

from __future__ import annotations

import io
from functools import cache

import pytest

from converter.core.header import items
from converter.core.rejection import EVIDENCE
from converter.core.wanted import wanted
from converter.reading import Limits, Read, read_bytes, read_stream
from tools.dicom_writer import files

TAG = 0x0040A375
WANTED = wanted({})
DAEMON = Limits(header=1 << 20, inflate=64 << 20)


@cache
def key_object(references: int, *, undefined: bool) -> bytes:
    sops = [
        {
            "ReferencedSOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
            "ReferencedSOPInstanceUID": f"2.999.1.2.{number}",
        }
        for number in range(references)
    ]
    series = [{"SeriesInstanceUID": "2.999.1.2", "ReferencedSOPSequence": sops}]
    instance = {
        "SOPClassUID": "KeyObjectSelectionDocumentStorage",
        "StudyInstanceUID": "2.999.1",
        "SeriesInstanceUID": "2.999.1.9",
        "SOPInstanceUID": "2.999.1.9.1",
        "undefined_lengths": undefined,
        EVIDENCE: [{"StudyInstanceUID": "2.999.1", "ReferencedSeriesSequence": series}],
        "ContentLabel": "AFTER",
    }
    (file,) = files({"root": "2.999.1", "instance": [instance]})
    return file.content


class Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("limits", [Limits(), DAEMON])
def test_much_evidence_costs_no_object_where_smaller_ones_were_read_before(undefined, limits):
    for count in (1, 2, 3, 4, 5) * 2:
        read_bytes(key_object(count, undefined=undefined), WANTED)
    data = key_object(17_000, undefined=undefined)
    read = read_stream(Pipe(data), len(data), WANTED, limits=limits)
    assert isinstance(read, Read)
    assert read.findings == ("evidence-too-large",)


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("limits", [Limits(), DAEMON])
@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize(("count", "kept"), [(1, True), (900, True), (17_000, False)])
def test_evidence_is_kept_up_to_a_bound_and_never_costs_the_object(
    undefined, limits, piped, count, kept
):
    data = key_object(count, undefined=undefined)
    read = (
        read_stream(Pipe(data), len(data), WANTED, limits=limits)
        if piped
        else read_bytes(data, WANTED, limits=limits)
    )
    assert isinstance(read, Read)
    assert read.findings == (() if kept else ("evidence-too-large",))
    [evidence] = items(read.header[TAG]) if kept else [None]
    assert kept == bool(evidence)
    if not kept:
        assert items(read.header.get(TAG)) == []
