"""Patients, as the studies tell of them: one row for each PatientID and its issuer.

Studies without a PatientID are one row, as PS3.4 has no other name for them.
"""

# The texts of SQL are made of this package's own pieces; every value travels as a parameter.
# ruff: noqa: S608

from __future__ import annotations

from typing import Any

import psycopg

from archive.attributes import STUDY_TAGS, json_name
from archive.match import conditions
from archive.query import Query
from archive.values import Condition, joined

PATIENT_STUDIES, PATIENT_SERIES, PATIENT_INSTANCES = "00201200", "00201202", "00201204"
PATIENT_NAMES = tuple(json_name(tag) for tag in STUDY_TAGS if tag >> 16 == 0x0010)


class PatientSearch:
    """One question at the patient level; raises QueryError when it is made.

    The attributes are those of the patient's newest study among the matches; the counts are of
    all studies of the patient that the asker may see.
    """

    def __init__(self, query: Query) -> None:
        allowed = Condition("true")
        if query.studies is not None:
            allowed = Condition("study.study_uid = any(%s)", (sorted(query.studies),))
        self._where = joined([*conditions("study", query), allowed], " and ")
        self._allowed = allowed

    def rows(
        self,
        connection: psycopg.Connection,
        limit: int | None,
        offset: int = 0,
        after: tuple[Any, ...] | None = None,
    ) -> list[tuple[Any, ...]]:
        """Document, PatientID and issuer of the matches in order, behind the row `after`."""
        where, parameters = self._where.sql, list(self._where.parameters)
        if after is not None:
            where += " and (study.patient_id, study.issuer) > (%s, %s)"
            parameters.extend(after)
        statement = _PATIENTS.format(matching=where, match=self._where.sql, all=self._allowed.sql)
        values = [*parameters, limit, offset, *self._where.parameters, *self._allowed.parameters]
        return connection.execute(statement, values).fetchall()


_COUNT = "'{}', jsonb_build_object('vr', 'IS', 'Value', jsonb_build_array({}))"
_COUNTS = ", ".join(
    _COUNT.format(tag, column)
    for tag, column in (
        (PATIENT_STUDIES, "counted.studies"),
        (PATIENT_SERIES, "counted.series"),
        (PATIENT_INSTANCES, "counted.instances"),
    )
)
_KEPT = ", ".join(f"'{name}'" for name in PATIENT_NAMES)
_PATIENTS = (
    """
select newest.document || jsonb_build_object("""
    + _COUNTS
    + """), patient.patient_id, patient.issuer
from (
    select study.patient_id, study.issuer from archive.study study where {matching}
    group by study.patient_id, study.issuer order by study.patient_id, study.issuer
    limit %s offset %s
) patient
cross join lateral (
    select (select coalesce(jsonb_object_agg(key, value), '{{}}') from jsonb_each(study.attributes)
        where key in ("""
    + _KEPT
    + """)) document
    from archive.study study
    where study.patient_id = patient.patient_id and study.issuer = patient.issuer and {match}
    order by study.study_date desc, study.study_time desc, study.study_uid desc limit 1
) newest
cross join lateral (
    select count(*) studies, sum(series_count) series, sum(instance_count) instances
    from archive.study study
    where study.patient_id = patient.patient_id and study.issuer = patient.issuer and {all}
) counted
order by patient.patient_id, patient.issuer
"""
)
