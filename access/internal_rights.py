"""What each worker of ours may do in the FHIR store: no more than its work needs.

A worker that begins to use another type gets it here, and nowhere else.
"""

from __future__ import annotations

from access.grants import Rights, Rule


def _worker(name: str, *rules: Rule, operations: tuple[str, ...] = ()) -> Rights:
    return Rights(mode="internal", subject=name, rules=rules, operations=operations, counts=True)


def _on(letters: str, *types: str) -> Rule:
    return Rule(types=tuple(sorted(types)), letters=letters)


# Proves that the store is ours, or asks it to describe itself; of its content it sees nothing.
NOTHING = _worker("nothing")

# Puts search parameters and the Subscriptions of our hooks into the store.
SEEDER = _worker("seeder", _on("crus", "Basic", "Endpoint", "SearchParameter", "Subscription"))

# Turns the archive's studies into ImagingStudy, and orders into links between them.
PUBLISHER = _worker(
    "publisher",
    _on("crusd", "Endpoint", "ImagingStudy"),
    _on("crus", "Device", "Location", "Organization", "Patient", "Practitioner"),
    _on("crus", "Appointment", "DiagnosticReport", "Encounter", "ServiceRequest", "Task"),
    _on("crus", "DocumentReference", "Flag", "Observation", "Procedure", "Provenance"),
    _on("rus", "BodyStructure", "Media"),
    operations=("$meta-delete",),  # an update leaves tags where they are
)

# Links studies, reports and performed steps to the orders that they fulfil.
ORDERS = _worker(
    "orders",
    _on("crus", "Procedure", "Task"),
    _on("rus", "DiagnosticReport", "ImagingStudy", "Observation", "ServiceRequest"),
    _on("rs", "Appointment", "Device", "Encounter", "Location", "Organization", "Patient"),
    _on("rs", "Condition", "HealthcareService", "Practitioner", "PractitionerRole"),
)

# Moves what belongs to a Patient who was found to be another one.
MERGER = _worker(
    "merges",
    _on("rs", "Encounter", "Patient", "ServiceRequest"),
    _on("crus", "Task"),
    _on("rus", "BodyStructure", "DiagnosticReport", "DocumentReference", "ImagingStudy", "Media"),
    _on("rus", "Observation", "Procedure", "Provenance"),
)

# Keeps DICOM work items and Tasks in step, and the worklist in step with the orders.
BRIDGE = _worker("workitems", _on("crus", "Task"), _on("rs", "ImagingStudy"))

# Ships the audit trail, and looks whether it is there as it was written.
AUDITOR = _worker("audit", _on("crus", "AuditEvent"))

# Asks who a study belongs to.
STUDY_ACCESS = _worker("study-access", _on("rs", "ImagingStudy", "Patient"))

# Finds the members of a group that is exported; the rows are asked for with the client's rights.
EXPORTER = _worker("export", _on("rs", "Group"))

# Finds what changed while an export ran, for clients with granular scopes: ids and version numbers
# only; each resource is then read with the client's rights.
EXPORT_HISTORY = _worker("export-history", Rule(letters="rs"))

# Tells subscribers of topics what has happened.
NOTIFIER = _worker("notifier", Rule(letters="rs"), _on("u", "Subscription"))

# Finds what to run a model on, and writes what it found.
INFERENCE = _worker(
    "inference",
    _on("crus", "Task"),
    _on("crus", "BodyStructure", "Device", "DiagnosticReport", "DocumentReference", "Media"),
    _on("crus", "Observation", "Organization", "Provenance"),
    _on("rus", "ImagingStudy"),
    _on("rs", "Encounter", "Endpoint", "Patient", "Practitioner", "ServiceRequest"),
    _on("cr", "Binary"),
)

# Renders reports and files them.
REPORTS = _worker(
    "reports",
    _on("crus", "DiagnosticReport", "DocumentReference", "Media", "Organization", "Provenance"),
    _on("crud", "Binary"),
    _on("rus", "Observation"),
    _on("rs", "BodyStructure", "Device", "Encounter", "Endpoint", "ImagingStudy"),
    _on("rs", "Patient", "Practitioner", "PractitionerRole", "ServiceRequest", "Task"),
)

# Loads whatever an operator or a test loads past every door.
OPERATOR = _worker(
    "operator",
    Rule(letters="cruds"),
    operations=(
        "$everything", "$expand", "$export", "$export-poll-status", "$lookup", "$meta-delete",
        "$reindex",
        "$validate", "$validate-code",
    ),
)  # fmt: skip
