"""Passwords: what one must be like, and their Argon2id hashes."""

from __future__ import annotations

import threading
import unicodedata
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from access.errors import AccessError

SHORTEST, LONGEST = 12, 256
# OWASP Password Storage Cheat Sheet, first of its equivalent settings: 46 MiB, one pass, one lane.
_hasher = PasswordHasher(time_cost=1, memory_cost=47_104, parallelism=1)
# Each hash takes 46 MiB: a crowd at the door waits its turn instead of filling the memory.
_turns = threading.BoundedSemaphore(2)


class WeakPassword(AccessError):
    """The password is too short, too long or too easy to guess."""


def hash_password(password: str, username: str) -> str:
    """The hash to keep. Raises WeakPassword."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise WeakPassword(f"a password has {SHORTEST} to {LONGEST} characters")
    if username in password.lower() and len(password) - len(username) < SHORTEST // 2:
        raise WeakPassword("a password is not the username with a little added")
    if len(set(password)) < 5:
        raise WeakPassword("a password has at least 5 different characters")
    with _turns:
        return _hasher.hash(_normal(password))


def is_right(password: str, kept: str | None) -> bool:
    """Whether the password belongs to the hash; as slow when there is no hash."""
    with _turns:
        try:
            return _hasher.verify(kept or _nobody(), _normal(password)) and kept is not None
        except (VerificationError, InvalidHashError):
            return False


def is_outdated(kept: str) -> bool:
    """Whether the hash was made with weaker parameters than today's."""
    return _hasher.check_needs_rehash(kept)


def rehash(password: str) -> str:
    """The hash with today's parameters, of a password that was right."""
    with _turns:
        return _hasher.hash(_normal(password))


def _normal(password: str) -> bytes:
    # Keyboards write the same letter in several ways (NIST SP 800-63B 5.1.1.2).
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


@cache
def _nobody() -> str:
    """A hash that no password has; made once, so that a first stranger takes no longer."""
    return _hasher.hash(b"\0nobody")
