"""A real archive behind a real DICOMweb server, and ImagingStudies as the gateway writes them."""

import socket
import threading
import time
from collections import defaultdict
from contextlib import contextmanager

import psycopg
import uvicorn
from pydicom import dcmread

from access import AuditSpool, TokenAuthority
from access.http import OwnTokens, caller_of
from archive import Archive, ArchiveConfig, Source
from dicomweb.app import create_app
from hilum import queue_schema

ISSUER = "https://hilum.example"
SCOPE = "system/ImagingStudy.crs"


class Pixels:
    """The archive, its DICOMweb URL and a token for it."""

    def __init__(self, archive, url, authority):
        self.archive = archive
        self.url = url
        self._authority = authority

    def token(self):
        return self._authority.mint(subject="worker", scope=SCOPE, lifetime_s=600)

    def store(self, paths):
        for path in paths:
            with self.archive.receive() as incoming:
                incoming.write(path.read_bytes())
                self.archive.store(incoming, Source(kind="stow"))

    def stored(self, study, modality):
        """SOP Instance UIDs of one modality."""
        return [
            record.key.instance
            for record in self.archive.study_instances(study)
            if dcmread(record.path, stop_before_pixels=True).Modality == modality
        ]


@contextmanager
def serving(postgres, folder):
    """An archive on a database of its own, served until the block ends."""
    database = f"inference_{time.time_ns()}"
    postgres.create_database(database)
    archive = Archive.open(ArchiveConfig(root=folder / "archive", dsn=postgres.dsn(database)))
    authority = TokenAuthority.load_or_create(folder / "keys", issuer=ISSUER, audience=ISSUER)
    app = create_app(
        archive,
        lambda request: caller_of(request, OwnTokens(authority)),
        AuditSpool(folder / "audit", "test"),
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield Pixels(archive, f"http://127.0.0.1:{listener.getsockname()[1]}", authority)
        server.should_exit = True
        thread.join(10)
    archive.close()


def queue_database(postgres):
    """A database with the queue's tables; returns its connection string."""
    database = f"queue_{time.time_ns()}"
    postgres.create_database(database)
    dsn = postgres.dsn(database)
    queue_schema.ensure(dsn, "queue")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'alter database "{database}" set search_path to queue')
    return dsn


def imaging_study(archive, study_uid, subject):
    """The ImagingStudy of what the archive holds."""
    series = defaultdict(list)
    for record in archive.study_instances(study_uid):
        header = dcmread(record.path, stop_before_pixels=True)
        series[(record.key.series, header.Modality)].append(record)
    return {
        "resourceType": "ImagingStudy",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{study_uid}"}],
        "status": "available",
        "subject": {"reference": subject},
        "started": "2026-01-15T09:30:00+00:00",
        "series": [
            {
                "uid": uid,
                "modality": {
                    "system": "http://dicom.nema.org/resources/ontology/DCM",
                    "code": modality,
                },
                "numberOfInstances": len(records),
                "instance": [
                    {
                        "uid": record.key.instance,
                        "sopClass": {
                            "system": "urn:ietf:rfc:3986",
                            "code": f"urn:oid:{record.sop_class}",
                        },
                    }
                    for record in records
                ],
            }
            for (uid, modality), records in series.items()
        ],
    }
