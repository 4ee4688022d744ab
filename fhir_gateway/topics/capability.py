"""What the CapabilityStatement says of Subscription: which the store's own does not know."""

from __future__ import annotations

from typing import Any

from fhir_gateway.topics.catalogue import TOPICS
from fhir_gateway.topics.subscription import IG, PROFILE

DEFINITIONS = "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition"
INTERACTIONS = ("create", "read", "update", "delete", "search-type")
TEXT = (
    "Machines only (system scopes); each sees its own subscriptions. Rest-hook; R4 criteria, or "
    "one of the topics listed. Hosts that may be notified are named by the site."
)


def subscription_resource() -> dict[str, Any]:
    """Subscription in CapabilityStatement.rest.resource."""
    return {
        "extension": [
            {"url": f"{IG}/capabilitystatement-subscriptiontopic-canonical", "valueCanonical": url}
            for url in TOPICS
        ],
        "type": "Subscription",
        "supportedProfile": [PROFILE],
        "documentation": TEXT,
        "interaction": [{"code": code} for code in INTERACTIONS],
        "versioning": "versioned-update",
        "conditionalCreate": False,
        "conditionalUpdate": False,
        "conditionalDelete": "not-supported",
        "searchParam": [
            {"name": "_id", "type": "token"},
            {"name": "criteria", "type": "string"},
            {"name": "status", "type": "token"},
        ],
        "operation": [
            {"name": "status", "definition": f"{DEFINITIONS}/backport-subscription-status"},
            {"name": "events", "definition": f"{DEFINITIONS}/backport-subscription-events"},
        ],
    }
