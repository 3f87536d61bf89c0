r"""Resource ids: the same thing gets the same id on every machine, in every release.

All ids are UUIDv5 (RFC 9562 section 5.5) in one frozen namespace: a DICOM UID of 64 characters takes no
prefix in a FHIR ``id`` (``[A-Za-z0-9\-\.]{1,64}``, FHIR R4 ``datatypes.html#id``). Two things get one id
only where an identifier *with a system* says that they are one; everything else is scoped to its study,
so the number 123 of two hospitals never becomes one person.

An id made of a person's identifier can be found out by trying all numbers. With a key it cannot; without
one such ids count as patient data in logs.
"""

from __future__ import annotations

import hashlib
import hmac
from uuid import UUID

__all__ = ["NS", "companion_id", "patient_id", "study_id"]

NS = UUID("b50a029a-cc30-4d14-831e-8906f9f6a13c")
"""The namespace. Frozen: another one would publish every study and patient a second time."""


def study_id(study_instance_uid: str) -> str:
    """``ImagingStudy.id`` of a study.

    Parameters
    ----------
    study_instance_uid : str
        Study Instance UID (0020,000D), without padding.
    """
    return _uuid5(f"study|{study_instance_uid}")


def patient_id(
    system: str | None, value: str | None, study_instance_uid: str, key: str = ""
) -> str:
    """``Patient.id`` of the person that an identifier names.

    Parameters
    ----------
    system : str or None
        System of the identifier: of its issuer, or a configured one.
    value : str or None
        Patient ID (0010,0020). Without it or without a system the Patient is scoped to the study.
    study_instance_uid : str
    key : str
        Secret key (``site.identity_key``) that makes the id unguessable.
    """
    if system and value:
        return _keyed(f"patient|{system}|{value}", key)
    return _uuid5(f"patient-of|{study_instance_uid}")


def companion_id(
    word: str, system: str | None, value: str | None, study_instance_uid: str, key: str = ""
) -> str:
    """Id of another resource that studies name.

    Parameters
    ----------
    word : str
        Resource type in lower case with hyphens: ``practitioner``, ``service-request``, ``endpoint``.
    system : str or None
        System of its identifier; an Endpoint takes its connection type.
    value : str or None
        Value of its identifier, or where there is no system what tells it apart within the study,
        such as a name; an Endpoint takes its address.
    study_instance_uid : str
        Scope of the id where system or value is missing.
    key : str
        Secret key (``site.identity_key``) that makes the id unguessable.
    """
    if system and value:
        return _keyed(f"{word}|{system}|{value}", key)
    if value:
        # a study has several performers: within it the value tells them apart
        return _keyed(f"{word}-of|{study_instance_uid}|{value}", key)
    return _uuid5(f"{word}-of|{study_instance_uid}")


def _uuid5(name: str) -> str:
    """As `uuid.uuid5` in our namespace, several times as fast."""
    digest = bytearray(hashlib.sha1(NS.bytes + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _keyed(name: str, key: str) -> str:
    if not key:
        return _uuid5(name)
    secret = hmac.new(key.encode(), name.encode(), hashlib.sha256).hexdigest()
    return _uuid5(f"hmac|{secret}")
