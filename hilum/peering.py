"""The peer table, and peers as they are named on the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dimse.peers import Peer, Peers
from dimse.scu.negotiation import Calling
from dimse.wire.tls import client_context
from hilum import doorkeeping
from hilum.commands.console import attached, database_of, read_settings
from hilum.settings import Settings


def peer_named(text: str | None, data: Path | None, *, tls: bool = False) -> Peer:
    """A peer by its name in the table or as AET@HOST:PORT; None is ourselves.

    Raises:
        PeerError: there is no such peer.
    """
    if text is None:
        part = attached(data)[1]["dimse"]
        peer = Peer("ourselves", part["aet"], part["host"], part["port"])
    elif "@" in text:
        peer = Peer.parse(text)
    else:
        peer = Peers(database_of(data)).find(text)
    return replace(peer, tls=True) if tls else peer


def calling_of(settings: Settings, title: str | None = None) -> Calling:
    """Who we are when we call a peer."""
    config = doorkeeping.client_tls(settings)
    return Calling(
        title or settings.dimse.ae_title,
        answer_s=settings.retrieve.answer_s,
        tls=lambda peer: client_context(config, peer.tls_subject),
    )


def calling_from(data: Path | None, title: str | None = None) -> Calling:
    """As `calling_of`, by the settings of a data folder."""
    return calling_of(read_settings(data), title)
