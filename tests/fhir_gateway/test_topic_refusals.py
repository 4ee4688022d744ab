"""Topic-based subscriptions that ask for what is not supported are refused with the reason."""

from __future__ import annotations

import pytest

from tests.fhir_gateway.resources import assert_refused
from tests.fhir_gateway.subscribers import (
    classic,
    topical,
)


def changed(**changes):
    def make(receiver):
        body = topical(receiver, "diagnosticreport-final")
        channel = changes.pop("channel", {})
        body |= changes
        body["channel"] |= channel
        return body

    return make


REFUSED = {
    "topic": lambda r: topical(r, "never-was"),
    "another server's topic": changed(criteria="https://example.org/topic"),
    "channel type": changed(channel={"type": "email"}),
    "websocket": changed(channel={"type": "websocket"}),
    "payload type": changed(channel={"payload": "application/fhir+xml"}),
    "no payload type": changed(channel={"payload": None}),
    "content": lambda r: topical(r, "diagnosticreport-final", content="everything"),
    "no content": changed(channel={"_payload": {}}),
    "filter parameter": lambda r: topical(
        r, "diagnosticreport-final", filters=["DiagnosticReport?issued=2026"]
    ),
    "filter modifier": lambda r: topical(
        r, "diagnosticreport-final", filters=["DiagnosticReport?code:missing=true"]
    ),
    "filter of another type": lambda r: topical(
        r, "diagnosticreport-final", filters=["Encounter?patient=Patient/1"]
    ),
    "filter without a value": lambda r: topical(
        r, "diagnosticreport-final", filters=["DiagnosticReport?code="]
    ),
    "filter that is no search": lambda r: topical(
        r, "diagnosticreport-final", filters=["Encounter.patient=Patient/1"]
    ),
    "cross-version extension": changed(
        _criteria={
            "extension": [
                {
                    "url": "http://hl7.org/fhir/5.0/StructureDefinition/extension-Subscription.x",
                    "valueString": "x",
                }
            ]
        }
    ),
    "too many at once": lambda r: topical(
        r, "diagnosticreport-final", extensions=[("max-count", "valuePositiveInt", 1000)]
    ),
    "no heartbeat": lambda r: topical(
        r, "diagnosticreport-final", extensions=[("heartbeat-period", "valueUnsignedInt", 0)]
    ),
    "an element that we do not know": changed(modifierExtension=[{"url": "x"}]),
    "an end in the past": changed(end="2020-01-01T00:00:00Z"),
    "an end without zone": changed(end="2099-01-01T00:00:00"),
    "an end that no database can hold": changed(end="9999-12-31T23:59:59-12:00"),
    "a meta that is none": changed(meta=["x"]),
    "a text with a NUL": changed(reason="a\x00b"),
    "no reason": changed(reason=None),
    "no channel": lambda r: {**classic(r, "x"), "channel": None},
    "not a Subscription": lambda r: {"resourceType": "Patient"},
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_supported_is_refused_with_the_reason(ehr, receiver, case):
    answer = ehr.post("Subscription", json=REFUSED[case](receiver))

    assert_refused(answer, 422)
    assert receiver.calls == []
