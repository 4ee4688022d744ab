"""Request forms of DICOMweb by which an app may try to reach a study that is not its patient's.

Each attempt is made twice: once for a study that is there, once with UIDs and values that nobody
uses. Whoever may not see the study must not be able to tell the two answers apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from pydicom.uid import generate_uid

from tests.dicomweb.server import file_of, multipart, slice_of
from tests.imaging_access.people import B, Person, retrievals


@dataclass(frozen=True)
class Target:
    """What an attacker knows of a study, or guesses."""

    study: str
    series: str
    instance: str
    patient_id: str
    name: str
    accession: str

    @classmethod
    def of(cls, person: Person) -> Target:
        first = person.slices[0]
        return cls(
            person.study, person.series, person.instance, person.patient_id,
            str(first.PatientName).split("^")[0], str(first.AccessionNumber),
        )  # fmt: skip

    def absent(self) -> Target:
        """The same with values that nobody has, each as long as the real one."""
        uids = [_uid_like(uid) for uid in (self.study, self.series, self.instance)]
        number = f"IA-{generate_uid()[-12:]}"[: len(self.patient_id)].ljust(
            len(self.patient_id), "7"
        )
        return Target(*uids, number, "Q" * len(self.name), "Z" * len(self.accession))

    def values(self) -> dict[str, str]:
        """Every value that must not appear in an answer, by what it is."""
        return {
            "<study>": self.study, "<series>": self.series, "<instance>": self.instance,
            "<patient>": self.patient_id, "<name>": self.name,
        }  # fmt: skip


@dataclass(frozen=True)
class Attempt:
    """One request; `alone` where its twin would rightly succeed: it has to be refused."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = None
    alone: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.url} {self.headers}"


def attempts(own: Target, other: Target) -> Iterator[Attempt]:
    """Attempts on `other` of whoever has a right to `own`; always the same ones, in one order."""
    yield from _retrievals(own, other)
    yield from _odd_paths(own, other)
    yield from _conditional(other)
    yield from _searches(own, other)
    yield from _writes(own, other)
    yield from _elsewhere(other)


def _uid_like(uid: str) -> str:
    while len(found := generate_uid()) < len(uid):
        pass
    found = found[: len(uid)]
    return str(found if not found.endswith(".") else f"{found[:-1]}1")


def _retrievals(own: Target, other: Target) -> Iterator[Attempt]:
    whole = (other.study, other.series, other.instance)
    for url, headers in retrievals(*whole):
        yield Attempt("GET", url, headers)
        yield Attempt("HEAD", url, headers)
    # The own study's UID in front of what is somebody else's, and the other way round.
    for mixed in (
        (own.study, other.series, other.instance),
        (own.study, own.series, other.instance),
        (other.study, own.series, own.instance),
        (other.study, other.series, own.instance),
        (other.study, own.series, other.instance),
    ):
        # The first forms name the study alone; with the own one they are no attempt.
        seen = [
            form for form in retrievals(*mixed) if mixed[0] == other.study or _names(form, other)
        ]
        yield from (Attempt("GET", url, headers) for url, headers in seen)


def _names(form: tuple[str, dict[str, str]], other: Target) -> bool:
    return other.series in form[0] or other.instance in form[0]


def _odd_paths(own: Target, other: Target) -> Iterator[Attempt]:
    study = f"/dicomweb/studies/{other.study}"
    for url in (
        f"{study}/",
        f"/dicomweb//studies/{other.study}",
        f"/dicomweb/studies//{other.study}",
        f"/dicomweb/./studies/{other.study}/metadata",
        f"/dicomweb/studies/{own.study}/../{other.study}/metadata",
        f"/dicomweb/studies/{own.study}/%2e%2e/{other.study}/metadata",
        f"/dicomweb/studies/{own.study}%2F..%2F{other.study}/metadata",
        f"/dicomweb/studies/{quote(other.study, safe='').replace('.', '%2E')}/metadata",
        f"/dicomweb/studies/{own.study},{other.study}/metadata",
        f"/dicomweb/studies/{own.study}\\{other.study}/metadata",
        f"/dicomweb/studies/{own.study};{other.study}/metadata",
        f"/dicomweb/studies/{other.study}%00/metadata",
        f"/dicomweb/studies/{other.study}%20/metadata",
        f"/DICOMweb/studies/{other.study}/metadata",
        f"{study}/metadata?StudyInstanceUID={own.study}",
        f"{study}?accept=application/zip",
        f"{study}/metadata?accept=application/dicom%2Bxml",
        f"/wado?requestType=WADO&studyUID={own.study}&studyUID={other.study}&objectUID={other.instance}",
        f"/wado?requestType=WADO&studyUID={other.study}&studyUID={own.study}&objectUID={other.instance}",
        f"/wado?requestType=WADO&studyUID={own.study}&objectUID={other.instance}",
        f"/wado?requestType=WADO&studyUID={own.study}&seriesUID={other.series}&objectUID={other.instance}",
        f"/wado?requestType=WADO&studyUID={other.study}&seriesUID={other.series}&objectUID={other.instance}&region=0,0,1,1",
    ):
        yield Attempt("GET", url)
    for name in ("X-HTTP-Method-Override", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL"):
        value = "GET" if "Method" in name else f"{study}/metadata"
        yield Attempt("GET", f"{study}/metadata", {name: value})
    for name, value in (
        ("X-Hilum-Internal", "1"),
        ("X-Hilum-Grant", "x"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("Cookie", "hilum=1"),
        ("Origin", "https://example.org"),
    ):
        yield Attempt("GET", f"{study}/metadata", {name: value})


def _conditional(other: Target) -> Iterator[Attempt]:
    study = f"/dicomweb/studies/{other.study}"
    one = f"{study}/series/{other.series}/instances/{other.instance}"
    for headers in (
        {"If-None-Match": "*"},
        {"If-None-Match": '"0"'},
        {"If-Match": "*"},
        {"If-Modified-Since": "Thu, 01 Jan 2099 00:00:00 GMT"},
        {"Range": "bytes=0-0"},
        {"Range": "bytes=999999999-"},
        {"Range": "bytes=0-0", "If-Range": '"0"'},
        {"Accept": "application/pdf"},
        {"Accept": "nonsense"},
        {"Accept-Encoding": "gzip"},
    ):
        for url in (f"{study}/metadata", f"{study}/series/{other.series}/metadata", one):
            yield Attempt("GET", url, headers)
    for number in ("0", "2", "99999", "1,2", "x"):
        yield Attempt("GET", f"{one}/frames/{number}")
    for path in ("00100010", "7FE00010", "00081140/1/00081155", "FFFFFFFF"):
        yield Attempt("GET", f"{one}/bulkdata/{path}")


def _searches(own: Target, other: Target) -> Iterator[Attempt]:
    asked: list[dict[str, str]] = [
        {"StudyInstanceUID": other.study},
        {"0020000D": other.study},
        {"StudyInstanceUID": f"{own.study},{other.study}"},
        {"StudyInstanceUID": f"{other.study}\\{own.study}"},
        {"SeriesInstanceUID": other.series},
        {"SOPInstanceUID": other.instance},
        {"SOPInstanceUID": f"{own.instance},{other.instance}"},
        {"PatientID": other.patient_id},
        {"PatientID": f"{other.patient_id[:-2]}*"},
        {"PatientID": other.patient_id[:-1] + "?"},
        {"PatientName": f"{other.name}*"},
        {"PatientName": f"*{other.name[1:]}*"},
        {"PatientName": other.name, "fuzzymatching": "true"},
        {"PatientID": other.patient_id, "StudyInstanceUID": own.study},
        {"PatientID": other.patient_id, "emptyvaluematching": "true"},
        {"PatientID": other.patient_id, "includefield": "all"},
        {"PatientID": other.patient_id, "limit": "1"},
        {"PatientID": other.patient_id, "limit": "0"},
        {"PatientID": other.patient_id, "offset": "1"},
        {"PatientID": other.patient_id, "limit": "100000"},
        {"PatientID": other.patient_id, "Modality": "MR"},
        {"PatientID": other.patient_id, "StudyDate": "20000101-20991231"},
        {"PatientID": other.patient_id, "timezoneadjustment": "true"},
    ]
    for level in ("studies", "series", "instances"):
        for query in asked:
            yield Attempt("GET", f"/dicomweb/{level}?{urlencode(query)}")
        query = urlencode({"StudyInstanceUID": other.study})
        yield Attempt("GET", f"/dicomweb/{level}?{query}", {"Accept": _XML})
        yield Attempt("HEAD", f"/dicomweb/{level}?{query}")
    yield from _searches_in_a_study(own, other)


def _searches_in_a_study(own: Target, other: Target) -> Iterator[Attempt]:
    for path in (
        f"{own.study}/series?SeriesInstanceUID={other.series}",
        f"{own.study}/instances?SOPInstanceUID={other.instance}",
        f"{own.study}/series/{other.series}/instances",
        f"{other.study}/series?limit=1",
        f"{other.study}/instances?offset=100",
        f"{other.study}/series/{own.series}/instances",
        f"{other.study}/series?StudyInstanceUID={own.study}",
        f"{own.study}/series?StudyInstanceUID={other.study}",
    ):
        yield Attempt("GET", f"/dicomweb/studies/{path}")


_XML = 'multipart/related; type="application/dicom+xml"'
_JSON = {"Content-Type": "application/dicom+json"}


def _writes(own: Target, other: Target) -> Iterator[Attempt]:
    study = f"/dicomweb/studies/{other.study}"
    series = f"{study}/series/{other.series}"
    for url in (
        study,
        series,
        f"{series}/instances/{other.instance}",
        f"/dicomweb/studies/{own.study}/series/{other.series}",
        f"/dicomweb/studies/{own.study}/series/{other.series}/instances/{other.instance}",
        f"{study}?reason=mine",
    ):
        yield Attempt("DELETE", url)
    for number, (whose, where, path) in enumerate(
        (
            (own, other.study, "/dicomweb/studies"),
            (own, other.study, study),
            (other, other.study, "/dicomweb/studies"),
            (other, own.study, "/dicomweb/studies"),
            (other, own.study, f"/dicomweb/studies/{own.study}"),
            (other, None, "/dicomweb/studies"),
        )
    ):
        # The same UID in both runs, so that the answers can be compared.
        uid = generate_uid(entropy_srcs=[own.study, str(number)])
        new = slice_of(
            where or str(generate_uid(entropy_srcs=[own.study, "new"])),
            str(generate_uid(entropy_srcs=[own.study, "series"])),
            PatientID=whose.patient_id,
            SOPInstanceUID=uid,
        )
        # An own study under a UID that nobody uses may be stored.
        alone = whose is own
        yield Attempt("POST", path, {"Content-Type": B}, multipart(file_of(new)), alone)


def _elsewhere(other: Target) -> Iterator[Attempt]:
    reference = (
        '{"00081199":{"vr":"SQ","Value":[{"00081150":{"vr":"UI","Value":'
        f'["1.2.840.10008.5.1.4.1.1.4"]}},"00081155":{{"vr":"UI","Value":["{other.instance}"]}}}}]}}}}'
    )
    transaction = generate_uid()
    yield Attempt("POST", f"/dicomweb/commitment-requests/{transaction}", _JSON, reference.encode())
    yield Attempt("GET", f"/dicomweb/commitment-requests/{other.study}")
    for url in (
        "/dicomweb/changefeed",
        "/dicomweb/changefeed?after=0&limit=1000",
        "/dicomweb/changefeed/latest",
        "/dicomweb/extendedquerytags",
        "/dicomweb/extendedquerytags/00100020",
        "/dicomweb/workitems",
        f"/dicomweb/workitems?00404021.0020000D={other.study}",
        f"/dicomweb/workitems?PatientID={other.patient_id}",
        f"/dicomweb/workitems/{other.study}",
    ):
        yield Attempt("GET", url)
    yield Attempt("POST", f"/dicomweb/workitems/{other.study}/subscribers/APP")
    yield Attempt("POST", f"/dicomweb/workitems/{other.study}/cancelrequest", _JSON, b"[{}]")
    yield Attempt("PUT", f"/dicomweb/workitems/{other.study}/state", _JSON, b"[{}]")


def without_writes(found: Iterator[Attempt]) -> Iterator[Attempt]:
    """Only what reads: for callers whose writes would be carried out."""
    return (one for one in found if one.method in ("GET", "HEAD"))
