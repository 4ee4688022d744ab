"""The keys that sign id_tokens (RS256), each in a file only we can read, and their rotation.

A new key is published before it signs, and an old one stays published after it has signed last:
an app that keeps our key set for a while never meets a key that it cannot find.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from joserfc.jwk import RSAKey

ALGORITHM = "RS256"
BITS = 2048
# How long others may keep our key set; a new key waits that long before it signs.
PUBLISHED_S = 300
# An old key is published for so long after it was followed by another one.
OVERLAP_S = 24 * 3600
_NAME = re.compile(r"identity-(\d{10})-[0-9a-f]{8}\.pem")


@dataclass(frozen=True, slots=True)
class _Kept:
    created: int
    path: Path


class IdentityKeys:
    """The key files of one folder; every process that reads it sees the same keys."""

    def __init__(self, folder: Path, key_s: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._key_s = key_s
        if not self._kept():
            self.add()

    def add(self) -> None:
        """Make a key that follows the present one; it signs once it was published long enough."""
        key = RSAKey.generate_key(BITS, private=True)
        name = f"identity-{int(time.time()):010d}-{secrets.token_hex(4)}.pem"
        draft = self._folder / f".{name}"
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(key.as_pem(private=True))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._folder / name)

    def signing(self) -> tuple[str, RSAKey]:
        """The key to sign with now, and its id."""
        kept, now = self._kept(), time.time()
        if not kept or now - kept[-1].created > self._key_s:
            self.add()
            kept = self._kept()
        ripe = [one for one in kept if now - one.created >= PUBLISHED_S]
        return _load((ripe or kept)[-1 if ripe else 0].path)

    def public(self) -> dict[str, Any]:
        """The key set (RFC 7517): the coming, the present and the lately used keys."""
        keys = []
        for kept in self._published():
            kid, key = _load(kept.path)
            public = key.as_dict(private=False)
            keys.append({**public, "kid": kid, "use": "sig", "alg": ALGORITHM})
        return {"keys": keys}

    def _published(self) -> list[_Kept]:
        kept, now = self._kept(), time.time()
        followed = [*(one.created for one in kept[1:]), None]
        return [
            one
            for one, at in zip(kept, followed, strict=True)
            if at is None or now - at < PUBLISHED_S + OVERLAP_S
        ]

    def _kept(self) -> list[_Kept]:
        found = []
        for path in self._folder.iterdir():
            match = _NAME.fullmatch(path.name)
            if match is not None:
                found.append(_Kept(int(match[1]), path))
        return sorted(found, key=lambda one: (one.created, one.path.name))


@lru_cache(maxsize=16)
def _load(path: Path) -> tuple[str, RSAKey]:
    key = RSAKey.import_key(path.read_bytes())
    return key.thumbprint(), key
