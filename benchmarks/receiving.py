"""Receiving by C-STORE, ours beside others, in one run: ``python -m benchmarks.receiving``, about ten minutes.

A sender that saturates (`benchmarks.load`) into each receiver in turn, round after round; then dcmtk's dcmsend with and
without ``TCP_NODELAY=1``; then the memory of one large object. What a receiver does not do is written in its cell.
Peers: dcmtk and Orthanc from the distribution (``apt-get install dcmtk orthanc``), pynetdicom from the environment.
For a look at one figure: ``--saturated --only "ours, null commit" --only "ours, durable" --associations 10``.
Written: ``docs/receiving.json`` and ``docs/receiving.md``, as ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.load import SIZES, file, measure, stream
from benchmarks.receivers import DURABLE, NULL, ORTHANC, RECEIVERS, STOCK, Unanswered, running

ROOT = Path(__file__).resolve().parent.parent
ASSOCIATIONS = (1, 4, 10)
IGNORE, FORK, BARE = "storescp --ignore", "storescp --fork", "sync per reply"
OBJECT = 300 << 20
FILES = {"5 KB": 1000, "0.5 MB": 200}
MOST = 60
"""Seconds that dcmsend gets for its files."""

Cell = dict[str, Any]
"""``images`` a second and ``cpu`` seconds an image, of each round; or ``word``, why there are none."""


@contextmanager
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="receiving-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def key(*parts: object) -> str:
    return "|".join(map(str, parts))


def saturate(options: argparse.Namespace, until: float) -> dict[str, Cell]:
    """Fill the cells of the saturating sender; no new round is begun after some time."""
    found: dict[str, Cell] = {}
    for number in range(options.rounds):
        if number and time.monotonic() > until:
            print(f"{number} rounds took all the time there is")
            break
        for associations in options.associations:
            for name in options.only:
                if name == IGNORE and associations > 1:
                    for size in SIZES:
                        found[key(size, associations, name)] = {"word": "one at a time"}
                    continue
                one_receiver(found, name, associations, options.seconds)
    return found


def one_receiver(found: dict[str, Cell], name: str, associations: int, seconds: float) -> None:
    with folder() as path:
        try:
            with running(name, path) as receiver:
                for size in SIZES:
                    cell = found.setdefault(key(size, associations, name), {})
                    begin = time.monotonic()
                    try:
                        rate = measure(receiver, size, associations, seconds)
                    except Unanswered as error:
                        cell["word"] = str(error)
                        say(name, size, f"{associations} associations", str(error))
                        if time.monotonic() - begin > 2 * seconds:
                            return  # it is in no state to be asked again
                        continue
                    cell.setdefault("images", []).append(rate.images)
                    cell.setdefault("cpu", []).append(rate.cpu)
                    text = f"{rate.images:8.0f} images/s {rate.cpu * 1e6:8.0f} us CPU an image"
                    say(name, size, f"{associations} associations", text)
        except (Unanswered, OSError) as error:
            for size in SIZES:
                found.setdefault(key(size, associations, name), {})["word"] = "does not run"
            say(name, "", "", str(error))


def say(*parts: str) -> None:
    name, size, what, text = parts
    print(f"{name:18} {size:7} {what:16} {text}", flush=True)


def dcmsend(options: argparse.Namespace, until: float) -> dict[str, Cell]:
    """Fill the cells of dcmtk's sender."""
    found: dict[str, Cell] = {}
    with folder() as path:
        for size, rows in SIZES.items():
            (path / size).mkdir()
            for number in range(FILES[size]):
                whole, uid = file(1, number, rows)
                (path / size / f"{number}.dcm").write_bytes(
                    whole.replace(uid.encode(), f"{uid[:-4]}{number:04}".encode())
                )
        for turn in range(options.sends):
            if turn and time.monotonic() > until:
                print(f"{turn} rounds of dcmsend took all the time there is")
                break
            for nodelay in (True, False):
                for name in options.only:
                    rates_of_dcmsend(found, name, path, nodelay=nodelay)
    return found


def rates_of_dcmsend(found: dict[str, Cell], name: str, files: Path, *, nodelay: bool) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TCP_NODELAY"}
    if nodelay:
        environment["TCP_NODELAY"] = "1"
    what = "dcmsend, TCP_NODELAY" if nodelay else "dcmsend"
    with folder() as path:
        try:
            with running(name, path, nodelay=nodelay) as receiver:
                for size in SIZES:
                    cell = found.setdefault(key(size, nodelay, name), {})
                    # 40 ms an image are no news after a few of them
                    count = FILES[size] if nodelay or "ours" in name else 25
                    paths = [str(files / size / f"{number}.dcm") for number in range(count)]
                    port = str(receiver.port)
                    begin = time.monotonic()
                    subprocess.run(
                        ["dcmsend", "--max-pdu", "131072", "127.0.0.1", port, *paths],
                        check=True, timeout=MOST, env=environment, capture_output=True,
                    )  # fmt: skip
                    rate = count / (time.monotonic() - begin)
                    cell.setdefault("images", []).append(rate)
                    say(name, size, what, f"{rate:8.0f} images/s")
        except (Unanswered, OSError, subprocess.SubprocessError) as error:
            word = "stalls" if isinstance(error, subprocess.TimeoutExpired) else "fails"
            for size in SIZES:
                found.setdefault(key(size, nodelay, name), {}).setdefault("word", word)
            say(name, "", what, word)


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Largest resident set of a process of each receiver, after one large object."""
    found: dict[str, Any] = {}
    for name in options.only:
        with folder() as path:
            try:
                with running(name, path) as receiver:
                    took = stream(receiver.port, OBJECT)
                    found[name] = {"peak": receiver.peak(), "rate": OBJECT / took}
                    text = f"{found[name]['peak'] >> 20} MiB, {OBJECT / took / 1e6:.0f} MB/s"
            except (Unanswered, OSError) as error:
                found[name] = {"word": "does not take it"}
                text = str(error)
        say(name, "300 MiB", "one object", text)
    return found


# the page


def middle(cell: Cell | None, what: str = "images") -> float:
    values = (cell or {}).get(what)
    return statistics.median(values) if values else 0.0


def number(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def ratios(cells: dict[str, Cell], columns: list[tuple[Any, ...]], base: str, what: str) -> str:
    """A table in units of one receiver."""
    rows = []
    for name in RECEIVERS:
        row = [name]
        for column in columns:
            cell = cells.get(key(*column, name))
            unit = middle(cells.get(key(*column, base)), what)
            value = middle(cell, what)
            word = (cell or {}).get("word", "-")
            row.append(number(value / unit) if value and unit else word)
        rows.append(row)
    return table(["receiver", *(heading(column) for column in columns)], rows)


def heading(column: tuple[Any, ...]) -> str:
    size, second = column
    if isinstance(second, bool):
        return f"{size}, TCP_NODELAY=1" if second else f"{size}, default"
    return f"{size}, {second} assoc."


def aims(results: dict[str, Any]) -> Iterator[list[str]]:
    """What was aimed at, and what was reached."""
    cells, sends = results["saturated"], results["dcmsend"]

    def row(what: str, size: str, value: float, least: float, unit: str = "x") -> list[str]:
        held = "yes" if value >= least else "**no**"
        return [what, size, f"{number(value)} {unit}", f"{number(least)} {unit}", held]

    for size in SIZES:

        def rate(name: str, associations: int, size: str = size) -> float:
            return middle(cells.get(key(size, associations, name)))

        def ratio(one: tuple[str, int], other: tuple[str, int]) -> float:
            return rate(*one) / rate(*other) if rate(*other) else 0.0

        for count in ASSOCIATIONS:
            yield row(
                f"null commit to stock pynetdicom, {count} assoc.",
                size,
                ratio((NULL, count), (STOCK, count)),
                10,
            )
        yield row(f"null commit to {IGNORE}, 1 assoc.", size, ratio((NULL, 1), (IGNORE, 1)), 1)
        yield row(f"null commit to {FORK}, 4 assoc.", size, ratio((NULL, 4), (FORK, 4)), 1)
        yield row(
            "durable to the bare sync per reply, 1 assoc.",
            size,
            ratio((DURABLE, 1), (BARE, 1)),
            1 / 1.5,
        )
        yield row("durable to null commit, 10 assoc.", size, ratio((DURABLE, 10), (NULL, 10)), 0.5)
        for count in ASSOCIATIONS:
            yield row(
                f"durable to Orthanc, {count} assoc.",
                size,
                ratio((DURABLE, count), (ORTHANC, count)),
                5,
            )
        for nodelay in (False, True):
            null, durable, bare = (
                middle(sends.get(key(size, nodelay, name))) for name in (NULL, DURABLE, BARE)
            )
            best = max(middle(sends.get(key(size, nodelay, name))) for name in (IGNORE, FORK))
            where = "with TCP_NODELAY=1" if nodelay else "as it comes"
            # like with like: storescp keeps nothing, and a sender alone waits for each sync
            yield row(
                f"dcmsend {where}: null commit to storescp", size, null / best if best else 0.0, 1
            )
            yield row(
                f"dcmsend {where}: durable to the bare sync per reply",
                size,
                durable / bare if bare else 0.0,
                1,
            )
    if peak := results["memory"].get(DURABLE, {}).get("peak"):
        size = peak / (1 << 20)
        yield [
            "memory of a receiver", "300 MiB", f"{size:.0f} MiB", "at most 120 MiB",
            "yes" if size < 120 else "**no**",
        ]  # fmt: skip


def markdown(results: dict[str, Any]) -> str:
    columns = [(size, count) for size in SIZES for count in ASSOCIATIONS]
    sends = [(size, nodelay) for size in SIZES for nodelay in (False, True)]
    peaks = [
        [name, *(["-", cell["word"]] if "word" in cell else [f"{cell['rate'] / 1e6:.0f}", f"{cell['peak'] >> 20}"])]
        for name, cell in results["memory"].items()
    ]  # fmt: skip
    return "\n".join(
        [
            "<!-- written by python -m benchmarks.receiving -->\n",
            "Images a second from a sender that saturates, in units of stock pynetdicom:\n",
            ratios(results["saturated"], columns, STOCK, "images"),
            "CPU of the receiver for each image, in units of `storescp --fork` (the smaller the better):\n",
            ratios(results["saturated"], columns, FORK, "cpu"),
            "Images a second from dcmtk's dcmsend, in units of `storescp --ignore`; its environment is the receiver's:\n",
            ratios(results["dcmsend"], sends, IGNORE, "images"),
            "One object of 300 MiB:\n",
            table(["receiver", "MB a second", "MiB, its largest process"], peaks),
            "What was aimed at (issue of this part), and what this run gave:\n",
            table(["what", "object", "ratio", "aim, at least", "held"], list(aims(results))),
        ]
    )


def main() -> None:
    """Measure, cell by cell, and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.receiving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.2, help="of each cell")
    parser.add_argument("--minutes", type=float, default=5, help="after which no round begins")
    parser.add_argument("--sends", type=int, default=2, help="rounds of dcmsend")
    parser.add_argument(
        "--saturated", action="store_true", help="that sender alone: no dcmsend, no large object"
    )
    parser.add_argument("--only", action="append", choices=RECEIVERS)
    parser.add_argument("--associations", type=int, action="append", choices=ASSOCIATIONS)
    parser.add_argument("--output", type=Path, help="folder (default: docs, if all is measured)")
    options = parser.parse_args()
    whole = not options.only and not options.associations and not options.saturated
    options.only = options.only or RECEIVERS
    options.associations = options.associations or ASSOCIATIONS
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no receiver is left behind
    begin = time.monotonic()
    results = {
        "saturated": saturate(options, begin + 60 * options.minutes),
        "dcmsend": {},
        "memory": {},
    }
    if not options.saturated:
        results["dcmsend"] = dcmsend(options, begin + 60 * (options.minutes + 4))
        results["memory"] = memory(options)
    text = markdown(results)
    print(f"\n{text}\n{(time.monotonic() - begin) / 60:.1f} minutes")
    output = options.output or (ROOT / "docs" if whole else None)
    if output is not None:
        (output / "receiving.json").write_text(json.dumps(results, indent=1) + "\n")
        (output / "receiving.md").write_text(text)


if __name__ == "__main__":
    main()
