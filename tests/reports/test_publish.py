"""Publishing into real stores: what is written, that it is written once, and after any death."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from records.errors import VersionConflict
from reports.encapsulated import person_name
from reports.errors import StoreRefused
from reports.findings import PersonName
from reports.jobs import missing
from reports.publish import DOCX_TYPE, PDF_TYPE, Deps, render
from reports.signing import lacks
from reports.store import DicomwebStore
from tests.fixtures.stores import free_port, keys_folder

ROOT = Path(__file__).resolve().parents[2]
PDF_CLASS = "1.2.840.10008.5.1.4.1.1.104.1"


def instances_of(archive, filed):
    return archive.peer().search_for_instances(filed.study_uid, search_filters={"Modality": "DOC"})


def instance_of(archive, filed):
    return archive.peer().retrieve_study(filed.study_uid)[0]


def errors(issues):
    return [i for i in issues if i["severity"] in ("error", "fatal")]


async def test_a_report_gets_its_files_and_the_study_its_instance(deps, records, archive, filed):
    written = await render(deps, filed.report_id)

    report = await records.read("DiagnosticReport", filed.report_id)
    forms = {form["contentType"]: form for form in report["presentedForm"]}
    contents = {}
    for kind, form in forms.items():
        media_type, content = await records.read_binary(form["url"].removeprefix("Binary/"))
        binary = await records.read("Binary", form["url"].removeprefix("Binary/"))
        assert media_type == kind
        assert form["size"] == len(content)
        sha1 = hashlib.sha1(content).digest()
        assert form["hash"] == base64.b64encode(sha1).decode()
        assert binary["securityContext"]["reference"] == f"DiagnosticReport/{filed.report_id}"
        assert form["creation"] == report["issued"]
        assert errors(await records.validate(binary)) == []
        contents[kind] = content
    assert written
    assert set(forms) == {PDF_TYPE, DOCX_TYPE}
    assert report["status"] == "preliminary"
    assert errors(await records.validate(report)) == []
    embedded = instance_of(archive, filed)
    assert embedded.EncapsulatedDocument == contents[PDF_TYPE]
    assert str(embedded.SOPClassUID) == PDF_CLASS
    assert embedded.PatientName == "Lindqvist^Anna^Maria"


async def test_the_validator_checks_size_and_hash_against_the_content(deps, records, filed):
    await render(deps, filed.report_id)
    report = await records.read("DiagnosticReport", filed.report_id)
    form = report["presentedForm"][0]
    binary = await records.read("Binary", form["url"].removeprefix("Binary/"))
    inline = {**form, "data": binary["data"]}

    right = await records.validate({**report, "presentedForm": [inline]})
    wrong = await records.validate(
        {**report, "presentedForm": [{**inline, "size": form["size"] + 1}]}
    )

    assert errors(right) == []
    assert errors(wrong)


async def test_the_encapsulated_pdf_is_valid_dicom(deps, archive, filed, tmp_path):
    await render(deps, filed.report_id)
    path = tmp_path / "report.dcm"
    instance_of(archive, filed).save_as(path, enforce_file_format=True)

    done = subprocess.run(
        ["dciodvfy", str(path)], capture_output=True, text=True, timeout=60, check=False
    )

    lines = (done.stdout + done.stderr).splitlines()
    assert "EncapsulatedPDF" in lines
    assert not [line for line in lines if line.startswith("Error")]


async def test_rendering_again_changes_nothing(deps, records, archive, filed):
    await render(deps, filed.report_id)
    first = await records.read("DiagnosticReport", filed.report_id)

    again = await render(deps, filed.report_id)

    last = await records.read("DiagnosticReport", filed.report_id)
    assert not again
    assert last["meta"]["versionId"] == first["meta"]["versionId"]
    assert len(instances_of(archive, filed)) == 1


async def test_our_own_pdf_in_the_study_orders_no_new_rendition(deps, records, filed):
    await render(deps, filed.report_id)
    reference = filed.resources["DiagnosticReport/report"]["imagingStudy"][0]["reference"]
    study = await records.read(*reference.split("/"))
    document_series = {**study["series"][-1], "uid": f"{filed.study_uid}.77"}
    document_series["modality"] = {**document_series["modality"], "code": "DOC"}
    study["series"].append(document_series)
    study["numberOfSeries"] += 1
    study["numberOfInstances"] += 1
    await records.update(study)

    assert not await render(deps, filed.report_id)


async def test_a_changed_measurement_replaces_the_files_and_adds_an_instance(
    deps, records, archive, filed
):
    await render(deps, filed.report_id)
    before = await records.read("DiagnosticReport", filed.report_id)
    observation = await records.read("Observation", filed.resources["Observation/obs-wt"]["id"])
    observation["valueQuantity"]["value"] = 90.1
    await records.update(observation)

    changed = await render(deps, filed.report_id)

    after = await records.read("DiagnosticReport", filed.report_id)
    assert changed
    assert [f["url"] for f in after["presentedForm"]] == [f["url"] for f in before["presentedForm"]]
    assert after["presentedForm"][0]["hash"] != before["presentedForm"][0]["hash"]
    found = instances_of(archive, filed)
    assert len(found) == 2
    assert len({i["0020000E"]["Value"][0] for i in found}) == 1


async def test_what_others_attached_stays(deps, records, filed):
    report = await records.read("DiagnosticReport", filed.report_id)
    report["presentedForm"] = [{"contentType": "text/plain", "data": "aGk=", "title": "Note"}]
    await records.update(report)

    await render(deps, filed.report_id)

    after = await records.read("DiagnosticReport", filed.report_id)
    assert [f["contentType"] for f in after["presentedForm"]] == [
        PDF_TYPE,
        DOCX_TYPE,
        "text/plain",
    ]


async def test_each_file_of_a_report_is_a_document_with_the_same_address_and_hash(
    deps, records, filed
):
    await render(deps, filed.report_id)

    report = await records.read("DiagnosticReport", filed.report_id)
    found = await documents_of(records, filed)
    forms = {form["url"]: form for form in report["presentedForm"]}
    attached = {d["content"][0]["attachment"]["url"]: d for d in found}
    assert set(attached) == set(forms)
    for url, document in attached.items():
        assert document["content"][0]["attachment"] == forms[url]
        assert (document["status"], document["docStatus"]) == ("current", "preliminary")
        assert document["subject"] == report["subject"]
        assert errors(await records.validate(document)) == []


async def documents_of(records, filed):
    return await records.search(
        "DocumentReference", {"related": f"DiagnosticReport/{filed.report_id}"}
    )


async def signed(records, filed, **more):
    """As a radiologist signs: the report is PUT with the status final."""
    reader = await records.create(
        {
            "resourceType": "Practitioner",
            "identifier": [{"system": "https://hilum.dev/test/reader", "value": filed.run}],
            "name": [{"family": "Reader", "given": ["Rita"]}],
        }
    )
    report = await records.read("DiagnosticReport", filed.report_id)
    interpreter = [{"reference": f"Practitioner/{reader['id']}"}]
    changed = {"status": "final", "conclusion": "Seen. Agreed."} | more
    return await records.update({**report, "resultsInterpreter": interpreter, **changed})


async def test_a_signed_report_gets_the_shape_of_imr_and_keeps_what_the_signer_wrote(
    deps, records, archive, filed
):
    await render(deps, filed.report_id)
    before = await signed(records, filed)

    written = await render(deps, filed.report_id)
    again = await render(deps, filed.report_id)

    report = await records.read("DiagnosticReport", filed.report_id)
    (form,) = report["presentedForm"]
    media_type, content = await records.read_binary(form["url"].removeprefix("Binary/"))
    assert (written, again) == (True, False)
    assert lacks(report) == []
    assert report["conclusion"] == "Seen. Agreed."
    assert report["resultsInterpreter"] == before["resultsInterpreter"]
    assert form["contentType"] == media_type == "text/html"
    assert b"Seen. Agreed." in content and b"draft" not in content.lower()
    assert "draft" not in report["text"]["div"].lower()
    assert form["hash"] == base64.b64encode(hashlib.sha1(content).digest()).decode()
    assert form["size"] == len(content)
    assert errors(await records.validate(report)) == []
    states = {
        d["content"][0]["attachment"]["contentType"]: d for d in await documents_of(records, filed)
    }
    assert states["text/html"]["status"] == "current"
    assert states["text/html"]["docStatus"] == "final"
    assert {states[PDF_TYPE]["status"], states[DOCX_TYPE]["status"]} == {"superseded"}
    for result in report["result"]:
        observation = await records.read(*result["reference"].split("/"))
        assert observation["status"] == "final"


async def test_a_sign_off_has_a_provenance_that_names_the_reader_and_for_whom(deps, records, filed):
    await render(deps, filed.report_id)
    before = await signed(records, filed)

    await render(deps, filed.report_id)

    target = {"target": f"DiagnosticReport/{filed.report_id}"}
    (found,) = await records.search("Provenance", target)
    agents = {agent["type"]["coding"][0]["code"]: agent for agent in found["agent"]}
    assert set(agents) == {"author", "attester"}
    assert agents["attester"]["who"] == before["resultsInterpreter"][0]
    assert agents["author"]["onBehalfOf"]["reference"].startswith("Organization/")
    assert found["entity"][0]["role"] == "revision"
    assert errors(await records.validate(found)) == []
    after = await records.read("DiagnosticReport", filed.report_id)
    together = {one["meta"]["lastUpdated"] for one in (found, after)}
    assert len(together) == 1  # in one transaction: a crash leaves both or neither


async def test_a_signed_report_without_a_reader_says_what_it_lacks_and_is_not_written_twice(
    deps, records, filed
):
    report = await records.read("DiagnosticReport", filed.report_id)
    await records.update({**report, "status": "final"})

    first = await render(deps, filed.report_id)
    second = await render(deps, filed.report_id)

    after = await records.read("DiagnosticReport", filed.report_id)
    assert (first, second) == (True, False)
    assert lacks(after) == ["resultsInterpreter"]


async def test_a_final_report_of_somebody_else_is_not_touched(deps, records, filed):
    report = await records.read("DiagnosticReport", filed.report_id)
    foreign = {k: v for k, v in report.items() if k not in ("id", "identifier", "meta")}
    stored = await records.create({**foreign, "status": "final"})

    assert not await render(deps, stored["id"])

    assert await records.read("DiagnosticReport", stored["id"]) == stored


async def test_the_sweep_finds_a_signed_report_that_no_hook_spoke_of(deps, records, filed):
    await render(deps, filed.report_id)
    await signed(records, filed)

    before = await missing(records, 600)
    await render(deps, filed.report_id)

    assert filed.report_id in before
    assert filed.report_id not in await missing(records, 600)


DYING = """
import asyncio, os, signal, sys
from pathlib import Path
from access.grants import GrantSigner
from access.internal_rights import REPORTS
from records import Records
from reports.publish import Deps, render
from reports.store import DicomwebStore
base, keys, dicomweb, token, report, moment = sys.argv[1:]
def die(now):
    if now == moment:
        os.kill(os.getpid(), signal.SIGKILL)
class Mortal(Records):
    async def transaction(self, entries, **named):
        die("before FHIR")
        answer = await super().transaction(entries, **named)
        die("after FHIR")
        return answer
async def main():
    kept = DicomwebStore(dicomweb, lambda: token, 30)
    async def store(instance):
        die("before the archive")
        await kept(instance)
    credentials = GrantSigner.load_or_create(Path(keys)).credentials(REPORTS)
    async with Mortal(base, credentials) as records:
        await render(Deps(records, store, "Hilum demonstration site"), report)
asyncio.run(main())
"""


@pytest.mark.parametrize("moment", ["before the archive", "before FHIR", "after FHIR"])
async def test_a_kill_at_any_point_and_a_repeat_end_with_one_of_each(
    moment, deps, records, archive, hapi, filed
):
    config = hapi.config
    arguments = [config.base_url, str(keys_folder()), archive.base, archive.token_for()]
    dead = subprocess.run(
        [sys.executable, "-c", DYING, *arguments, filed.report_id, moment],
        cwd=ROOT,
        timeout=120,
        check=False,
    )

    await render(deps, filed.report_id)

    report = await records.read("DiagnosticReport", filed.report_id)
    assert dead.returncode == -9
    assert len(report["presentedForm"]) == 2
    assert len(instances_of(archive, filed)) == 1
    history = await records.operation("GET", f"DiagnosticReport/{filed.report_id}/_history")
    assert history[2]["total"] == 2  # as written, and with its files
    url = report["presentedForm"][0]["url"]
    assert (await records.operation("GET", f"{url}/_history"))[2]["total"] == 1


async def test_a_report_that_changes_meanwhile_is_not_overwritten(deps, records, filed):
    async def signed_meanwhile(instance):
        report = await records.read("DiagnosticReport", filed.report_id)
        await records.update({**report, "status": "final", "conclusion": "Signed."})

    with pytest.raises(VersionConflict):
        await render(Deps(records, signed_meanwhile, deps.institution), filed.report_id)

    after = await records.read("DiagnosticReport", filed.report_id)
    assert after["conclusion"] == "Signed."
    assert "presentedForm" not in after


async def test_without_the_archive_nothing_is_written_to_fhir(records, filed):
    nobody = DicomwebStore(f"http://127.0.0.1:{free_port()}/dicomweb", lambda: "t", 2)

    with pytest.raises(StoreRefused):
        await render(Deps(records, nobody, "Site"), filed.report_id)

    assert "presentedForm" not in await records.read("DiagnosticReport", filed.report_id)


async def test_a_token_without_the_right_to_store_is_a_refusal(records, archive, filed):
    reader = DicomwebStore(archive.base, lambda: archive.token_for("system/ImagingStudy.rs"), 30)

    with pytest.raises(StoreRefused):
        await render(Deps(records, reader, "Site"), filed.report_id)


async def test_the_sweep_finds_what_has_no_rendition_yet(deps, records, filed):
    before = await missing(records, 600)
    await render(deps, filed.report_id)

    assert filed.report_id in before
    assert filed.report_id not in await missing(records, 600)


def test_a_person_name_keeps_its_representations():
    names = (
        PersonName("Yamada", ("Tarou",), representation="ABC"),
        PersonName("山田", ("太郎",), representation="IDE"),
        PersonName("やまだ", ("たろう",), representation="SYL"),
    )

    assert person_name(names) == "Yamada^Tarou=山田^太郎=やまだ^たろう"
    assert person_name((PersonName("A^B=C\\D", ("X",)),)) == "A B C D^X"
    assert person_name(()) == ""
