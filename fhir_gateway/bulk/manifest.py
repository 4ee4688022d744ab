"""The manifest of an export, in the form of each version of the IG.

2.0 has `request` and `error`, and 3.0 added to it what its parameters ask for. The STU4 ballot
has no `request`, calls `error` `outcome`, and lists extensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_gateway.bulk.config import BulkConfig
from fhir_gateway.bulk.jobs import ExportFile, Job
from fhir_gateway.bulk.parameters import written
from fhir_gateway.bulk.request import MEDIA_TYPES

LISTED = ("output", "deleted", "error")
MANIFEST_TYPE = "http://hl7.org/fhir/uv/bulkdata/StructureDefinition/BulkDataManifest"


def listed(job: Job) -> list[ExportFile]:
    """The files that a client may know of."""
    return [file for file in job.files if file.role in LISTED]


def page_of(job: Job, number: int, size: int) -> tuple[list[ExportFile], bool] | None:
    """Files of one of several manifests, and whether another follows; None: not ready yet.

    A page is shown once it can no longer change.
    """
    files = [file for file in listed(job) if job.state == "complete" or file.role == "output"]
    page = files[(number - 1) * size : number * size]
    if job.state == "complete":
        return page, len(files) > number * size
    return (page, True) if len(page) == size else None


def manifest(
    job: Job, config: BulkConfig, files: Sequence[ExportFile], next_url: str | None
) -> dict[str, Any]:
    """The manifest that lists some files of a job."""
    request = job.request
    made: dict[str, Any] = {
        "transactionTime": written(job.transaction_time) if job.transaction_time else None,
        "requiresAccessToken": True,
    }
    if config.manifest == "4.0":
        made = {"manifestType": MANIFEST_TYPE, **made, "outputFormat": MEDIA_TYPES[request.format]}
    else:
        made["request"] = request.url
    if request.organized:
        made["outputOrganizedBy"] = "Patient"
    made["output"] = [_item(job, file, config) for file in files if file.role == "output"]
    if request.since is not None:
        made["deleted"] = [_item(job, file, config) for file in files if file.role == "deleted"]
    errors = [_item(job, file, config) for file in files if file.role == "error"]
    made["outcome" if config.manifest == "4.0" else "error"] = errors
    if next_url is not None:
        made["link"] = [{"relation": "next", "url": next_url}]
    return made


def _item(job: Job, file: ExportFile, config: BulkConfig) -> dict[str, Any]:
    item: dict[str, Any] = {}
    plain_output = file.role == "output" and not job.request.organized
    if plain_output or (config.manifest == "2.0" and file.role != "output"):
        item["type"] = file.resource_type
    item["url"] = file_url(job, file, config)
    item["count"] = file.count
    if config.manifest == "4.0":
        item["fileSize"] = file.bytes
    return item


def file_url(job: Job, file: ExportFile, config: BulkConfig) -> str:
    """Where a file is fetched."""
    ending = file.name.rpartition(".")[2]
    return f"{config.fhir_base}/export/{job.id}/{file.number}.{ending}"
