"""Images of one study, and rejection notes about them."""

from __future__ import annotations

from tools.dicom_writer import write

IMAGE = {
    "SOPClassUID": "CTImageStorage",
    "Modality": "CT",
    "StudyInstanceUID": "2.999.1",
    "SeriesInstanceUID": "2.999.1.1",
    "PatientID": "P1",
    "PatientName": "Canary^Robin",
    "PatientBirthDate": "19700101",
    "StudyDate": "20240312",
}


def images(folder, *numbers, **more):
    """Write images of the one series."""
    instances = [
        {
            **IMAGE,
            **more,
            "SOPInstanceUID": f"2.999.1.1.{n}",
            "InstanceNumber": n,
            "file": f"image{n}.dcm",
        }
        for n in numbers
    ]
    write({"root": "2.999.1", "instance": instances}, folder)
    return folder


def note(folder, *numbers, number=1, title="113037", **more):
    """Write a note that names images."""
    sops = [{"ReferencedSOPInstanceUID": f"2.999.1.1.{n}"} for n in numbers]
    instance = {
        **IMAGE,
        "SOPClassUID": "KeyObjectSelectionDocumentStorage",
        "Modality": "KO",
        "SeriesInstanceUID": "2.999.1.9",
        "SOPInstanceUID": f"2.999.1.9.{number}",
        "ConceptNameCodeSequence": [
            {"CodeValue": title, "CodingSchemeDesignator": "DCM", "CodeMeaning": "Rejected"}
        ],
        "CurrentRequestedProcedureEvidenceSequence": [
            {
                "StudyInstanceUID": "2.999.1",
                "ReferencedSeriesSequence": [
                    {"SeriesInstanceUID": "2.999.1.1", "ReferencedSOPSequence": sops}
                ],
            }
        ],
        "file": f"note{number}.dcm",
        **more,
    }
    write({"root": "2.999.1", "instance": [instance]}, folder)
    return folder
