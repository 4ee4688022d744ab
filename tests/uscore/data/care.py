"""Encounters, orders and specimens, and what they refer to."""

from __future__ import annotations

from tests.uscore.data.making import (
    DATA_ABSENT,
    LOINC,
    SCT,
    TERMINOLOGY,
    Json,
    coding,
    concept,
    identifier,
    period,
    resource,
    to,
)

ACT = f"{TERMINOLOGY}v3-ActCode"
AMELIA = to("Patient/amelia")
HEADACHE = concept(SCT, "25064002", "Headache")
IMAGING_ORDER = concept(SCT, "363679005", "Imaging")
MRI_BRAIN = concept(LOINC, "24590-2", "MR Brain WO and W contrast IV")
VISIT_TYPE = concept(SCT, "185349003", "Encounter for check up")


def visit() -> Json:
    """An encounter with everything that may be known of it."""
    performer = concept(f"{TERMINOLOGY}v3-ParticipationType", "PPRF", "primary performer")
    span = period("2024-03-10T09:00:00Z", "2024-03-10T11:00:00Z")
    participants = ("Practitioner/reader", "PractitionerRole/reader", "RelatedPerson/sister")
    return resource(
        "Encounter",
        "visit",
        "us-core-encounter",
        identifier=[identifier("VISIT-1")],
        status="finished",
        **{"class": coding(ACT, "AMB", "ambulatory")},
        type=[VISIT_TYPE],
        subject=AMELIA,
        episodeOfCare=[to("EpisodeOfCare/tumour")],
        basedOn=[to("ServiceRequest/mri")],
        participant=[
            {"type": [performer], "period": span, "individual": to(one)} for one in participants
        ],
        appointment=[to("Appointment/mri")],
        period=span,
        reasonCode=[HEADACHE],
        reasonReference=[to("Condition/tumour"), to("Condition/headache"), to("Procedure/biopsy")],
        diagnosis=[{"condition": to("Condition/tumour")}],
        account=[to("Account/amelia")],
        hospitalization={
            "origin": to("Location/scanner"),
            "destination": to("Organization/main"),
            "dischargeDisposition": concept(f"{TERMINOLOGY}discharge-disposition", "home", "Home"),
        },
        location=[{"location": to("Location/scanner")}],
        serviceProvider=to("Organization/main"),
        partOf=to("Encounter/stay"),
    )


def stay() -> Json:
    """An encounter whose type nobody recorded: a code says that it is absent."""
    return resource(
        "Encounter",
        "stay",
        "us-core-encounter",
        identifier=[identifier("STAY-1")],
        status="in-progress",
        **{"class": coding(ACT, "IMP", "inpatient encounter")},
        type=[concept(DATA_ABSENT, "unknown", "Unknown")],
        subject=AMELIA,
        period={"start": "2024-03-01T00:00:00Z"},
        serviceProvider=to("Organization/main"),
    )


def reasons() -> list[Json]:
    """Conditions and the biopsy."""
    active = concept(f"{TERMINOLOGY}condition-clinical", "active")
    confirmed = concept(f"{TERMINOLOGY}condition-ver-status", "confirmed")
    kinds = f"{TERMINOLOGY}condition-category"
    tumour = resource(
        "Condition",
        "tumour",
        "us-core-condition-problems-health-concerns",
        clinicalStatus=active,
        verificationStatus=confirmed,
        category=[concept(kinds, "problem-list-item", "Problem List Item")],
        code=concept(SCT, "126952004", "Neoplasm of brain"),
        subject=AMELIA,
        onsetDateTime="2024-02-20",
        recordedDate="2024-02-21",
    )
    headache = resource(
        "Condition",
        "headache",
        "us-core-condition-encounter-diagnosis",
        clinicalStatus=active,
        verificationStatus=confirmed,
        category=[concept(kinds, "encounter-diagnosis", "Encounter Diagnosis")],
        code=HEADACHE,
        subject=AMELIA,
        encounter=to("Encounter/visit"),
        onsetDateTime="2024-03-01",
    )
    biopsy = resource(
        "Procedure",
        "biopsy",
        "us-core-procedure",
        status="completed",
        code=concept(SCT, "86273004", "Biopsy"),
        subject=AMELIA,
        performedDateTime="2024-03-12",
    )
    return [tumour, headache, biopsy]


def administration() -> list[Json]:
    """What an encounter and an order point to in the office."""
    episode = resource("EpisodeOfCare", "tumour", status="active", patient=AMELIA)
    appointment = resource(
        "Appointment",
        "mri",
        status="booked",
        start="2024-03-10T09:00:00Z",
        end="2024-03-10T10:00:00Z",
        participant=[{"actor": AMELIA, "status": "accepted"}],
    )
    account = resource("Account", "amelia", status="active", subject=[AMELIA])
    coverage = resource(
        "Coverage",
        "amelia",
        "us-core-coverage",
        identifier=[
            {
                "type": concept(f"{TERMINOLOGY}v2-0203", "MB", "Member Number"),
                **identifier("MEMBER-1"),
            }
        ],
        status="active",
        beneficiary=AMELIA,
        relationship=concept(f"{TERMINOLOGY}subscriber-relationship", "self", "Self"),
        payor=[to("Organization/main")],
    )
    return [episode, appointment, account, coverage]


def order() -> Json:
    """The order of the MRI, with every reference that an order may have."""
    return resource(
        "ServiceRequest",
        "mri",
        "us-core-servicerequest",
        identifier=[identifier("ORDER-1")],
        basedOn=[to("ServiceRequest/first")],
        replaces=[to("ServiceRequest/first")],
        status="active",
        intent="order",
        category=[IMAGING_ORDER],
        code=MRI_BRAIN,
        subject=AMELIA,
        encounter=to("Encounter/visit"),
        occurrencePeriod=period("2024-03-10T09:00:00Z", "2024-03-10T10:00:00Z"),
        authoredOn="2024-03-05T08:30:00Z",
        requester=to("Practitioner/reader"),
        performer=[to("Organization/main"), to("HealthcareService/radiology")],
        locationReference=[to("Location/scanner")],
        reasonCode=[HEADACHE],
        reasonReference=[to("Condition/tumour")],
        insurance=[to("Coverage/amelia")],
        supportingInfo=[to("Observation/haemoglobin")],
        specimen=[to("Specimen/blood")],
        relevantHistory=[to("Provenance/main")],
    )


def first_order() -> Json:
    """An older order of another kind: a search for the first must leave it out."""
    return resource(
        "ServiceRequest",
        "first",
        "us-core-servicerequest",
        status="completed",
        intent="plan",
        category=[concept(SCT, "108252007", "Laboratory procedure")],
        code=concept(LOINC, "718-7", "Hemoglobin [Mass/volume] in Blood"),
        subject=AMELIA,
        encounter=to("Encounter/visit"),
        occurrenceDateTime="2024-02-25",
        authoredOn="2024-02-20T10:00:00Z",
        requester=to("Practitioner/technologist"),
    )


def specimens() -> list[Json]:
    """Blood, and the part of it that was kept."""
    blood = concept(SCT, "119297000", "Blood specimen")
    first = resource(
        "Specimen",
        "blood",
        "us-core-specimen",
        identifier=[identifier("SPECIMEN-1")],
        accessionIdentifier=identifier("LAB-ACC-1"),
        status="available",
        type=blood,
        subject=AMELIA,
        request=[to("ServiceRequest/first")],
        collection={
            "collector": to("Practitioner/technologist"),
            "collectedDateTime": "2024-03-08T07:00:00Z",
            "bodySite": concept(SCT, "368208006", "Left upper arm structure"),
        },
        processing=[
            {"description": "Anticoagulated", "additive": [to("Substance/edta")]},
        ],
        condition=[concept(f"{TERMINOLOGY}v2-0493", "COOL", "Cool")],
    )
    part = resource(
        "Specimen",
        "aliquot",
        "us-core-specimen",
        identifier=[identifier("SPECIMEN-2")],
        type=blood,
        subject=AMELIA,
        parent=[to("Specimen/blood")],
    )
    additive = resource(
        "Substance", "edta", code=concept(SCT, "69519002", "Edetic acid"), status="active"
    )
    return [first, part, additive]


def care() -> list[Json]:
    """All of this module."""
    orders = [order(), first_order()]
    return [visit(), stay(), *reasons(), *administration(), *orders, *specimens()]
