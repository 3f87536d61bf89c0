"""Ratios as a table and as a plot."""

from __future__ import annotations

from typing import Any

__all__ = ["markdown", "plot"]

NAMES = {
    "ours": "dcm2fhir",
    "ours_walk": "dcm2fhir, no two headers alike",
    "floor": "open, read 8 KB, close",
    "pydicom": "pydicom",
    "least": "read 8 KB, write two files",
    "fw_file_rs": "fw-file-rs",
    "in turn": "read 8 KB of each in turn",
}
COLOURS = {"ours": "#1a7f37", "ours_walk": "#7fc79a"}


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def markdown(results: dict[str, Any]) -> str:
    parts = ["<!-- written by python -m benchmarks -->\n"]
    if headers := results.get("headers"):
        readers = list(next(iter(headers.values())))
        rows = [
            [corpus, *(str(costs.get(reader, "fails")) for reader in readers)]
            for corpus, costs in headers.items()
        ]
        parts.append("Reading one header, CPU, in units of open, read 8 KB, close:\n")
        parts.append(_table(["corpus", *(NAMES.get(one, one) for one in readers)], rows))
    for part in ("batch", "single"):
        for title, programs in (results.get(part) or {}).items():
            rows = [
                [
                    NAMES.get(name, name) + (" + fhir.resources" if name == "pydicom" else ""),
                    *(str(value) for value in values.values()),
                ]
                for name, values in programs.items()
            ]
            columns = list(next(iter(programs.values())))
            parts.append(f"{title}, the whole program, in units of dcm2fhir on one core:\n")
            parts.append(_table(["program", *columns], rows))
    if jobs := results.get("jobs"):
        counts = list(next(iter(jobs.values())))
        rows = [[title, *map(str, row.values())] for title, row in jobs.items()]
        parts.append("Times as fast as with one process:\n")
        parts.append(_table(["worker processes", *counts], rows))
    if cold := results.get("cold"):
        programs = list(dict.fromkeys(name for row in cold.values() for name in row))
        rows = [
            [corpus, *(str(row.get(name, "")) for name in programs)] for corpus, row in cold.items()
        ]
        parts.append(
            "Files that are not in memory, wall time, in units of reading 8 KB of each in turn:\n"
        )
        parts.append(_table(["corpus", *(NAMES.get(name, name) for name in programs)], rows))
    if memory := results.get("memory"):
        rows = [
            [count, *(str(value) for value in values.values())] for count, values in memory.items()
        ]
        parts.append("Memory and linearity, two workers:\n")
        parts.append(_table(["instances", *next(iter(memory.values()))], rows))
    if missing := results.get("missing"):
        parts += [
            "Missing from this run:\n",
            *(f"- {name}: {why}" for name, why in missing.items()),
        ]
    return "\n".join(parts)


def _bars(title: str, values: dict[str, float], top: int) -> tuple[list[str], int]:
    longest = max(values.values())
    lines = [f'<text x="10" y="{top}" font-weight="bold">{title}</text>']
    y = top + 12
    for name, value in sorted(values.items(), key=lambda pair: pair[1]):
        width = max(1.0, 380 * value / longest)
        colour = COLOURS.get(name, "#8c959f")
        label = NAMES.get(name, name)
        lines += [
            f'<text x="210" y="{y + 12}" text-anchor="end">{label}</text>',
            f'<rect x="218" y="{y}" width="{width:.1f}" height="15" fill="{colour}"/>',
            f'<text x="{224 + width:.1f}" y="{y + 12}">{value:g}</text>',
        ]
        y += 21
    return lines, y + 26


def plot(results: dict[str, Any]) -> str:
    """Bars; the shorter the faster."""
    lines: list[str] = []
    top = 24
    for corpus in ("small", "ct512"):
        if costs := (results.get("headers") or {}).get(corpus):
            title = f"One header ({corpus}), CPU, in units of open, read 8 KB, close"
            more, top = _bars(title, costs, top)
            lines += more
    for part in ("batch", "single"):
        for title, programs in (results.get(part) or {}).items():
            values = {
                name: values["cpu"]
                for name, values in programs.items()
                if name != "ours, all cores"
            }
            more, top = _bars(f"{title}, CPU, in units of dcm2fhir", values, top)
            lines += more
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="680" height="{top}" '
        'font-family="sans-serif" font-size="12">\n'
        '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(lines) + "\n</svg>\n"
    )
