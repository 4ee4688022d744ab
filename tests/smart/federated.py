"""At the hospital's provider and back: a browser that signs in there and out again."""

from __future__ import annotations

import re
import secrets
from html import unescape

from authorization.trust.provider import FederationConfig
from tests.smart.clinic import Person, field

ANNA = {
    "sub": "7a9f",
    "preferred_username": "Hospital.Anna",
    "name": "Dr Anna Hospital",
    "groups": ["staff", "radiology"],
    "fhirUser": "https://hospital.example/fhir/Practitioner/clinic-anna",
}


def someone(**changes):
    """Claims of a person whom nobody has seen yet."""
    name = f"h-{secrets.token_hex(4)}"
    return {**ANNA, "sub": name, "preferred_username": name, **changes}


def sign_in(clinic, hospital, claims, wrong="", target="/auth/apps"):
    """Follow the link on the login page to the hospital and back."""
    hospital.tell(claims=claims, wrong=wrong)
    person = Person(clinic.base)
    there_and_back(person, person.http.get("/login/federated", params={"next": target}))
    return person


def there_and_back(person, answer):
    """Go to the hospital, if that is where the answer leads, and come back."""
    if answer.is_redirect:
        there = person.http.get(answer.headers["location"])
        answer = person.follow(person.http.get(there.headers["location"]))
    person.page = answer
    return answer


def by_the_link(person):
    """What the link to the hospital on the login page gives."""
    link = unescape(re.search(r'href="(/login/federated[^"]*)"', person.page.text)[1])
    return person.http.get(link)


def sign_out(person):
    """Sign out; the place to which the page that comes leads on."""
    person.page = person.http.get("/logout")
    person.page = person.http.post("/logout", data={"csrf": field(person.page.text, "csrf")})
    found = re.search(r'content="0;url=([^"]+)"', person.page.text)
    return unescape(found[1]) if found else None


def at_the_hospital(hospital):
    return FederationConfig(
        hospital.issuer, "hilum", "x", "http://127.0.0.1/back", "http://127.0.0.1/out"
    )
