"""Patients with some data, made through the door."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field


@dataclass
class Cohort:
    """`members` are in the group `group`; `stranger` is not. `mark` finds what was made here."""

    client: object
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    members: list[str] = field(default_factory=list)
    stranger: str = ""
    group: str = ""
    observations: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def made(cls, client):
        cohort = cls(client)
        cohort.members = [cohort.patient(), cohort.patient()]
        cohort.stranger = cohort.patient()
        cohort.group = cohort.put_group(cohort.members)
        return cohort

    def put_group(self, members, resource_id=None):
        body = {
            "resourceType": "Group",
            "type": "person",
            "actual": True,
            "member": [{"entity": {"reference": f"Patient/{one}"}} for one in members],
        }
        if resource_id is not None:
            answer = self.client.put(f"Group/{resource_id}", json={**body, "id": resource_id})
        else:
            answer = self.client.post("Group", json=body)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()["id"]

    def create(self, kind, **content):
        # HAPI takes the body of a Binary for its content unless it is called FHIR.
        headers = {"Content-Type": "application/fhir+json"}
        resource = {"resourceType": kind, **content}
        answer = self.client.post(kind, json=resource, headers=headers)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def patient(self, **content):
        """A patient with two observations: one laboratory, one imaging."""
        made = self.create(
            "Patient",
            identifier=[{"system": "urn:test:bulk", "value": uuid.uuid4().hex}],
            name=[{"family": "Export", "given": ["One"]}],
            gender="unknown",
            birthDate="1980-01-01",
            meta={"tag": [{"system": "urn:test:mark", "code": self.mark}]},
            **content,
        )["id"]
        self.observations[made] = [
            self.observation(made, category)["id"] for category in ("laboratory", "imaging")
        ]
        return made

    def observation(self, patient, category="laboratory", **content):
        system = "http://terminology.hl7.org/CodeSystem/observation-category"
        subject = {"subject": {"reference": f"Patient/{patient}"}} if patient else {}
        fields = {
            "status": "final",
            "code": {"text": "x"},
            "category": [{"coding": [{"system": system, "code": category}]}],
            "effectiveDateTime": "2024-05-01T10:00:00Z",
            "meta": {"tag": [{"system": "urn:test:mark", "code": self.mark}]},
            **subject,
            **content,
        }
        return self.create("Observation", **fields)

    def filtered(self, *types):
        """`_type` and `_typeFilter` that reach what was made here only."""
        filters = "".join(f"&_typeFilter={kind}%3F_tag%3D{self.mark}" for kind in types)
        return f"_type={','.join(types)}{filters}"
