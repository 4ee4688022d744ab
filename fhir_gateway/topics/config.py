"""Settings of subscriptions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Standing = Callable[[str, str], str | None]
"""From a client's id and scopes to the part of them that it may have now.

None when the client is not registered, so that nothing is known beside what its token said.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionConfig:
    """Who may be told, and how hard we try.

    Attributes:
        hosts: that may be called: host, host:port or *.domain; none by default.
        private_networks: in which they may be; without it public addresses only.
        plain_http: whether http:// is allowed.
        per_client: subscriptions that one client may have.
        poll_s: between two looks at what has changed in the FHIR store.
        deep_s: between two looks that go further back, for what became visible late.
        first_delay_s, longest_delay_s: between attempts to deliver.
        give_up_s: of failures after which a subscription is in error and no more is tried.
        standing: what has become of a client's scopes since it subscribed.
        keep_days: how long events that were delivered can be asked for.
    """

    hosts: tuple[str, ...] = ()
    private_networks: tuple[str, ...] = ()
    plain_http: bool = False
    per_client: int = 20
    poll_s: float = 1.0
    deep_s: float = 60.0
    first_delay_s: float = 1.0
    longest_delay_s: float = 60.0
    give_up_s: float = 24 * 3600.0
    keep_days: float = 7.0
    standing: Standing | None = None
