"""Codes of delivery: meaning and what to do. Part of `converter.core.reasons.REASONS`."""

from __future__ import annotations

__all__ = ["NOT_LINKED", "UNDELIVERED"]

UNDELIVERED: dict[str, tuple[str, str]] = {
    "not-delivered": (
        "The FHIR server could not be reached or did not take the study yet; it stays in the outbox.",
        "Run dcm2fhir send, with the same --state where one was named.",
    ),
    "circuit-open": (
        "The FHIR server refuses everything (credentials, address, a proxy in between); the study stays in the outbox.",
        "Put right what the message names, then run dcm2fhir send.",
    ),
    "refused": (
        "The FHIR server refused the study for good.",
        "Correct what the server's answer names (dcm2fhir dead list tells it), then dcm2fhir dead replay.",
    ),
    "several-matches": (
        "The FHIR server has several resources of this study or of something that it refers to.",
        "Merge or delete all but one there, then dcm2fhir dead replay.",
    ),
    "deleted-on-server": (
        "The study or its patient was deleted on the FHIR server, and is not brought back.",
        "Nothing if that was meant: dcm2fhir dead drop; else restore it there.",
    ),
    "patient-missing": (
        "The study refers to a Patient that the FHIR server does not have.",
        "Use --patient resource, or make the Patient there, then dcm2fhir dead replay.",
    ),
    "patient-not-found": (
        "--patient-lookup hold: the FHIR server has no Patient with this identifier, or the study has none with a system.",
        "Register the patient there, or set [site.patient] system; then dcm2fhir dead replay.",
    ),
    "patient-ambiguous": (
        "The FHIR server has several Patients with this identifier, or one that was merged into another.",
        "Merge them there, then dcm2fhir dead replay.",
    ),
    "too-large-for-server": (
        "The study is larger than the FHIR server takes.",
        "Raise the limit of the server or of the proxy before it, then dcm2fhir dead replay.",
    ),
    "delivery-failed": (
        "The delivery of the study broke off by a fault of dcm2fhir; the others went on.",
        "Report it with what dcm2fhir dead show says; it holds no patient's value.",
    ),
}
"""Why a FHIR server does not have a study."""

NOT_LINKED: dict[str, tuple[str, str]] = {
    "order-not-linked": (
        "--link-orders: not exactly one ServiceRequest of this patient has the accession number; the reference stays logical.",
        "Nothing, or set [site.accession] system to that of the orders.",
    ),
    "encounter-not-linked": (
        "--link-orders: not exactly one Encounter of this patient has the visit number; the reference stays logical.",
        "Nothing, or set [site.encounter] system to that of the encounters.",
    ),
}
"""Why a reference of a study stays logical."""
