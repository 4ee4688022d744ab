"""How long the archive's queries take at 1,000, 10,000 and 100,000 studies.

`python -m bench.archive_queries` starts an embedded PostgreSQL of its own, fills the index with
synthetic rows (no files) and prints median and p95 of each question, connection to page.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from archive import Archive, ArchiveConfig, Query
from archive.search import Search
from hilum.processes.postgres import Postgres
from tests.fixtures.stores import free_port

SIZES = (1_000, 10_000, 100_000)
ROUNDS = 40
BASE_URL = "https://pacs.example/dicomweb"

# One study in ten of a year; names of 500 family and 80 given names, a tenth with ideographs.
FILL = """
with n as (
    select i, '1.2.826.0.1.' || i as uid,
        to_char(date '2016-01-01' + (i * 7919 %% 3650), 'YYYYMMDD') as day,
        lpad((i * 31 %% 24)::text, 2, '0') || lpad((i * 17 %% 60)::text, 2, '0') || '00' as clock,
        'family' || (i * 6151 %% 500) || '^given' || (i * 263 %% 80) as name,
        case when i %% 10 = 0 then '山田' || (i %% 97) || '^太郎' else '' end as ideographic,
        'P' || lpad((i / 2)::text, 8, '0') as patient,
        'A' || lpad(i::text, 8, '0') as accession,
        (array['CT', 'MR', 'US', 'CR', 'PT'])[1 + i %% 5] as modality
    from generate_series(%(first)s::int, %(last)s::int) i
), study as (
    insert into archive.study (study_uid, attributes, names, patient_id, accession, study_date,
        study_time, name_alphabetic, name_ideographic, name_phonetic, modalities, sop_classes,
        series_count, instance_count, sources, changed_at, name_all, study_at)
    select uid, jsonb_build_object(
            '00080020', jsonb_build_object('vr', 'DA', 'Value', jsonb_build_array(day)),
            '00080030', jsonb_build_object('vr', 'TM', 'Value', jsonb_build_array(clock)),
            '00080050', jsonb_build_object('vr', 'SH', 'Value', jsonb_build_array(accession)),
            '00080056', jsonb_build_object('vr', 'CS', 'Value', jsonb_build_array('ONLINE')),
            '00080061', jsonb_build_object('vr', 'CS', 'Value', jsonb_build_array(modality)),
            '00080090', jsonb_build_object('vr', 'PN', 'Value',
                jsonb_build_array(jsonb_build_object('Alphabetic', 'Refer^Rita'))),
            '00081030', jsonb_build_object('vr', 'LO', 'Value',
                jsonb_build_array('Protocol ' || i %% 40)),
            '00100010', jsonb_build_object('vr', 'PN', 'Value',
                jsonb_build_array(jsonb_build_object('Alphabetic', name))),
            '00100020', jsonb_build_object('vr', 'LO', 'Value', jsonb_build_array(patient)),
            '00100030', jsonb_build_object('vr', 'DA', 'Value', jsonb_build_array('19700101')),
            '00100040', jsonb_build_object('vr', 'CS', 'Value', jsonb_build_array('F')),
            '0020000D', jsonb_build_object('vr', 'UI', 'Value', jsonb_build_array(uid)),
            '00200010', jsonb_build_object('vr', 'SH', 'Value', jsonb_build_array('S' || i)),
            '00201206', jsonb_build_object('vr', 'IS', 'Value', jsonb_build_array(1)),
            '00201208', jsonb_build_object('vr', 'IS', 'Value', jsonb_build_array(2))),
        '{}', patient, accession, day, clock, name, ideographic, '', array[modality],
        array['1.2.840.10008.5.1.4.1.1.2'], 1, 2, array['MODALITY'], now(),
        name || '=' || ideographic || '=', day || clock || '000000'
    from n
), series as (
    insert into archive.series (study_uid, series_uid, attributes, names, modality, number,
        instance_count)
    select uid, uid || '.1', jsonb_build_object(
            '00080060', jsonb_build_object('vr', 'CS', 'Value', jsonb_build_array(modality)),
            '0020000E', jsonb_build_object('vr', 'UI', 'Value', jsonb_build_array(uid || '.1'))),
        '{}', modality, 1, 2 from n
)
insert into archive.instance (sop_uid, study_uid, series_uid, sop_class, transfer_syntax, size,
    sha256, frames, path, number, attributes, names, change)
select uid || '.1.' || k, uid, uid || '.1', '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.1.2.1',
    1, '', 1, uid || k, k, jsonb_build_object('00080018',
        jsonb_build_object('vr', 'UI', 'Value', jsonb_build_array(uid || '.1.' || k))), '{}', 0
from n, generate_series(1, 2) k
"""


def fill(dsn: str, first: int, last: int) -> None:
    """Add studies `first` to `last` and let PostgreSQL look at them."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(FILL, {"first": first, "last": last})
        connection.execute("vacuum analyze archive.study, archive.series, archive.instance")


def questions(archive: Archive, size: int) -> dict[str, Callable[[int], object]]:
    """Each kind of question; its argument is the number of the round."""

    def studies(offset: int = 0, **match: str) -> object:
        return archive.page("study", Query.of(match, offset=offset), BASE_URL)

    def fuzzy(round_: int) -> object:
        query = Query.of({"PatientName": f"given{round_} family{round_}"}, fuzzy=True)
        return archive.page("study", query, BASE_URL)

    def combined(round_: int) -> object:
        match = {"StudyDate": f"2018{1 + round_ % 12:02d}01-20181231", "StudyTime": "10-12"}
        return archive.page("study", Query.of(match, combined=True), BASE_URL)

    def inside(level: str, round_: int) -> object:
        uid = f"1.2.826.0.1.{1 + round_ * 17 % size}"
        return archive.page(level, Query.of({"StudyInstanceUID": uid}), BASE_URL)  # type: ignore[arg-type]

    return {
        "newest 100": lambda _: studies(),
        "page 5 of 100": lambda _: studies(offset=400),
        "the last page": lambda _: studies(offset=size - 100),
        "PatientID": lambda r: studies(PatientID=f"P{r * 7:08d}"),
        "AccessionNumber": lambda r: studies(AccessionNumber=f"A{r * 7:08d}"),
        "StudyInstanceUID": lambda r: studies(StudyInstanceUID=f"1.2.826.0.1.{1 + r * 7}"),
        "PatientName=FAMILY12*": lambda r: studies(PatientName=f"FAMILY{r}*"),
        "PatientName=*given1*": lambda r: studies(PatientName=f"*given{r}*"),
        "PatientName=none*": lambda r: studies(PatientName=f"nobody{r}*"),
        "PatientName=*none*": lambda r: studies(PatientName=f"*nobody{r}*"),
        "fuzzy two words": fuzzy,
        "StudyDate of a month": lambda r: studies(
            StudyDate=f"2019{1 + r % 12:02d}01-2019{1 + r % 12:02d}28"
        ),
        "date and time combined": combined,
        "modality and month": lambda r: studies(
            ModalitiesInStudy="MR", StudyDate=f"2020{1 + r % 12:02d}01-2020{1 + r % 12:02d}28"
        ),
        "ModalitiesInStudy=PT": lambda _: studies(ModalitiesInStudy="PT"),
        "ModalitiesInStudy=none": lambda _: studies(ModalitiesInStudy="XA"),
        "series of a study": lambda r: inside("series", r),
        "instances of a study": lambda r: inside("instance", r),
    }


def measure(ask: Callable[[int], object]) -> tuple[float, float]:
    """Median and p95 in milliseconds."""
    times = []
    for round_ in range(ROUNDS + 3):
        began = time.perf_counter()
        ask(round_)
        times.append((time.perf_counter() - began) * 1000)
    kept = sorted(times[3:])
    return statistics.median(kept), kept[int(len(kept) * 0.95) - 1]


def explain(dsn: str, match: dict[str, str]) -> None:
    """Print the plan of one question."""

    class Printing:
        def __init__(self, connection: psycopg.Connection) -> None:
            self._connection = connection

        def execute(self, statement: str, values: list[object]) -> psycopg.Cursor:
            found = self._connection.execute("explain (analyze, buffers) " + statement, values)
            print("\n".join(row[0] for row in found.fetchall()))
            return self._connection.execute(statement, values)

    with psycopg.connect(dsn, autocommit=True) as connection:
        Search("study", Query.of(match)).rows(Printing(connection), 101)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--explain", metavar="KEY=VALUE", nargs="*", default=[])
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="hilum-bench-"))
    server = Postgres(folder / "postgres", free_port())
    server.start()
    try:
        server.create_database("bench")
        dsn = server.dsn("bench")
        results: dict[str, list[tuple[float, float]]] = {}
        with Archive.open(ArchiveConfig(folder / "archive", dsn)) as archive:
            filled = 0
            for size in asked.sizes:
                began = time.perf_counter()
                fill(dsn, filled + 1, size)
                print(f"{size} studies, filled in {time.perf_counter() - began:.1f} s")
                filled = size
                for name, ask in questions(archive, size).items():
                    results.setdefault(name, []).append(measure(ask))
            for one in asked.explain:
                key, _, value = one.partition("=")
                explain(dsn, {key: value})
        heads = "".join(f" | {size:>9,} p50/p95" for size in asked.sizes)
        print(f"{'ms':26}{heads}")
        for name, row in results.items():
            print(f"{name:26}" + "".join(f" | {a:8.2f} /{b:7.2f}" for a, b in row))
    finally:
        server.stop()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
