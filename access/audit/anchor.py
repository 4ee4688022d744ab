"""Anchors: how far each chain had come at a time, signed, to be kept where nobody edits them.

A chain alone shows what was changed inside it; that its end was cut off, or that all of it was
written anew, shows only against an anchor from another place.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from access.audit.chain import heads, write_durably
from access.audit.record import Head
from access.errors import AccessError

ALGORITHM = "ES256"
KEY_FILE = "audit-anchor-key.pem"
STORED = "anchors.jsonl"
_DIGEST = re.compile(r"[0-9a-f]{64}\Z", re.ASCII)


class AnchorInvalid(AccessError):
    """The text is no anchor, or was not signed with this key."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The heads of all chains at one time."""

    at: datetime
    heads: Mapping[str, Head]

    @property
    def json(self) -> dict[str, Any]:
        """As it is signed and printed."""
        return {
            "at": self.at.isoformat(timespec="seconds"),
            "chains": {
                chain: {"sequence": head.sequence, "sha256": head.digest}
                for chain, head in sorted(self.heads.items())
            },
        }


def take(folder: Path) -> Anchor:
    """The anchor of a spool as it is now."""
    return Anchor(datetime.now(UTC), heads(folder))


def load_or_create_key(folder: Path) -> ECKey:
    """The signing key of anchors; made (mode 0600) when there is none."""
    path = folder / KEY_FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(ECKey.generate_key("P-256", private=True).as_pem(private=True))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            pass  # another process was first: its key is the key
        finally:
            draft.unlink()
    return ECKey.import_key(path.read_bytes())


def sign(anchor: Anchor, key: ECKey) -> str:
    """A compact JWS (ES256) whose payload is the anchor."""
    header = {"alg": ALGORITHM, "typ": "audit-anchor", "kid": key.thumbprint()}
    return jws.serialize_compact(header, orjson.dumps(anchor.json), key, algorithms=[ALGORITHM])


def opened(text: str, key: ECKey) -> Anchor:
    """The anchor in a signed text.

    Raises:
        AnchorInvalid: it is none, or its signature is not of this key.
    """
    try:
        found = jws.deserialize_compact(text.strip(), key, algorithms=[ALGORITHM])
        body = orjson.loads(found.payload)
        chains = {
            str(chain): Head(int(one["sequence"]), _digest(one["sha256"]))
            for chain, one in body["chains"].items()
        }
        return Anchor(datetime.fromisoformat(body["at"]), chains)
    except (JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AnchorInvalid("not an anchor that this installation has signed") from error


def store(folder: Path, signed: str) -> None:
    """Add a signed anchor to those kept beside the spool."""
    path = folder / STORED
    before = path.read_bytes() if path.exists() else b""
    write_durably(path, before + orjson.dumps({"anchor": signed}) + b"\n")


def stored(folder: Path, key: ECKey) -> list[Anchor]:
    """The anchors kept beside the spool. Raises AnchorInvalid when one is not ours."""
    path = folder / STORED
    lines = path.read_bytes().splitlines() if path.exists() else []
    found = []
    for number, line in enumerate(lines, 1):
        try:
            text = str(orjson.loads(line)["anchor"])
        except (ValueError, KeyError, TypeError) as error:
            raise AnchorInvalid(f"line {number} of {path} is no anchor") from error
        try:
            found.append(opened(text, key))
        except AnchorInvalid as error:
            raise AnchorInvalid(f"line {number} of {path}: {error}") from error
    return found


def _digest(text: object) -> str:
    if not isinstance(text, str) or not _DIGEST.match(text):
        raise ValueError("not a SHA-256")
    return text
