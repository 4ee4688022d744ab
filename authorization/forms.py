"""Parameters of a request, from the query or a posted form; bytes stay bytes until read."""

from __future__ import annotations

from collections import Counter
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from authorization.errors import AuthorizationError

FORM = "application/x-www-form-urlencoded"
MAX_BYTES = 64 * 1024
MAX_FIELDS = 60


class BadForm(AuthorizationError):
    """The parameters cannot be read; the text says why, without their values."""


async def posted(request: Request) -> bytes:
    """The body of a form. Raises BadForm: another media type, or too large."""
    told = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if told != FORM:
        raise BadForm(f"the body is {FORM}")
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BYTES:
                raise BadForm("the body is too large")
    except ClientDisconnect as error:
        raise BadForm("the body ended too early") from error
    return body


def parameters(encoded: bytes) -> dict[str, bytes]:
    """The parameters by name. Raises BadForm: too many, or one of them twice."""
    try:
        # Latin-1 has a character for each byte, so that nothing is lost or replaced.
        pairs = parse_qsl(
            encoded.decode("latin-1"),
            keep_blank_values=True,
            encoding="latin-1",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError as error:
        raise BadForm("there are too many parameters") from error
    twice = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
    if twice:
        raise BadForm("a parameter comes twice")
    # RFC 6749 3.1: a parameter without a value is one that was left out.
    return {name: value.encode("latin-1") for name, value in pairs if value}


def texts(found: dict[str, bytes]) -> dict[str, str]:
    """The parameters as text. Raises BadForm: not UTF-8."""
    try:
        return {name: value.decode() for name, value in found.items()}
    except UnicodeDecodeError as error:
        raise BadForm("a parameter is not UTF-8") from error
