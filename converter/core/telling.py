"""What ``explain`` tells of one element: where its value came from, or why there is none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

from converter.core.conversion import Explanation
from converter.core.dictionary import tag_of
from converter.core.evaluate import Agreed, plain
from converter.core.rejection import EVIDENCE, TITLES
from converter.core.transforms import TRANSFORMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from converter.core.issues import Issue
    from converter.core.profile import Profile
    from converter.core.rejection import Rejections
    from converter.core.rules import Rule
    from converter.core.study import Series, Study

__all__ = ["asked_for", "explanation", "held_back", "left_out"]


def explanation(
    rule: Rule,
    path: str,
    agreed: Agreed,
    members: Sequence[Series],
    parts: Sequence[Explanation] = (),
) -> Explanation:
    """Explain one element.

    Parameters
    ----------
    rule : Rule
    path : str
    agreed : Agreed
        What the rule yielded.
    members : sequence of Series
        Whose instances were asked; empty where it was made of something else.
    parts : sequence of Explanation
        Of what the engine made it of (``subject``, ``modality`` of the study).
    """
    transform = TRANSFORMS.get(rule.transform)
    named = tuple(s.keyword for s in (*rule.sources, *rule.others)) or (
        transform.also if transform else ()
    )
    keywords = _unique(named or [word for part in parts for word in part.keywords])
    origin = f"{rule.origin}: {rule.path}"
    findings = _unique(issue.code for issue in agreed.issues)
    if agreed.value is None:
        lacks = (transform.lacks if transform else "") or _lacks(rule, keywords, members)
        reason = ", ".join(findings) or lacks
        return Explanation(path, "", origin, keywords, "", agreed.code_row, reason)
    source, code_row = _holder(rule, agreed, members), agreed.code_row
    if parts:
        source = next((part.source for part in parts if part.source), "")
        code_row = ", ".join(_unique(part.code_row for part in parts if part.code_row))
    if agreed.keyword:
        keywords = _unique([*agreed.keyword.split(", "), *_given(rule, agreed)])
    return Explanation(path, _shown(agreed.value), origin, keywords, source, code_row, "", findings)


def held_back(study: Study, issue: Issue) -> list[Explanation]:
    """Tell that a study was not converted at all, once for each file that shows why."""
    instances = [one for series in study.series for one in series.instances] + study.others
    files = sorted({one.row.source for one in instances if one.uid in issue.examples})
    reason = f"{issue.code}: {issue.message}".rstrip(": .")
    return [
        Explanation("ImagingStudy", "", "", (issue.keyword,), file, "", reason)
        for file in files or [""]
    ]


def left_out(study: Study, rejections: Rejections) -> list[Explanation]:
    """Tell which instances are rejected, once for each series and note."""
    found = []
    for series in study.series:
        counts: dict[str, int] = {}
        for instance in series.instances:
            for note in rejections.by.get(instance.uid, ()):
                counts[note.uid] = counts.get(note.uid, 0) + 1
        for note in (note for note in rejections.notes if note.uid in counts):
            reason = f"rejected-{TITLES[note.title]} by the note {note.uid}, instances: {counts[note.uid]}"
            path = f"ImagingStudy.series.where(uid='{series.uid}').instance"
            source = note.instance.row.source
            found.append(Explanation(path, "", "", (EVIDENCE,), source, "", reason))
    return found


def asked_for(found: Sequence[Explanation], profiles: Sequence[Profile]) -> list[Explanation]:
    """Tell which elements a profile makes us populate and nothing in ``found`` is or holds.

    Below an element that is absent itself there is nothing to tell.
    """
    asked: dict[str, Explanation] = {}
    plain = [(re.sub(r"\.where\([^)]*\)|:[A-Za-z]+", "", one.path), one) for one in found]
    for profile in profiles:
        for path in profile.populated:
            if path in asked or any(f"{made}.".startswith(f"{path}.") for made, _ in plain):
                continue
            above = [(made, one) for made, one in plain if path.startswith(f"{made}.")]
            filled = [(made, one) for made, one in above if one.value]
            if not above:
                reason = f"{profile.name} asks for it, and no rule makes it"
                asked[path] = Explanation(path, "", "", (), "", "", reason)
            elif filled and not any(
                _holds(one.value, path[len(made) + 1 :].split(".")) for made, one in filled
            ):
                made, one = filled[0]
                reason = f"{profile.name} asks for it, and {made} holds none"
                asked[path] = Explanation(path, "", one.rule, one.keywords, "", "", reason)
    return list(asked.values())


def _holds(value: str, names: Sequence[str]) -> bool:
    """Whether a value, as it is shown, holds an element further down."""
    try:
        held = [orjson.loads(value)]
    except orjson.JSONDecodeError:
        return False
    for name in names:
        nodes = [one for node in held for one in (node if isinstance(node, list) else [node])]
        held = [node[name] for node in nodes if isinstance(node, dict) and name in node]
    return bool(held)


def _given(rule: Rule, agreed: Agreed) -> list[str]:
    """Sources beside the first that hold something where the value came from."""
    held = dict(zip(rule.tags, agreed.key, strict=False))
    return [one.keyword for one in rule.others if _filled(held.get(one.tags[0]))]


def _filled(value: bytes | None) -> bool:
    return bool(value and value.strip(b" \0"))


def _holder(rule: Rule, agreed: Agreed, members: Sequence[Series]) -> str:
    """Input whose values gave the one that was taken."""
    return next(
        (
            instance.row.source
            for series in members
            for instance in series.instances
            if agreed.key and tuple(instance.get(tag) for tag in rule.tags) == agreed.key
        ),
        "",
    )


def _lacks(rule: Rule, keywords: tuple[str, ...], members: Sequence[Series]) -> str:
    if not keywords:
        return "nothing to make it of"
    unread = sorted(
        {
            finding
            for series in members
            for instance in series.instances
            for finding in instance.row.findings
            if finding.partition(" ")[2] in keywords
        }
    )
    if unread:
        return ", ".join(unread)
    # what of a sequence yields nothing has no value there, or a finding tells
    empty = [word for word in keywords if "." in word or not _anywhere(word, members)]
    where = " and ".join(f"{source.keyword} is {text}" for source, text in rule.when)
    if where:
        return f"no value in {', '.join(empty or keywords)} where {where}"
    return f"no value in {', '.join(empty)}" if empty else f"nothing usable in {keywords[0]}"


def _anywhere(keyword: str, members: Sequence[Series]) -> bool:
    tag = tag_of(keyword)
    return tag is not None and any(
        _filled(key[0]) for series in members for key in series.tally((tag,))
    )


def _unique(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))


def _shown(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return orjson.dumps(value, default=plain, option=orjson.OPT_PASSTHROUGH_DATACLASS).decode()
