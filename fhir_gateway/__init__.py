"""Door: FHIR R4; the only door that sees both stores."""
