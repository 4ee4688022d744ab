"""The whole example: what fills every item of the bar, as one transaction."""

from __future__ import annotations

from functools import cache

from tests.uscore.data.care import care
from tests.uscore.data.documents import attachment, documents, provenances
from tests.uscore.data.making import PREFIX, Json
from tests.uscore.data.people import people
from tests.uscore.data.results import results

# Valid in 8.0.0 and not before: us-core-sex became a Coding.
SINCE_8 = frozenset({f"Patient/{PREFIX}dana"})
# Valid before 8.0.0 only, for the same reason.
BEFORE_8 = frozenset({f"Patient/{PREFIX}amelia"})


@cache
def example() -> tuple[Json, ...]:
    """Every resource; ids are ours."""
    made = [*people(), *care(), *results(attachment()), *documents()]
    return (*made, *provenances(made))


def transaction() -> Json:
    """The example as a Bundle; sent twice it changes nothing."""
    entries = [
        {
            "resource": one,
            "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"},
        }
        for one in example()
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}
