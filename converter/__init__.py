"""dcm2fhir: DICOM in, profile-conformant FHIR R4 ImagingStudy out."""

__version__ = "0.1.0"

__all__ = ["__version__"]
