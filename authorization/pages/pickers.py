"""The pages on which a patient, a visit or a study is chosen."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from starlette.responses import Response

from authorization.chart import Chart, Page, Wanted, patient_of
from authorization.choices import Choice
from authorization.pages.describing import Row, encounter_row, patient_row, study_row
from authorization.pages.rendering import page
from authorization.pages.situation import Situation

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_WORDS = {"encounter": "a visit", "study": "an imaging study"}
_KIND = {"patient": "Patient", "encounter": "Encounter", "study": "ImagingStudy"}


@dataclass(frozen=True, slots=True)
class Found:
    """What a picker lists."""

    title: str
    rows: tuple[Row, ...] = ()
    following: str | None = None


@dataclass(frozen=True, slots=True)
class Pickers:
    """Shows what can be chosen and checks what was."""

    chart: Chart

    async def show(self, here: Situation, what: str, problem: str, status: int = 200) -> Response:
        """The first page of a picker."""
        if what == "patient":
            return await self._patients(here, Wanted(), Found("Search by any of these"), problem)
        return await self._of_patient(here, what, None, problem, status)

    async def search(self, here: Situation, fields: dict[str, list[str]]) -> Response:
        """What was searched for, or a further page of it."""
        what, link = here.step, fields.get("page", [""])[-1]
        if what not in _KIND:
            return await self.show(here, "patient", "")
        if what != "patient":
            return await self._of_patient(here, what, link or None, "", 200)
        wanted = Wanted(*(fields.get(n, [""])[-1] for n in ("name", "birthdate", "identifier")))
        problem = _unusable(wanted)
        if problem:
            return await self._patients(here, wanted, Found("Nothing was searched"), problem)
        if link:
            found = await self.chart.following(here.user, "Patient", link)
        else:
            found = await self.chart.patients(here.user, wanted)
        rows = tuple(patient_row(one) for one in found.rows)
        title = _count(found, "patient", "patients")
        return await self._patients(here, wanted, Found(title, rows, found.following), "")

    async def pick(self, here: Situation, what: str, value: str) -> Choice | None:
        """The choice with this row in it; None: the user may not see it, or it is another's."""
        if not value and what != "patient":
            return here.chose(what)
        found = await self.chart.read(here.user, _KIND[what], value)
        if found is None:
            return None
        context = here.choice.context
        if what == "patient":
            return here.chose(what, replace(context, patient=value))
        if patient_of(found) != context.patient:
            return None
        if what == "encounter":
            return here.chose(what, replace(context, encounter=value))
        return here.chose(what, here.with_study(value))

    async def shared(self, here: Situation, problem: str) -> dict[str, Any]:
        """What each step's page shows."""
        return {
            "here": here.here,
            "csrf": here.session.csrf,
            "client": here.client,
            "user": here.user,
            "problem": problem,
            "banner": await self._banner(here),
        }

    async def chosen(self, here: Situation) -> list[str]:
        """The visit and the study of the context, in words."""
        context, found = here.choice.context, []
        if context.encounter is not None:
            visit = await self.chart.read(here.user, "Encounter", context.encounter)
            found += [_sentence(encounter_row(visit))] if visit else []
        if here.choice.study is not None:
            study = await self.chart.read(
                here.user, "ImagingStudy", here.choice.study.partition("/")[2]
            )
            found += [_sentence(study_row(study))] if study else []
        return found

    async def _banner(self, here: Situation) -> Row | None:
        """Whose data this is about."""
        patient = here.choice.context.patient
        if patient is None:
            return None
        found = await self.chart.read(here.user, "Patient", patient)
        return patient_row(found) if found else None

    async def _patients(
        self, here: Situation, wanted: Wanted, found: Found, problem: str
    ) -> Response:
        return page(
            "patient.html",
            400 if problem else 200,
            here.request.redirect_uri,
            **await self.shared(here, problem),
            wanted=wanted,
            found=found,
        )

    async def _of_patient(
        self, here: Situation, what: str, link: str | None, problem: str, status: int
    ) -> Response:
        patient = here.choice.context.patient or ""
        if link:
            listed = await self.chart.following(here.user, _KIND[what], link)
        elif what == "study":
            listed = await self.chart.studies(here.user, patient)
        else:
            listed = await self.chart.encounters(here.user, patient)
        make = study_row if what == "study" else encounter_row
        names = ("study", "studies") if what == "study" else ("visit", "visits")
        found = Found(_count(listed, *names), tuple(map(make, listed.rows)), listed.following)
        return page(
            "pick.html",
            status,
            here.request.redirect_uri,
            **await self.shared(here, problem),
            do=what,
            what=_WORDS[what],
            found=found,
        )


def _unusable(wanted: Wanted) -> str:
    """Why nothing can be searched for; empty: it can."""
    if not wanted.parameters():
        return "Enter a name, a date of birth or a patient ID."
    if wanted.birthdate and not _DAY.fullmatch(wanted.birthdate):
        return "A date of birth is year, month and day, such as 1970-12-31."
    fields = (wanted.name, wanted.identifier)
    if any(len(one) > 100 or not one.isprintable() for one in fields):
        return "That is too long, or not text."
    return ""


def _count(found: Page, one: str, many: str) -> str:
    if not found.rows:
        return f"No {many}"
    more = " on this page, and there are more" if found.following else ""
    return f"{len(found.rows)} {one if len(found.rows) == 1 else many}{more}"


def _sentence(row: Row) -> str:
    return f"{row.title} ({', '.join(one for one in row.details if one)})"
