"""Named transforms: what ``as`` may say in a mapping file."""

from __future__ import annotations

from typing import Any

from converter.core.transforms import codes, companions, identifiers, people, references, simple
from converter.core.transforms.base import TRANSFORMS, Absent, Call, Ref, Transform, View

__all__ = ["DEFAULTS", "SEQUENCE_NEEDS", "TRANSFORMS", "Absent", "Call", "Ref", "Transform", "View"]

_ = (companions, simple)

DEFAULTS = {
    "CodeableConcept": "codeableConcept",
    "Coding": "coding",
    "HumanName": "humanName",
    "code": "code",
    "date": "date",
    "dateTime": "dateTime",
    "id": "uid",
    "integer": "integer",
    "markdown": "string",
    "positiveInt": "integer",
    "string": "string",
    "unsignedInt": "integer",
    "uri": "uri",
    "url": "uri",
}
"""Transform of an element whose rule has no ``as``, by FHIR datatype."""

SEQUENCE_NEEDS: dict[str, dict[str, Any]] = {
    "*": codes.CODE_ITEM,
    "AnatomicRegionSequence": {
        **codes.CODE_ITEM,
        "AnatomicRegionModifierSequence": codes.CODE_ITEM,
    },
    "CodingSchemeIdentificationSequence": {
        "CodingSchemeDesignator": None,
        "CodingSchemeUID": None,
        "CodingSchemeURL": None,
        "CodingSchemeURLType": None,
        "CodingSchemeResourcesSequence": {"CodingSchemeURL": None, "CodingSchemeURLType": None},
    },
    "IssuerOfAccessionNumberSequence": identifiers.HIERARCHIC_DESIGNATOR,
    "IssuerOfAdmissionIDSequence": identifiers.HIERARCHIC_DESIGNATOR,
    "IssuerOfPatientIDQualifiersSequence": identifiers.PATIENT_QUALIFIERS,
    "OrderFillerIdentifierSequence": identifiers.HIERARCHIC_DESIGNATOR,
    "OrderPlacerIdentifierSequence": identifiers.HIERARCHIC_DESIGNATOR,
    "OtherPatientIDsSequence": {
        "PatientID": None,
        "IssuerOfPatientID": None,
        "IssuerOfPatientIDQualifiersSequence": identifiers.PATIENT_QUALIFIERS,
    },
    "OperatorIdentificationSequence": people.PERSON_IDENTIFICATION,
    "PerformingPhysicianIdentificationSequence": people.PERSON_IDENTIFICATION,
    "PhysiciansOfRecordIdentificationSequence": people.PERSON_IDENTIFICATION,
    "PhysiciansReadingStudyIdentificationSequence": people.PERSON_IDENTIFICATION,
    "ReferringPhysicianIdentificationSequence": people.PERSON_IDENTIFICATION,
    "ReferencedRequestSequence": references.REQUEST,
    "RequestAttributesSequence": references.REQUEST,
    "RequestingPhysicianIdentificationSequence": people.PERSON_IDENTIFICATION,
    "SpecimenDescriptionSequence": {
        "SpecimenIdentifier": None,
        "SpecimenUID": None,
        "IssuerOfTheSpecimenIdentifierSequence": identifiers.HIERARCHIC_DESIGNATOR,
    },
}
"""What is read in the items of a sequence that a rule names as a whole; ``*``: of any other one."""
