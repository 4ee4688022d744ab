"""Worker: DiagnosticReport -> PDF and DOCX; reads FHIR, writes FHIR."""
