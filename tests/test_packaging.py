"""The package as others get it: a wheel in an environment of its own, an editable install, a checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from converter import __version__

ROOT = Path(__file__).resolve().parent.parent
ALONE = os.environ.get("CI") == "true"
"""On CI the dependencies are installed anew, as a user does it; elsewhere those of the tests are lent."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


def environment(folder):
    venv.create(folder, with_pip=False, symlinks=True)
    if not ALONE:
        inside = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
        # A path file that is found by way of another is not read, so an editable install is not lent.
        (Path(inside) / "lent.pth").write_text(
            sysconfig.get_path("purelib") + "\n", encoding="utf-8"
        )
    return folder / "bin" / "python"


def install(python, *what):
    lent = () if ALONE else ("--no-deps", "--no-build-isolation", "--no-index")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", *lent, *what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def said(command, folder):
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, cwd=folder, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_wheel_carries_code_data_and_demo_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names} == {
        "converter",
        f"dcm2fhir-{__version__}.dist-info",
    }
    for folder, carried in (
        ("mappings", "_mappings"),
        ("testdata/dicom/demo", "_demo"),
        ("converter", ""),
    ):
        files = [
            path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"
        ]
        assert files
        for file in files:
            place = "/".join(
                part
                for part in ("converter", carried, file.relative_to(ROOT / folder).as_posix())
                if part
            )
            assert place in names
    assert f"dcm2fhir-{__version__}.dist-info/licenses/LICENSE" in names


def test_an_installed_wheel_converts_its_demo(wheel, tmp_path):
    python = environment(tmp_path / "environment")
    install(python, str(wheel))
    command = str(python.with_name("dcm2fhir"))
    assert said([command, "--version"], tmp_path).stdout == f"dcm2fhir {__version__}\n"
    where = said(
        [str(python), "-c", "import converter; print(converter.__file__)"], tmp_path
    ).stdout
    assert where.startswith(str(tmp_path))
    said([command, "demo", "out"], tmp_path)
    assert list((tmp_path / "out" / "ImagingStudy").glob("*.json"))
    assert said([command, "mappings", "list"], tmp_path).stdout


def test_an_editable_install_finds_the_data_of_the_checkout(tmp_path):
    python = environment(tmp_path / "environment")
    install(python, "--editable", str(ROOT))
    where = said(
        [str(python), "-c", "import converter; print(converter.__file__)"], tmp_path
    ).stdout
    assert where == f"{ROOT / 'converter' / '__init__.py'}\n"
    assert said([str(python.with_name("dcm2fhir")), "mappings", "list"], tmp_path).stdout


def test_a_checkout_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "converter", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"dcm2fhir {__version__}\n"


def test_nothing_tells_to_install_from_an_index_what_is_on_none():
    """Whoever claims the name there would be installed."""
    told = re.compile(r"install ['\"`]*dcm2fhir\b|dcm2fhir(\[\w+\]|==)")
    files = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")]
    for file in (*files, *(ROOT / "converter").rglob("*.py")):
        assert not told.search(file.read_text(encoding="utf-8")), file
