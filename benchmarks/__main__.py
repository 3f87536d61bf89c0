"""Ours beside the peers, in one run: ratios as JSON, as a Markdown table, as a plot.

``python -m benchmarks`` runs all; name ``headers``, ``batch``, ``single``, ``jobs``, ``cold`` or ``memory`` for a part.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from benchmarks.corpora import CORPORA, instance, make
from benchmarks.environments import python_of
from benchmarks.measure import Usage, interleaved, median, run
from benchmarks.report import markdown, plot
from benchmarks.tarballs import tiny_tar

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).resolve().parent / "peers"
PARTS = ("headers", "batch", "single", "jobs", "cold", "memory")
READERS = {"dicomsdl": "dicomsdl", "fw-file-rs": "fw_file_rs", "gdcm": "gdcm", "pydicom": "pydicom"}
HEADER_CORPORA = ("ct512", "small", "implicit", "deflated", "private", "enhanced", "fresh")


class Bench:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder = Path(options.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        # A file system may shun what was just deleted for minutes (ext4 does), which whoever writes next would pay for:
        # every run gets a folder of its own, and all go at the end.
        self.outputs = Path(tempfile.mkdtemp(prefix="output-", dir=self.folder))
        self._numbers = itertools.count()
        self.results: dict[str, Any] = {"missing": {}}

    def output(self) -> str:
        """A folder that is not there yet."""
        return str(self.outputs / str(next(self._numbers)))

    def peer(self, name: str) -> str:
        """Interpreter of a peer; a peer that is missing is named as missing."""
        python, why = python_of(name, self.folder)
        if why:
            self.results["missing"][name] = why
        return python

    def convert(self, files: Path, jobs: int, *, watch: bool = False):
        def convert():
            command = [
                sys.executable, "-m", "converter", "convert", str(files), "-o", self.output(), "-q",
                "-j", str(jobs), "--profile", "uk-core", "--profile", "ips",
                "--report", str(self.folder / "report.json"),
            ]  # fmt: skip
            return run(command, watch=watch, root=ROOT)

        return convert

    def program(self, python: str, script: str, files: Path):
        return lambda: run([python, str(PEERS / script), str(files), self.output()])

    # -- parts -----------------------------------------------------------------------------------

    def headers(self) -> None:
        rows = self.results["headers"] = {}
        for name in HEADER_CORPORA:
            files = sorted(warm(make(CORPORA[name], self.folder)).rglob("*.dcm"))[
                : self.options.files
            ]
            listed = self.folder / f"{name}.txt"
            listed.write_text("\n".join(map(str, files)))
            pythons = {"floor": sys.executable, "ours": sys.executable, "ours_walk": sys.executable}
            pythons |= {READERS[peer]: self.peer(peer) for peer in READERS}
            script = str(PEERS / "headers.py")
            programs = {
                reader: lambda reader=reader, python=python: run(
                    [python, script, reader, str(listed)],
                    root=ROOT if reader.startswith("ours") else None,
                )
                for reader, python in pythons.items()
                if python
            }
            found = interleaved(programs, self.options.rounds)
            costs = {
                reader: statistics.median(float(usage.output) for usage in usages)
                for reader, usages in found.items()
            }
            rows[name] = {reader: round(cost / costs["floor"], 1) for reader, cost in costs.items()}
            print(name, rows[name])

    def _batch(
        self, name: str, peers: dict[str, str], rounds: int, once: Collection[str] = ()
    ) -> dict[str, Any]:
        files = warm(make(CORPORA[name], self.folder))
        programs = {"ours": self.convert(files, 1), "ours, all cores": self.convert(files, cores())}
        for peer, script in peers.items():
            if python := sys.executable if peer == "least" else self.peer(peer):
                programs[peer] = self.program(python, script, files)
        found = interleaved(programs, rounds, once)
        ours = {what: median(found["ours"], what) for what in ("cpu", "wall")}
        every = median(found["ours, all cores"], "wall")
        rows = {
            program: {
                "cpu": round(median(usages, "cpu") / ours["cpu"], 2),
                "wall": round(median(usages, "wall") / ours["wall"], 2),
                "wall, ours on all cores": round(median(usages, "wall") / every, 2),
            }
            for program, usages in found.items()
        }
        print(name, rows)
        return rows

    def batch(self) -> None:
        every = {
            "pydicom": "batch_pydicom.py",
            "pydcm": "batch_pydcm.py",
            "dicom2fhir": "batch_dicom2fhir.py",
        }
        rows = self.results["batch"] = {}
        rows["10,000 files"] = self._batch("small", every, self.options.rounds)
        if not self.options.quick:
            # the straightforward program holds every data set: 100,000 of them take more than 6 GB
            fast = {"pydcm": "batch_pydcm.py"}
            if memory() > 12 << 30:
                fast = {"pydicom": "batch_pydicom.py", **fast}
            rows["100,000 files"] = self._batch(
                "small-100k", fast, self.options.rounds, once=("pydicom",)
            )

    def single(self) -> None:
        name = "fresh" if self.options.quick else "single"
        rounds = self.options.rounds if self.options.quick else 1
        self.results["single"] = {
            f"{CORPORA[name].count:,} one-image studies": self._batch(
                name, {"pydicom": "batch_pydicom.py", "least": "batch_least.py"}, rounds
            )
        }

    def jobs(self) -> None:
        rows = self.results["jobs"] = {}
        name, count = ("small", 10**4) if self.options.quick else ("small-100k", 10**5)
        rows[f"{count:,} files"] = self._jobs(warm(make(CORPORA[name], self.folder)))
        count *= 10
        archives = tiny_tar(self.folder / f"tiny-{count}", count, instance)
        rows[f"{count:,} instances in archives"] = self._jobs(archives)

    def _jobs(self, files: Path) -> dict[str, float]:
        programs = {str(jobs): self.convert(files, jobs) for jobs in (1, cores())}
        found = interleaved(programs, self.options.rounds)
        one = median(found["1"], "wall")
        row = {jobs: round(one / median(usages, "wall"), 2) for jobs, usages in found.items()}
        print("jobs", files, row)
        return row

    def cold(self) -> None:
        rows = self.results["cold"] = {}
        for name in ("ct512", "small" if self.options.quick else "small-100k"):
            files = make(CORPORA[name], self.folder)
            programs = {
                "in turn": self.program(sys.executable, "cold_in_turn.py", files),
                "ours": self.convert(files, 1),
                "ours, all cores": self.convert(files, cores()),
                "pydicom": self.program(self.peer("pydicom"), "batch_pydicom.py", files),
            }
            if name == "small-100k":
                # the table of batches has it, and it is not the disk that it waits for
                del programs["pydicom"]
            cold = {key: evicted(files, program) for key, program in programs.items()}
            found = interleaved(cold, self.options.rounds)
            turn = median(found["in turn"], "wall")
            rows[name] = {
                key: round(median(usages, "wall") / turn, 2) for key, usages in found.items()
            }
            print("cold", name, rows[name])

    def memory(self) -> None:
        rows = self.results["memory"] = {}
        first = 0.0
        counts = (10**4, 10**5) if self.options.quick else (10**4, 10**5, 10**6)
        for count in counts:
            files = tiny_tar(self.folder / f"tiny-{count}", count, instance)
            usages = interleaved({"ours": self.convert(files, 2, watch=True)}, 1)
            usage = usages["ours"][0]
            first = first or usage.cpu / count
            rows[f"{count:,}"] = {
                "MiB, parent and workers": round(usage.memory / 2**20),
                "CPU an instance, to that at 10,000": round(usage.cpu / count / first, 2),
            }
            print("memory", rows)


def evicted(files: Path, program: Callable[[], Usage]) -> Callable[[], Usage]:
    """Let a program find nothing of the files in memory (their names and places stay there)."""

    def run_cold() -> Usage:
        for file in files.rglob("*.dcm"):
            with file.open("rb") as held:
                os.fsync(held)
                os.posix_fadvise(held.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return program()

    return run_cold


def warm(files: Path) -> Path:
    """Bring files into memory: whoever comes first would else pay for the disk."""
    for file in files.rglob("*.dcm"):
        file.read_bytes()
    return files


def cores() -> int:
    return len(os.sched_getaffinity(0))


def memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")


def main() -> None:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dcm2fhir-benchmarks"
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks")
    parser.add_argument("part", nargs="*", help="default: all of them")
    parser.add_argument(
        "--folder", default=str(cache), help="corpora and environments (%(default)s)"
    )
    parser.add_argument(
        "--output",
        help="where benchmarks.* go; default: docs, with --quick the folder of the corpora",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=2000, help="headers of a corpus")
    parser.add_argument("--quick", action="store_true", help="smaller corpora")
    options = parser.parse_args()
    if unknown := set(options.part) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    bench = Bench(options)
    path = Path(options.output or (bench.folder if options.quick else ROOT / "docs"))
    path /= "benchmarks.json"
    held = json.loads(path.read_text()) if path.exists() else {}
    try:
        for part in options.part or PARTS:
            getattr(bench, part)()
            held = {**held, **bench.results}
            path.write_text(json.dumps(held, indent=2) + "\n")
    finally:
        shutil.rmtree(bench.outputs)
    path.with_suffix(".md").write_text(markdown(held))
    path.with_suffix(".svg").write_text(plot(held))
    print(f"written: {path.with_suffix('.json')}, .md, .svg")


if __name__ == "__main__":
    main()
