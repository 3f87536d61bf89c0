"""``dcm2fhir explain``: where each value of a resource came from, and why an element is absent."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from converter.cli.common import Command, State, configuration, option, usage, verbosity
from converter.cli.output import table
from converter.cli.rules import options_of, rules_of
from converter.cli.running import flags_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from converter.core.engine import Explanation
    from converter.core.rules import RuleSet
    from converter.core.study import Block, Study

__all__ = ["explain", "studies_of"]

Told: TypeAlias = "tuple[str, Sequence[Explanation]]"
"""Study Instance UID, and what is told of its elements."""

COLUMNS = ("element", "value", "DICOM", "rule", "code", "from")


@click.command(
    cls=Command,
    examples="""
    dcm2fhir explain study/
    dcm2fhir explain study/ ImagingStudy.series.bodySite
    dcm2fhir explain image.dcm started --profile ips --timezone Europe/London
    """,
)
@click.argument("input_", metavar="INPUT", type=click.Path(exists=True))
@click.argument("element", required=False)
@option(
    "--profile",
    metavar="NAME|FILE",
    multiple=True,
    help="r4, uk-core, ips or a TOML file of your own (repeatable).",
)
@option(
    "--timezone",
    metavar="ZONE",
    help="IANA zone, such as Europe/London, of studies that state no offset (0008,0201).",
)
@option("--companions", is_flag=True, default=None, help="As for convert.")
@option("--mappings", metavar="PATH", help="Folder with the site's mapping overlays.")
@option("--config", "config_file", metavar="FILE", help="Configuration file, as for convert.")
@option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    help="How it is printed (default table).",
)
@verbosity
@click.pass_obj
def explain(
    state: State,
    /,
    input_: str,
    element: str | None,
    config_file: str | None,
    form: str,
    **given: Any,
) -> int:
    """Say for each FHIR element where its value came from.

    INPUT is a file, a folder or an archive; ELEMENT narrows it to one element and what is below it. Elements that
    are absent are listed with the reason. This prints patients' values: that is its purpose.
    """
    from converter.core.engine import explain as explain_study

    loaded = configuration(config_file, flags_of(given), verbose=state.verbose, quiet=state.quiet)
    rules, options = rules_of(loaded.config), options_of(loaded.config.convert)
    studies, skipped = studies_of(input_, rules)
    if not studies:
        what = ", ".join(f"{reason} ({count})" for reason, count in sorted(skipped.items()))
        click.echo(f"error: no study in {input_}: {what or 'it is empty'}", err=True)
        return 4
    removed = _removed(rules)
    told: list[Told] = [
        (study.uid, _in_order([*explain_study(study, rules, options), *removed]))
        for study in studies
    ]
    if element is None:
        chosen: list[Told] = [(uid, _first_instances(rows)) for uid, rows in told]
    else:
        chosen = _chosen(told, element)
    if not any(rows for _, rows in chosen):
        near = get_close_matches(element or "", _names(told), 1)
        hint = f"Did you mean {near[0]}?" if near else "Without ELEMENT everything is shown."
        raise usage(f"No rule or profile is about {element}. {hint}")
    if form == "json":
        _print_json(chosen)
    else:
        _print_table(chosen, folder=os.path.realpath(input_))
    if len(chosen[0][1]) < len(told[0][1]) and element is None and not state.quiet:
        click.echo(
            "\nOf each series the first instance is shown; ImagingStudy.series.instance shows all.",
            err=True,
        )
    return 0


def _removed(rules: RuleSet) -> list[Explanation]:
    """Tell of the rules that a file took away."""
    from converter.core.conversion import Explanation

    return [
        Explanation(path, "", f"{file}: {path}", (), "", "", "the rule is taken away")
        for path, file in sorted(rules.removed.items())
        if path.partition(".")[0] in rules.resources
    ]


def studies_of(path: str, rules: RuleSet) -> tuple[list[Study], Counter[str]]:
    """Read the studies of one input into memory; and why what was left out was left out."""
    from converter import reading
    from converter.core.study import assemble, unpack_block
    from converter.sources import Filters, Skipped, plan, read_task

    blocks: dict[str, list[Block]] = {}
    skipped: Counter[str] = Counter()
    for task in plan([path]):
        if isinstance(task, Skipped):
            skipped[task.reason] += 1
            continue
        for result in read_task(task, rules.wanted, Filters(), reading):
            skipped.update(reason for _, _, reason, _ in result.skipped)
            for packed in result.blocks:
                blocks.setdefault(packed.study_uid, []).append(unpack_block(packed.data))
    return [assemble(uid, blocks[uid]) for uid in sorted(blocks)], skipped


def _plain(path: str) -> str:
    return re.sub(r"\.where\([^)]*\)|\[\d+\]|:[^.]+", "", path)


def _within(path: str, element: str) -> bool:
    """Whether a path is the element or below it; the resource's name may be left out."""
    plain = _plain(path)
    wanted = [element]
    if not element[:1].isupper():
        wanted.append(f"ImagingStudy.{element}")
    return any(
        candidate == one or candidate.startswith(f"{one}.")
        for candidate in (plain, path)
        for one in wanted
    )


def _chosen(told: Sequence[Told], element: str) -> list[Told]:
    """Rows of an element; where no path is meant, of every element that has this name. A study held back stays."""
    chosen: list[Told] = []
    for test in (_within, _named):
        chosen = [
            (uid, [row for row in rows if _is_held(row) or test(row.path, element)])
            for uid, rows in told
        ]
        if any(not _is_held(row) for _, rows in chosen for row in rows):
            return chosen
    return chosen


def _is_held(row: Explanation) -> bool:
    return row.path == "ImagingStudy"


def _named(path: str, element: str) -> bool:
    return f".{element}." in f"{_plain(path)}."


def _names(told: Sequence[Told]) -> list[str]:
    return sorted(
        {name for _, rows in told for row in rows for name in _plain(row.path).split(".")}
    )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=_parts)


def _parts(value: Any) -> Any:
    """What the engine knows of a reference or an absent value, as JSON."""
    return getattr(value, "logical", None) or getattr(value, "reason", None) or str(value)


def _print_table(chosen: Sequence[Told], *, folder: str) -> None:
    if not sys.stdout.isatty():
        for _, rows in chosen:
            table(COLUMNS, [_row(row, folder) for row in rows])
        return
    for uid, rows in chosen:
        for heading, part in _sections(rows):
            click.secho(f"\nStudy {uid}{heading}", bold=True)
            table(COLUMNS, [_short(_row(row, folder)) for row in part])


def _row(row: Explanation, folder: str) -> tuple[str, ...]:
    source = row.source
    if source.startswith(folder):
        within = source.removeprefix(folder)
        file = os.path.basename(folder) if not within or within.startswith("!/") else ""  # noqa: PTH119
        source = file + within.lstrip("/")
    value = f"(absent: {row.reason})" if row.reason else _text(row.value)
    if row.findings:
        value += f" ({', '.join(row.findings)})"
    if _is_held(row):
        value = f"(held back: {row.reason})"
    return (row.path, value, ", ".join(row.keywords), row.rule, row.code_row, source)


def _short(row: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out on a terminal what stands beside it anyway."""
    path, value, keywords, rule, code_row, source = row
    file, _, key = rule.partition(": ")
    element = _plain(path)
    if value == f"(absent: no value in {keywords})":
        value = "(absent: no value)"
    slices = f"\n{key.partition('.')[2]}" if _plain(key) != key else ""
    return (
        element,
        _wrappable(value),
        keywords.replace(", ", "\n"),
        file + slices,
        code_row,
        source,
    )


def _wrappable(value: str) -> str:
    """JSON with blanks in it; all else as it is."""
    try:
        return json.dumps(json.loads(value), ensure_ascii=False) if value[:1] in "{[" else value
    except ValueError:  # a text that begins like JSON
        return value


def _sections(rows: Sequence[Explanation]) -> list[tuple[str, list[Explanation]]]:
    """Rows by series and instance, under a heading each."""
    parts: dict[str, list[Explanation]] = {}
    for row in rows:
        named = re.findall(r"(series|instance)\.where\(uid='([^']*)'\)", row.path)
        parts.setdefault("".join(f", {what} {uid}" for what, uid in named), []).append(row)
    return list(parts.items())


def _in_order(rows: Sequence[Explanation]) -> list[Explanation]:
    """The study first, then its series, then the resources beside it."""
    return sorted(
        rows,
        key=lambda row: (
            not row.path.startswith("ImagingStudy"),
            _plain(row.path).count(".series."),
        ),
    )


def _first_instances(rows: Sequence[Explanation]) -> list[Explanation]:
    """Of the instances of a series only the first: the others are made by the same rules."""
    first: dict[str, str] = {}
    kept = []
    for row in rows:
        series, _, rest = row.path.partition(".instance.where")
        instance = rest.partition(")")[0]
        if not rest or first.setdefault(series, instance) == instance:
            kept.append(row)
    return kept


def _print_json(chosen: Sequence[Told]) -> None:
    studies = [
        {
            "studyInstanceUid": uid,
            "elements": [
                {
                    "path": row.path,
                    **({"absent": row.reason} if row.reason else {"value": row.value}),
                    "keywords": row.keywords,
                    "rule": row.rule,
                    "codeRow": row.code_row,
                    "source": row.source,
                    "findings": row.findings,
                }
                for row in rows
            ],
        }
        for uid, rows in chosen
    ]
    click.echo(json.dumps(studies, ensure_ascii=False, indent=2, default=_parts))
