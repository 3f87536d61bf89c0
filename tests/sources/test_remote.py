"""Inputs that are addresses: an S3 store (moto, behind a relay that counts), web servers, file:// and memory://."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import boto3
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from converter.errors import ConfigurationError, SourceError
from converter.reading import read_bytes, read_file, read_stream
from converter.sources import (
    Entry,
    Filters,
    Skipped,
    Task,
    look,
    plan,
    printable,
    read_task,
    remote,
)
from converter.sources.ranges import FIRST, RangeFile

sys.path.insert(0, str(Path(__file__).parent))
import served

ROOT = Path(__file__).resolve().parents[2]
PIXELS = bytes(300_000)
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIDFORTESTS",
    "AWS_SECRET_ACCESS_KEY": "verysecret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_MAX_ATTEMPTS": "2",
}


@pytest.fixture(scope="session")
def behind():
    with served.moto() as address:
        yield address


@pytest.fixture
def bucket(behind, request):
    """A bucket of its own, and a client that no relay counts."""
    client = boto3.client(
        "s3",
        endpoint_url=behind,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    name = f"scans-{abs(hash(request.node.name)) % 10**9}"
    client.create_bucket(Bucket=name)
    yield client, name
    client.close()


@pytest.fixture
def relay(behind):
    with served.Relay(behind) as relay:
        yield relay


def with_pixels(data):
    return data + b"\xe0\x7f\x10\x00OW\0\0" + len(PIXELS).to_bytes(4, "little") + PIXELS


def rewritten(data, *, deflated=False, private=0):
    dataset = pydicom.dcmread(io.BytesIO(data))
    if private:
        dataset.private_block(0x0009, "US", create=True).add_new(1, "OB", bytes(private))
    if deflated:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


@pytest.fixture(scope="session")
def objects(make_dicom):
    """Relative name to bytes: what a bucket and a folder hold alike."""

    def one(study, number, **more):
        return make_dicom(f"1.2.{study}", sop=f"1.9.{study}.{number}", number=str(number), **more)

    made = {f"a/{n:02}.dcm": with_pixels(one(1, n)) for n in range(20)}
    made |= {
        "a/deflated": rewritten(one(1, 30), deflated=True),
        "b/längs.dcm": with_pixels(rewritten(one(2, 1), private=100_000)),
        "b/beyond a MiB": with_pixels(rewritten(one(2, 2), private=3 << 20)),
        "b/cut": one(2, 3)[:-60],
        "notes.txt": b"nothing to see " * 1000,
        "empty": b"",
    }
    members = {f"m{n}": with_pixels(one(3, n)) for n in range(4)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    made["c.zip"] = packed.getvalue()
    for name, mode, study in (("c.tar", "w", 4), ("c.tgz", "w:gz", 5), ("unnamed", "w", 6)):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode=mode) as archive:
            for n in range(4):
                data = with_pixels(one(study, n))
                info = tarfile.TarInfo(f"m{n}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        made[name] = packed.getvalue()
    return made


@pytest.fixture
def filled(bucket, objects):
    client, name = bucket
    for key, data in objects.items():
        client.put_object(Bucket=name, Key=f"in/{key}", Body=data)
    client.put_object(Bucket=name, Key="in/marker/", Body=b"")
    client.put_object(Bucket=name, Key="inner/not-below", Body=b"")
    return client, name


@pytest.fixture
def folder(objects, tmp_path):
    for name, data in objects.items():
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "in"


@pytest.fixture
def convert(tmp_path, relay):
    """Run in a process of its own; give code, output, what it said and the report."""

    def run(*arguments, out="out", endpoint=None):
        report = tmp_path / f"{out}.report.json"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "converter", "convert", *map(str, arguments)),
                *("-o", str(tmp_path / out), "--report", str(report), "-j", "1", "-vv"),
            ],
            capture_output=True,
            check=False,
            text=True,
            cwd=tmp_path,
            env={
                **os.environ,
                **CREDENTIALS,
                "AWS_ENDPOINT_URL": endpoint or relay.address,
                "PYTHONPATH": str(ROOT),
            },
        )
        written = {
            str(path.relative_to(tmp_path / out)): path.read_bytes()
            for path in sorted((tmp_path / out).rglob("*.json"))
        }
        said = done.stdout + done.stderr + (report.read_text() if report.exists() else "")
        assert "verysecret" not in said
        told = json.loads(report.read_text()) if report.exists() else None
        return done.returncode, written, said, told

    return run


def test_a_bucket_gives_what_a_folder_gives_and_only_headers_are_fetched(
    filled, folder, convert, relay, objects
):
    _, name = filled
    code, written, _, here = convert(folder, out="here")
    far_code, far_written, said, there = convert(f"s3://{name}/in", out="there")
    assert far_code == code == 1, said
    assert far_written == written
    assert len(written) == 2 * 6
    for part in ("counts", "studies", "skipped", "profiles"):
        assert there[part] == here[part], part
    assert {"notes.txt", "empty", "b/cut"} == {item["path"] for item in there["skipped"]}
    fetched = {}
    for _, key, asked, size in relay.gets():
        assert asked.startswith("bytes="), key
        fetched.setdefault(key, []).append(size)
    assert all(fetched[f"in/a/{n:02}.dcm"] == [FIRST] for n in range(20))
    assert "in/empty" not in fetched
    assert sum(fetched["in/b/längs.dcm"]) < 300_000 < len(objects["b/längs.dcm"])
    assert sum(fetched["in/b/beyond a MiB"]) < 300_000
    assert sum(fetched["in/unnamed"]) < len(objects["unnamed"]) // 4
    assert sum(map(sum, fetched.values())) < sum(map(len, objects.values())) // 4


def test_a_kept_state_reads_only_what_has_another_version(
    filled, convert, relay, make_dicom, tmp_path
):
    client, name = filled
    state = tmp_path / "state.db"
    _, written, _, first = convert(f"s3://{name}/in", "--state", state)
    relay.seen.clear()
    _, again, _, second = convert(f"s3://{name}/in", "--state", state)
    assert (again, second["studies"]) == (written, first["studies"])
    # what may be an archive by its name is looked at
    assert {key.rpartition("/")[2] for _, key, *_ in relay.gets()} <= {"c.zip", "c.tar", "c.tgz"}
    client.put_object(
        Bucket=name,
        Key="in/a/03.dcm",
        Body=with_pixels(make_dicom("1.2.1", sop="1.9.1.3.1", number="3")),
    )
    relay.seen.clear()
    _, changed, _, _ = convert(f"s3://{name}/in", "--state", state)
    assert changed != written
    assert [key for _, key, *_ in relay.gets() if ".dcm" in key] == ["in/a/03.dcm"]


def test_what_cannot_be_fetched_is_told_and_the_others_are_converted(filled, convert, relay):
    _, name = filled
    relay.broken = {
        "in/a/00.dcm": [403],
        "in/a/01.dcm": [404],
        "in/a/02.dcm": [503, 200],
        "in/a/03.dcm": [503],
    }
    code, _, said, report = convert(f"s3://{name}/in/a")
    assert code == 1
    told = {item["path"]: item["reason"] for item in report["skipped"]}
    assert told == {"00.dcm": "permission-denied", "01.dcm": "not-found", "03.dcm": "read-error"}, (
        said
    )
    assert report["counts"]["instances"] == 18
    relay.broken = {}
    code, _, said, report = convert("--retry-from", "out.report.json", out="again")
    assert (code, report and report["counts"]["instances"]) == (0, 3), said


def test_an_object_that_changes_between_two_ranges_is_not_used(
    filled, convert, relay, make_dicom, objects
):
    client, name = filled
    others = [
        with_pixels(rewritten(make_dicom("1.2.2", sop=f"1.9.2.{n}"), private=100_000))
        for n in (7, 8)
    ]

    def change(key, start):
        if key == "in/b/längs.dcm" and start not in {"", "0"} and len(others) > left:
            client.put_object(Bucket=name, Key=key, Body=others.pop())

    relay.before = change
    left = 1  # it changes once: it is read again
    _, _, _, report = convert(f"s3://{name}/in/b", out="once")
    assert not [item for item in report["skipped"] if item["path"] == "längs.dcm"]
    client.put_object(Bucket=name, Key="in/b/längs.dcm", Body=objects["b/längs.dcm"])
    others.insert(0, objects["b/längs.dcm"])
    left = 0
    _, _, _, report = convert(f"s3://{name}/in/b")
    assert not others
    assert {"path": "längs.dcm", "reason": "changed-while-reading"}.items() <= next(
        item for item in report["skipped"] if item["path"] == "längs.dcm"
    ).items()


def test_a_list_may_name_addresses_and_paths(filled, convert, folder, tmp_path):
    _, name = filled
    (tmp_path / "list").write_text(
        f"s3://{name}/in/a/00.dcm\n{folder}/a/01.dcm\ns3://{name}/in/b/\ns3://{name}/in/gone\nfile://{folder}/c.zip\n"
    )
    code, _, said, report = convert("--from-file", tmp_path / "list")
    assert code == 1, said
    assert report["counts"]["instances"] == 1 + 1 + 2 + 4
    assert {(item["path"], item["reason"]) for item in report["skipped"]} == {
        (f"s3://{name}/in/b/cut", "truncated-header"),
        (f"s3://{name}/in/gone", "not-found"),
    }


def test_an_input_that_is_not_there_or_does_not_answer_ends_the_run(bucket, convert):
    _, name = bucket
    code, _, said, _ = convert(f"s3://{name}/nothing")
    assert code == 2
    assert f"s3://{name}/nothing: no such object or folder" in said
    code, _, said, _ = convert(f"s3://{name}/nothing/")
    assert code == 2
    assert f"s3://{name}/nothing/: there is nothing below it" in said
    code, _, said, _ = convert(f"s3://{name}/nothing", endpoint="http://127.0.0.1:9")
    assert code == 6
    assert "does not answer" in said


@pytest.mark.parametrize("option", ["-o", "--report", "--state"])
def test_nothing_is_written_to_a_store(option, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "converter",
            "convert",
            str(tmp_path),
            "--dry-run",
            option,
            "s3://bucket/x",
        ],
        capture_output=True,
        check=False,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert "only what is read may be an address" in done.stderr


@pytest.mark.parametrize("protocol", ["s3", "gs", "abfs", "https"])
def test_a_missing_package_is_told_with_what_to_install(protocol, monkeypatch):
    remote._opened.cache_clear()
    monkeypatch.setitem(sys.modules, "fsspec", None)
    extra = remote.EXTRAS[protocol]
    with pytest.raises(ConfigurationError, match=rf"pip install '\.\[{extra}\]'$"):
        look([f"{protocol}://bucket/x"])


def test_a_store_that_lacks_its_settings_is_told_without_what_its_library_says(monkeypatch):
    def unsettled(**_):
        raise ValueError("account secret1 has no key")

    monkeypatch.setattr(remote, "_class_of", lambda _protocol: unsettled)
    remote._opened.cache_clear()
    with pytest.raises(ConfigurationError, match=r"gs:// cannot be opened \(ValueError\)") as said:
        look(["gs://bucket/x"])
    assert "secret1" not in str(said.value)


@pytest.mark.parametrize("field", ["status", "status_code"])
def test_what_an_answer_says_is_found_wherever_a_library_puts_it(field):
    error = OSError("key secret1")
    setattr(error, field, 403)
    assert remote.failure(error) == ("permission-denied", "")


@pytest.mark.parametrize("address", ["s3://", "s3:///", "gs://", "abfs://", "https:///x"])
def test_an_address_without_a_bucket_or_host_is_wrong_use(address):
    with pytest.raises(SourceError, match="names no bucket, container or host") as told:
        look([address])
    assert told.value.exit_code == 2


def test_an_unknown_protocol_is_told():
    with pytest.raises(SourceError, match=r"ftp://host/x: no such protocol"):
        look(["ftp://u:secret@host/x"])


WANTED = {0x00080018: None, 0x0020000D: None}


class Readers:
    read_file = staticmethod(read_file)
    read_stream = staticmethod(read_stream)


def read_all(inputs, **options):
    """Instances by source, and what was skipped, of a run in this process."""
    skipped, instances = [], 0
    for item in plan(inputs, **options):
        if isinstance(item, Skipped):
            skipped.append((item.path, item.reason))
            continue
        for result in read_task(item, WANTED, options.get("filters", Filters()), Readers()):
            instances += result.instances
            skipped += [(path, reason) for _, path, reason, _ in result.skipped]
    return instances, skipped


@pytest.mark.parametrize("ranges", [True, False])
def test_files_of_a_web_server_are_read_and_their_signature_is_shown_nowhere(objects, ranges):
    with served.WebFiles(dict(objects), ranges=ranges) as web:
        web.broken = {"a/00.dcm": [503, 429]}
        names = [f"{web.address}/{name}?sig=SECRET" for name in ("a/00.dcm", "notes.txt", "gone")]
        instances, skipped = read_all([], names=names)
        assert instances == 1
        assert [
            (path.partition("?")[0].rpartition("/")[2], reason) for path, reason in skipped
        ] == [
            ("notes.txt", "not-dicom"),
            ("gone", "not-found"),
        ]
        assert "SECRET" not in repr(skipped)
        assert ("GET", "a/00.dcm", f"bytes=0-{FIRST - 1}") in web.seen
        long = f"{web.address}/b/beyond%20a%20MiB"
        web.files["b/beyond%20a%20MiB"] = objects["b/beyond a MiB"]
        assert read_all([], names=[long]) == ((1, []) if ranges else (0, [(long, "read-error")]))


def test_a_zip_that_cannot_be_read_where_its_directory_lies_is_not_called_no_zip(objects):
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("1.dcm", objects["a/00.dcm"])
    files = {"a.zip": whole.getvalue(), "b.zip": b"PK\3\4short"}
    with served.WebFiles(files, ranges=False) as web:
        (skipped,) = told([f"{web.address}/a.zip"])
        assert skipped == (
            "unreadable-archive",
            f"The archive breaks off ({os.strerror(errno.EOPNOTSUPP)}).",
        )
        (skipped,) = told([f"{web.address}/b.zip"])
        assert skipped == (
            "unreadable-archive",
            "The archive breaks off (File is not a zip file).",
        )


def told(names):
    """Reason and words of what was skipped."""
    return [
        (reason, detail)
        for item in plan([], names=names)
        for result in read_task(item, WANTED, Filters(), Readers())
        for _, _, reason, detail in result.skipped
    ]


def test_a_web_server_has_no_folders(objects):
    with served.WebFiles(objects) as web, pytest.raises(SourceError, match="has no folders"):
        read_all([f"{web.address}/a/"])


def test_file_addresses_are_paths(folder):
    assert read_all([f"file://{folder}/a"]) == read_all([str(folder / "a")]) == (21, [])


def test_stores_of_other_libraries_are_listed_folder_by_folder(objects):
    import fsspec

    system = fsspec.filesystem("memory")
    for name, data in objects.items():
        system.pipe_file(f"/in/{name}", data)
    try:
        instances, skipped = read_all(["memory://in"])
        assert instances == 20 + 1 + 2 + 4 * 4, skipped
        assert sorted(skipped) == [
            ("memory://in/b/cut", "truncated-header"),
            ("memory://in/empty", "empty"),
            ("memory://in/notes.txt", "not-dicom"),
        ]
        assert read_all(["memory://in/a", "memory://in"])[0] == instances
        assert read_all(["memory://in"], filters=Filters(include=("*.dcm",)))[0] == 21
    finally:
        system.rm("/in", recursive=True)


def test_ranges_give_the_bytes_of_the_object_wherever_they_are_asked_for():
    import fsspec

    data = os.urandom(200_000)
    system = fsspec.filesystem("memory")
    system.pipe_file("/object", data)
    try:
        file = RangeFile("memory://object", head=data[:1000])
        for start, size in (
            (0, 10),
            (990, 20),
            (150_000, 60_000),
            (5, 5),
            (70_000, 1),
            (199_999, 9),
        ):
            file.seek(start)
            assert file.read(size) == data[start : start + size]
        file.seek(0)
        assert file.read() == data
    finally:
        system.rm("/object")


def test_a_header_behind_the_first_range_is_asked_for_at_once_where_they_all_are_so(objects):
    import fsspec

    system = fsspec.filesystem("memory")
    data = objects["b/längs.dcm"]
    asked = []
    store = remote.store_of("memory://x")
    fetch = store.fetch

    def noting(address, start, size):
        asked.append(start)
        return fetch(address, start, size)

    names = [f"memory://long/{n}" for n in range(200)]
    for n in range(200):
        system.pipe_file(f"/long/{n}", data)
    store.fetch = noting
    try:
        task = Task("files", tuple(Entry(name) for name in names))
        results = list(read_task(task, WANTED, Filters(), Readers()))
    finally:
        del store.fetch
        system.rm("/long", recursive=True)
    assert sum(result.instances for result in results) == 200
    assert 200 < len(asked) < 300


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://u:p@host/a/b.dcm", "https://host/a/b.dcm"),
        ("s3://key:secret@bucket/a?b", "s3://bucket/a?b"),
        (
            "abfs://container@account.dfs.core.windows.net/a",
            "abfs://container@account.dfs.core.windows.net/a",
        ),
    ],
)
def test_what_opens_an_address_is_not_shown(address, shown):
    assert printable(address) == shown


def test_two_signed_addresses_are_not_shown_as_one():
    one, other = printable("https://h/a?id=1"), printable("https://h/a?id=2")
    assert one != other
    assert one.startswith("https://h/a?hidden-")


def test_a_header_read_by_ranges_is_the_header_of_the_bytes(objects):
    for data in objects.values():
        whole = read_bytes(data, WANTED)
        assert read_stream(io.BytesIO(data), len(data), WANTED) == whole
