"""``dcm2fhir config``: what is in force and why, and a file to start from."""

from __future__ import annotations

import re
import tomllib

import msgspec
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


@pytest.mark.parametrize("command", ["config", "mappings"])
def test_a_file_to_start_from_goes_to_standard_output_for_a_dash(command, capsys, tmp_path):
    assert run([command, "init", "-"]) == 0
    tomllib.loads(capsys.readouterr().out)
    assert list(tmp_path.iterdir()) == []


def test_options_take_the_zero_that_their_key_takes(capsys, tmp_path):
    """``--jobs 0`` was refused, and a fault of ``jobs`` says that it is at least 0."""
    options = ["-j", "0", "--format", "bundle", "--max-bundle-entries", "0"]
    assert run(["convert", str(tmp_path), "-o", "out", *options]) == 4
    assert run(["listen", "--receivers", "0"]) == 2
    assert "-o OUT" in capsys.readouterr().err


def test_every_commented_key_of_the_template_is_one_that_check_takes(tmp_path):
    text = re.sub(r"^# (?=[\[\"A-Za-z_0-9]+ *[=.\]]|\[)", "", TEMPLATE, flags=re.MULTILINE)
    document = tomllib.loads(text)
    (tmp_path / "identity.key").write_text("correct horse battery staple", encoding="utf-8")
    (tmp_path / "all.toml").write_text(text, encoding="utf-8")
    config = load(tmp_path / "all.toml").config
    assert config.convert.profile == ("uk-core", "ips")
    assert config.site.patient.issuers["NHS"].check == "nhs-number"
    secrets = {"identity.key", "site.identity_key"}
    secrets |= {f"destinations.main.{name}" for name in ("token", "password", "client_secret")}
    assert keys(document) == written(config) - secrets


def keys(table, at=""):
    """Dotted keys of a table, down to what is no table."""
    found = set()
    for name, value in table.items():
        found |= keys(value, f"{at}{name}.") if isinstance(value, dict) else {f"{at}{name}"}
    return found


def written(struct, at=""):
    """Dotted keys of a configuration in which every table of named entries has one."""
    found = set()
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        entries = value.items() if isinstance(value, dict) else [("", value)]
        for name, one in entries:
            key = f"{at}{field.name}" + (f".{name}" if name else "")
            inner = isinstance(one, msgspec.Struct)
            found |= written(one, f"{key}.") if inner else {key}
        assert value != {}, f"{at}{field.name} has no example"
    return found


def test_check_tells_profiles_that_are_not_there_of_the_run_and_of_destinations(capsys, tmp_path):
    (tmp_path / "dcm2fhir.toml").write_text(
        '[convert]\nprofile = ["uk-cor"]\n[destinations.main]\nurl = "https://a.example"\nprofile = ["isp"]\n'
    )
    assert run(["config", "check"]) == 3
    err = capsys.readouterr().err
    assert (
        "dcm2fhir.toml: convert.profile: there is no profile uk-cor; did you mean uk-core?" in err
    )
    assert (
        "dcm2fhir.toml: destinations.main.profile: there is no profile isp; did you mean ips?"
        in err
    )


def test_check_tells_faults_of_the_mapping_that_it_names(capsys, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.toml").write_text('[ImagingStudy]\nstatus = { const = "availble" }\n')
    (tmp_path / "dcm2fhir.toml").write_text('[convert]\nmappings = "mine"\n')
    assert run(["config", "check"]) == 3
    assert "a.toml: ImagingStudy.status: " in capsys.readouterr().err


def test_check_tells_files_that_are_not_there(capsys, tmp_path):
    (tmp_path / "there").write_text("t")
    (tmp_path / "dcm2fhir.toml").write_text(
        '[destinations.main]\nurl = "https://a.example"\nauth = "bearer"\ntoken_file = "gone"\nca = "there"\n'
        '[listen]\ntls_cert = "there"\ntls_key = "lost"\n'
    )
    assert run(["config", "check"]) == 3
    err = capsys.readouterr().err
    assert "dcm2fhir.toml: destinations.main.token_file: " in err
    assert "dcm2fhir.toml: listen.tls_key: " in err
    assert err.count("is not there") == 2


def test_check_tells_addresses_of_destinations_that_a_run_refuses(capsys, tmp_path):
    (tmp_path / "dcm2fhir.toml").write_text(
        '[convert]\nto = ["main"]\n'
        '[destinations.main]\nurl = "https://user:hunter2@a.example/fhir"\n'
        '[destinations.other]\nurl = "https://b.example"\ntoken_url = "http://c.example/token"\n'
    )
    assert run(["config", "check"]) == 3
    err = capsys.readouterr().err
    assert "dcm2fhir.toml: destinations.main.url: the URL of a.example holds a name" in err
    assert "dcm2fhir.toml: destinations.other.token_url: http://c.example would send" in err
    assert "convert.to" not in err
    assert "hunter2" not in err


def test_check_tells_each_destination_that_a_run_refuses(capsys, tmp_path):
    (tmp_path / "dcm2fhir.toml").write_text(
        '[convert]\nto = ["http://example.org/fhir", "nosuch", "mian", "main"]\n'
        '[destinations.main]\nurl = "https://a.example/fhir"\n'
    )
    assert run(["config", "check"]) == 3
    err = capsys.readouterr().err
    assert err.count("dcm2fhir.toml: convert.to: ") == 3
    assert "nosuch: no URL, and no [destinations.nosuch]" in err
    assert "did you mean main?" in err
    assert "http://example.org would send" in err
    assert run(["listen", "-o", "out"]) == 3


LISTEN = {
    'ae_title = "TOOLONGTITLE1234567"': "listen.ae_title: is no AE title: 19 characters",
    'ae_title = "  "': "listen.ae_title: is blank",
    'allow_calling_aet = ["CT1", "CT\\\\2"]': "listen.allow_calling_aet: is no AE title",
    'allow_ip = ["zz"]': "listen.allow_ip: 'zz' is no address",
    'state = "mysql://x/y"': "listen.state: mysql:// is not known",
    'state = "postgresql://me:secret@x/y"': "listen.state: no password stands in the URL",
    "port = 70000": "listen.port: is no port",
    'tls_key = "there"': "listen.tls_key: goes with tls_cert",
    'keep_files = "files"\nsuccess_status = "0xB006"': "listen.success_status: 0xB006 says",
    'keep_files = "out"\n[convert]\noutput = "./out/"': "listen.keep_files: is the folder of the resources",
    'quiet_period = "20m"': "listen.quiet_period: a quiet_period (--quiet-period) of 20m is longer",
    'quiet_cap = "30s"': "listen.quiet_cap: a quiet_period (--quiet-period) of 60s is longer",
    '[listen.peers.a]\nae_titles = ["É"]': "listen.peers.a.ae_titles: is no AE title",
    '[listen.peers.a]\nae_titles = ["A\\t"]': "listen.peers.a.ae_titles: is no AE title",
    '[listen.peers.a]\naddresses = ["10.1.2.5/99"]': "listen.peers.a.addresses: '10.1.2.5/99'",
    '[listen.peers.a]\ncertificate = "a.example"': "listen.peers.a.certificate: binds titles",
}


@pytest.mark.parametrize("text", LISTEN)
@pytest.mark.parametrize("command", [["config", "check"], ["listen", "-o", "out"]])
def test_check_tells_what_listen_refuses(capsys, tmp_path, text, command):
    (tmp_path / "there").write_text("t")
    (tmp_path / "dcm2fhir.toml").write_text(f"[listen]\n{text}\n", encoding="utf-8")
    assert run(command) == 3
    assert f"dcm2fhir.toml: {LISTEN[text]}" in capsys.readouterr().err


def test_all_that_listen_refuses_is_told_at_once(capsys, tmp_path):
    (tmp_path / "dcm2fhir.toml").write_text('[listen]\nae_title = ""\nallow_ip = ["a", "b"]\n')
    assert run(["config", "check"]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 3


@pytest.mark.parametrize("title", ["TOOLONGTITLE1234567", "", " ", "É", "A\\B", "A\tB"])
def test_an_option_that_is_no_ae_title_is_an_error_of_use(capsys, title):
    for option in ("--ae-title", "--allow-calling-aet"):
        assert run(["listen", "-o", "out", option, title]) == 2
        assert "AE title" in capsys.readouterr().err


def test_listen_takes_what_its_advice_names(capsys):
    # refused at the next step: nothing listens in this test
    to = ["listen", "--to", "http://fhir.example/r4", "--bind", "0.0.0.0"]
    assert run(to) == 3
    assert "--allow-http" in capsys.readouterr().err
    assert run([*to, "--allow-http"]) == 3
    assert "--allow-ip" in capsys.readouterr().err
