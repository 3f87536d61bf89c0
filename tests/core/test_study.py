from __future__ import annotations

from collections import Counter
from itertools import permutations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.core.header import Split, digest
from converter.core.study import Block, Series, assemble, pack, pack_block, unpack_block

HEADERS = st.dictionaries(st.sampled_from([1, 2, 3, 4]), st.binary(max_size=3))


def block(*rows, series="1.2"):
    """Rows of (UID, content, source)."""
    return pack("1", series, [(uid, {1: text}, source, []) for uid, text, source in rows])


@given(st.lists(HEADERS, min_size=1, max_size=6))
def test_a_block_gives_back_every_header(headers):
    rows = [(f"1.{i}", header, f"f{i}", ["x"]) for i, header in enumerate(headers)]
    made = unpack_block(pack_block(pack("1", "1.2", rows)))
    assert [made.header(index) for index in range(len(headers))] == headers


SHARED = {1: b"a", 2: b"b"}
OWN = st.tuples(st.binary(max_size=2), st.binary(max_size=1))
ALIKE = st.one_of(
    OWN.map(lambda values: Split(SHARED, (3, 4), values)),
    OWN.map(lambda values: Split(SHARED, (3, 4), values).whole()),
    OWN.map(lambda values: Split({1: b"a"}, (2, 4), values)),
    HEADERS,
)


@given(st.lists(ALIKE, min_size=1, max_size=6))
def test_headers_in_parts_make_the_block_that_whole_ones_make(kept):
    whole = [one.whole() if isinstance(one, Split) else one for one in kept]
    made, expected = (
        pack("1", "1.2", [(f"1.{i}", one, "", []) for i, one in enumerate(some)])
        for some in (kept, whole)
    )
    assert made == expected


def test_a_copy_of_an_older_state_that_holds_its_digest_is_known_again():
    old, new = block(("1.1", b"x", "a")), block(("1.1", b"x", "b"))
    old.rows[0].digest = digest({1: b"x"})
    assert assemble("1", [old, new]).duplicates == ["b"]


@given(st.lists(HEADERS, min_size=1, max_size=6))
def test_what_all_instances_share_stands_once(headers):
    made = pack("1", "1.2", [(f"1.{i}", header, "", []) for i, header in enumerate(headers)])
    assert not set(made.shared) & set(made.tags)
    assert all(header.get(tag) == value for tag, value in made.shared.items() for header in headers)


@given(st.lists(HEADERS, min_size=1, max_size=6))
def test_instances_and_series_tell_the_same_values(headers):
    made = pack("1", "1.2", [(f"1.{i}", header, "", []) for i, header in enumerate(headers)])
    [series] = assemble("1", [made]).series
    tags = (4, 1, 3)
    expected = [tuple(header.get(tag) for tag in tags) for header in headers]
    assert series.keys(tags) == expected
    assert [tuple(one.get(tag) for tag in tags) for one in series.instances] == expected
    assert sum(series.tally(tags).values()) == len(headers)


def test_bytes_that_are_no_block_are_refused():
    with pytest.raises(msgspec.MsgspecError):
        unpack_block(b"\x01")


def test_series_and_instances_are_sorted_by_uid():
    study = assemble("1", [block(("1.9", b"", ""), series="1.4"), block(("1.8", b"", ""))])
    assert [series.uid for series in study.series] == ["1.2", "1.4"]
    assert study.count == 2


def test_one_instance_read_twice_is_one_and_its_copy_is_told():
    study = assemble("1", [block(("1.1", b"x", "b"), ("1.1", b"x", "a"))])
    assert (study.count, study.duplicates, study.replaced, study.issues) == (1, ["b"], [], [])


def test_a_copy_that_differs_is_left_out_with_a_finding():
    study = assemble("1", [block(("1.1", b"x", "a"), ("1.1", b"y", "b"))])
    assert study.count == 1
    assert [issue.code for issue in study.issues] == ["duplicate-differs"]
    assert study.issues[0].examples == ("1.1",)
    kept = study.series[0].instances[0].row.source
    assert study.replaced == [{"a": "b", "b": "a"}[kept]]
    assert [one.row.source for one in study.others] == study.replaced


COPIES = (("1.1", b"x", "a"), ("1.1", b"x", "b"), ("1.1", b"y", "c"), ("1.1", b"y", "d"))


def test_which_of_many_copies_stands_does_not_depend_on_their_order():
    seen = {
        repr(
            (
                [(one.row.digest, one.row.source) for one in study.series[0].instances],
                study.duplicates,
                study.replaced,
                [(one.row.digest, one.row.source) for one in study.others],
                study.issues,
            )
        )
        for order in permutations(COPIES)
        for study in [assemble("1", [block(copy) for copy in order])]
    }
    assert len(seen) == 1


def test_one_uid_in_two_series_stands_in_one_of_them():
    study = assemble("1", [block(("1.1", b"x", "a")), block(("1.1", b"x", "b"), series="1.3")])
    assert [series.uid for series in study.series] == ["1.2"]


def test_a_series_without_instances_has_no_keys():
    assert Series("1.2", []).keys((1,)) == []


def test_a_block_without_rows_adds_nothing():
    assert assemble("1", [Block("1", "1.2", {}, [], [])]).series == []


@given(st.lists(HEADERS, min_size=1, max_size=6), st.integers(1, 5))
def test_counting_tells_the_same_however_the_series_was_cut_into_blocks(headers, cut):
    rows = [(f"1.{i}", header, "", []) for i, header in enumerate(headers)]
    parts = [part for part in (rows[:cut], rows[cut:]) if part]
    [series] = assemble("1", [pack("1", "1.2", part) for part in parts]).series
    for tags in ((1,), (4, 1, 3), ()):
        assert series.tally(tags) == Counter(tuple(h.get(tag) for tag in tags) for h in headers)
