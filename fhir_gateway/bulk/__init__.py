"""Bulk Data export: kick-off, durable jobs, rows from the FHIR store, files, manifest."""
