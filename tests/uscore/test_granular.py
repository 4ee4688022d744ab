"""U8: the searches of the bar under granular scopes give what the scope covers, and reads too."""

from __future__ import annotations

from itertools import islice

import httpx
import pytest

from tests.fixtures.running import search as everything
from tests.uscore.bar import IN_FORCE, groups
from tests.uscore.data.making import LOINC, OBSERVATION_CATEGORY, PREFIX, SCT, US_CORE_CATEGORY
from tests.uscore.matcher import tokens
from tests.uscore.searching import Searcher

CONDITION = "http://terminology.hl7.org/CodeSystem/condition-category"
NOTES = "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category"
AMELIA = f"{PREFIX}amelia"
GRANULAR = [
    ("Condition", CONDITION, "encounter-diagnosis"),
    ("Condition", CONDITION, "problem-list-item"),
    ("Condition", "http://hl7.org/fhir/us/core/CodeSystem/condition-category", "health-concern"),
    ("Observation", OBSERVATION_CATEGORY, "laboratory"),
    ("Observation", OBSERVATION_CATEGORY, "social-history"),
    ("Observation", OBSERVATION_CATEGORY, "vital-signs"),
    ("Observation", OBSERVATION_CATEGORY, "survey"),
    ("Observation", US_CORE_CATEGORY, "sdoh"),
    ("Observation", OBSERVATION_CATEGORY, "imaging"),
    ("DiagnosticReport", LOINC, "LP29684-5"),
    ("DocumentReference", NOTES, "clinical-note"),
    ("ServiceRequest", SCT, "363679005"),
]
pytestmark = [pytest.mark.slow, pytest.mark.stack]

CASES = [(context, *granular) for context in ("patient", "user") for granular in GRANULAR]
SEEDS = 2


def covered(resource, context, system, code):
    """Whether the scope shows this resource."""
    ours = resource.get("subject", {}).get("reference") == f"Patient/{AMELIA}"
    pairs = {pair for one in resource.get("category", []) for pair in tokens(one)}
    return (system, code) in pairs and (ours or context == "user")


@pytest.fixture(scope="module")
def unlimited(searcher):
    """What a search finds for a token that may see everything; each is made once."""
    known = {}

    def of(kind, asked):
        key = (kind, *sorted(asked.items()))
        if key not in known:
            known[key] = searcher.get(kind, asked)
        return known[key]

    return of


@pytest.fixture(scope="module")
def narrow(stack, stored):
    """Makes a searcher whose token has one granular scope."""
    opened: dict[str, httpx.Client] = {}

    def of(context, kind, system, code):
        scope = f"{context}/{kind}.rs?category={system}|{code}"
        if scope not in opened:
            options = {"patient": AMELIA} if context == "patient" else {}
            token = stack.token(scope, **options)
            opened[scope] = httpx.Client(
                base_url=stack.base,
                headers={"Authorization": f"Bearer {token}"},
                timeout=60,
                trust_env=False,
            )
        return opened[scope]

    yield of
    for one in opened.values():
        one.close()


@pytest.mark.parametrize(("context", "kind", "system", "code"), CASES)
def test_the_searches_of_the_bar_give_what_the_scope_covers(
    searcher, stored, narrow, unlimited, context, kind, system, code
):
    limited = Searcher(narrow(context, kind, system, code), stored)
    ours = [one for one in groups(IN_FORCE) if one.resource == kind]
    criteria = [
        seed
        for one in ours
        for search in one.searches("SHALL")
        for seed in islice(searcher.seeds(one, search), SEEDS)
    ] or [{"patient": AMELIA}]

    for asked in criteria:
        whole, part = unlimited(kind, asked), limited.get(kind, asked)
        wanted = {one["id"] for one in whole.resources if covered(one, context, system, code)}
        if part.status == 403 and context == "patient":  # of another patient: said, not hidden
            assert asked.get("patient", AMELIA) != AMELIA, asked
            continue
        assert (part.status, part.ids) == (200, wanted), asked


@pytest.mark.parametrize(("context", "kind", "system", "code"), CASES)
def test_a_read_shows_what_the_scope_covers_and_nothing_else(
    client, loaded, narrow, context, kind, system, code
):
    limited = narrow(context, kind, system, code)
    ours = [one for one in everything(client, kind, _count="200") if one["id"].startswith(PREFIX)]
    chosen = [one for one in ours if "series-" not in one["id"]]

    seen = {one["id"]: limited.get(f"/fhir/{kind}/{one['id']}").status_code for one in chosen}

    for one in chosen:
        allowed = (200,) if covered(one, context, system, code) else (403, 404)
        assert seen[one["id"]] in allowed, one["id"]


def test_every_case_but_the_empty_one_shows_something(stored, client):
    conditions = everything(client, "Condition", _count="200")
    listed = stored | {"Condition": [one for one in conditions if one["id"].startswith(PREFIX)]}

    empty = [
        (kind, code)
        for kind, system, code in GRANULAR
        if not any(covered(one, "patient", system, code) for one in listed[kind])
    ]

    assert empty == [("Condition", "health-concern")]
