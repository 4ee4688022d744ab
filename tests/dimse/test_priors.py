"""Priors: what the patient had before is fetched from the PACS, and nobody else's."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from access import AuditSpool
from archive import Archive, ArchiveConfig, Query, Source
from dimse import DimseConfig, DimseServer, Peer
from dimse.association.admission import Admission, AdmissionConfig
from dimse.association.ledger import Ledger
from dimse.query import scp as query
from dimse.retrieve.scp import Getting, Moving, RetrieveConfig, service
from dimse.routing.job_runner import Patience
from dimse.routing.jobs import Jobs
from dimse.routing.priors_match import Patient, PriorsRule, agrees, candidates, date_range
from dimse.routing.rules import Rules, RulesConfig
from dimse.scu.negotiation import Calling
from tests.archive.phantom import bytes_of, slice_of
from tests.dimse.test_forward import until

QUICK = Patience(attempts=2, first_s=0.05, longest_s=0.2, days=1)
CALLING = Calling("HILUM", connect_s=2, answer_s=10)


@pytest.fixture(scope="module")
def pacs_archive(postgres, tmp_path_factory):
    postgres.create_database("dimse_pacs")
    config = ArchiveConfig(tmp_path_factory.mktemp("pacs"), postgres.dsn("dimse_pacs"), 0)
    with Archive.open(config) as archive:
        yield archive


@pytest.fixture
def both(archive, pacs_archive, tmp_path):
    """A PACS with an archive of its own, and us; (peer, jobs, start)."""
    import psycopg

    audit = AuditSpool(tmp_path / "audit", "dimse")
    jobs = Jobs(archive._config.dsn)
    with psycopg.connect(archive._config.dsn) as connection:
        connection.execute("truncate dimse.job, dimse.rule_cursor")
    open_parts = []

    def serve(title, behind, *services):
        admission = Admission(AdmissionConfig(ae_title=title))
        server = DimseServer(
            DimseConfig(port=0, ae_title=title), behind, audit, admission, services
        )
        server.start()
        open_parts.append(lambda: server.stop(2))
        return Peer(title.lower(), title, "127.0.0.1", server.address[1])

    us = serve("HILUM", archive)
    ledger = Ledger(audit)
    config = RetrieveConfig(Moving(replace(CALLING, ae_title="PACS")), Getting(10))
    pacs = serve(
        "PACS",
        pacs_archive,
        query.service(pacs_archive, ledger, query.QueryConfig()),
        service(pacs_archive, lambda: [us], ledger, config),
    )

    def start(*rules):
        config = RulesConfig(priors=rules, patience=QUICK, look_s=0.05)
        working = Rules(archive, jobs, lambda: [pacs], Moving(CALLING), ledger, config)
        working.start()
        open_parts.append(working.close)

    yield jobs, start
    for close in reversed(open_parts):
        close()
    audit.close()


def put(archive, calling_ae="CT1", **attributes):
    """One instance in an archive; its Study Instance UID."""
    dataset = slice_of(**attributes)
    with archive.receive() as incoming:
        incoming.write(bytes_of(dataset))
        archive.store(incoming, Source("dimse", calling_ae=calling_ae))
    return str(dataset.StudyInstanceUID)


def someone(**more):
    """Attributes of a patient nobody else has."""
    return {
        "PatientID": f"P{str(generate_uid())[-12:]}",
        "PatientName": "Müller^Jörg",
        "PatientBirthDate": "19600102",
        **more,
    }


def here(archive, study):
    return bool(archive.studies(Query.of({"StudyInstanceUID": study}, limit=1)).items)


@pytest.mark.parametrize("by", ["get", "move"])
def test_a_new_study_brings_its_priors(archive, pacs_archive, both, by):
    jobs, start = both
    patient = someone()
    prior = put(pacs_archive, **patient, StudyDate="20240301")
    put(pacs_archive, **patient, StudyDate="20240301", StudyInstanceUID=prior)
    known = put(pacs_archive, **patient, StudyDate="20230301")
    put(archive, **patient, StudyDate="20230301", StudyInstanceUID=known)
    too_old = put(pacs_archive, **patient, StudyDate="20100301")
    later = put(pacs_archive, **patient, StudyDate="20260301")
    other_birth = put(
        pacs_archive, **{**patient, "PatientBirthDate": "19900102"}, StudyDate="20240401"
    )
    other_name = put(pacs_archive, **{**patient, "PatientName": "Doe^Jane"}, StudyDate="20240501")
    start(PriorsRule("mr", "pacs", modalities=("MR",), max_age_days=3650, by=by))

    new = put(archive, **patient, StudyDate="20260102")

    until(lambda: here(archive, prior))
    until(lambda: {job.state for job in jobs.list(everything=True)} == {"done"})
    assert len(archive.study_instances(prior)) == 2
    assert not any(here(archive, one) for one in (too_old, later, other_birth, other_name))
    look = next(job for job in jobs.list(everything=True) if job.kind == "priors")
    assert look.study == new
    assert "2 passed over" in look.message
    # What was fetched is no new study: nobody looks for its priors.
    assert [job.study for job in jobs.list(everything=True) if job.kind == "priors"] == [new]


def test_the_newest_are_taken_and_results_are_no_reason(archive, pacs_archive, both):
    jobs, start = both
    patient = someone()
    dates = ["20200101", "20210101", "20220101"]
    studies = [put(pacs_archive, **patient, StudyDate=date) for date in dates]
    start(PriorsRule("any", "pacs", most=2))

    put(archive, **someone(), Modality="SEG")
    put(archive, **patient, StudyDate="20260102")

    until(lambda: here(archive, studies[1]) and here(archive, studies[2]))
    until(lambda: {job.state for job in jobs.list(everything=True)} == {"done"})
    assert not here(archive, studies[0])
    assert [job.kind for job in jobs.list(everything=True)].count("priors") == 1


def test_body_parts_are_looked_up_in_the_series(archive, pacs_archive, both):
    jobs, start = both
    patient = someone()
    head = put(pacs_archive, **patient, StudyDate="20210101", BodyPartExamined="HEAD")
    foot = put(pacs_archive, **patient, StudyDate="20220101", BodyPartExamined="FOOT")
    start(PriorsRule("head", "pacs", body_parts=("head",)))

    put(archive, **patient, StudyDate="20260102")

    until(lambda: here(archive, head))
    until(lambda: {job.state for job in jobs.list(everything=True)} == {"done"})
    assert not here(archive, foot)


def answer(**attributes):
    dataset = Dataset()
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


@pytest.mark.parametrize(
    ("theirs", "same"),
    [
        (Patient("1", "", "MULLER^JORG", "19600102"), True),
        (Patient("1", "", "Müller^Jörg^Karl", ""), True),
        (Patient("1"), True),
        (Patient("2", "", "Müller^Jörg", "19600102"), False),
        (Patient("1", "OTHER", "Müller^Jörg", "19600102"), False),
        (Patient("1", "", "Müller^Jörg", "19600103"), False),
        (Patient("1", "", "Meier^Jörg", "19600102"), False),
        (Patient("1", "", "Müller^Anna", "19600102"), False),
    ],
)
def test_the_same_id_alone_makes_nobody_the_same(theirs, same):
    assert agrees(Patient("1", "SITE", "Müller^Jörg", "19600102"), theirs) is same


def test_dates_end_with_the_new_study():
    assert date_range("20260102", 365) == "20250102-20260102"
    assert date_range("20260102", 10**6).startswith("19000101-")
    assert date_range("no date", 1)[8] == "-"


def test_candidates_meet_the_rule():
    rule = PriorsRule("r", "pacs", modalities=("MR", "CT"), description="brain")
    answers = [
        answer(StudyInstanceUID="1", ModalitiesInStudy=["MR", "SR"], StudyDescription="Brain"),
        answer(StudyInstanceUID="2", ModalitiesInStudy="US", StudyDescription="Brain"),
        answer(StudyInstanceUID="3", ModalitiesInStudy="CT", StudyDescription="Foot"),
        answer(StudyInstanceUID="4", StudyDescription="brain", StudyDate="20200101"),
        answer(StudyInstanceUID="9", ModalitiesInStudy="MR", StudyDescription="brain"),
    ]

    assert [one.StudyInstanceUID for one in candidates(rule, "9", answers)] == ["4", "1"]
