"""What the gateway has published of a study, and how the archive stands beside it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from archive import Standing
from fhir_gateway.schema import Pool


@dataclass(frozen=True, slots=True)
class Known:
    """A study as FHIR and the archive know it.

    Attributes:
        imaging_study: id of the ImagingStudy that we wrote for it; None before the first.
        version: changes whenever an earlier decision may no longer hold.
        arriving: it is in the archive and was not published yet.
        mixed: its instances name several patients, so that no patient may have it whole.
        unsettled: instances were deleted since it was published: the patient of what is there
            now may be another one than FHIR says.
    """

    imaging_study: str | None
    version: tuple[str, int]
    arriving: bool = False
    mixed: bool = False
    unsettled: bool = False


NONE_PUBLISHED = -1


async def published(pool: Pool, study: str) -> tuple[str | None, int, tuple[str, int]]:
    """Id of the study's ImagingStudy, the last change that it holds, and the version of both."""
    async with pool.connection() as connection:
        found = await connection.execute(
            # A sequence that nobody has asked yet has the same last_value as after the first time.
            "select case when g.is_called then g.last_value else 0 end generation,"
            " p.imaging_study_id id, p.last_change changed,"
            " coalesce(p.content_hash, '') content from gateway.access_generation g"
            " left join gateway.published_study p on p.study_uid = %s",
            [study],
        )
        row = await found.fetchone()
    if row is None:
        return None, NONE_PUBLISHED, ("", 0)
    version = (str(row["content"]), int(row["generation"]))
    if row["id"] is None:
        return None, NONE_PUBLISHED, version
    return str(row["id"]), int(row["changed"]), version


async def studies_published_as(pool: Pool, imaging_studies: Collection[str]) -> dict[str, int]:
    """Study UIDs of the ImagingStudies that we wrote, with the last change that each holds."""
    async with pool.connection() as connection:
        found = await connection.execute(
            "select study_uid, last_change from gateway.published_study"
            " where imaging_study_id = any(%s)",
            [sorted(imaging_studies)],
        )
        return {row["study_uid"]: int(row["last_change"]) async for row in found}


def is_settled(standing: Standing | None, changed: int) -> bool:
    """Whether no instance was deleted since the study was published."""
    return standing is None or standing.last_deletion <= changed
