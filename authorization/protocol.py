"""Authlib's authorization server on our tables: requests in, answers out, clients proved.

Authlib has no integration for ASGI, and its own client authentication tries one way after the
other; here a request proves its client in exactly one way, the one the client is registered with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from authlib.oauth2.rfc6749 import AuthorizationServer, ClientMixin, OAuth2Payload, OAuth2Request
from authlib.oauth2.rfc6749.errors import InvalidClientError, InvalidRequestError, OAuth2Error
from authlib.oauth2.rfc6749.util import extract_basic_authorization

from authorization.attempts import Attempts
from authorization.client_assertions import TYPE, AssertionRefused, Assertions
from authorization.clients import Client, Clients

NONE, BASIC, POST, SIGNED = "none", "client_secret_basic", "client_secret_post", "private_key_jwt"
AUTH_METHODS = (BASIC, POST, SIGNED)
ANY_METHOD = (NONE, *AUTH_METHODS)
_METHODS_OF = {"public": (NONE,), "symmetric": (BASIC, POST), "asymmetric": (SIGNED,)}


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the client: a JSON body, without secrets in the headers."""

    status: int
    body: Mapping[str, Any]
    headers: tuple[tuple[str, str], ...]


class TooManyFailures(OAuth2Error):  # type: ignore[misc]
    """Too many wrong secrets came from this address."""

    error = "invalid_client"
    status_code = 429

    def __init__(self, wait_s: float) -> None:
        self._wait_s = int(wait_s) + 1
        super().__init__(description=f"too many wrong secrets; wait {self._wait_s} seconds")

    def get_headers(self) -> list[tuple[str, str]]:
        """With the time to wait."""
        return [*super().get_headers(), ("Retry-After", str(self._wait_s))]


class Fields(OAuth2Payload):  # type: ignore[misc]
    """The fields of a form, each of which came once."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = dict(fields)

    @property
    def data(self) -> dict[str, str]:
        """The fields by name."""
        return self._fields

    @property
    def datalist(self) -> dict[str, list[str]]:
        """The same, as Authlib looks for repetitions."""
        return {name: [value] for name, value in self._fields.items()}


class FormRequest(OAuth2Request):  # type: ignore[misc]
    """A posted form. Refused by Authlib when our URL is neither https nor on the loopback."""

    def __init__(
        self, uri: str, fields: Mapping[str, str], headers: Mapping[str, str], address: str | None
    ) -> None:
        super().__init__("POST", uri, headers=dict(headers))
        self.payload = Fields(fields)
        self.address = address
        self.approval = None

    @property
    def form(self) -> dict[str, str]:
        """The fields by name."""
        return dict(self.payload.data)


class KnownClient(ClientMixin):  # type: ignore[misc]
    """A registered client as Authlib asks about it."""

    def __init__(self, client: Client) -> None:
        self.registered = client

    def get_client_id(self) -> str:
        """Its id."""
        return self.registered.client_id

    def check_grant_type(self, grant_type: str) -> bool:
        """Whether it is registered for this grant."""
        return grant_type in self.registered.grant_types


class Protocol(AuthorizationServer):  # type: ignore[misc]
    """Authlib's server, told where clients are and how they prove themselves."""

    def __init__(self, clients: Clients, assertions: Assertions) -> None:
        super().__init__()
        self.clients = clients
        self._assertions = assertions
        self._attempts = Attempts()

    def query_client(self, client_id: str) -> KnownClient | None:
        """The enabled client of this id."""
        client = self._enabled(client_id)
        return KnownClient(client) if client is not None else None

    def create_oauth2_request(self, request: FormRequest) -> FormRequest:
        """It is one already."""
        return request

    def handle_response(
        self, status: int, body: Mapping[str, Any], headers: list[tuple[str, str]]
    ) -> Answer:
        """For the ASGI side."""
        return Answer(status, body, tuple(headers))

    def send_signal(self, name: str, *_: object, **__: object) -> None:
        """Nobody listens."""

    def authenticate_client(
        self, request: FormRequest, methods: Sequence[str], endpoint: str = "token"
    ) -> KnownClient:
        """The client that a request proves, in exactly one way.

        Raises:
            InvalidClientError: unknown, disabled, or not proved in the way it is registered with.
            InvalidRequestError: two ways at once.
            TooManyFailures: wrong secrets came before; this one was not looked at.
        """
        del endpoint
        method = _method(request)
        if method not in methods:
            raise InvalidClientError(description=f"no {method} here", status_code=401)
        proofs: dict[str, Callable[[FormRequest], Client]] = {
            NONE: self._by_name,
            BASIC: self._by_basic,
            POST: self._by_form,
            SIGNED: self._by_signature,
        }
        client = proofs[method](request)
        if method not in _METHODS_OF[client.kind]:
            raise _wrong()
        named = request.form.get("client_id")
        if named is not None and named != client.client_id:
            raise _wrong()
        request.auth_method = method
        known = KnownClient(client)
        request.client = known
        return known

    def name_of(self, request: FormRequest) -> str:
        """The client id in a form."""
        return request.form.get("client_id", "")

    def _by_name(self, request: FormRequest) -> Client:
        client = self._enabled(self.name_of(request))
        if client is None or client.kind != "public":
            raise _wrong()
        return client

    def _by_basic(self, request: FormRequest) -> Client:
        try:
            client_id, secret = extract_basic_authorization(request.headers)
        except UnicodeDecodeError:
            client_id = secret = None
        if not client_id or not secret:
            raise _wrong()
        return self._by_secret(request, client_id, secret)

    def _by_form(self, request: FormRequest) -> Client:
        form = request.form
        return self._by_secret(request, form.get("client_id", ""), form["client_secret"])

    def _by_secret(self, request: FormRequest, client_id: str, secret: str) -> Client:
        place = client_id, request.address or ""
        wait_s = self._attempts.wait_s(*place)
        if wait_s > 0:
            raise TooManyFailures(wait_s)
        client = self._enabled(client_id)
        if not self.clients.is_secret(client_id, secret) or client is None:
            self._attempts.fail(*place)
            raise _wrong()
        self._attempts.succeed(*place)
        return client

    def _by_signature(self, request: FormRequest) -> Client:
        form = request.form
        if form.get("client_assertion_type") != TYPE:
            raise InvalidClientError(description=f"client_assertion_type is {TYPE}")
        try:
            return self._assertions.client_of(form["client_assertion"], self._enabled)
        except AssertionRefused as error:
            raise InvalidClientError(description=str(error)) from error

    def _enabled(self, client_id: str) -> Client | None:
        client = self.clients.find(client_id)
        return client if client is not None and not client.disabled else None


def _method(request: FormRequest) -> str:
    """How a request proves its client. Raises InvalidRequestError: in two ways."""
    form = request.form
    used = [
        method
        for method, is_used in (
            (BASIC, request.headers.get("Authorization", "")[:6].lower() == "basic "),
            (POST, "client_secret" in form),
            (SIGNED, "client_assertion" in form),
        )
        if is_used
    ]
    if len(used) > 1:
        raise InvalidRequestError("the client proves itself in one way, not in two")
    return used[0] if used else NONE


def _wrong() -> InvalidClientError:
    """Nobody is told which part was wrong."""
    return InvalidClientError(
        description="the client is unknown or did not prove itself as registered", status_code=401
    )
