"""Scope attacks on DICOMweb: principals with little right, and every form of request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.attack.dicomweb_forms import Attempt, Target, attempts, without_writes
from tests.imaging_access.people import Imaging, Person

pytestmark = [pytest.mark.slow, pytest.mark.stack]

# Headers that say nothing about the study: the hour, the connection.
UNTOLD = ("date", "connection", "keep-alive")
FEWEST = 300


@dataclass(frozen=True)
class Principal:
    """Whoever asks: scopes, and the launch context by what of Ann's it names."""

    scope: str
    patient: bool = False
    user: bool = False
    studies: bool = False


LIMITED = {
    "app that reads": Principal("patient/ImagingStudy.rs", patient=True),
    "app that may do everything": Principal("patient/*.cruds", patient=True),
    "app of v1": Principal("patient/*.read launch/patient", patient=True),
    "app without a patient": Principal("patient/*.cruds"),
    "patient at the portal": Principal("user/*.cruds", user=True),
    "granular clinician": Principal("user/ImagingStudy.rs?status=cancelled"),
    "backend for other things": Principal("system/Patient.rs system/Observation.rs"),
    "token of one study": Principal("system/ImagingStudy.rs", studies=True),
}


@contextmanager
def client_of(imaging: Imaging, ann: Person, principal: Principal) -> Iterator[httpx.Client]:
    context: dict[str, Any] = {}
    if principal.patient:
        context["patient"] = ann.id
    if principal.user:
        context["fhirUser"] = f"Patient/{ann.id}"
    studies = [ann.study] if principal.studies else None
    token = imaging.authority.mint(
        subject="attacker", scope=principal.scope, lifetime_s=3600, context=context, studies=studies
    )
    with imaging.bearing(token) as client:
        yield client


def answer_to(client: httpx.Client, attempt: Attempt) -> httpx.Response:
    # As written: a client that tidies paths would hide the odd ones.
    url = httpx.URL(str(client.base_url)).copy_with(raw_path=attempt.url.encode())
    request = client.build_request(
        attempt.method, url, headers=attempt.headers, content=attempt.content
    )
    return client.send(request)


def told(answer: httpx.Response, asked: Target) -> tuple[int, dict[str, str], str]:
    """All that an answer says, with the values that were asked for taken out."""
    headers = {k: v for k, v in answer.headers.items() if k not in UNTOLD}
    return answer.status_code, _blank(headers, asked), _blank(answer.text, asked)


def _blank(found: Any, asked: Target) -> Any:
    if isinstance(found, dict):
        return {name: _blank(value, asked) for name, value in found.items()}
    for name, value in asked.values().items():
        found = found.replace(value, name)
    return found


def leaks(client: httpx.Client, own: Target, other: Target) -> tuple[int, list[str]]:
    """How many attempts were made, and those whose answer told something about `other`."""
    absent = other.absent()
    count, found = 0, []
    for there, nowhere in zip(attempts(own, other), attempts(own, absent), strict=True):
        count += 1
        real = answer_to(client, there)
        if there.alone and real.status_code != httpx.codes.FORBIDDEN:
            found.append(f"{there}: {real.status_code}")
        if not there.alone and told(real, other) != told(answer_to(client, nowhere), absent):
            found.append(f"{there}: {real.status_code} can be told from what is not there")
        asked = there.url + (there.content or b"").decode("latin-1")
        shown = [
            n for n, value in other.values().items() if value in real.text and value not in asked
        ]
        if shown:
            found.append(f"{there}: shows {', '.join(shown)}")
        if real.status_code >= 500:
            found.append(f"{there}: {real.status_code}")
    return count, found


@pytest.mark.parametrize("name", LIMITED)
def test_nothing_is_learnt_of_another_patients_study(imaging, ann, ben, name):
    with client_of(imaging, ann, LIMITED[name]) as client:
        count, found = leaks(client, Target.of(ann), Target.of(ben))

    assert count >= FEWEST
    assert not found


def test_the_study_is_as_it_was_after_all_attempts(imaging, ben):
    answer = imaging.operator.get(f"/dicomweb/studies/{ben.study}/instances").json()

    stored = {one["00080018"]["Value"][0] for one in answer}
    assert stored == {str(one.SOPInstanceUID) for one in ben.slices}


@pytest.mark.parametrize("scope", ["user/ImagingStudy.rs", "system/ImagingStudy.rs"])
def test_the_attempts_do_find_what_may_be_found(imaging, ann, ben, scope):
    """Who may see all studies is answered: the forms are real ones, and the check sees it."""
    own, other = Target.of(ann), Target.of(ben)
    with imaging.client(scope) as client:
        opened = [
            attempt
            for attempt in without_writes(attempts(own, other))
            if answer_to(client, attempt).status_code in (200, 206)
        ]

    assert len(opened) > 100
