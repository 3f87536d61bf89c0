"""Which profiles a resource may claim, and whether it meets those that it claims.

Claim only what is true: ``meta.profile`` is stamped after the check, never for a resource whose subject
fails what the profile asks of it, nor where an option left out what the profile makes us populate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from converter.core.issues import Issue

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from converter.core.profile import Profile
    from converter.fhir.bundle import Links
    from converter.fhir.checker import Checker
    from converter.fhir.report import Path

__all__ = ["check_claimed", "claims", "patient_claims"]

CORE = "http://hl7.org/fhir/StructureDefinition/"
R4_VERSIONS = frozenset({"", "4.0", "4.0.1"})


def claims(
    study: dict[str, Any],
    subject_patient: dict[str, Any] | None,
    checker: Checker,
    profiles: Iterable[Profile],
    dropped: Collection[str] = (),
    *,
    base: Sequence[Issue] | None = None,
    patient_base: Sequence[Issue] | None = None,
    trusted_uids: bool = False,
) -> tuple[list[str], list[Issue]]:
    """Find the profiles that an ImagingStudy may claim.

    Parameters
    ----------
    study : dict
        As it will be written, ``meta.profile`` aside.
    subject_patient : dict or None
        The Patient that we emit beside it; ``None`` where we emit none, or a contained one.
    checker : Checker
    profiles : iterable of Profile
        Those asked for.
    dropped : collection of str
        Paths that an option left out, such as ``ImagingStudy.series.instance``.
    base : sequence of Issue, optional
        What `Checker.check` said of the study; it is asked if not given.
    patient_base : sequence of Issue, optional
        The same of the Patient.
    trusted_uids : bool
        Whether UIDs were checked when they were read.

    Returns
    -------
    list of str
        Canonicals, in the order of ``profiles``.
    list of Issue
        What stands in the way, and a ``profile-not-claimed`` for each profile.
    """
    issues: list[Issue] = []
    canonicals: list[str] = []
    found = checker.check(study, trusted_uids=trusted_uids) if base is None else base
    broken = _failed(found)
    for profile in profiles:
        canonical = profile.claims.get("ImagingStudy")
        if canonical is None:
            continue
        against = checker.check_profile(study, profile.name)
        issues += against
        reason = ""
        if broken:
            reason = "the study breaks base R4"
        elif _failed(against):
            reason = "the study does not meet it"
        elif missing := _left_out(profile, dropped):
            reason = f"an option left {missing} out, which it makes us populate"
        elif profile.subject_must_pass:
            reason = _subject(study, subject_patient, checker, profile, issues, patient_base)
        if reason:
            message = f"{profile.title} is not claimed: {reason}"
            issues.append(
                Issue(
                    "warning", "profile-not-claimed", "ImagingStudy.meta.profile", message=message
                )
            )
        else:
            canonicals.append(canonical)
    return canonicals, issues


def patient_claims(
    patient: dict[str, Any],
    checker: Checker,
    profiles: Iterable[Profile],
    *,
    base: Sequence[Issue] | None = None,
) -> list[str]:
    """Find the profiles that a Patient may claim; ``base`` is what `Checker.check` said of it, if known."""
    broken: bool | None = None if base is None else _failed(base)
    canonicals: list[str] = []
    for profile in profiles:
        canonical = profile.claims.get("Patient")
        if canonical is None:
            continue
        if broken is None:
            broken = _failed(checker.check(patient))
        if not broken and not _failed(checker.check_profile(patient, profile.name)):
            canonicals.append(canonical)
    return canonicals


def _failed(issues: Iterable[Issue]) -> bool:
    return any(issue.severity == "error" for issue in issues)


def _left_out(profile: Profile, dropped: Collection[str]) -> str:
    for gone in dropped:
        for path in profile.populated:
            if path == gone or path.startswith(f"{gone}."):
                return path
    return ""


def _subject(
    study: dict[str, Any],
    patient: dict[str, Any] | None,
    checker: Checker,
    profile: Profile,
    issues: list[Issue],
    patient_base: Sequence[Issue] | None,
) -> str:
    """Reason not to claim that lies with the subject; empty if there is none."""
    subject = study.get("subject")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    if not isinstance(reference, str):
        return "its subject is no literal reference"
    kind = str(subject.get("type", "")) if isinstance(subject, dict) else ""
    if reference.startswith("#"):
        patient = contained(study, reference)
        if patient is not None and patient.get("resourceType") != "Patient":
            return "" if patient.get("resourceType") == "Group" else "its subject is no Patient"
    elif reference.startswith("Group/") or kind == "Group":
        return ""
    if patient is None:
        return "its Patient is not written, so nobody can tell whether that meets it"
    if patient_base is None or reference.startswith("#"):
        patient_base = () if reference.startswith("#") else checker.check(patient)
    found = [
        *patient_base,
        *checker.check_profile(patient, profile.name),
    ]
    errors = [issue for issue in found if issue.severity == "error"]
    if errors:
        places = ", ".join(sorted({issue.path for issue in errors}))
        message = f"the patient does not meet {profile.title}: {places}"
        # As bad as a fault of the study's own: --strict and the report go by the severity.
        issues.append(
            Issue("error", "subject-fails-profile", "ImagingStudy.subject", message=message)
        )
        return "its patient does not meet what it asks of the subject"
    return ""


def contained(resource: dict[str, Any], reference: str) -> dict[str, Any] | None:
    """Contained resource that ``#id`` points to."""
    listed = resource.get("contained")
    for item in listed if isinstance(listed, list) else ():
        if isinstance(item, dict) and item.get("id") == reference[1:]:
            return item
    return None


def check_claimed(
    resource: dict[str, Any],
    checker: Checker,
    path: Path,
    *,
    asked: Collection[str] = (),
    held: Links | None = None,
) -> list[Issue]:
    """Hold a resource, and those that it contains, against the profiles that they claim.

    Parameters
    ----------
    resource : dict
    checker : Checker
    path : Path
        Where the resource stands.
    asked : collection of str
        Names of profiles to hold it against whether it claims them or not.
    held : Links, optional
        The Bundle around it.
    """
    report = checker.report()
    kind = resource.get("resourceType")
    meta = resource.get("meta")
    claimed = meta.get("profile") if isinstance(meta, dict) else None
    names = dict.fromkeys(asked)
    for index, canonical in enumerate(claimed if isinstance(claimed, list) else ()):
        if not isinstance(canonical, str) or not canonical:
            continue
        place = ((path, "meta", None), "profile", index)
        url, _, version = canonical.partition("|")
        known = checker.claimed(url)
        if url.startswith(CORE) and url.removeprefix(CORE) in checker.types | {
            "Resource",
            "DomainResource",
        }:
            if url.removeprefix(CORE) != kind:
                report.add("profile-type", place, "a profile of another resource type")
            elif version not in R4_VERSIONS:
                report.add("unknown-profile", place, "of another version of FHIR than R4")
        elif known is None:
            report.add(
                "unknown-profile", place, "a profile that is not known here, so nobody can tell"
            )
        elif known[1] != kind:
            report.add("profile-type", place, f"a profile of {known[1]}")
        elif version and version != checker.profiles[known[0]].version:
            message = f"known in version {checker.profiles[known[0]].version} only"
            report.add("unknown-profile", place, message)
        else:
            names[known[0]] = None
    issues = list(report.issues)
    for name in names:
        issues += checker.check_profile(resource, name, held, path)
        if kind == "ImagingStudy" and checker.profiles[name].subject_must_pass:
            issues += _held_subject(resource, checker, name, path, held)
    listed = resource.get("contained")
    for index, item in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(item, dict):
            inner: Path = ((path, "contained", index), "", str(item.get("resourceType")))
            issues += check_claimed(item, checker, inner)
    return issues


def _held_subject(
    study: dict[str, Any], checker: Checker, name: str, path: Path, held: Links | None
) -> list[Issue]:
    """Hold the Patient of a study against the study's profile, where it is at hand."""
    subject = study.get("subject")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    if not isinstance(reference, str):
        return []
    if reference.startswith("#"):
        patient = contained(study, reference)
    else:
        patient = held.resources.get(reference) if held is not None else None
    if patient is None or patient.get("resourceType") != "Patient":
        return []
    errors = [item for item in checker.check_profile(patient, name) if item.severity == "error"]
    if not errors:
        return []
    report = checker.report()
    places = ", ".join(sorted({item.path for item in errors}))
    message = f"the patient does not meet {checker.profiles[name].title}: {places}"
    report.add("subject-fails-profile", (path, "subject", None), message)
    return report.issues
