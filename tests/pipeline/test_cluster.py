"""Reading on clusters that stand: dask and Ray with two workers each, of which one is killed, or the run itself."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from select import select

import pytest

import converter
from converter import __version__
from converter.errors import ConfigurationError, EngineError
from converter.pipeline.cluster import Far, check, connected, need
from converter.pipeline.engine import Place, WorkerLostError
from converter.pipeline.far import Job, Sealed, read_far, seal
from converter.pipeline.pool import Stop
from converter.sources import Entry, Filters, Task

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
FILES = 120


@pytest.fixture
def folder(tmp_path, make_dicom):
    root = tmp_path / "in"
    root.mkdir()
    for index in range(FILES - 1):
        study = f"1.2.{index % 4}"
        (root / f"{index:03}").write_bytes(make_dicom(study, sop=f"1.9.{index}", patient="A"))
    (root / "broken").write_bytes(make_dicom()[:200])
    return root


@pytest.fixture
def surroundings(tmp_path):
    path = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    return {
        **os.environ,
        "PYTHONPATH": path,
        "TMPDIR": str(tmp_path),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


@contextmanager
def started(command, said, environment):
    """A process that has said something, with what the pattern found of it."""
    with subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as process:
        try:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if found := re.search(said, line):
                    break
            else:
                raise AssertionError("".join(lines))
            yield process, found[found.re.groups]
        finally:
            process.kill()


@pytest.fixture
def dask(surroundings, tmp_path):
    """Address of a scheduler with two workers, and their process ids."""
    with ExitStack() as stack:
        _, address = stack.enter_context(
            started(
                [BIN / "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"],
                r"tcp://127\.0\.0\.1:\d+",
                surroundings,
            )
        )
        workers = [
            stack.enter_context(
                started(
                    [
                        *(BIN / "dask", "worker", address, "--nthreads", "1", "--no-nanny"),
                        *("--no-dashboard", "--local-directory", tmp_path / f"worker{number}"),
                    ],
                    "Starting established connection",
                    surroundings,
                )
            )[0].pid
            for number in range(2)
        ]
        yield "dask", address, lambda: workers


def children(pid):
    """Processes below one of ours, with their titles."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            title = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            found += [(int(child), title), *children(child)]
    return found


@pytest.fixture
def ray(surroundings):
    """Address of a head with two workers, and how to find their process ids."""
    # a short path: names of sockets have a bound
    folder = tempfile.mkdtemp(prefix="ray-")
    command = [
        *(BIN / "ray", "start", "--head", "--block", "--node-ip-address", "127.0.0.1"),
        *("--port", "0", "--num-cpus", "2", "--include-dashboard", "false"),
        *("--object-store-memory", "100000000", "--temp-dir", folder),
    ]
    with started(command, r"--address='([^']+)'", surroundings) as (process, address):
        try:
            yield (
                "ray",
                address,
                lambda: sorted(
                    pid for pid, title in children(process.pid) if title.startswith("ray::read_far")
                ),
            )
        finally:
            for pid, _ in children(process.pid):
                os.kill(pid, signal.SIGKILL)
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["dask", "ray"])
def cluster(request):
    return request.getfixturevalue(request.param)


def on_cluster(cluster, folder, out, state, surroundings, *counts):
    engine, address, _ = cluster
    return subprocess.Popen(
        [
            *(sys.executable, "-W", "default", HERE / "cluster_run.py"),
            *map(str, (folder, out, state, engine, address, *counts)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=surroundings,
    )


def test_a_worker_that_is_killed_and_a_run_that_is_killed_cost_nothing(
    cluster, folder, tmp_path, convert, standing, surroundings, postgres
):
    convert(folder, out="whole")
    _, _, workers = cluster
    with on_cluster(cluster, folder, tmp_path / "one", "-", surroundings, 4, 40) as process:
        assert process.stdout.readline() == "waiting\n"
        victims = workers()[:-1]
        for victim in victims:
            os.kill(victim, signal.SIGSTOP)  # so that it holds a task when it goes
        print(file=process.stdin, flush=True)
        # where the engine gave all that is left to those who were stopped, only their end lets the run go on
        select([process.stdout], [], [], 20)
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        assert process.stdout.readline() == "waiting\n"
        print(file=process.stdin, flush=True)
        said, _ = process.communicate()
    assert said == f"1 {FILES} {FILES} {{'truncated-header': 1}}\n"
    assert standing("one") == standing("whole")

    state = postgres.url()
    with on_cluster(cluster, folder, tmp_path / "two", state, surroundings, 60) as process:
        assert process.stdout.readline() == "waiting\n"
        process.kill()
    with on_cluster(cluster, folder, tmp_path / "two", state, surroundings) as process:
        said, _ = process.communicate()
    code, files, sent, _ = said.split(maxsplit=3)
    assert (code, files) == ("1", str(FILES))
    assert 0 < int(sent) <= FILES - 56
    assert standing("two") == standing("whole")


def test_a_run_that_is_asked_to_stop_keeps_what_is_done_and_ends(
    dask, folder, tmp_path, convert, standing, surroundings
):
    convert(folder, out="whole")
    state = tmp_path / "state.db"
    with on_cluster(dask, folder, tmp_path / "out", state, surroundings, 20) as process:
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate("\n")
    code, files, sent, _ = said.split(maxsplit=3)
    assert code == "130"
    assert 20 <= int(files) <= int(sent) < FILES
    with on_cluster(dask, folder, tmp_path / "out", state, surroundings) as process:
        said, _ = process.communicate()
    assert int(said.split()[2]) <= FILES - int(files) + 1  # what was cut is read again
    assert standing("out") == standing("whole")


class Pretended:
    """A cluster in this process that gives up tasks that hold a certain file."""

    def __init__(self, bad=(), lost=()):
        self.bad, self.lost, self.most, self.cancelled = bad, lost, 0, None

    def slots(self):
        return 2

    def submit(self, job, task):
        return (job, task)

    def wait(self, handles):
        self.most = max(self.most, len(handles))
        return [next(iter(handles))]

    def result(self, handle):
        if any(name.encode() in handle[1].data for name in self.bad):
            raise WorkerLostError
        return read_far(*handle)

    def cancel(self, handles):
        self.cancelled = len(handles)

    def everywhere(self, function, *arguments):
        return {"one": function(*arguments), **dict(self.lost)}


@pytest.fixture
def far(folder, parts):
    def make(cluster, version=__version__):
        job = Job(version, {0x00080018: None}, Filters(), parts, ignore_changed=False)
        return Far(cluster, job, Task.halves)

    return make


def tasks(folder, size):
    paths = [Entry(str(path)) for path in sorted(folder.iterdir())]
    return [Task("files", tuple(paths[at : at + size])) for at in range(0, len(paths), size)]


def test_a_task_that_kills_its_workers_is_halved_down_to_the_one_file(folder, far):
    given = list(far(Pretended(bad=["/017"])).run(tasks(folder, 50), Stop()))
    assert [
        [entry.path[-3:] for entry in task.entries] for task, result in given if result is None
    ] == [["017"]]
    read = [entry.path for task, _ in given for entry in task.entries]
    assert sorted(read) == [str(path) for path in sorted(folder.iterdir())]


def test_few_tasks_are_under_way_and_what_is_not_done_is_taken_back(folder, far, monkeypatch):
    monkeypatch.setattr("converter.pipeline.cluster.FILES", 1)
    cluster = Pretended()
    stop = Stop()
    results = far(cluster).run(tasks(folder, 1), stop)
    next(results)
    assert cluster.most == 4
    stop.requested = True
    assert len(list(results)) == 1
    assert cluster.cancelled == 2


def test_tasks_of_files_go_together_as_they_are_worth_their_way(folder, far):
    ((_, results),) = far(Pretended()).run(tasks(folder, 10), Stop())
    assert sum(result.files for result in results) == FILES


def test_a_worker_of_another_version_is_refused(folder, far):
    with pytest.raises(ConfigurationError, match="install the same on all"):
        list(far(Pretended(), "0.0.1").run(tasks(folder, 10), Stop()))
    with pytest.raises(ConfigurationError, match=r"two has dcm2fhir 0\.0\.1"):
        check(Pretended(lost=[("two", "0.0.1")]), [])
    with pytest.raises(ConfigurationError, match=r"two does not have dcm2fhir: install [0-9]"):
        check(Pretended(lost=[("two", None)]), [])


@pytest.mark.parametrize("change", ["edit", "older", "none"])
def test_a_worker_with_the_same_version_of_another_source_is_refused(tmp_path, change):
    copy = tmp_path / "converter"
    shutil.copytree(
        Path(converter.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__")
    )
    if change == "edit":
        with (copy / "reading" / "walk.py").open("a") as file:
            file.write("# another commit\n")
    elif change == "older":
        (copy / "pipeline" / "cluster_build.py").unlink()

    class Elsewhere(Pretended):
        def everywhere(self, function, *arguments):
            script = f"import pydoc; print(pydoc.locate({arguments[0]!r}))"
            done = subprocess.run(
                [sys.executable, "-c", script],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=True,
            )
            said = done.stdout.strip()
            return {"one": function(*arguments), "two": None if said == "None" else said}

    if change == "none":
        check(Elsewhere(), [])
        return
    with pytest.raises(ConfigurationError, match=r"two has another source of dcm2fhir \S+ than"):
        check(Elsewhere(), [])


def test_inputs_that_a_worker_does_not_see_are_refused_without_their_name(folder):
    check(Pretended(), [str(folder)])
    with pytest.raises(ConfigurationError, match="does not see an input") as caught:
        check(Pretended(), [str(folder / "JONES")])
    assert "JONES" not in str(caught.value)


@pytest.mark.parametrize("place", [Place("dask", "tcp://127.0.0.1:9"), Place("ray", "127.0.0.1:9")])
def test_a_cluster_that_does_not_answer_is_told_soon(place, monkeypatch):
    if place.engine == "dask":
        monkeypatch.setattr("converter.pipeline.cluster_dask.WAIT", 0.2)
    with pytest.raises(EngineError, match="answers at this --engine-address"), connected(place):
        pass


def test_a_missing_package_is_told_with_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install '\.\[dask\]'$"):
        need("dask")


def test_what_an_engine_logs_of_a_call_holds_no_path():
    sealed = seal(Task("files", (Entry("/scans/JONES"),)))
    assert isinstance(sealed, Sealed)
    assert "JONES" not in f"{sealed!r} {sealed}"
