"""Door: DICOMweb (DICOM PS3.18)."""
