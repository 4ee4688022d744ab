// What an app does: who is the patient, what is open, and which studies are there.
const put = (id, text) => { document.getElementById(id).textContent = text; };

async function main() {
  const client = await FHIR.oauth2.ready();
  const token = client.state.tokenResponse;
  const patient = await client.patient.read();
  put("who", `${patient.name[0].family} ${patient.id}`);
  put("context", JSON.stringify({
    scope: token.scope, encounter: token.encounter, fhirContext: token.fhirContext,
    banner: token.need_patient_banner, style: token.smart_style_url,
    user: client.user.fhirUser, intent: token.intent,
  }));
  const studies = await client.request(`ImagingStudy?patient=${client.patient.id}`, { flat: true });
  for (const study of studies) {
    const line = document.createElement("li");
    line.textContent = study.identifier.find((i) => i.system === "urn:dicom:uid").value;
    document.getElementById("studies").append(line);
  }
  const open = (token.fhirContext || []).find((c) => (c.reference || "").startsWith("ImagingStudy/"));
  if (open) {
    const study = await client.request(open.reference);
    const uid = study.identifier.find((i) => i.system === "urn:dicom:uid").value.slice("urn:oid:".length);
    const viewer = new URL(`/ohif/viewer?StudyInstanceUIDs=${uid}`, client.state.serverUrl);
    document.getElementById("viewer").href = viewer;
  }
  document.getElementById("refresh").onclick = async () => {
    const before = client.state.tokenResponse.access_token;
    const state = await client.refresh();
    const again = await client.patient.read();
    put("refreshed", `${state.tokenResponse.access_token !== before} ${again.id}`);
  };
  document.title = "ready";
}

main().catch((error) => { document.title = "failed"; put("who", String(error && error.message)); });
