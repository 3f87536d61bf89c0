"""``dcm2fhir mappings``: what is shipped, what is wrong with it, and where to start."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from converter.cli.main import run
from converter.cli.mappings import TEMPLATE
from converter.mapping import shipped


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_list_names_every_file(capsys):
    assert run(["mappings", "list"]) == 0
    listed = [tuple(line.split("\t")[:2]) for line in capsys.readouterr().out.splitlines()]
    assert listed == [(file.kind, file.name) for file in shipped()]
    assert {("base", "imaging-study"), ("profile", "ips"), ("codes", "modality")} <= set(listed)


def test_titles_are_whole(capsys):
    assert run(["mappings", "list"]) == 0
    titles = [line.split("\t")[2] for line in capsys.readouterr().out.splitlines()]
    for title in titles:
        assert not re.search(r"[,;:]$| (and|which|the|of)$", title)
        assert title.count("(") == title.count(")")
    assert (
        "Base FHIR R4 (4.0.1): no constraint beside the definitions, and nothing to claim" in titles
    )
    assert "UK Core ImagingStudy 1.1.0 (draft, 2023-12-12)" in titles


@pytest.mark.parametrize("file", shipped(), ids=lambda file: f"{file.kind}/{file.name}")
def test_show_prints_what_list_names(file, capsys):
    assert run(["mappings", "show", f"{file.kind}/{file.name}"]) == 0
    assert capsys.readouterr().out == file.path.read_text(encoding="utf-8")


def test_show_of_an_unknown_name_gives_the_nearest(capsys):
    assert run(["mappings", "show", "imagin-study"]) == 2
    assert "Did you mean imaging-study?" in capsys.readouterr().err


def test_check_runs_every_example(capsys):
    assert run(["mappings", "check"]) == 0
    count = int(re.fullmatch(r"ok: (\d+) examples hold\n", capsys.readouterr().out)[1])
    assert count >= 20


def test_check_says_what_is_in_force_of_a_site_and_refuses_a_folder_of_nothing(tmp_path, capsys):
    folder = tmp_path / "m"
    (folder / "codes").mkdir(parents=True)
    assert run(["mappings", "check", str(folder)]) == 3
    assert "holds neither *.toml nor codes/*.csv" in capsys.readouterr().err
    (folder / "a.toml").write_text("[ImagingStudy]\nlocation = false\n")
    (folder / "codes" / "body-part.csv").write_text("term,code,display,paired\n")
    assert run(["mappings", "check", str(folder)]) == 0
    assert f"of yours: {folder}/a.toml, {folder}/codes/body-part.csv\n" in capsys.readouterr().out


def test_init_writes_an_overlay_that_check_takes(capsys):
    assert run(["mappings", "init"]) == 0
    assert Path("site.toml").read_text(encoding="utf-8") == TEMPLATE
    assert run(["mappings", "check", "site.toml"]) == 0
    assert run(["mappings", "init"]) == 3
    assert "stands there already" in capsys.readouterr().err


def test_everything_commented_in_the_overlay_works(tmp_path):
    rules = re.sub(r"^# (?=\[|\w+ +=)", "", TEMPLATE, flags=re.MULTILINE)
    assert rules.count("[[example]]") == 2
    (tmp_path / "site.toml").write_text(rules, encoding="utf-8")
    assert run(["mappings", "check", "site.toml"]) == 0


def test_check_tells_all_faults_with_file_key_and_nearest_name(capsys, tmp_path):
    (tmp_path / "site.toml").write_text(
        """
        [ImagingStudy]
        descripton = { from = "StudyDescription", as = "string" }
        started = { form = "StudyDate", from = "StudyDaet", as = "dateTime" }
        """
    )
    assert run(["mappings", "check", "site.toml"]) == 3
    err = capsys.readouterr().err
    assert "site.toml: ImagingStudy.descripton: " in err
    assert "did you mean description?" in err
    assert "did you mean StudyDate?" in err
    assert "did you mean from?" in err


def test_an_example_that_does_not_hold_is_a_fault(capsys, tmp_path):
    (tmp_path / "overlay").mkdir()
    (tmp_path / "overlay" / "site.toml").write_text(
        "[[example]]\nwhy = 'wrong'\ndicom = { StudyDescription = 'a' }\nfhir = { description = 'b' }"
    )
    assert run(["mappings", "check", "overlay"]) == 3
    assert "site.toml: example 'wrong'" in capsys.readouterr().err


def test_two_folders_are_wrong_use(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert run(["mappings", "check", "a", "b"]) == 2


def test_the_documents_examples_hold(tmp_path):
    page = Path(__file__).resolve().parent.parent.parent / "docs" / "add-a-mapping.md"
    blocks = re.findall(
        r"^ *```toml\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert len(blocks) >= 5
    blocks[1:3] = ["".join(blocks[1:3])]  # the second is the test of the first
    for number, block in enumerate(blocks):
        (tmp_path / f"{number}.toml").write_text(block)
        assert run(["mappings", "check", f"{number}.toml"]) == 0, block
