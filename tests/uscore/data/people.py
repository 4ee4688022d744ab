"""Patients, and the people and organizations that look after them."""

from __future__ import annotations

from tests.uscore.data.making import (
    ABSENT_EXTENSION,
    ADDRESS,
    EXTENSIONS,
    PHONE,
    SCT,
    TERMINOLOGY,
    Json,
    coding,
    concept,
    identifier,
    npi,
    period,
    resource,
    to,
)

CDCREC = "urn:oid:2.16.840.1.113883.6.238"
NUCC = "http://nucc.org/provider-taxonomy"
MARRIED_NAME_UNTIL = period("1999-05-01", "2010-06-30")


def of_a_group(name: str, category: Json, text: str) -> Json:
    """A race or ethnicity extension."""
    return {
        "url": f"{EXTENSIONS}us-core-{name}",
        "extension": [
            {"url": "ombCategory", "valueCoding": category},
            {"url": "text", "valueString": text},
        ],
    }


RACE = of_a_group("race", coding(CDCREC, "2106-3", "White"), "White")
ETHNICITY = of_a_group("ethnicity", coding(CDCREC, "2135-2", "Hispanic or Latino"), "Hispanic")
TRIBE = {
    "url": f"{EXTENSIONS}us-core-tribal-affiliation",
    "extension": [
        {
            "url": "tribalAffiliation",
            "valueCodeableConcept": concept(
                f"{TERMINOLOGY}v3-TribalEntityUS", "91", "Fort Mojave Indian Tribe of Arizona"
            ),
        }
    ],
}
SEX = {"url": f"{EXTENSIONS}us-core-sex", "valueCode": "248152002"}
SEX_SINCE_8 = {
    "url": f"{EXTENSIONS}us-core-sex",
    "valueCoding": coding(SCT, "248152002", "Female"),
}
BIRTH_SEX = {"url": f"{EXTENSIONS}us-core-birthsex", "valueCode": "F"}


def amelia() -> Json:
    """Everything that US Core wants to know of a patient."""
    return resource(
        "Patient",
        "amelia",
        "us-core-patient",
        extension=[RACE, ETHNICITY, TRIBE, BIRTH_SEX, SEX],
        identifier=[identifier("MRN-A")],
        active=True,
        name=[
            {"use": "official", "family": "Müller", "given": ["Amelia", "Zoë"], "suffix": ["PhD"]},
            {
                "use": "old",
                "family": "Fernández",
                "given": ["Amelia"],
                "period": MARRIED_NAME_UNTIL,
            },
        ],
        telecom=[{"system": "phone", "value": "+1 555 0199", "use": "home"}],
        gender="female",
        birthDate="1960-02-29",
        deceasedDateTime="2024-11-30T05:00:00Z",
        address=[
            ADDRESS,
            ADDRESS | {"use": "old", "line": ["2 Phantom Street"], "period": MARRIED_NAME_UNTIL},
        ],
        contact=[{"name": {"family": "Müller"}, "organization": to("Organization/main")}],
        communication=[{"language": concept("urn:ietf:bcp:47", "en", "English")}],
        generalPractitioner=[to("Practitioner/reader")],
        managingOrganization=to("Organization/main"),
        link=[{"other": to("RelatedPerson/sister"), "type": "seealso"}],
    )


def boris() -> Json:
    """A patient of whom little is known: the missing name says so by its extension."""
    absent = {"url": ABSENT_EXTENSION, "valueCode": "unknown"}
    return resource(
        "Patient",
        "boris",
        "us-core-patient",
        identifier=[identifier("MRN-B")],
        name=[{"extension": [absent]}],
        gender="unknown",
        telecom=[{"system": "email", "value": "boris@example.org"}],
    )


def chloe() -> Json:
    """A second patient with a name; a search for the first must not find her."""
    return resource(
        "Patient",
        "chloe",
        "us-core-patient",
        identifier=[identifier("MRN-C", assigner=None)],
        name=[{"family": "Nguyen", "given": ["Chloé"]}],
        gender="female",
        birthDate="1985",
        address=[ADDRESS | {"city": "Boston"}],
    )


def dana() -> Json:
    """As US Core 8.0.0 wants the sex: a Coding, which 6.1.0 refuses."""
    return resource(
        "Patient",
        "dana",
        "us-core-patient",
        extension=[RACE, ETHNICITY, SEX_SINCE_8],
        identifier=[identifier("MRN-D")],
        name=[{"family": "Okafor", "given": ["Dana"]}],
        gender="female",
        birthDate="1990-07-07",
    )


def organizations() -> list[Json]:
    """A hospital and the trust that it is part of."""
    main = resource(
        "Organization",
        "main",
        "us-core-organization",
        identifier=[npi("1144221847"), identifier("ORG-1", assigner="Organization/trust")],
        active=True,
        type=[concept(f"{TERMINOLOGY}organization-type", "prov", "Healthcare Provider")],
        name="Springfield Imaging",
        telecom=[PHONE],
        address=[ADDRESS],
        partOf=to("Organization/trust"),
        endpoint=[to("Endpoint/wado")],
    )
    trust = resource(
        "Organization",
        "trust",
        "us-core-organization",
        active=True,
        name="Springfield Trust",
        telecom=[PHONE],
        address=[ADDRESS | {"city": "Boston"}],
    )
    return [main, trust]


def places() -> list[Json]:
    """Where and by which service the work is done."""
    kind = concept(
        f"{TERMINOLOGY}v3-RoleCode", "RADDX", "Radiology diagnostics or therapeutics unit"
    )
    scanner = resource(
        "Location",
        "scanner",
        "us-core-location",
        identifier=[identifier("LOC-1")],
        status="active",
        name="MR scanner room",
        type=[kind],
        telecom=[PHONE],
        address=ADDRESS,
        managingOrganization=to("Organization/main"),
        partOf=to("Location/building"),
        endpoint=[to("Endpoint/wado")],
    )
    building = resource("Location", "building", name="Springfield Imaging, building 1")
    service = resource(
        "HealthcareService", "radiology", active=True, name="Radiology",
        providedBy=to("Organization/main"),
    )  # fmt: skip
    endpoint = resource(
        "Endpoint",
        "wado",
        status="active",
        connectionType=coding(f"{TERMINOLOGY}endpoint-connection-type", "dicom-wado-rs"),
        payloadType=[concept(f"{TERMINOLOGY}endpoint-payload-type", "none")],
        address="https://imaging.example.org/dicomweb",
    )
    return [scanner, building, service, endpoint]


def staff() -> list[Json]:
    """A radiologist in her role, a technologist and a care team."""
    reader = resource(
        "Practitioner",
        "reader",
        "us-core-practitioner",
        identifier=[npi("1234567893"), identifier("STAFF-1")],
        name=[{"family": "Özdemir", "given": ["Ruth"]}],
        telecom=[PHONE],
        address=[ADDRESS],
        qualification=[
            {
                "code": concept(f"{TERMINOLOGY}v2-0360", "MD", "Doctor of Medicine"),
                "issuer": to("Organization/trust"),
            }
        ],
    )
    technologist = resource(
        "Practitioner",
        "technologist",
        "us-core-practitioner",
        identifier=[npi("1987654328")],
        name=[{"family": "Brown", "given": ["Tess"]}],
        telecom=[PHONE],
    )
    role = resource(
        "PractitionerRole",
        "reader",
        "us-core-practitionerrole",
        practitioner=to("Practitioner/reader"),
        organization=to("Organization/main"),
        code=[concept(NUCC, "208D00000X", "General Practice Physician")],
        specialty=[concept(NUCC, "2085R0202X", "Diagnostic Radiology Physician")],
        location=[to("Location/scanner")],
        healthcareService=[to("HealthcareService/radiology")],
        telecom=[PHONE],
        endpoint=[to("Endpoint/wado")],
    )
    return [reader, technologist, role]


def relatives_and_team() -> list[Json]:
    """Those around the first patient."""
    sister = resource(
        "RelatedPerson",
        "sister",
        "us-core-relatedperson",
        active=True,
        patient=to("Patient/amelia"),
        relationship=[concept(f"{TERMINOLOGY}v3-RoleCode", "SIS", "sister")],
        name=[{"family": "Fernández", "given": ["Inés"]}],
    )
    physician = concept(SCT, "66862007", "Radiologist")
    team = resource(
        "CareTeam",
        "tumour-board",
        "us-core-careteam",
        status="active",
        subject=to("Patient/amelia"),
        participant=[{"role": [physician], "member": to("Practitioner/reader")}],
    )
    return [sister, team]


def people() -> list[Json]:
    """All of this module."""
    patients = [amelia(), boris(), chloe(), dana()]
    return [*patients, *organizations(), *places(), *staff(), *relatives_and_team()]
