"""Programs that make what is checked in or tested with: code tables, definitions, DICOM files."""
