// iss and launch come from the query in an EHR launch; standalone, iss and scope are given too.
const given = new URLSearchParams(location.search);
FHIR.oauth2.authorize({
  clientId: "js-app",
  scope: given.get("scope") || "launch openid fhirUser online_access patient/*.rs",
  redirectUri: "index.html",
  pkceMode: "required",
}).catch((error) => { document.title = "failed"; document.body.textContent = String(error); });
