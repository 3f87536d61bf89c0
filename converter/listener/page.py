"""The pages of the status page, from what was read: no I/O, no script, and every value escaped by `markup`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from converter.core.issues import Issue
from converter.core.reasons import REASONS
from converter.delivery.sender import refusal_of
from converter.listener import parts
from converter.listener.board import Summary
from converter.listener.markup import Markup, element, joined
from converter.listener.notes import log_name
from converter.listener.status import STATUSES
from converter.listener.window import PAGE, STATES, Listed, WholeStudy
from converter.store.outbox import Letter

__all__ = ["associations", "dead_letters", "message", "overview", "studies", "study"]

_STATES = {
    "conflict": ("bad", "Two patients in one study: published for nobody until `dcm2fhir studies resolve` says whose it is."),
    "held": ("bad", "Waits for a person; its reason says for what."),
    "receiving": ("busy", "Something came; it is published when nothing came for the quiet period."),
    "settled": ("busy", "Is published next."),
    "published": ("good", "Published as it is."),
    "excluded": ("idle", "An operator or rejection notes say that it is not to be published."),
}  # fmt: skip
_DELIVERIES = {
    "due": ("busy", "waits for its next attempt"),
    "delivered": ("good", "stands at the server"),
    "dead": ("bad", "refused"),
    "held": ("bad", "held back at the destination"),
    "frozen": ("idle", "the study is held back"),
}
_SEVERITIES = {"error": "bad", "warning": "busy", "information": "idle"}


def overview(now: float, summary: Summary) -> str:
    """Numbers only: nothing of a study or a peer, for anybody on this machine may read it."""
    stored = parts.group(summary.counts, "cstore.")
    kept = stored.get("success", 0) + stored.get("elements-discarded", 0)
    refused = sum(stored.values()) - kept
    dead = summary.outbox.get("dead", 0) + summary.outbox.get("held", 0)
    tiles = (
        parts.tile(str(summary.associations), "associations open"),
        parts.tile(f"{kept:,}", "objects kept"),
        parts.tile(f"{refused:,}", "objects not kept"),
        parts.tile(parts.span(summary.unpublished_age), "oldest change not published"),
        parts.tile(parts.span(summary.journal_age), "since the journals were empty", summary.journal_age > 60),
        parts.tile(parts.size(summary.journal_bytes), "of journals wait"),
        parts.tile(f"{summary.outbox.get('due', 0):,}", "deliveries wait"),
        parts.tile(parts.span(summary.outbox_age), "oldest delivery waits"),
        parts.tile(f"{dead:,}", "dead letters", dead > 0),
        parts.tile(f"{summary.circuits:,}", "destinations not tried", summary.circuits > 0),
        parts.tile(parts.size(summary.disk_free), "disk free"),
    )  # fmt: skip
    health = (
        parts.note("bad", *(element("p", fault) for fault in summary.faults), title="Not ready")
        if summary.faults
        else parts.note(
            "good", element("p", "Ready: it listens, journal and store can be written.")
        )
    )
    if summary.unpublished:
        what = (element("p", fault) for fault in summary.unpublished)
        health = joined([health, parts.note("bad", *what, title="Received, not published")])
    rows = [
        parts.row(
            element("th", parts.badge(state, *_STATES[state]), scope="row"),
            element("td", element("a", f"{summary.studies.get(state, 0):,}", href=parts.studies_path(state)), class_="number"),
            element("td", _STATES[state][1]),
        )
        for state in STATES
    ]  # fmt: skip
    answers = [
        parts.row(
            element("th", f"0x{STATUSES[name].code:04X} ", element("code", name), scope="row"),
            element("td", f"{count:,}", class_="number"),
            element("td", STATUSES[name].meaning),
        )
        for name, count in stored.items()
        if name in STATUSES
    ]
    refusals = [
        parts.row(element("th", element("code", name), scope="row"), element("td", f"{n:,}", class_="number"))
        for name, n in {
            **{f"rejected: {k}": v for k, v in parts.group(summary.counts, "rejected.").items()},
            **{f"dropped: {k}": v for k, v in parts.group(summary.counts, "dropped.").items()},
        }.items()
    ]  # fmt: skip
    return parts.page(
        now,
        "Overview",
        "/",
        health,
        element("ul", *tiles, class_="tiles"),
        element("h2", "Studies by state"),
        parts.table(("State", "#Studies", "Meaning"), rows),
        *parts.if_any(
            answers, "Answers to C-STORE since the start", ("Status", "#Objects", "Meaning")
        ),
        *parts.if_any(
            refusals, "Connections that became no association", ("Reason", "#Connections")
        ),
    )


def studies(now: float, found: Sequence[Listed], state: str) -> str:
    """A page of studies."""
    links = [("", "all"), *((one, one) for one in STATES)]
    rows = [
        parts.row(
            element("th", parts.study_link(row.study_uid), scope="row"),
            element("td", parts.badge(row.state, *_STATES.get(row.state, ("idle", "")))),
            parts.cell("reason", parts.reason(row.reason)),
            parts.cell("instances", f"{row.instances:,}", "number"),
            parts.cell("revision", f"{row.revision} ({row.published})", "number"),
            parts.cell("last change", parts.ago(row.last_change, now), "when"),
        )
        for row in found[:PAGE]
    ]
    heads = ("Study", "State", "Reason", "#Instances", "#Revision (published)", "Last change")
    more = found[PAGE - 1] if len(found) > PAGE else None
    return parts.page(
        now,
        "Studies" if not state else f"Studies: {state}",
        "/studies",
        element(
            "nav",
            element(
                "ul",
                *(
                    element("li", element("a", word, href=parts.studies_path(one), **parts.current(one == state)))
                    for one, word in links
                ),
            ),
            aria_label="Filter by state",
            class_="filter",
        ),
        element(
            "form",
            element("label", "Study Instance UID", for_="uid"),
            Markup('<input id="uid" name="uid" maxlength="64" required autocomplete="off">'),
            element("button", "Show", type="submit"),
            method="get",
            action="/study",
        ),
        parts.table(heads, rows, wide=True) if rows else element("p", "There are none.", class_="soft"),
        parts.older(
            "/studies", more and {"state": state, "time": repr(more.last_change), "uid": more.study_uid}
        ),
    )  # fmt: skip


def study(now: float, whole: WholeStudy) -> str:
    """One study: its life, where it went, what was found, the resource."""
    row = whole.row
    known = [
        ("State", joined([parts.badge(row.state, *_STATES.get(row.state, ("idle", ""))), " ", _STATES.get(row.state, ("", ""))[1]])),
        ("Reason", parts.explained(row.reason)),
        ("Instances", f"{row.instances:,}"),
        ("Left out, of other patients", f"{row.left_out:,}" if row.left_out else ""),
        ("Revision", f"{row.revision}, published: {row.published}"),
        ("First change not published", parts.ago(row.first_change, now) if row.published < row.revision else ""),
        ("Last change", parts.ago(row.last_change, now)),
        ("Resource", f"ImagingStudy/{row.resource_id}" if row.resource_id else ""),
        ("In log lines", log_name(row.study_uid)),
        ("From", joined(parts.between(", ", (joined([element("bdi", name), f" ({n:,})"]) for name, n in whole.senders)))),
    ]  # fmt: skip
    facts = element(
        "dl",
        *(element("div", element("dt", name), element("dd", held)) for name, held in known if held),
    )
    findings = [_finding(issue) for issue in whole.issues]
    deliveries = [
        parts.row(
            element("th", element("bdi", letter.destination), scope="row"),
            element("td", parts.badge(letter.state, *_DELIVERIES[letter.state])),
            parts.cell("why", parts.explained(letter.reason), ""),
            parts.cell("attempts", str(letter.attempts), "number"),
            parts.cell("there", f"ImagingStudy/{letter.server_id}" if letter.server_id else ""),
            parts.cell("since", parts.ago(letter.since, now), "when"),
        )
        for letter in whole.deliveries
    ]
    return parts.page(
        now,
        "Study",
        "/studies",
        element("p", element("bdi", row.study_uid, class_="uid")),
        facts,
        *parts.if_any(deliveries, "Deliveries", ("Destination", "State", "Why", "#Attempts", "There as", "Since")),
        element("h2", "Findings"),
        parts.table(("Finding", "#Times", "Where", "Meaning and what to do"), findings, wide=True)
        if findings
        else element("p", "None in the latest round of publishing.", class_="soft"),
        element("h2", "Resource"),
        *_resource(whole),
    )  # fmt: skip


def _resource(whole: WholeStudy) -> Iterable[Markup]:
    if whole.place == "large":
        yield element(
            "p", "It is too large for a page: read it in the output folder or at the server."
        )
        return
    if not whole.resource:
        yield element("p", "None was made yet.", class_="soft")
        return
    said = (
        "Patient data, as it stands in the output folder."
        if whole.place == "folder"
        else "Patient data, as it was converted last. At a server it is united with what stands there."
    )
    yield element("p", said, class_="soft")
    # role and tabindex: what scrolls must be reached by the keyboard
    yield element(
        "pre", element("code", whole.resource), tabindex="0", role="region", aria_label="Resource"
    )  # fmt: skip


def _finding(issue: Issue) -> Markup:
    reason = REASONS.get(issue.code)
    where = [element("div", part) for part in (issue.path, issue.keyword) if part]
    told = [issue.message, *((reason.meaning, reason.action) if reason else ())]
    seen = [element("small", element("bdi", one, class_="uid")) for one in issue.examples]
    return parts.row(
        element(
            "th",
            parts.badge(issue.code, _SEVERITIES.get(issue.severity, "idle"), issue.severity),
            element("small", issue.severity),
            scope="row",
        ),
        parts.cell("times", f"{issue.count:,}", "number"),
        parts.cell("where", joined([*where, *seen])),
        parts.cell("meaning", joined(element("div", one) for one in dict.fromkeys(told) if one)),
    )  # fmt: skip


def dead_letters(now: float, found: Sequence[Letter]) -> str:
    """What a server refused, or what is held back at it."""
    rows = [
        parts.row(
            element("th", parts.study_link(letter.study_uid), scope="row"),
            element("td", parts.badge(letter.state, *_DELIVERIES[letter.state])),
            parts.cell("why", joined([parts.explained(letter.reason), _answer(letter)])),
            parts.cell("destination", element("bdi", letter.destination)),
            parts.cell("attempts", str(letter.attempts), "number"),
            parts.cell("since", parts.ago(letter.since, now), "when"),
        )
        for letter in found[:PAGE]
    ]
    heads = ("Study", "State", "Why", "Destination", "#Attempts", "Since")
    last = found[PAGE - 1] if len(found) > PAGE else None
    return parts.page(
        now,
        "Dead letters",
        "/dead",
        element(
            "p",
            "Studies that a FHIR server refused, or that are held back at it, the oldest first. ",
            element("code", "dcm2fhir dead replay UID"),
            " sends one again.",
        ),
        parts.table(heads, rows, wide=True)
        if rows
        else element("p", "There are none.", class_="soft"),
        parts.older(
            "/dead",
            last and {"time": repr(last.since), "to": last.destination, "uid": last.study_uid},
            "Later ones",
        ),
    )


def _answer(letter: Letter) -> Markup:
    refusal = refusal_of(letter.refusal)
    return element("small", f"answer: {refusal}") if refusal else Markup()


def associations(now: float, held: Sequence[tuple[int, str, str]]) -> str:
    """Associations that are open."""
    rows = [
        parts.row(
            element("th", element("bdi", address), scope="row"),
            parts.cell("study", parts.study_link(uid) if uid else "none yet"),
        )
        for _, address, uid in sorted(held)
    ]
    return parts.page(
        now,
        "Associations",
        "/associations",
        parts.table(("Peer", "Study of its latest object"), rows, wide=True)
        if rows
        else element("p", "None is open.", class_="soft"),
    )


def message(now: float, title: str, *said: str) -> str:
    """A page that says why there is no other."""
    return parts.page(now, title, "", *(element("p", one) for one in said))
