"""Patients, visits and studies as a user may see them, for the pages on which one is chosen.

Everything is asked at our own FHIR door with a token of that user: what the door does not show
them can be neither found nor chosen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from access.roles import SCOPES
from access.tokens import TokenAuthority
from access.users import User
from authorization.context import is_id
from authorization.errors import AuthorizationError
from authorization.forms import BadForm

PAGE_ROWS = 10
_TOKEN_S = 60
_CLIENT = "hilum-pages"
_UID_SYSTEM = "urn:dicom:uid"
_NOT_FOR_THEM = (401, 403, 404, 410)
# Path and query of a page at our own door.
_LINK = re.compile(r"/fhir(/([A-Z][A-Za-z]+)?)?\?[!-~]+", re.ASCII)


class ChartAway(AuthorizationError):
    """The FHIR store does not answer, or not as it should."""

    def __init__(self) -> None:
        super().__init__("the patients cannot be read now; please try again in a moment")


@dataclass(frozen=True, slots=True)
class Page:
    """Resources of a search, and where it goes on: path and query at our own door."""

    rows: tuple[dict[str, Any], ...] = ()
    following: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a patient is searched by; empty fields do not count."""

    name: str = ""
    birthdate: str = ""
    identifier: str = ""

    def parameters(self) -> list[tuple[str, str]]:
        """As FHIR search parameters; each word of the name must match."""
        found = [("name", word) for word in self.name.split()[:5]]
        found += [("birthdate", self.birthdate)] if self.birthdate else []
        # Who types a PatientID knows nothing of the system that it is of.
        found += [("identifier", self.identifier.strip())] if self.identifier.strip() else []
        return found


class Chart:
    """Asks at the FHIR door in the name of users."""

    def __init__(self, http: httpx.AsyncClient, authority: TokenAuthority) -> None:
        self._http = http
        self._authority = authority

    async def patients(self, user: User, wanted: Wanted) -> Page:
        """Patients that fit, in the order of their names."""
        return await self._search(
            user, "Patient", [*wanted.parameters(), ("_sort", "family,given,_id")]
        )

    async def following(self, user: User, kind: str, link: str) -> Page:
        """The next page of a search. Raises BadForm: it is none of our door."""
        if not _LINK.fullmatch(link):
            raise BadForm("there is no such page of the search; please search again")
        return await self._page(user, kind, link, [])

    async def studies(self, user: User, patient: str) -> Page:
        """ImagingStudies of a patient, newest first."""
        return await self._search(
            user, "ImagingStudy", [("patient", patient), ("_sort", "-started,_id")]
        )

    async def encounters(self, user: User, patient: str) -> Page:
        """Encounters of a patient, newest first."""
        return await self._search(user, "Encounter", [("patient", patient), ("_sort", "-date,_id")])

    async def reports_of(self, user: User, study: str) -> list[dict[str, Any]]:
        """The newest DiagnosticReports about one ImagingStudy."""
        about = [("imaging-study", f"ImagingStudy/{study}"), ("_sort", "-date"), ("_count", "20")]
        page = await self._search(user, "DiagnosticReport", about)
        return list(page.rows)

    async def study(self, user: User, uid: str) -> dict[str, Any] | None:
        """The ImagingStudy of a Study Instance UID; None: there is none, or not for this user."""
        page = await self._search(
            user, "ImagingStudy", [("identifier", f"{_UID_SYSTEM}|urn:oid:{uid}")]
        )
        return page.rows[0] if len(page.rows) == 1 else None

    async def read(self, user: User, kind: str, logical_id: str) -> dict[str, Any] | None:
        """One resource; None: there is none, or not for this user."""
        if not is_id(logical_id):
            return None
        answer = await self._get(user, f"/fhir/{kind}/{logical_id}", [])
        if answer.status_code in _NOT_FOR_THEM:
            return None
        found = _body(answer)
        if (found.get("resourceType"), found.get("id")) != (kind, logical_id):
            raise ChartAway
        return found

    async def _search(self, user: User, kind: str, parameters: list[tuple[str, str]]) -> Page:
        if not any(name == "_count" for name, _ in parameters):
            parameters = [*parameters, ("_count", str(PAGE_ROWS))]
        return await self._page(user, kind, f"/fhir/{kind}", parameters)

    async def _page(
        self, user: User, kind: str, path: str, parameters: list[tuple[str, str]]
    ) -> Page:
        """The resources of this kind in a search's answer; what else is in it does not count."""
        answer = await self._get(user, path, parameters)
        if answer.status_code in _NOT_FOR_THEM:
            return Page()
        bundle = _body(answer)
        if bundle.get("resourceType") != "Bundle":
            raise ChartAway
        links = bundle.get("link", [])
        following = [one["url"] for one in links if one.get("relation") == "next"]
        found = [entry.get("resource", {}) for entry in bundle.get("entry", [])]
        rows = tuple(one for one in found if one.get("resourceType") == kind)
        return Page(rows, _local(following[0]) if following else None)

    async def _get(
        self, user: User, path: str, parameters: list[tuple[str, str]]
    ) -> httpx.Response:
        context = {"fhirUser": user.fhir_user} if user.fhir_user else None
        token = self._authority.mint(
            subject=user.username,
            scope=SCOPES[user.role],
            lifetime_s=_TOKEN_S,
            client=_CLIENT,
            context=context,
        )
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/fhir+json"}
        try:
            return await self._http.get(
                path, params=httpx.QueryParams(tuple(parameters)) or None, headers=headers
            )
        except httpx.HTTPError as error:
            raise ChartAway from error


def _body(answer: httpx.Response) -> dict[str, Any]:
    if answer.status_code != httpx.codes.OK:
        raise ChartAway
    try:
        found: Any = answer.json()
    except ValueError as error:
        raise ChartAway from error
    if not isinstance(found, dict):
        raise ChartAway
    return found


def _local(url: str) -> str:
    """Path and query of a page link; the host in it is how others reach us."""
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def patient_of(resource: Mapping[str, Any]) -> str | None:
    """Logical id of the Patient that a resource is about."""
    reference = str(resource.get("subject", {}).get("reference", ""))
    return reference.removeprefix("Patient/") if reference.startswith("Patient/") else None
