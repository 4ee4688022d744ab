"""`organizeOutputBy=Patient`: from files by type to one block of lines for each patient.

The lines are first spread over buckets by their patient, so that one bucket at a time is held
in memory, whatever the size of the export.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

import orjson

from fhir_gateway.bulk.compartment import patients_of
from fhir_gateway.bulk.files import JobFolder, Resource
from fhir_gateway.bulk.jobs import ExportFile
from fhir_gateway.bulk.provenance import targets_of

BUCKET_BYTES = 16 * 1024 * 1024
MOST_BUCKETS = 512
BUCKETS = "buckets"


def bucket_count(files: Iterable[ExportFile]) -> int:
    """How many buckets keep each within what we hold in memory."""
    return max(1, min(MOST_BUCKETS, sum(file.bytes for file in files) // BUCKET_BYTES))


def spread(
    folder: JobFolder,
    files: Sequence[ExportFile],
    buckets: int,
    members: frozenset[str] | None,
) -> None:
    """Write each line into the bucket of each of its patients, after that patient's id.

    Args:
        members: the only patients who get a block; None: all.
    """
    place = bucket_path(folder)
    place.mkdir(exist_ok=True)
    opened = [(place / str(number)).open("wb") for number in range(buckets)]
    try:
        for patient, resource in _placed(folder, files):
            if members is None or patient in members:
                line = patient.encode() + b"\t" + orjson.dumps(resource) + b"\n"
                opened[_bucket(patient, buckets)].write(line)
    finally:
        for one in opened:
            one.close()


def _placed(folder: JobFolder, files: Sequence[ExportFile]) -> Iterator[tuple[str, Resource]]:
    """Each resource with each of its patients; Provenance goes with what it is about."""
    last = [file for file in files if file.resource_type == "Provenance"]
    # Whose a resource is must be known of those only that some Provenance names.
    owners = {target: frozenset[str]() for file in last for one in folder.lines(file)
              for target in targets_of(one)}  # fmt: skip
    for file in files:
        for resource in folder.lines(file) if file not in last else ():
            patients = patients_of(resource)
            name = (str(resource["resourceType"]), str(resource["id"]))
            if name in owners:
                owners[name] = patients
            yield from ((one, resource) for one in sorted(patients))
    for file in last:
        for resource in folder.lines(file):
            patients = patients_of(resource).union(*(owners[t] for t in targets_of(resource)))
            yield from ((one, resource) for one in sorted(patients))


def blocks(folder: JobFolder, bucket: int) -> Iterator[list[Resource]]:
    """The blocks of one bucket: header, the patient, then what refers to it."""
    lines: dict[str, list[bytes]] = {}
    with (bucket_path(folder) / str(bucket)).open("rb") as file:
        for line in file:
            owner, _, text = line.partition(b"\t")
            lines.setdefault(owner.decode(), []).append(text)
    for patient in sorted(lines):
        resources = [orjson.loads(text) for text in lines[patient]]
        resources.sort(key=lambda one: one["resourceType"] != "Patient")
        yield [_header(patient), *resources]


def bucket_path(folder: JobFolder) -> Path:
    """Where the buckets are."""
    return folder.path / BUCKETS


def _header(patient: str) -> Resource:
    reference = {"reference": f"Patient/{patient}"}
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": "header", "valueReference": reference}],
    }


def _bucket(patient: str, buckets: int) -> int:
    return int.from_bytes(blake2b(patient.encode(), digest_size=4).digest()) % buckets
