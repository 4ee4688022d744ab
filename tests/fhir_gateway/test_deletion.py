"""What is deleted from the archive is told in FHIR: lower counts, or a cancelled study."""

from __future__ import annotations

import asyncio
import time

from pydicom.uid import generate_uid

from archive import Source
from tests.fhir_gateway.conftest import execute
from tests.fhir_gateway.dicom import header, store

ADMIN = Source("stow", subject="admin")


async def in_state(publishing, study, status, instances):
    """The ImagingStudy once it has this status and count."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        got = await publishing.study(study, instances=instances)
        if got["status"] == status:
            return got
        await asyncio.sleep(0.05)
    raise AssertionError(f"{study} did not become {status}")


async def test_a_deleted_series_lowers_the_counts(archive, publishing):
    study, first, second = generate_uid(), generate_uid(), generate_uid()
    store(archive, header(study, first))
    store(archive, header(study, second))
    store(archive, header(study, second))
    before = await publishing.study(study, instances=3)

    archive.delete(study, second, source=ADMIN, reason="wrong patient")

    after = await publishing.study(study, instances=1)
    assert (after["id"], after["status"]) == (before["id"], "available")
    assert [one["uid"] for one in after["series"]] == [first]
    assert after["numberOfSeries"] == 1


async def test_a_deleted_study_is_cancelled_and_comes_back_when_it_is_stored_again(
    archive, publishing, records
):
    study = generate_uid()
    data = header(study, generate_uid(), AccessionNumber="ACC7")
    store(archive, data)
    before = await publishing.study(study, instances=1)

    archive.delete(study, source=ADMIN, reason="retention")
    gone = await in_state(publishing, study, "cancelled", 0)
    store(archive, data)
    back = await in_state(publishing, study, "available", 1)

    assert gone["id"] == back["id"] == before["id"]
    assert (gone["numberOfSeries"], gone.get("series")) == (0, None)
    for name in ("subject", "endpoint", "identifier", "started"):
        assert gone[name] == before[name]
    assert back["series"] == before["series"]
    endpoint = await records.read("Endpoint", before["endpoint"][0]["reference"].split("/")[1])
    assert endpoint["status"] == "active"


async def test_a_study_deleted_before_it_was_published_troubles_nobody(archive, publishing, config):
    study, other = generate_uid(), generate_uid()
    store(archive, header(study, generate_uid()))
    archive.delete(study, source=ADMIN, reason="test image")
    store(archive, header(other, generate_uid()))

    await publishing.study(other, instances=1)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        left = execute(
            config.dsn, "select 1 from gateway.pending_study where study_uid = %s", [study]
        )
        if not left:
            break
        await asyncio.sleep(0.05)

    assert not left
    found = await publishing.records.search(
        "ImagingStudy", {"identifier": f"urn:dicom:uid|urn:oid:{study}"}
    )
    assert found == []
