from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from converter import mapping
from converter.core.examples import encode
from converter.core.site import Site
from converter.errors import ConfigurationError, MappingError, ProfileNotFoundError
from tests.core.making import codes, converted

RULE = '[ImagingStudy]\ndescription = { from = "StudyID", as = "string" }\n'


def faults(*profiles: str, overlays: Path | None = None) -> list[str]:
    with pytest.raises(MappingError) as caught:
        mapping.load(profiles or ("r4",), overlays=overlays)
    return [str(fault) for fault in caught.value.faults]


def test_every_shipped_profile_loads_alone_and_with_the_others():
    names = [file.name for file in mapping.shipped() if file.kind == "profile"]
    assert {"r4", "uk-core", "ips"} <= set(names)
    for name in names:
        assert [profile.name for profile in mapping.load((name,)).profiles] == [name]
    together = mapping.load(("r4", "uk-core", "ips"))
    assert [profile.name for profile in together.profiles] == ["r4", "uk-core", "ips"]


def test_every_shipped_example_holds_under_every_shipped_profile():
    for profiles in (("r4",), ("uk-core",), ("ips",), ("uk-core", "ips")):
        found, run = mapping.check(profiles)
        assert found == []
        assert run >= 20


def test_shipped_lists_base_profiles_and_codes_each_with_a_title():
    found = mapping.shipped()
    kinds = [file.kind for file in found]
    assert kinds == sorted(kinds, key=["base", "profile", "codes"].index)
    assert {"imaging-study", "patient", "companions"} <= {file.name for file in found}
    assert all(file.title and file.path.is_file() for file in found)


def test_an_unknown_profile_is_told_with_the_nearest_and_all_that_are_there():
    with pytest.raises(ProfileNotFoundError, match=r"did you mean uk-core\? known: .*ips"):
        mapping.load(("uk-cor",))
    with pytest.raises(ProfileNotFoundError, match="no such file"):
        mapping.load(("./none.toml",))


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match="no folder of mapping files"):
        mapping.load(overlays=tmp_path / "none")


def test_a_sites_file_and_folder_lay_over_the_base(tmp_path):
    folder = tmp_path / "overlay"
    (folder / "codes").mkdir(parents=True)
    (folder / "a.toml").write_text(RULE)
    (folder / "codes" / "body-part.csv").write_text(
        "term,code,display,paired\nPINKY,12406000,Pinky,yes\nCHEST,51185008,Chest,no\n", "utf-8"
    )
    profile = tmp_path / "site.toml"
    profile.write_text('[site]\ntimezone = "Europe/London"\n[site.patient]\nsystem = "urn:x:mrn"\n')
    rules = mapping.load(("r4", str(profile)), overlays=folder)
    assert rules.site.timezone == "Europe/London"
    assert rules.files[-2:] == ("site.toml", "a.toml")
    made = converted({"StudyID": "S", "BodyPartExamined": "PINKY", "PatientID": "1"}, rules=rules)
    assert made.resource["description"] == "S"
    assert made.resource["series"][0]["bodySite"]["code"] == "12406000"
    assert made.companions[0]["identifier"][0]["system"] == "urn:x:mrn"
    # rows of the shipped table stand beside those of the site, which win
    chest = converted({"BodyPartExamined": "CHEST"}, rules=rules).resource["series"][0]["bodySite"]
    assert chest["code"] == "51185008"
    assert "code-unknown" not in codes(converted({"BodyPartExamined": "THORAX"}, rules=rules))


def test_a_sites_table_with_other_columns_is_a_fault(tmp_path):
    (tmp_path / "codes").mkdir()
    (tmp_path / "codes" / "body-part.csv").write_text("term,code\nX,1\n")
    [fault] = faults(overlays=tmp_path)
    assert "columns must be those of the shipped table: term,code,display,paired" in fault


def test_a_sites_own_table_may_be_named_by_its_rules(tmp_path):
    (tmp_path / "codes").mkdir()
    (tmp_path / "codes" / "mine.csv").write_text("term,code\nCHEST,1\n")
    (tmp_path / "site.toml").write_text(
        '[ImagingStudy.series]\nbodySite = { from = "BodyPartExamined", as = "coding", codes = "mine" }'
    )
    rules = mapping.load(overlays=tmp_path)
    made = converted({"BodyPartExamined": "CHEST"}, rules=rules)
    assert made.resource["series"][0]["bodySite"]["code"] == "1"


def test_the_site_of_a_file_goes_on_top_of_the_configured_one(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text('[site.endpoint]\nname = "Archive"\n')
    base = Site(timezone="Europe/Berlin")
    rules = mapping.load((str(path),), site=base)
    assert (rules.site.timezone, rules.site.endpoint.name) == ("Europe/Berlin", "Archive")


def test_all_faults_of_all_files_are_told_at_once(tmp_path):
    folder = tmp_path / "o"
    (folder / "codes").mkdir(parents=True)
    (folder / "a.toml").write_text('[ImagingStudy]\ndescripton = { from = "StudyID" }\n')
    (folder / "b.toml").write_text("not toml")
    (folder / "c.toml").write_text(
        'extends = "other"\nexample = "x"\n[site]\ntimezon = "x"\n[site.patient]\nsytem = "x"\nname_use = "zz"\n'
        '[site.accession]\nsystem = "urn:oid:2.999.77"\n'
    )
    (folder / "d.toml").write_text("site = 1\nexample = [1]\n")
    (folder / "codes" / "x.csv").write_text("term,code\na,b\na,c\n")
    (folder / "codes" / "y.csv").write_bytes(b"term,code\n\xff,b\n")
    found = "\n".join(faults(overlays=folder))
    for expected in (
        "a.toml: ImagingStudy.descripton: FHIR R4 has no element",
        "b.toml: is no TOML",
        'c.toml: extends: only "base" can be extended',
        "c.toml: example: write [[example]]",
        "c.toml: site.timezon: unknown key; did you mean timezone?",
        "c.toml: site.patient.sytem: unknown key; did you mean system?",
        "c.toml: site.patient.name_use: Invalid enum value",
        "c.toml: site.accession.system: no valid OID",
        "d.toml: site: write [site], a table",
        "d.toml: example: write [[example]]",
        "o/codes/x.csv: line 3",
        "o/codes/y.csv: line 2: is no UTF-8 text",
    ):
        assert expected in found


def site_folder(tmp_path, **files):
    """Make a site's folder; in names ``__`` stands for a slash, and the last ``_`` for the dot."""
    folder = tmp_path / "o"
    (folder / "codes").mkdir(parents=True)
    for name, text in files.items():
        stem, _, kind = name.replace("__", "/").rpartition("_")
        (folder / f"{stem}.{kind}").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


BODY = "term,code,display,paired\n"


def test_what_a_spreadsheet_makes_of_a_code_is_a_fault(tmp_path):
    rows = "KOPF,6.9536E+07,Head,no\nBAUCH,818983000,Abdomen,no\nHALS,45048000,Neck,nein\n"
    assert faults(overlays=site_folder(tmp_path, **{"codes__body-part_csv": BODY + rows})) == [
        "o/codes/body-part.csv: line 2: the code of 'KOPF' is no SNOMED CT identifier: a spreadsheet may have changed it",
        "o/codes/body-part.csv: line 3: the code of 'BAUCH' is no SNOMED CT identifier: a spreadsheet may have changed it",
        "o/codes/body-part.csv: line 4: paired is yes or no",
    ]


def test_a_file_of_the_site_that_nothing_reads_is_a_fault(tmp_path):
    """Else it is corrected again and again, and nothing ever changes."""
    folder = site_folder(
        tmp_path,
        **{"body-part_csv": BODY, "codes__a_toml": "", "b_TOML": "", "codes__bodypart_csv": BODY},
    )
    assert faults(overlays=folder) == [
        "o/b.TOML: is not read: its name must end in .toml",
        "o/body-part.csv: is not read: code tables stand in codes/",
        "o/codes/a.toml: is not read: mapping files stand above codes/",
        "o/codes/bodypart.csv: is not read: no rule names it; did you mean body-part.csv?",
    ]


def test_files_of_windows_are_read(tmp_path):
    folder = site_folder(
        tmp_path,
        a_toml=b"\xef\xbb\xbfextends = 'base'\r\n[ImagingStudy]\r\nlocation = false\r\n",
        b_toml=b"# a\n# M\xfcller\n",
        **{"codes__body-part_csv": "term;code;display;paired\r\nKOPF;69536005;Head;no\r\n"},
    )
    assert faults(overlays=folder) == [
        "o/codes/body-part.csv: line 1: its cells are apart by semicolons: save it with commas",
        "b.toml: line 2: is no UTF-8 text: save it as UTF-8",
    ]


def test_a_profile_of_a_site_takes_no_name_and_no_canonical_of_another(tmp_path):
    """A study could claim IPS by a file that asks for nothing of IPS."""
    ips = "http://hl7.org/fhir/uv/ips/StructureDefinition/ImagingStudy-uv-ips"
    for name, claim in (("ips", "https://a.example/a"), ("mine", ips), ("same", "urn:a:b")):
        head = f'[profile]\nname = "{name}"\ntitle = "x"\nclaims = {{ ImagingStudy = "{claim}" }}\n'
        (tmp_path / f"{name}.toml").write_text(head)
    (tmp_path / "again.toml").write_text((tmp_path / "same.toml").read_text())
    files = [str(tmp_path / f"{name}.toml") for name in ("ips", "mine", "same", "again")]
    assert faults("r4", *files) == [
        "ips.toml: profile.name: ips is the name of a profile of dcm2fhir",
        "mine.toml: profile.claims.ImagingStudy: is what --profile ips claims, and checks",
        "again.toml: profile.name: same is the name of a profile of same.toml",
    ]


def test_a_shipped_kind_of_profile_may_be_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        '[profile]\nname = "mine"\ntitle = "Mine"\n\n[[constraint]]\npath = "ImagingStudy.description"\nmin = 1\n'
    )
    rules = mapping.load((str(path),))
    assert [profile.name for profile in rules.profiles] == ["mine"]


def described_by(path: Path, keyword: str) -> Path:
    path.write_text(f'[ImagingStudy]\ndescription = {{ from = "{keyword}" }}\n')
    return path


def test_two_files_that_set_one_rule_differently_are_refused_unless_the_folder_decides(tmp_path):
    one, two = (
        str(described_by(tmp_path / f"{name}.toml", keyword))
        for name, keyword in (("a", "StudyID"), ("b", "StationName"))
    )
    for named in ((one, two), (two, one)):
        [fault] = faults(*named)
        assert "ImagingStudy.description" in fault
        assert "sets this rule differently" in fault
    folder = tmp_path / "site"
    folder.mkdir()
    described_by(folder / "c.toml", "RequestedProcedureDescription")
    rules = mapping.load((one, two), overlays=folder)
    made = converted({"StudyID": "x", "RequestedProcedureDescription": "z"}, rules=rules)
    assert made.resource["description"] == "z"


def test_two_files_of_the_sites_folder_that_set_one_rule_differently_are_refused(tmp_path):
    described_by(tmp_path / "a.toml", "StudyID")
    described_by(tmp_path / "b.toml", "StationName")
    [fault] = faults(overlays=tmp_path)
    assert fault.startswith("b.toml: ImagingStudy.description: a.toml sets this rule differently")


def test_a_sites_file_decides_over_a_shipped_profile_and_two_of_one_name_are_two(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    one = described_by(tmp_path / "x" / "site.toml", "StudyID")
    assert mapping.load(("uk-core", str(one))).profiles
    two = tmp_path / "y" / "site.toml"
    two.write_text("[ImagingStudy.description]\nextension = { const = [] }\n")
    assert any("decide both" in fault for fault in faults(str(one), str(two)))


def test_the_version_changes_with_every_part_of_the_set_up(tmp_path):
    (tmp_path / "codes").mkdir()
    versions = [mapping.load().version, mapping.load(("uk-core",)).version]
    versions.append(mapping.load(site=Site(timezone="Europe/London")).version)
    (tmp_path / "a.toml").write_text(RULE)
    versions.append(mapping.load(overlays=tmp_path).version)
    (tmp_path / "codes" / "t.csv").write_text("a,b\n1,2\n")
    versions.append(mapping.load(overlays=tmp_path).version)
    assert len(set(versions)) == 5
    assert mapping.load().version == mapping.load().version


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ('dicom = { StudyDescription = "x" }\nfhir = { description = "y" }', "is 'x', not 'y'"),
        ('dicom = { StudyDescription = "x" }\nfhir = { description = false }', "must be absent"),
        ('dicom = {}\nfhir = { description = "x" }', "description is not there"),
        ("dicom = {}\nfhir = { series = [{}, {}] }", "series has 1 items, not 2"),
        ("dicom = {}\nfhir = { status = [1] }", "status is no list"),
        ("dicom = {}\nfhir = { status = { x = 1 } }", "status is no object"),
        ('dicom = {}\nfhir = {}\nissue = "check-digit"', "finding check-digit expected"),
        ('dicom = { StudyDescriptn = "x" }\nfhir = {}', "did you mean StudyDescription?"),
        ('dicom = { ProcedureCodeSequence = "x" }\nfhir = {}', "is a sequence"),
        ("dicom = { StudyID = { x = 1 } }\nfhir = {}", "StudyID is no sequence"),
        ("dicom = {}\nfhir = {}\nsit = {}", "unknown key sit; did you mean site?"),
        ("dicom = {}\nfhir = {}\nsite = { zone = 1 }", "site: "),
        ("dicom = {}", "needs dicom and fhir"),
        ("dicom = 1\nfhir = {}", "needs dicom and fhir"),
        ('dicom = {}\nfhir = {}\nresource = "Patient"', ""),
    ],
)
def test_an_example_that_does_not_hold_is_told_by_its_why(tmp_path, example, message):
    (tmp_path / "a.toml").write_text(f'[[example]]\nwhy = "because"\n{example}\n')
    found, _ = mapping.check(overlays=tmp_path)
    if not message:
        assert found == []
        return
    [fault] = found
    assert fault.key == "example 'because'"
    assert message in fault.message


def test_check_gives_the_faults_of_compiling_instead_of_raising(tmp_path):
    (tmp_path / "a.toml").write_text('[ImagingStudy]\nx = { from = "y" }\n')
    found, run = mapping.check(overlays=tmp_path)
    assert (len(found), run) == (1, 0)


@pytest.mark.parametrize(
    "text",
    [
        "[ImagingStudy]\nstarted = false\n",
        "[ImagingStudy]\nbasedOn = false\n[ImagingStudy.series]\nbodySite = false\n",
        '[site]\ntimezone = "Europe/London"\n',
        '[profile]\nname = "p"\ntitle = "p"\n[site.patient]\nsystem = "urn:x:mrn"\n',
    ],
)
def test_what_a_site_may_change_breaks_no_example_that_we_bring(tmp_path, text):
    path = tmp_path / "site.toml"
    path.write_text(text)
    found, run = mapping.check(("r4", "uk-core", "ips", str(path)))
    assert found == []
    assert run >= 20


def test_settings_and_tables_of_a_site_break_no_example_that_we_bring(tmp_path):
    (tmp_path / "codes").mkdir()
    (tmp_path / "codes" / "body-part.csv").write_text(
        "term,code,display,paired\nCHEST,43799004,Chest,no\n"
    )
    (tmp_path / "a.toml").write_text(
        '[[example]]\nwhy = "all of ours in force"\n'
        'dicom = { BodyPartExamined = "CHEST", StudyDate = "20240112", StudyTime = "10" }\n'
        'fhir = { started = "2024-01-12T10:00:00+00:00", series = [{ bodySite = { code = "43799004" } }] }\n'
    )
    found, _ = mapping.check(site=Site(timezone="Europe/London"), overlays=tmp_path)
    assert found == []


def test_a_rule_set_goes_to_another_process_and_converts_the_same():
    rules = mapping.load(("uk-core", "ips"))
    copy = pickle.loads(pickle.dumps(rules))
    assert copy == rules
    one = {"PatientID": "1", "StudyDescription": "x"}
    assert converted(one, rules=copy) == converted(one, rules=rules)


def test_a_list_of_values_in_an_example_is_several_values():
    assert list(encode({"ImageType": ["ORIGINAL", "PRIMARY"]}).values()) == [b"ORIGINAL\\PRIMARY"]
