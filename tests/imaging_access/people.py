"""Two patients with a study each on the running stack, and tokens for either."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import httpx
from pydicom import Dataset
from pydicom.uid import UID, BasicTextSRStorage, SegmentationStorage, generate_uid

from access import TokenAuthority
from tests.dicomweb.server import file_of, multipart, slice_of
from tests.fixtures.running import Running, imaging_study, wait_for

B = 'multipart/related; type="application/dicom"; boundary=test-boundary'
READ = "patient/ImagingStudy.rs"


@dataclass(frozen=True)
class Person:
    """A patient as both sides know it."""

    id: str
    patient_id: str
    study: str
    series: str
    instance: str
    imaging_study: str
    slices: tuple[Dataset, ...]


@dataclass
class Imaging:
    """The running stack with an operator's rights and a key to make tokens of any kind."""

    stack: Running
    operator: httpx.Client

    @property
    def authority(self) -> TokenAuthority:
        base = self.stack.base
        keys = self.stack.folder / "var" / "keys"
        return TokenAuthority.load_or_create(keys, issuer=base, audience=f"{base}/fhir")

    def token(
        self, scope: str, lifetime_s: int = 3600, minted_s_ago: int = 0, **context: Any
    ) -> str:
        with patch("access.tokens.time.time", return_value=time.time() - minted_s_ago):
            return self.authority.mint(
                subject="someone",
                scope=scope,
                lifetime_s=lifetime_s,
                client="an-app",
                context=context,
            )

    def bearing(self, token: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.stack.base,
            headers={"Authorization": f"Bearer {token}"},
            timeout=90,
            trust_env=False,
        )

    def client(self, scope: str, **context: Any) -> httpx.Client:
        return self.bearing(self.token(scope, **context))

    def app_of(self, person: Person, scope: str = READ) -> httpx.Client:
        """An app that was launched for this patient."""
        return self.client(scope, patient=person.id)

    def published(self, study: str) -> dict[str, Any]:
        return wait_for(lambda: imaging_study(self.operator, study), f"ImagingStudy of {study}")

    def new_person(self, name: str, slices: int = 3) -> Person:
        """A patient with a study of MR slices in two series, a SEG and an SR."""
        number, study = f"IA-{generate_uid()[-12:]}", str(generate_uid())
        found = [
            slice_of(study, PatientID=number, PatientName=f"{name}^Test", InstanceNumber=i + 1)
            for i in range(slices)
        ]
        for one in found[1:]:
            one.SeriesInstanceUID = found[0].SeriesInstanceUID
        derived = [
            slice_of(study, PatientID=number, PatientName=f"{name}^Test", Modality=modality)
            for modality in ("SEG", "SR")
        ]
        derived[0].SOPClassUID, derived[1].SOPClassUID = SegmentationStorage, BasicTextSRStorage
        all_of = [*found, *derived]
        self.store(*all_of)
        return self.person(all_of)

    def person_with(self, patient_id: str, slices: int = 1) -> Person:
        """A further study of a patient who is known."""
        study, series = str(generate_uid()), str(generate_uid())
        found = [slice_of(study, series, PatientID=patient_id) for _ in range(slices)]
        self.store(*found)
        return self.person(found)

    def store(
        self,
        *datasets: Dataset,
        client: httpx.Client | None = None,
        path: str = "/dicomweb/studies",
    ) -> httpx.Response:
        answer = (client or self.operator).post(
            path,
            content=multipart(*(file_of(one) for one in datasets)),
            headers={"Content-Type": B},
        )
        if client is None:
            assert answer.status_code == 200, answer.text
        return answer

    def person(self, slices: list[Dataset]) -> Person:
        first = slices[0]
        resource = self.published(first.StudyInstanceUID)
        person = Person(
            id=resource["subject"]["reference"].removeprefix("Patient/"),
            patient_id=first.PatientID,
            study=first.StudyInstanceUID,
            series=first.SeriesInstanceUID,
            instance=first.SOPInstanceUID,
            imaging_study=resource["id"],
            slices=tuple(slices),
        )
        with self.app_of(person) as app:
            url = f"/dicomweb/studies/{person.study}/metadata"
            # Seen in FHIR a moment before it is known to be published: 503, come again.
            wait_for(lambda: app.get(url).status_code == 200, "its own study")
        return person


def until(find, seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while True:
        if (found := find()) or time.monotonic() > end:
            return found
        time.sleep(0.2)


def levels(study: str, series: str, instance: str) -> tuple[str, str, str]:
    whole = f"/dicomweb/studies/{study}"
    return whole, f"{whole}/series/{series}", f"{whole}/series/{series}/instances/{instance}"


def retrievals(study: str, series: str, instance: str) -> list[tuple[str, dict[str, str]]]:
    """Every form in which pixels or attributes of a study leave: URL and headers."""
    uid, series_url, one = levels(UID(study), series, instance)
    dicom = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    file, zipped = {"Accept": "application/dicom"}, {"Accept": "application/zip"}
    picture = {"Accept": "image/jpeg"}
    wado = f"/wado?requestType=WADO&studyUID={study}&objectUID={instance}"
    return [
        *((url, headers) for url in (uid, series_url, one) for headers in (dicom, zipped, {})),
        (one, file),
        (one, {**file, "Range": "bytes=0-99"}),
        *((f"{url}/metadata", {}) for url in (uid, series_url, one)),
        (f"{uid}/metadata", {"Accept": 'multipart/related; type="application/dicom+xml"'}),
        *((f"{url}/rendered", picture) for url in (uid, series_url, one)),
        *((f"{url}/thumbnail", picture) for url in (uid, series_url, one, f"{one}/frames/1")),
        (f"{one}/frames/1", {}),
        (f"{one}/frames/1", {"Accept": "application/octet-stream"}),
        (f"{one}/frames/1/rendered", picture),
        (f"{one}/bulkdata/7FE00010", {}),
        (f"{wado}&seriesUID={series}&contentType=application/dicom", {}),
        (f"{wado}&seriesUID={series}", picture),
        (f"{wado}&seriesUID={series}&frameNumber=1", picture),
        (wado, picture),
        (f"/dicomweb{wado}&seriesUID={series}", {}),
        (f"{uid}/series", {}),
        (f"{uid}/instances", {}),
        (f"{series_url}/instances", {}),
    ]
