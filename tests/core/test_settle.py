"""A study is published when it is quiet, or at its cap; an open association holds its quiet period back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from converter.core.settle import Settler


def test_a_study_is_due_when_it_is_quiet():
    settler = Settler(60, 900)
    settler.changed("a", 0)
    settler.changed("b", 30)
    settler.changed("a", 50)
    assert settler.due(89.9) == []
    assert settler.due(90) == ["b"]
    assert settler.due(110) == ["a", "b"]
    settler.done("a")
    assert settler.due(110) == ["b"]


def test_a_study_that_never_rests_is_due_at_its_cap():
    settler = Settler(60, 900)
    for second in range(0, 1000, 5):
        settler.changed("a", second)
        assert settler.due(second) == ([] if second < 900 else ["a"])


def test_after_its_publication_a_study_has_a_new_cap():
    settler = Settler(60, 900)
    settler.changed("a", 0)
    settler.done("a")
    settler.changed("a", 890)
    assert settler.due(900) == []
    assert settler.due(950) == ["a"]


def test_an_association_that_carries_a_study_holds_it_back_until_the_cap():
    settler = Settler(60, 900)
    settler.changed("a", 0)
    settler.changed("b", 0)
    assert settler.due(500, {"a"}) == ["b"]
    settler.done("b")
    assert settler.due(559) == []
    assert settler.due(560) == ["a"]
    settler.changed("a", 561)
    assert settler.due(900, {"a"}) == ["a"]


def test_the_cap_counts_from_before_a_restart():
    settler = Settler(60, 900)
    settler.changed("a", 1000, first=1000 - 850)
    assert settler.due(1049) == []
    assert settler.due(1050) == ["a"]


def test_when_the_next_is_due():
    settler = Settler(60, 900)
    assert settler.next() is None
    settler.changed("a", 10)
    assert settler.next() == 70
    assert "a" in settler
    assert len(settler) == 1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), max_size=40))
def test_nothing_is_due_early_and_everything_is_due_in_the_end(steps):
    settler, now, last = Settler(60, 900), 0, {}
    for study, pause in steps:
        now += pause
        settler.changed(study, now)
        last[study] = now
        for due in settler.due(now):
            assert now - last[due] >= 60 or now >= 900
    assert set(settler.due(now + 60)) == set(last)
