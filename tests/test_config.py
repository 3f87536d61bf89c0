"""Flag over environment over file over default; every fault at once; no secret shown."""

from __future__ import annotations

import os

import pytest

from converter.config import default_files, load, overlooked, settings_of
from converter.errors import ConfigurationError, MappingError
from converter.settings import Config, parse_size


def written(folder, text, name="dcm2fhir.toml"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def faults(*arguments, **options):
    with pytest.raises(MappingError) as caught:
        load(*arguments, **options)
    return [str(fault) for fault in caught.value.faults]


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def test_without_anything_the_defaults_hold():
    loaded = load(environ={})
    assert loaded.config == Config()
    assert loaded.file is None
    assert {setting.origin for setting in settings_of(loaded)} == {"default"}


def test_flag_wins_over_environment_over_file_over_default(tmp_path):
    path = written(
        tmp_path,
        "[convert]\nformat = 'ndjson'\npatient = 'logical'\njobs = 3\n[site]\ntimezone = 'Europe/Paris'",
    )
    environ = {"DCM2FHIR_CONVERT__PATIENT": "contained", "DCM2FHIR_CONVERT__JOBS": "5"}
    loaded = load(path, environ, {"convert.jobs": 7, "site.timezone": "Europe/London"})
    convert = loaded.config.convert
    assert (convert.format, convert.patient, convert.jobs, convert.bundle_type) == (
        "ndjson",
        "contained",
        7,
        "transaction",
    )
    origins = {setting.key: setting.origin for setting in settings_of(loaded)}
    assert origins["convert.format"] == str(path)
    assert origins["convert.patient"] == "DCM2FHIR_CONVERT__PATIENT"
    assert origins["convert.jobs"] == origins["site.timezone"] == "command line"
    assert origins["convert.bundle_type"] == "default"


def test_the_file_is_looked_for_here_then_at_home(tmp_path):
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "xdg"), "HOME": str(tmp_path)}
    assert [path.name for path in default_files(environ)] == ["dcm2fhir.toml"] * 3
    at_home = written(tmp_path / "xdg" / "dcm2fhir", "[convert]\njobs = 1")
    assert load(environ=environ).file == at_home
    here = written(tmp_path, "[convert]\njobs = 2")
    assert load(environ=environ).config.convert.jobs == 2
    other = written(tmp_path, "[convert]\njobs = 3", "other.toml")
    assert load(environ={**environ, "DCM2FHIR_CONFIG": str(other)}).config.convert.jobs == 3
    assert load(here, {**environ, "DCM2FHIR_CONFIG": str(other)}).config.convert.jobs == 2


def test_a_named_file_must_be_there(tmp_path):
    with pytest.raises(ConfigurationError, match="is not there"):
        load(tmp_path / "none.toml", {})
    with pytest.raises(ConfigurationError, match="is a folder: name a file in it"):
        load(tmp_path, {})


def test_a_configuration_may_come_through_a_pipe():
    reading, writing = os.pipe()
    os.write(writing, b"[convert]\njobs = 3\n")
    os.close(writing)
    assert load(f"/dev/fd/{reading}", {}).config.convert.jobs == 3
    os.close(reading)


@pytest.mark.parametrize("system", ["urn:oid:2.999.77.1", "https://a.example/mrn", "urn:x:mrn", ""])
def test_a_system_that_a_resource_may_have_is_taken(system, tmp_path):
    path = written(tmp_path, f'[site.patient]\nsystem = "{system}"')
    assert load(path, {}).config.site.patient.system == system


@pytest.mark.parametrize("content", [b"[convert", b"[convert]\njobs = 1\njobs = 2"])
def test_what_is_no_toml_is_told_with_its_file(content, tmp_path):
    path = tmp_path / "dcm2fhir.toml"
    path.write_bytes(content)
    (fault,) = faults(path, {})
    assert fault.startswith(f"{path}: is no TOML")


def test_all_faults_are_told_at_once_with_the_nearest_name(tmp_path):
    path = written(
        tmp_path,
        """
        sitee = 1
        [convert]
        fromat = "json"
        format = "jsn"
        jobs = "many"
        instances = 0
        max_file_size = "big"
        [site]
        timezone = "Europe/Londn"
        identity_key = "0123456789abcdef"
        patient = 3
        charset = "latin-1"
        [listen.peers.ct1]
        timezone = "London"
        charset = "ISO_IR 100, ISO_IR 101"
        issuer = "A\\\\B"
        [listen.peers.ct2]
        timezone = "Europe/London"
        charset = "ISO 2022 IR 6\\\\ISO 2022 IR 87"
        issuer = "HOSPITAL B"
        [site.patient.issuers."A.B"]
        sistem = "x"
        [site.patient.issuers.C]
        system = "foo bar"
        [site.order_systems]
        RIS = "urn:oid:2.999.77"
        HIS = "1.2.276.0.76.4"
        [site.coding_schemes]
        99LOCAL = "local/codes"
        [site.encounter]
        encounter_class = { system = "urn:uuid:x", code = "AMB" }
        """.replace("patient = 3\n", ""),
    )
    environ = {
        "DCM2FHIR_CONVERT__PROFIL": "x",
        "DCM2FHIR_SITE__PATIENT__ISSUERS": "x",
        "DCM2FHIR_CONVERT__STRICT": "perhaps",
        "DCM2FHIR_NOSECT__A": "1",
    }
    told = faults(path, environ, flags={"convert.patient": "none"})
    assert [fault.removeprefix(f"{path}: ") for fault in told] == [
        "sitee: is no known key; did you mean site?",
        "convert.fromat: is no known key; did you mean format?",
        "convert.format: must be one of json, ndjson, bundle; did you mean json?",
        "convert.jobs: must be a whole number of at least 0",
        "convert.instances: must be a whole number of at least 1 or one of all, none",
        "convert.max_file_size: 'big' is no size; sizes are written as 64MiB",
        "site.identity_key: is no known key",
        'site.patient.issuers."A.B".sistem: is no known key; did you mean system?',
        "environment DCM2FHIR_CONVERT__PROFIL: convert.profil: is no known key; did you mean profile?",
        "environment DCM2FHIR_CONVERT__STRICT: convert.strict: must be true or false",
        "environment DCM2FHIR_NOSECT__A: nosect: is no known key",
        "environment DCM2FHIR_SITE__PATIENT__ISSUERS: site.patient.issuers: is a table, not a single value; set it in a configuration file",
        "command line: convert.patient: must be one of resource, reference, logical, contained",
        "site.timezone: is no IANA time zone such as Europe/London",
        "site.charset: is no SpecificCharacterSet such as ISO_IR 100",
        "site.patient.issuers.C.system: white space in a URI",
        "site.order_systems.RIS: no valid OID behind urn:oid: (four components or more, none with a leading zero)",
        "site.order_systems.HIS: is no absolute URI: write it as urn:oid:1.2.276.0.76.4",
        "site.coding_schemes.99LOCAL: is no absolute URI: write it as https://hospital.example/mrn",
        "site.encounter.encounter_class.system: no valid UUID in lower case behind urn:uuid:",
        "listen.peers.ct1.timezone: is no IANA time zone such as Europe/London",
        "listen.peers.ct1.charset: is no SpecificCharacterSet such as ISO_IR 100",
        "listen.peers.ct1.issuer: holds a backslash, which separates values in DICOM",
    ]


def test_variables_of_an_orchestrator_are_none_of_ours():
    environ = {
        "DCM2FHIR_PORT": "tcp://10.0.0.1:80",
        "DCM2FHIR_SERVICE_HOST": "10.0.0.1",
        "DCM2FHIR_CONVERT__REPORT": "",
    }
    assert load(environ=environ).config == Config()
    assert overlooked({**environ, "DCM2FHIR_LISTEN_PORT": "tcp://10.0.0.1:11112"}) == []


def test_a_variable_that_names_no_key_is_told_with_the_nearest():
    environ = {
        "DCM2FHIR_LISTEN_QUIET_PERIOD": "5s",
        "DCM2FHIR_LISTEN_PORT": "104",
        "DCM2FHIR_CONFIG": "",
        "HOME": "/",
    }
    assert overlooked(environ) == [
        "DCM2FHIR_LISTEN_PORT; did you mean DCM2FHIR_LISTEN__PORT?",
        "DCM2FHIR_LISTEN_QUIET_PERIOD; did you mean DCM2FHIR_LISTEN__QUIET_PERIOD?",
    ]


def test_lists_in_the_environment_have_commas():
    environ = {
        "DCM2FHIR_CONVERT__PROFILE": "uk-core, ips",
        "DCM2FHIR_CONVERT__INSTANCES": "100",
        "DCM2FHIR_CONVERT__PRUNE": "true",
    }
    convert = load(environ=environ).config.convert
    assert (convert.profile, convert.instances, convert.prune) == (("uk-core", "ips"), 100, True)


def test_paths_in_a_file_are_relative_to_that_file(tmp_path):
    path = written(
        tmp_path / "etc",
        "[convert]\noutput = 'out'\nprofile = ['ips', './site.toml']\nreport = '/r.json'\nmappings = ''",
    )
    convert = load(path, {}).config.convert
    assert convert.output == str(tmp_path / "etc" / "out")
    assert convert.profile == ("ips", str(tmp_path / "etc" / "site.toml"))
    assert convert.report == "/r.json"
    assert convert.mappings == ""
    written(
        tmp_path / "etc", "[destinations.main]\nprofile = ['./site.toml', 'ips']\ntoken_file = 't'"
    )
    main = load(path, {}).config.destinations["main"]
    assert main.profile == (str(tmp_path / "etc" / "site.toml"), "ips")
    assert main.token_file == str(tmp_path / "etc" / "t")
    written(tmp_path / "etc", "[convert]\noutput = '-'")
    assert load(path, {}).config.convert.output == "-"
    assert load(environ={"DCM2FHIR_CONVERT__OUTPUT": "out"}).config.convert.output == "out"


def test_a_file_of_windows_is_read_and_one_in_latin_1_is_told_with_its_line(tmp_path):
    path = tmp_path / "dcm2fhir.toml"
    path.write_bytes(b"\xef\xbb\xbf[site]\r\ntimezone = 'Europe/Berlin'\r\n")
    assert load(path, {}).config.site.timezone == "Europe/Berlin"
    path.write_bytes(b"[site]\n# M\xfcller\n")
    assert faults(path, {}) == [f"{path}: line 2: is no UTF-8 text: save it as UTF-8"]


def test_tables_of_a_site_are_kept_by_their_exact_key(tmp_path):
    path = written(
        tmp_path,
        '[site.patient.issuers."St. Mary"]\nsystem = "urn:a:x"\n[site.order_systems]\n"R.I.S" = "urn:a:y"',
    )
    loaded = load(path, {})
    assert loaded.config.site.patient.issuers["St. Mary"].system == "urn:a:x"
    shown = {setting.key: (setting.value, setting.origin) for setting in settings_of(loaded)}
    assert shown['site.patient.issuers."St. Mary".system'] == ("urn:a:x", str(path))
    assert shown['site.order_systems."R.I.S"'] == ("urn:a:y", str(path))


KEY = "correct horse battery staple"


def test_a_secret_comes_from_a_file_of_its_own(tmp_path):
    written(tmp_path, KEY + "\n", "identity.key")
    loaded = load(written(tmp_path, "[identity]\nkey_file = 'identity.key'"), {})
    assert loaded.config.site.identity_key == KEY
    assert KEY not in repr(settings_of(loaded))


def test_a_secret_of_the_environment_is_masked():
    loaded = load(environ={"DCM2FHIR_IDENTITY__KEY": KEY})
    assert loaded.config.site.identity_key == KEY
    assert KEY not in repr(settings_of(loaded))
    assert next(setting for setting in settings_of(loaded) if setting.secret).value == "********"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("https://user:hunter2@a.example/r4", "https://********@a.example/r4"),
        ("https://hunter2@a.example/r4", "https://********@a.example/r4"),
        ("https://a.example/r4?apikey=hunter2", "https://a.example/r4?********"),
        ("postgresql://dcm2fhir@db/x", "postgresql://dcm2fhir@db/x"),
        ("postgresql://dcm2fhir:hunter/2@db/x", "postgresql://dcm2fhir:********@db/x"),
        ("postgresql://db/x?password=hunter2&sslmode=require", "postgresql://db/x?password=********&sslmode=require"),
    ],
)  # fmt: skip
def test_a_password_in_an_address_is_masked(given, shown):
    loaded = load(environ={"DCM2FHIR_LISTEN__STATE": given, "DCM2FHIR_CONVERT__TO": given})
    values = {setting.key: setting.value for setting in settings_of(loaded)}
    assert values["listen.state"] == shown
    assert values["convert.to"] == (shown,)


def test_a_secret_in_a_configuration_file_is_refused_and_not_repeated(tmp_path):
    (fault,) = faults(written(tmp_path, f"[identity]\nkey = '{KEY}'"), {})
    assert "identity.key_file" in fault
    assert KEY not in fault


@pytest.mark.parametrize("content", ["", "short"])
def test_a_key_that_can_be_guessed_is_refused(content, tmp_path):
    written(tmp_path, content, "identity.key")
    with pytest.raises(ConfigurationError, match="too short"):
        load(environ={"DCM2FHIR_IDENTITY__KEY_FILE": str(tmp_path / "identity.key")})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("64MiB", 64 << 20),
        ("64 MiB", 64 << 20),
        ("1GB", 10**9),
        ("1TiB", 1 << 40),
        ("1 TB", 10**12),
        ("10kB", 10_000),
        ("3B", 3),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("quiet_period = 10", 'listen.quiet_period: must be a text such as "90s", "15m" or "2h"'),
        ("disk_reserve = 10", 'listen.disk_reserve: must be a text such as "64MiB"'),
        (
            "receivers = 500",
            "listen.receivers: must be a whole number of at least 0 and at most 64",
        ),
    ],
)
def test_how_a_value_is_written_is_said(line, said, tmp_path):
    file = tmp_path / "x.toml"
    file.write_text(f"[listen]\n{line}\n")
    with pytest.raises(MappingError) as told:
        load(file, {})
    assert str(told.value).endswith(said)


@pytest.mark.parametrize("text", ["", "-1", "1.5GiB", "1 PiB", "MiB", "64mib", "1\n"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)


def test_a_place_that_cannot_be_looked_at_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = "x" * 300  # longer than a name may be; as with a HOME that is another user's
    with pytest.raises(ConfigurationError, match=r"configuration file .*x/dcm2fhir.*: set HOME"):
        load(environ={"XDG_CONFIG_HOME": str(tmp_path / folder)})
