"""Orders for the tests: the documented transaction with its own numbers, and parts to vary it."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from access.internal_rights import ORDERS
from archive.procedure import PerformedSteps
from archive.worklist import Worklist
from fhir_gateway.identity.follower import MergeFollower
from fhir_gateway.orders.follower import OrderFollower
from fhir_gateway.orders.performed import PerformedFollower
from fhir_gateway.patient import IssuerRules
from records import Records, StoreFailed
from tests.fixtures.stores import everything_allowed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "orders.md"


def documented(tag: str = "") -> dict[str, Any]:
    """The Bundle of the page; with a tag, numbers and places that no other test uses."""
    found = re.search(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    text = found[1]
    if tag:
        for number in ("EHR-0815", "V-4711", "ACC-0815", "PLACER-0815", "APP-0815"):
            text = text.replace(number, f"{number[:3]}{tag}")
        text = text.replace("1234567893", tag)  # which other tests' practitioners have too
        text = text.replace("8f1d2b52-0000-4000-8000", str(uuid.uuid4())[:23])
    return json.loads(text)


def entry(bundle: dict[str, Any], kind: str) -> dict[str, Any]:
    """The resource of a type in the Bundle, to be changed before it is sent."""
    return next(e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == kind)


async def placed(records, bundle) -> dict[str, dict[str, Any]]:
    """Send the transaction; gives what it made by type."""
    answers = await records.transaction(bundle["entry"])
    made = {}
    for answer in answers:
        kind, name = answer["response"]["location"].split("/_history")[0].split("/")[-2:]
        made[kind] = await records.read(kind, name)
    return made


def value(item, tag):
    return item[tag]["Value"][0]


def step_of(item):
    return value(item, "00400100")


def reported(item, status, **more):
    """What a modality reports of a worklist item, as DICOM JSON."""
    step, reference = Dataset(), Dataset()
    reference.StudyInstanceUID = value(item, "0020000D")
    reference.AccessionNumber = value(item, "00080050")
    reference.ScheduledProcedureStepID = value(step_of(item), "00400009")
    step.ScheduledStepAttributesSequence = [reference]
    step.PatientID = value(item, "00100020")
    step.PerformedProcedureStepStatus = status
    step.PerformedProcedureStepStartDate, step.PerformedProcedureStepStartTime = "20261124", "1435"
    step.PerformedProcedureStepDescription = "MR brain"
    step.PerformedProcedureStepID, step.PerformedStationAETitle = "P1", "MR1"
    step.Modality = "MR"
    for name, one in more.items():
        setattr(step, name, one)
    return step.to_json_dict()


ENDED = {"PerformedProcedureStepEndDate": "20261124", "PerformedProcedureStepEndTime": "1450"}


class Orders(OrderFollower):
    """Looks until nothing is left: what other tests have put into the store comes first."""

    async def round(self) -> None:
        await super().round()
        while any(one.more for one in self._followers.values()):
            await super().round()


class Merges(MergeFollower):
    """Likewise."""

    async def round(self) -> None:
        await super().round()
        while self._patients.more:
            await super().round()


class Troubled(Records):
    """The store as it is in a bad moment: one type cannot be had, everything else can."""

    broken = ""

    async def search(self, resource_type, params=()):
        if resource_type == self.broken:
            raise StoreFailed("HTTP 500", status=500)
        return await super().search(resource_type, params)

    async def first(self, resource_type, params=()):
        if resource_type == self.broken:
            raise StoreFailed("HTTP 500", status=500)
        return await super().first(resource_type, params)


@pytest.fixture
async def troubled(config):
    async with Troubled(config.records_url, everything_allowed(), attempts=3) as opened:
        yield opened


@pytest.fixture
def worklist(config, archive):
    return Worklist(config.dsn)


@pytest.fixture
def steps(config, archive):
    return PerformedSteps(config.dsn)


@pytest.fixture
async def orders(worklist, pool, config):
    """Follows orders when a test says so: `round` is one look. It may do what the product's may."""
    async with Records(config.records_url, config.grants.credentials(ORDERS)) as allowed:
        yield Orders(worklist, allowed, pool, config.timezone)


@pytest.fixture
async def performed(steps, worklist, pool, config):
    """Likewise for what modalities report."""
    rules = IssuerRules(config.default_issuer, config.issuer_of_ae)
    async with Records(config.records_url, config.grants.credentials(ORDERS)) as allowed:
        yield PerformedFollower(steps, worklist, allowed, pool, rules, config.timezone)
