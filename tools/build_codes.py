"""Build the code tables of ``mappings/codes`` from pydicom and highdicom.

Run it after an update of either, and read the difference before committing it::

    python tools/build_codes.py
    python tools/build_codes.py --fhir FOLDER

The second form builds the tables that come from FHIR R4 (4.0.1) as well; FOLDER holds the code systems
of the R4 definitions package (CC0), one JSON file each: ``CodeSystem-dicom-dcim.json``,
``CodeSystem-v2-0203.json``, ``CodeSystem-v3-ParticipationType.json`` and
``CodeSystem-endpoint-connection-type.json``. Needs the ``tools`` dependency group.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydicom._uid_dict import UID_dictionary
from pydicom.sr._cid_dict import cid_concepts
from pydicom.sr._concepts_dict import concepts as _concepts
from pydicom.sr._snomed_dict import mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# scheme -> keyword -> code -> (meaning, context groups)
concepts = cast("dict[str, dict[str, dict[str, tuple[str, list[int]]]]]", _concepts)

CODES = Path(__file__).resolve().parent.parent / "mappings" / "codes"
SNOMED_NOTE = "SNOMED CT codes as DICOM lists them, without SNOMED CT descriptions; see README.md."

LATER_MODALITIES = ["ANN"]
"""DCM codes that an IOD asks for and this edition of CID 33 lacks (Microscopy Bulk Simple Annotations)."""

# PS3.3 C.7.3.1.1.1, "Retired Defined Terms"; still codes of the DCM code system in FHIR R4.
RETIRED_MODALITIES = [
    "AS",
    "CD",
    "CF",
    "CP",
    "CS",
    "DD",
    "DF",
    "DM",
    "DS",
    "EC",
    "FA",
    "FS",
    "LP",
    "MA",
    "MS",
    "OPR",
    "ST",
    "VF",
]

# Which value of Modality (0008,0060) the information object definition of a class stands for (PS3.3
# annex A). Classes that take several unlike values (secondary capture, raw data, encapsulated documents,
# parametric maps, tractography) or one outside CID 33 are left out on purpose.
CLASS_MODALITY = {
    "CR": "ComputedRadiographyImageStorage",
    "DX": "DigitalXRayImageStorageForPresentation DigitalXRayImageStorageForProcessing",
    "MG": "DigitalMammographyXRayImageStorageForPresentation"
    " DigitalMammographyXRayImageStorageForProcessing BreastTomosynthesisImageStorage"
    " BreastProjectionXRayImageStorageForPresentation BreastProjectionXRayImageStorageForProcessing",
    "IO": "DigitalIntraOralXRayImageStorageForPresentation DigitalIntraOralXRayImageStorageForProcessing",
    "CT": "CTImageStorage EnhancedCTImageStorage LegacyConvertedEnhancedCTImageStorage",
    "US": "UltrasoundMultiFrameImageStorageRetired UltrasoundMultiFrameImageStorage"
    " UltrasoundImageStorageRetired UltrasoundImageStorage EnhancedUSVolumeStorage",
    "PA": "PhotoacousticImageStorage",
    "MR": "MRImageStorage EnhancedMRImageStorage MRSpectroscopyStorage EnhancedMRColorImageStorage"
    " LegacyConvertedEnhancedMRImageStorage",
    "NM": "NuclearMedicineImageStorageRetired NuclearMedicineImageStorage",
    "PT": "PositronEmissionTomographyImageStorage LegacyConvertedEnhancedPETImageStorage"
    " EnhancedPETImageStorage StandalonePETCurveStorage",
    "XA": "XRayAngiographicImageStorage EnhancedXAImageStorage XRayAngiographicBiPlaneImageStorage"
    " XRay3DAngiographicImageStorage",
    "RF": "XRayRadiofluoroscopicImageStorage EnhancedXRFImageStorage",
    "IVOCT": "IntravascularOpticalCoherenceTomographyImageStorageForPresentation"
    " IntravascularOpticalCoherenceTomographyImageStorageForProcessing",
    "ECG": "TwelveLeadECGWaveformStorage GeneralECGWaveformStorage AmbulatoryECGWaveformStorage"
    " General32bitECGWaveformStorage",
    "HD": "HemodynamicWaveformStorage ArterialPulseWaveformStorage",
    "EPS": "CardiacElectrophysiologyWaveformStorage",
    "AU": "BasicVoiceAudioWaveformStorage GeneralAudioWaveformStorage",
    "RESP": "RespiratoryWaveformStorage MultichannelRespiratoryWaveformStorage",
    "EEG": "RoutineScalpElectroencephalogramWaveformStorage SleepElectroencephalogramWaveformStorage",
    "EMG": "ElectromyogramWaveformStorage",
    "EOG": "ElectrooculogramWaveformStorage",
    "POS": "BodyPositionWaveformStorage",
    "PR": "GrayscaleSoftcopyPresentationStateStorage ColorSoftcopyPresentationStateStorage"
    " PseudoColorSoftcopyPresentationStateStorage BlendingSoftcopyPresentationStateStorage"
    " XAXRFGrayscaleSoftcopyPresentationStateStorage"
    " GrayscalePlanarMPRVolumetricPresentationStateStorage"
    " CompositingPlanarMPRVolumetricPresentationStateStorage AdvancedBlendingPresentationStateStorage"
    " VolumeRenderingVolumetricPresentationStateStorage"
    " SegmentedVolumeRenderingVolumetricPresentationStateStorage"
    " MultipleVolumeRenderingVolumetricPresentationStateStorage"
    " VariableModalityLUTSoftcopyPresentationStateStorage BasicStructuredDisplayStorage",
    "KO": "KeyObjectSelectionDocumentStorage",
    "SR": "TextSRStorageTrial AudioSRStorageTrial DetailSRStorageTrial ComprehensiveSRStorageTrial"
    " BasicTextSRStorage EnhancedSRStorage ComprehensiveSRStorage Comprehensive3DSRStorage"
    " ExtensibleSRStorage ProcedureLogStorage MammographyCADSRStorage ChestCADSRStorage"
    " XRayRadiationDoseSRStorage RadiopharmaceuticalRadiationDoseSRStorage ColonCADSRStorage"
    " ImplantationPlanSRStorage AcquisitionContextSRStorage SimplifiedAdultEchoSRStorage"
    " PatientRadiationDoseSRStorage PlannedImagingAgentAdministrationSRStorage"
    " PerformedImagingAgentAdministrationSRStorage EnhancedXRayRadiationDoseSRStorage"
    " WaveformAnnotationSRStorage SpectaclePrescriptionReportStorage"
    " MacularGridThicknessAndVolumeReportStorage",
    "REG": "SpatialRegistrationStorage DeformableSpatialRegistrationStorage",
    "FID": "SpatialFiducialsStorage",
    "SEG": "SegmentationStorage SurfaceSegmentationStorage",
    "RWV": "RealWorldValueMappingStorage",
    "OSS": "SurfaceScanMeshStorage SurfaceScanPointCloudStorage",
    "ES": "VLEndoscopicImageStorage VideoEndoscopicImageStorage",
    "GM": "VLMicroscopicImageStorage VideoMicroscopicImageStorage",
    "ANN": "MicroscopyBulkSimpleAnnotationsStorage",
    "SM": "VLSlideCoordinatesMicroscopicImageStorage VLWholeSlideMicroscopyImageStorage",
    "XC": "VLPhotographicImageStorage VideoPhotographicImageStorage",
    "DMS": "DermoscopicPhotographyImageStorage",
    "CFM": "ConfocalMicroscopyImageStorage ConfocalMicroscopyTiledPyramidalImageStorage",
    "OP": "OphthalmicPhotography8BitImageStorage OphthalmicPhotography16BitImageStorage"
    " WideFieldOphthalmicPhotographyStereographicProjectionImageStorage"
    " WideFieldOphthalmicPhotography3DCoordinatesImageStorage",
    "OPT": "OphthalmicTomographyImageStorage",
    "OPTENF": "OphthalmicOpticalCoherenceTomographyEnFaceImageStorage",
    "OPTBSV": "OphthalmicOpticalCoherenceTomographyBscanVolumeAnalysisStorage",
    "SMR": "StereometricRelationshipStorage",
    "LEN": "LensometryMeasurementsStorage",
    "AR": "AutorefractionMeasurementsStorage",
    "KER": "KeratometryMeasurementsStorage",
    "SRF": "SubjectiveRefractionMeasurementsStorage",
    "VA": "VisualAcuityMeasurementsStorage",
    "OAM": "OphthalmicAxialMeasurementsStorage",
    "IOL": "IntraocularLensCalculationsStorage",
    "OPV": "OphthalmicVisualFieldStaticPerimetryMeasurementsStorage",
    "OPM": "OphthalmicThicknessMapStorage CornealTopographyMapStorage",
    "ASMT": "ContentAssessmentResultsStorage",
    "M3D": "EncapsulatedSTLStorage EncapsulatedOBJStorage EncapsulatedMTLStorage",
    "CTPROTOCOL": "CTPerformedProcedureProtocolStorage",
    "RTIMAGE": "RTImageStorage EnhancedRTImageStorage EnhancedContinuousRTImageStorage",
    "RTDOSE": "RTDoseStorage",
    "RTSTRUCT": "RTStructureSetStorage",
    "RTPLAN": "RTPlanStorage RTIonPlanStorage",
    "RTRECORD": "RTBeamsTreatmentRecordStorage RTBrachyTreatmentRecordStorage"
    " RTTreatmentSummaryRecordStorage RTIonBeamsTreatmentRecordStorage",
    "HC": "HardcopyGrayscaleImageStorage HardcopyColorImageStorage",
}

# Storage classes whose objects belong to no patient, study or series (PS3.4 annex GG), and media
# directories (PS3.10): well-formed DICOM, but never an instance of a study.
NOT_OF_A_STUDY = {
    "MediaStorageDirectoryStorage", "StoredPrintStorage", "HangingProtocolStorage", "ColorPaletteStorage",
    "GenericImplantTemplateStorage", "ImplantAssemblyTemplateStorage", "ImplantTemplateGroupStorage",
    "CTDefinedProcedureProtocolStorage", "XADefinedProcedureProtocolStorage", "ProtocolApprovalStorage",
    "InventoryStorage",
}  # fmt: skip

# Coding Scheme Designator (0008,0102) of PS3.16 section 8 to the URI that FHIR uses for the system
# (FHIR R4 "terminologies-systems", terminology.hl7.org). The three designators of SNOMED CT's older
# identifiers are converted by srt-to-sct.
CODING_SCHEMES = [
    ("DCM", "http://dicom.nema.org/resources/ontology/DCM", ""),
    ("SCT", "http://snomed.info/sct", ""),
    ("SRT", "http://snomed.info/sct", "srt-to-sct"),
    ("SNM3", "http://snomed.info/sct", "srt-to-sct"),
    ("99SDM", "http://snomed.info/sct", "srt-to-sct"),
    ("LN", "http://loinc.org", ""),
    ("UCUM", "http://unitsofmeasure.org", ""),
    ("RADLEX", "http://radlex.org", ""),
    ("UMLS", "http://terminology.hl7.org/CodeSystem/umls", ""),
    ("NCIt", "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl", ""),
    ("I10", "http://hl7.org/fhir/sid/icd-10", ""),
    ("I9C", "http://hl7.org/fhir/sid/icd-9-cm", ""),
    ("C4", "http://www.ama-assn.org/go/cpt", ""),
    ("MSH", "https://www.nlm.nih.gov/mesh", ""),
    ("RXNORM", "http://www.nlm.nih.gov/research/umls/rxnorm", ""),
    ("NDC", "http://hl7.org/fhir/sid/ndc", ""),
    ("MDC", "urn:iso:std:iso:11073:10101", ""),
    ("ISO3166_1", "urn:iso:std:iso:3166", ""),
    ("RFC5646", "urn:ietf:bcp:47", ""),
]

PARTICIPATION = ("CON", "VRF", "PRF", "SPRF", "REF", "DEV")


def write(
    name: str, notes: Sequence[str], columns: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    """Write one table."""
    buffer = io.StringIO()
    for note in notes:
        buffer.write(f"# {note}\n")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    count = 0
    for row in rows:
        writer.writerow(row)
        count += 1
    path = CODES / f"{name}.csv"
    path.write_text(buffer.getvalue(), encoding="utf-8")
    print(f"{path.name}: {count} rows, {path.stat().st_size} bytes")


def pydicom_edition() -> str:
    return f"pydicom {version('pydicom')} (MIT)"


def dcm_meanings() -> dict[str, str]:
    """Code to meaning of the DCM codes that pydicom knows."""
    return {
        code: next(iter(entries.values()))[0] if len(entries) == 1 else ""
        for code, entries in _by_code("DCM").items()
    }


def _by_code(scheme: str) -> dict[str, dict[str, tuple[str, list[int]]]]:
    found: dict[str, dict[str, tuple[str, list[int]]]] = {}
    for keyword, codes in concepts[scheme].items():
        for code, (meaning, contexts) in codes.items():
            found.setdefault(code, {})[keyword] = (meaning, contexts)
    return found


def context_group(number: int, scheme: str) -> dict[str, str]:
    """Code to meaning of one context group of PS3.16."""
    keywords = set(cid_concepts[number][scheme])
    return {
        code: meaning
        for keyword, codes in concepts[scheme].items()
        if keyword in keywords
        for code, (meaning, contexts) in codes.items()
        if number in contexts
    }


def modality() -> None:
    acquisition, other = context_group(29, "DCM"), context_group(32, "DCM")
    both = {**acquisition, **other}
    if set(both) != set(context_group(33, "DCM")) or set(acquisition) & set(other):
        raise SystemExit("CID 33 is no longer CID 29 and CID 32 beside each other")
    meanings = dcm_meanings()
    rows = [
        (code, both[code], "yes" if code in acquisition else "no", "current")
        for code in sorted(both)
    ]
    rows += [(code, meanings[code], "no", "current") for code in LATER_MODALITIES]
    rows += [(code, meanings[code], "no", "retired") for code in RETIRED_MODALITIES]
    write(
        "modality",
        [
            f"PS3.16 CID 29 (acquisition), CID 32 (the others) and {', '.join(LATER_MODALITIES)}; from {pydicom_edition()}.",
            "Retired: PS3.3 section C.7.3.1.1.1, retired defined terms, still DCM codes in FHIR R4 (4.0.1).",
            "Codes of http://dicom.nema.org/resources/ontology/DCM. ImagingStudy.modality takes acquisition only.",
        ],
        ("code", "display", "acquisition", "status"),
        sorted(rows),
    )


def uid_key(uid: str) -> list[int]:
    return [int(part) for part in uid.split(".")]


def sop_classes() -> None:
    classes = {
        uid: (entry[0], entry[3] == "Retired", entry[4])
        for uid, entry in UID_dictionary.items()
        if entry[1] == "SOP Class"
    }
    by_keyword = {keyword: uid for uid, (_, _, keyword) in classes.items()}
    unknown = NOT_OF_A_STUDY - set(by_keyword)
    if unknown:
        raise SystemExit(f"pydicom knows no class {sorted(unknown)}")

    def composite(keyword: str) -> str:
        storage = "Storage" in keyword and not keyword.startswith("StorageCommitment")
        return "yes" if storage and keyword not in NOT_OF_A_STUDY else "no"

    write(
        "sop-classes",
        [
            f"PS3.6 annex A, SOP classes; from {pydicom_edition()}.",
            "composite: whether its objects are instances of a study (PS3.4 annex B); not so: services, media",
            "directories and objects of no patient (PS3.4 annex GG). A class that is not listed may be private.",
        ],
        ("uid", "name", "retired", "composite"),
        (
            (uid, name.removesuffix(" SOP Class"), "yes" if retired else "no", composite(keyword))
            for uid, (name, retired, keyword) in sorted(
                classes.items(), key=lambda e: uid_key(e[0])
            )
        ),
    )
    pairs = {
        by_keyword[keyword]: code
        for code, keywords in CLASS_MODALITY.items()
        for keyword in keywords.split()
    }
    write(
        "sop-class-modality",
        [
            f"Modality (0008,0060) that a storage class stands for (PS3.3 annex A); UIDs from {pydicom_edition()}.",
            "Used where an object states no modality. Left out: classes that take several unlike values",
            "(secondary capture, raw data, encapsulated documents, parametric maps) or one outside CID 33.",
        ],
        ("uid", "code"),
        sorted(pairs.items(), key=lambda pair: uid_key(pair[0])),
    )


def laterality() -> None:
    codes = context_group(244, "SCT")
    by_meaning = {meaning.lower(): (code, meaning) for code, meaning in codes.items()}
    # Unilateral is no side: CID 244 has it, Laterality (0020,0060) does not.
    terms = {"R": "right", "L": "left", "B": "bilateral"}
    write(
        "laterality",
        [
            f"Laterality (0020,0060) to PS3.16 CID 244; from {pydicom_edition()}.",
            f"{SNOMED_NOTE} U (unpaired) has no code: the element is left out.",
        ],
        ("term", "code", "display"),
        ((term, *by_meaning[meaning]) for term, meaning in terms.items()),
    )


def body_part() -> None:
    text = files("highdicom").joinpath("_standard/anatomic_regions.json").read_text("utf-8")
    regions: dict[str, tuple[str, str, str, bool]] = json.loads(text)
    rows = []
    for term, (scheme, code, meaning, paired) in sorted(regions.items()):
        if scheme != "SCT":
            raise SystemExit(f"{term}: {scheme} is not SCT")
        # A phantom is a physical object (706342009), no body structure: the term stays, without a code.
        rows.append((term, "" if term == "PHANTOM" else code, meaning, "yes" if paired else "no"))
    write(
        "body-part",
        [
            "Body Part Examined (0018,0015), PS3.16 table L-1, edition 2026a;",
            f"from highdicom {version('highdicom')} (MIT). The display is DICOM's meaning.",
            f"{SNOMED_NOTE} An empty code: DICOM's code is no body structure.",
        ],
        ("term", "code", "display", "paired"),
        rows,
    )


def srt_to_sct() -> None:
    write(
        "srt-to-sct",
        [
            f"SNOMED RT identifiers (schemes SRT, SNM3, 99SDM) to SNOMED CT, PS3.16 annex O; from {pydicom_edition()}.",
            SNOMED_NOTE,
        ],
        ("srt", "code"),
        sorted(mapping["SRT"].items()),
    )


def small() -> None:
    write(
        "gender",
        [
            "Patient's Sex (0010,0040), PS3.3 table C.7-1, to FHIR R4 administrative-gender.",
            "Anything else is left out with a finding.",
        ],
        ("term", "code"),
        [("F", "female"), ("M", "male"), ("O", "other")],
    )
    write(
        "coding-schemes",
        [
            "Coding Scheme Designator (0008,0102), PS3.16 section 8, to the system URI of FHIR",
            "(R4 terminologies-systems; terminology.hl7.org). convert: table that its codes go through first.",
            "A site adds its own in site.coding_schemes; an unknown designator is never written as a system.",
        ],
        ("designator", "system", "convert"),
        CODING_SCHEMES,
    )


def code_system(folder: Path, name: str) -> tuple[dict[str, str], str]:
    """Code to display of a FHIR code system, and its version."""
    data = json.loads((folder / f"CodeSystem-{name}.json").read_text("utf-8"))
    found: dict[str, str] = {}

    def walk(entries: list[dict[str, Any]]) -> None:
        for entry in entries:
            found[entry["code"]] = entry.get("display", "")
            walk(entry.get("concept", []))

    walk(data["concept"])
    return found, data.get("version", "")


def from_fhir(folder: Path) -> None:
    note = "from the FHIR R4 (4.0.1) definitions package (CC0)."
    types, _ = code_system(folder, "v2-0203")
    write(
        "identifier-type",
        [f"Codes of http://terminology.hl7.org/CodeSystem/v2-0203; {note}"],
        ("code", "display"),
        sorted(types.items()),
    )
    roles, _ = code_system(folder, "v3-ParticipationType")
    write(
        "participation",
        [
            f"Codes of http://terminology.hl7.org/CodeSystem/v3-ParticipationType; {note}",
            "Those of series-performer-function, and DEV.",
        ],
        ("code", "display"),
        ((code, roles[code]) for code in PARTICIPATION),
    )
    connections, _ = code_system(folder, "endpoint-connection-type")
    write(
        "endpoint-connection-type",
        [f"Codes of http://terminology.hl7.org/CodeSystem/endpoint-connection-type; {note}"],
        ("code", "display"),
        connections.items(),
    )
    r4, edition = code_system(folder, "dicom-dcim")
    current = set(_by_code("DCM"))
    write(
        "dcm",
        [
            "Codes of http://dicom.nema.org/resources/ontology/DCM (PS3.16 annex D), codes only, to check against;",
            f"r4: whether the edition {edition} that FHIR R4 (4.0.1) carries has it; the others from {pydicom_edition()}.",
        ],
        ("code", "r4"),
        ((code, "yes" if code in r4 else "no") for code in sorted(current | set(r4))),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--fhir", type=Path, help="folder with the R4 code systems")
    arguments = parser.parse_args()
    modality()
    sop_classes()
    laterality()
    body_part()
    srt_to_sct()
    small()
    if arguments.fhir:
        from_fhir(arguments.fhir)


if __name__ == "__main__":
    main()
