"""Store 1: pixels at rest. Files, index, change feed; knows DICOM and PostgreSQL, no FHIR."""
