"""``dcm2fhir config``: what is in force and why, and a file to start from."""

from __future__ import annotations

import re
import tomllib

import pytest

from converter.cli.config import TEMPLATE
from converter.cli.main import run
from converter.config import load, settings_of


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_show_gives_value_and_origin_of_every_key(capsys, monkeypatch, tmp_path):
    (tmp_path / "dcm2fhir.toml").write_text("[convert]\nformat = 'ndjson'", encoding="utf-8")
    monkeypatch.setenv("DCM2FHIR_CONVERT__PROFILE", "uk-core,ips")
    assert run(["config", "show"]) == 0
    rows = dict(line.split("\t", 1) for line in capsys.readouterr().out.splitlines())
    assert rows["convert.format"] == "ndjson\tdcm2fhir.toml"
    assert rows["convert.profile"] == "uk-core, ips\tDCM2FHIR_CONVERT__PROFILE"
    assert rows["convert.jobs"] == "0\tdefault"
    assert len(rows) == len(settings_of(load()))


def test_show_changed_leaves_defaults_out(capsys, monkeypatch):
    monkeypatch.setenv("DCM2FHIR_CONVERT__STRICT", "true")
    assert run(["config", "show", "--changed"]) == 0
    assert capsys.readouterr().out == "convert.strict\ttrue\tDCM2FHIR_CONVERT__STRICT\n"


def test_show_masks_a_secret(capsys, monkeypatch):
    monkeypatch.setenv("DCM2FHIR_IDENTITY__KEY", "correct horse battery staple")
    assert run(["config", "show"]) == 0
    out = capsys.readouterr().out
    assert "identity.key\t********\tDCM2FHIR_IDENTITY__KEY" in out
    assert "horse" not in out


def test_check_tells_all_faults_and_is_exit_3(capsys, tmp_path):
    (tmp_path / "dcm2fhir.toml").write_text("[convert]\nfromat = 1\njobs = -1", encoding="utf-8")
    assert run(["config", "check"]) == 3
    err = capsys.readouterr().err
    assert "convert.fromat: is no known key; did you mean format?" in err
    assert "convert.jobs: must be a whole number of at least 0" in err


def test_init_writes_a_file_that_check_takes_and_never_overwrites(capsys, tmp_path):
    assert run(["config", "init"]) == 0
    written = tmp_path / "dcm2fhir.toml"
    assert written.read_text(encoding="utf-8") == TEMPLATE
    assert run(["config", "check"]) == 0
    assert run(["config", "init"]) == 3
    assert "stands there already" in capsys.readouterr().err


def test_every_commented_key_of_the_template_is_one_that_check_takes(tmp_path):
    text = re.sub(r"^# (?=[\[\"a-z_0-9]+ *[=.\]]|\[)", "", TEMPLATE, flags=re.MULTILINE)
    document = tomllib.loads(text)
    (tmp_path / "identity.key").write_text("correct horse battery staple", encoding="utf-8")
    (tmp_path / "all.toml").write_text(text, encoding="utf-8")
    config = load(tmp_path / "all.toml").config
    assert config.convert.profile == ("uk-core", "ips")
    assert config.site.patient.issuers["NHS"].check == "nhs-number"
    assert set(document["convert"]) == {field.encode_name for field in fields(config.convert)}


def fields(struct):
    import msgspec

    return msgspec.structs.fields(struct)
