"""The peer table of a running stack."""

from __future__ import annotations

from typing import Any

from dimse.peers import Peers
from hilum.settings import Settings
from hilum.status import running_dsn


def peers_of(settings: Settings, running: dict[str, Any]) -> Peers:
    """The table, in the database of the running stack."""
    return Peers(running_dsn(settings, running))
