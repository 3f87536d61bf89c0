"""Codes of what reading and decoding find: meaning and what to do. Part of `converter.core.reasons.REASONS`."""

from __future__ import annotations

__all__ = ["ENCODINGS"]

ENCODINGS: dict[str, tuple[str, str]] = {
    "charset-missing": (
        "Text beyond ASCII in an object that states no character set; read as its sender's or the site's, as UTF-8 or as Latin-1.",
        "Set site.charset, or charset of the peer in [listen.peers], or repair the object at its source.",
    ),
    "charset-unknown": (
        "The stated character set is no DICOM term, or does not allow the bytes that stand there.",
        "Repair the object at its source; look at the text that came out.",
    ),
    "charset-invalid": (
        "Bytes that the stated character set does not have; U+FFFD stands in their place unless they could only be meant one way.",
        "Repair the object at its source.",
    ),
    "value-malformed": (
        "A value breaks the rules of its value representation and was left out.",
        "Repair the object at its source.",
    ),
    "several-values": (
        "An attribute that may hold one value, or one item, holds several: of names and items the first is taken, other values stay together, with a backslash between.",
        "Repair the object at its source.",
    ),
    "value-out-of-range": (
        "A number does not fit its value representation or the FHIR element and was left out.",
        "Repair the object at its source.",
    ),
    "legacy-format": (
        "A date or time in the format of ACR-NEMA (1997.04.24, 14:04:38).",
        "Nothing.",
    ),
    "partial-date": (
        "A date without its day or month.",
        "Nothing, or complete it at its source.",
    ),
    "time-without-date": (
        "A time was left out because its date is missing.",
        "Nothing, or complete it at its source.",
    ),
    "no-time-zone": (
        "A time was left out because nothing tells its offset from UTC.",
        "Set site.timezone, or timezone of the peer in [listen.peers].",
    ),
    "offset-malformed": (
        "TimezoneOffsetFromUTC (0008,0201) is no offset and was not used.",
        "Repair the object at its source.",
    ),
    "ambiguous-local-time": (
        "A local time that the clocks went through twice; the first is taken.",
        "Nothing.",
    ),
    "nonexistent-local-time": (
        "A local time that the clocks skipped; the offset before the change is taken.",
        "Nothing.",
    ),
    "truncated": (
        "The file has less than the pixel data, or another value that is not needed, that its header tells of.",
        "Nothing if it was written without; else export or send the object again.",
    ),
    "zero-padding": (
        "Zeros stand where the next element of the data set should; what may follow them was not read.",
        "Nothing if the file was padded; else export or send the object again.",
    ),
    "no-preamble": (
        "The file has no DICOM preamble or no file meta information.",
        "Nothing.",
    ),
    "unknown-vr": (
        "The header holds a value representation that DICOM does not define.",
        "Repair the object at its source.",
    ),
    "malformed-sequence": (
        "What stands within a sequence breaks DICOM's encoding rules and was left out.",
        "Repair the object at its source.",
    ),
    "tags-not-kept": (
        "The object was received before the mapping read some of the attributes that it reads now, and these were not kept of it.",
        "Have the study sent again; dcm2fhir mappings check --state names the rules. With listen --keep-headers the next change needs no resend.",
    ),
    "header-not-kept": (
        "The whole header of the object is larger than --keep-headers keeps; only what the mapping reads was kept.",
        "Nothing; after a change of the mapping that reads more, have the study sent again.",
    ),
    "wrong-vr": (
        "An attribute stands as something that it cannot be (a text as a sequence, say) and was left out.",
        "Repair the object at its source.",
    ),
}
"""What is odd about a file or a value, and did not cost the instance."""
