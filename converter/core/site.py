"""What a hospital configures: identifier systems, organisation, time zone, endpoints.

Read from ``[site]`` of ``dcm2fhir.toml`` or of a site's profile file; unknown keys are errors. Nothing
here has a hospital's value as its default.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "AccessionSettings",
    "Coding",
    "EncounterSettings",
    "EndpointSettings",
    "IdentifierSystem",
    "OrganizationSettings",
    "PatientSettings",
    "RejectionSettings",
    "Site",
]


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class Coding(_Settings, frozen=True):
    """A coded value."""

    system: str
    code: str
    display: str = ""


class IdentifierSystem(_Settings, frozen=True):
    """How identifiers of one issuer are written."""

    system: str
    type: str = ""
    """Code of HL7 table v2-0203, such as ``MR`` or ``NH``."""
    check: Literal["", "nhs-number"] = ""
    """Check digit that a value must pass to be written under this system."""


class PatientSettings(_Settings, frozen=True):
    """``[site.patient]``."""

    system: str = ""
    """System of a PatientID that states no issuer."""
    type: str = "MR"
    name_use: Literal["", "usual", "official", "temp", "nickname", "anonymous", "old", "maiden"] = (
        "usual"
    )
    issuers: dict[str, IdentifierSystem] = {}
    """IssuerOfPatientID text (exact, trimmed) to system."""
    subject: Literal["Patient", "Device"] = "Patient"
    """Subject of a study in which every instance is quality control (0028,0300); Device is not IPS."""


class AccessionSettings(_Settings, frozen=True):
    """``[site.accession]``."""

    system: str = ""
    assigner_system: str = ""
    assigner_value: str = ""
    """Identifier of the assigner, such as an ODS code."""
    assigner_display: str = ""


class EncounterSettings(_Settings, frozen=True):
    """``[site.encounter]``."""

    system: str = ""
    """System of an AdmissionID that states no issuer."""
    missing: Literal["omit", "data-absent-reason"] = "omit"
    """What a study without an AdmissionID gets; UK Core wants ``omit``."""
    status: str = ""
    encounter_class: Coding | None = None
    """An Encounter resource is made only where both are configured: DICOM has neither."""


class EndpointSettings(_Settings, frozen=True):
    """``[site.endpoint]``."""

    wado_rs: str = ""
    """Base URL of the DICOMweb service, without ``/studies``."""
    viewer: str = ""
    """URL template of a viewer, with ``{StudyInstanceUID}``."""
    name: str = ""


class OrganizationSettings(_Settings, frozen=True):
    """``[site.organization]``: who runs the equipment and assigns local identifiers."""

    system: str = ""
    value: str = ""
    name: str = ""


class RejectionSettings(_Settings, frozen=True):
    """``[site.rejection_notes]``: what a rejection note does, by its title.

    ``apply``: neither the note nor what it names is listed. ``ignore``: both are, as any instance.
    """

    safety: Literal["apply", "ignore"] = "apply"
    """Rejected for Patient Safety Reasons (113037, DCM)."""
    worklist: Literal["apply", "ignore"] = "apply"
    """Incorrect Modality Worklist Entry (113038, DCM)."""
    quality: Literal["apply", "ignore"] = "apply"
    """Rejected for Quality Reasons (113001, DCM)."""
    retention: Literal["apply", "ignore"] = "apply"
    """Data Retention Policy Expired (113039, DCM)."""

    def applies(self, name: str) -> bool:
        """Whether notes of a title are applied."""
        return bool(getattr(self, name) == "apply")


class Site(_Settings, frozen=True):
    """``[site]``."""

    timezone: str = ""
    """IANA name for studies without (0008,0201); empty: date only."""
    charset: str = ""
    """SpecificCharacterSet assumed for non-ASCII text of objects that state none, such as ``ISO_IR 100``."""
    keep_fractions: bool = False
    """Keep fractions of a second."""
    sct_display: bool = False
    """Write displays beside SNOMED CT codes (off: DICOM's meanings are no SNOMED descriptions)."""
    patient: PatientSettings = PatientSettings()
    accession: AccessionSettings = AccessionSettings()
    encounter: EncounterSettings = EncounterSettings()
    endpoint: EndpointSettings = EndpointSettings()
    organization: OrganizationSettings = OrganizationSettings()
    rejection_notes: RejectionSettings = RejectionSettings()
    practitioner_systems: dict[str, str] = {}
    """Coding scheme of a person's identification code (0040,1101) to identifier system."""
    order_systems: dict[str, str] = {}
    """Order placer or filler issuer (local namespace) to identifier system."""
    coding_schemes: dict[str, str] = {}
    """Coding Scheme Designator to code system URI, beside the shipped table."""
    service_request_status: str = "unknown"
    identity_key: str = ""
    """Key that makes person ids unguessable (HMAC); from a file, never in a log."""
