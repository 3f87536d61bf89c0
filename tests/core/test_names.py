"""Person names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from converter.core.names import REPRESENTATION, PersonName, display_name, human_names, person_name


def test_five_components() -> None:
    name = "Adams^John Robert^Quincy^Rev.^B.A. M.Div."
    assert person_name(name) == [
        PersonName("Adams", "John Robert", "Quincy", "Rev.", "B.A. M.Div.")
    ]
    assert human_names(name, "usual") == [
        {
            "use": "usual",
            "text": "Rev. John Robert Quincy Adams B.A. M.Div.",
            "family": "Adams",
            "given": ["John", "Robert", "Quincy"],
            "prefix": ["Rev."],
            "suffix": ["B.A. M.Div."],
        }
    ]


def test_name_without_a_caret_is_the_family_name() -> None:
    assert human_names("SMITH JOHN") == [{"text": "SMITH JOHN", "family": "SMITH JOHN"}]


def test_given_name_alone() -> None:
    assert human_names("^Jane^^^") == [{"text": "Jane", "given": ["Jane"]}]


def test_three_groups_say_how_they_are_written() -> None:
    names = human_names("Yamada^Tarou=山田^太郎=やまだ^たろう", "official")
    assert [name["extension"][0]["valueCode"] for name in names] == ["ABC", "IDE", "SYL"]
    assert {name["extension"][0]["url"] for name in names} == {REPRESENTATION}
    assert [name["text"] for name in names] == ["Tarou Yamada", "山田 太郎", "やまだ たろう"]


def test_group_may_be_missing() -> None:
    names = human_names("=山田^太郎")
    assert len(names) == 1
    assert names[0]["extension"][0]["valueCode"] == "IDE"
    assert "extension" not in human_names("Yamada^Tarou==")[0]


def test_no_name_gives_none() -> None:
    for nothing in ("", "^^^^", "==", " ^ = ^ "):
        assert human_names(nothing) == []
        assert display_name(nothing) == ""


def test_display_is_the_alphabetic_group_else_the_next() -> None:
    assert display_name("Roe^Richard^^Dr^PhD") == "Dr Richard Roe PhD"
    assert display_name("=山田^太郎") == "山田 太郎"


def test_sixth_component_is_not_lost() -> None:
    assert person_name("A^B^C^D^E^F")[0].suffix == "E F"


@given(st.text(alphabet="ab ^=é王", max_size=30))
def test_text_holds_only_what_is_in_a_part(text: str) -> None:
    for name in human_names(text, "usual"):
        parts = [
            name.get("family", ""),
            *name.get("given", []),
            *name.get("prefix", []),
            *name.get("suffix", []),
        ]
        assert sorted(" ".join(parts).split()) == sorted(name["text"].split())
        assert all(part.strip() == part and part for part in parts if part)
