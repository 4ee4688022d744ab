"""The programs that Hilum keeps running: PostgreSQL, the FHIR store, and processes of its own."""
