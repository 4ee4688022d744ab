"""The authorization endpoint: judges what an app asks for, before any person is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from authorization.clients import CODE, REFRESH, Client, Clients
from authorization.config import AuthorizationConfig
from authorization.errors import AuthorizationError
from authorization.forms import BadForm, parameters
from authorization.grants import CHALLENGE, METHOD
from authorization.narrowing import narrow
from authorization.requests import Requests, back

# Whatever is asked is kept for ten minutes, also when nobody ever answers.
MAX_STATE_BYTES = MAX_SCOPE_BYTES = 8 * 1024
MAX_VALUE_BYTES = 2 * 1024
_SECONDS = re.compile(r"[0-9]{1,9}", re.ASCII)
_REFRESHING = ("online_access", "offline_access")


class Refused(AuthorizationError):
    """The app is not known or the address is not its own: a page says so, nobody is sent on."""


class SentBack(AuthorizationError):
    """The request breaks a rule: the browser takes the error back to the app.

    Attributes:
        location: the app's redirect URI with the error.
        client_id: of the app.
        error: code of RFC 6749 section 4.1.2.1.
    """

    def __init__(self, location: str, client_id: str, error: str) -> None:
        super().__init__(error)
        self.location = location
        self.client_id = client_id
        self.error = error


@dataclass(frozen=True, slots=True)
class Opened:
    """A request that a person may answer now: its id, and the browser's secret for it."""

    request_id: str
    browser: str


class _Broken(Exception):
    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


def judge(
    encoded: bytes, config: AuthorizationConfig, clients: Clients, requests: Requests
) -> Opened:
    """Check a request and keep it.

    Args:
        encoded: the query, or the body of the form.
        config: for our own addresses.
        clients: the registered apps.
        requests: where it is kept.

    Raises:
        Refused: unknown client or redirect URI.
        SentBack: anything else that is wrong.
    """
    client, redirect_uri, found = _asker(encoded, clients)
    state = found.get("state")
    try:
        values = _values(found)
        challenge = _check(values, state, client, config)
        scope = _scope(values, client)
    except _Broken as broken:
        answer = {"error": broken.error, "error_description": broken.description}
        if state is not None and len(state) > MAX_STATE_BYTES:
            state = None
        location = back(redirect_uri, answer, state)
        raise SentBack(location, client.client_id, broken.error) from broken
    request_id, browser = requests.open(
        client_id=client.client_id,
        redirect_uri=redirect_uri,
        scope=scope,
        code_challenge=challenge,
        state=state,
        nonce=values.get("nonce"),
        launch=values.get("launch"),
        prompt=values.get("prompt"),
        max_age=int(values["max_age"]) if "max_age" in values else None,
    )
    return Opened(request_id, browser)


def _asker(encoded: bytes, clients: Clients) -> tuple[Client, str, dict[str, bytes]]:
    """Who asks, and where the answer goes: without both nobody is sent anywhere."""
    try:
        found = parameters(encoded)
    except BadForm as error:
        raise Refused(str(error)) from error
    client = clients.find(found.get("client_id", b"").decode("latin-1"))
    if client is None or client.disabled:
        raise Refused("the app is not registered here")
    redirect_uri = found.get("redirect_uri", b"").decode("latin-1")
    if not client.may_redirect_to(redirect_uri):
        raise Refused("the app asks to be answered at an address that is not registered for it")
    return client, redirect_uri, found


def _values(found: Mapping[str, bytes]) -> dict[str, str]:
    values = {}
    for name, value in found.items():
        if name == "state":
            continue  # it is not ours to read
        try:
            values[name] = value.decode()
        except UnicodeDecodeError:
            raise _Broken("invalid_request", "a parameter is not UTF-8") from None
        if "\0" in values[name]:
            raise _Broken("invalid_request", "a parameter holds a NUL")
        if len(value) > (MAX_SCOPE_BYTES if name == "scope" else MAX_VALUE_BYTES):
            raise _Broken("invalid_request", "a parameter is too long")
    return values


def _check(
    values: Mapping[str, str], state: bytes | None, client: Client, config: AuthorizationConfig
) -> str:
    """Everything but the scopes; returns the code challenge."""
    challenge = values.get("code_challenge", "")
    is_s256 = values.get("code_challenge_method") == METHOD and CHALLENGE.fullmatch(challenge)
    wrong = "invalid_request"
    rules = (
        ("request" not in values, "request_not_supported", "request is not supported"),
        ("request_uri" not in values, "request_uri_not_supported", "request_uri is not supported"),
        ("response_type" in values, wrong, "response_type is missing"),
        (
            values.get("response_type") == "code",
            "unsupported_response_type",
            "response_type is code",
        ),
        (values.get("response_mode", "query") == "query", wrong, "response_mode is query"),
        (CODE in client.grant_types, "unauthorized_client", "the client is not for people"),
        (state is not None, wrong, "state is missing"),
        (len(state or b"") <= MAX_STATE_BYTES, wrong, "state is too long"),
        (values.get("aud") == config.fhir_url, wrong, f"aud is {config.fhir_url}"),
        (is_s256, wrong, "code_challenge with code_challenge_method S256 is needed"),
        (
            "none" not in values.get("prompt", "").split(),
            "interaction_required",
            "a person has to agree",
        ),
        (_SECONDS.fullmatch(values.get("max_age", "0")), wrong, "max_age is a number of seconds"),
    )
    for holds, error, description in rules:
        if not holds:
            raise _Broken(error, description)
    return challenge


def _scope(values: Mapping[str, str], client: Client) -> str:
    asked = values.get("scope", "")
    if not asked.isascii() or not asked.isprintable():
        raise _Broken("invalid_scope", "scopes are printable ASCII")
    allowed = narrow(asked, client.scopes).split()
    if REFRESH not in client.grant_types:
        allowed = [one for one in allowed if one not in _REFRESHING]
    if not allowed:
        raise _Broken("invalid_scope", "the client may have none of these scopes")
    scope = " ".join(allowed)
    # One scope may be narrowed to many; the access token carries them all.
    if len(scope) > MAX_SCOPE_BYTES:
        raise _Broken("invalid_scope", "the scopes are too many for one token; ask for fewer")
    return scope
