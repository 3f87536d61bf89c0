from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from converter.core.header import digest, items, merge_wanted, pack_items

HEADER = st.dictionaries(st.integers(0, 0xFFFFFFFF), st.binary(max_size=8), max_size=4)


@given(st.lists(HEADER, max_size=4))
def test_items_come_back_as_they_were_packed(headers):
    assert items(pack_items(headers)) == headers


def test_no_value_has_no_items():
    assert items(None) == items(b"") == items(pack_items([])) == []


@given(HEADER)
def test_the_order_of_attributes_changes_no_digest(header):
    turned = dict(reversed(header.items()))
    assert digest(header) == digest(turned)
    assert pack_items([header]) == pack_items([turned])


def test_another_value_gives_another_digest():
    assert len({digest({1: b"a"}), digest({1: b"b"}), digest({2: b"a"}), digest({})}) == 4


def test_wanted_tags_are_united_at_every_depth():
    one = {1: None, 2: {3: None, 4: {5: None}}}
    other = {2: {4: {6: None}}, 7: {8: None}}
    assert merge_wanted(one, other) == {
        1: None,
        2: {3: None, 4: {5: None, 6: None}},
        7: {8: None},
    }


def test_a_sequence_that_is_wanted_as_a_whole_elsewhere_keeps_its_items():
    assert merge_wanted({1: None}, {1: {2: None}}) == {1: {2: None}}
    assert merge_wanted({1: {2: None}}, {1: None}) == {1: {2: None}}
