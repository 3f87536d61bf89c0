"""Codes of what rejection notes do: meaning and what to do. Part of `converter.core.reasons.REASONS`."""

from __future__ import annotations

__all__ = ["REJECTIONS"]

_UNDO = 'Nothing; [site.rejection_notes] {} = "ignore" lists them.'

REJECTIONS: dict[str, tuple[str, str]] = {
    "rejection-note": (
        "The object is a rejection note (IHE IOCM); it is applied, and not listed itself.",
        "Nothing.",
    ),
    "rejected-safety": (
        "Instances are not listed: a note rejects them for patient safety reasons (113037, DCM).",
        _UNDO.format("safety"),
    ),
    "rejected-worklist": (
        "Instances are not listed: a note says that they were made under an incorrect modality worklist entry (113038, DCM).",
        _UNDO.format("worklist"),
    ),
    "rejected-quality": (
        "Instances are not listed: a note rejects them for quality reasons (113001, DCM).",
        _UNDO.format("quality"),
    ),
    "rejected-retention": (
        "Instances are not listed: a note says that their retention period is over (113039, DCM).",
        _UNDO.format("retention"),
    ),
    "rejection-elsewhere": (
        "A rejection note names instances of another study; those stay: each study needs a note of its own.",
        "Send a note within the study that it is about.",
    ),
    "rejection-of-nothing": (
        "A rejection note names no instance, or more than a note may (1 MiB).",
        "Repair the note at its source; several smaller ones do.",
    ),
    "evidence-too-large": (
        "The evidence of a key object or report is larger than 1 MiB and was left out.",
        "Nothing, unless it is a rejection note: then several smaller ones.",
    ),
}
