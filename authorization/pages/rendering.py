"""Server-rendered pages of the authorization server: Jinja2 with autoescape, a strict policy."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from starlette.responses import HTMLResponse, Response

NEVER_STORED = {"Cache-Control": "no-store", "Pragma": "no-cache"}

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(
    template: str, status: int = 200, leads_to: str | None = None, **values: object
) -> Response:
    """One page.

    Args:
        template: its file.
        status: of HTTP.
        leads_to: URL at an app to which a form may lead in the end. Chromium holds the place
            that a form leads to after its redirect against the policy.
        values: for the template.
    """
    text = _environment.get_template(template).render(**values)
    return HTMLResponse(text, status_code=status, headers=_headers(leads_to))


def go(location: str) -> Response:
    """Send the browser on, with GET."""
    return Response(status_code=303, headers={"Location": location, **NEVER_STORED})


def onward(location: str, place: str = "the app") -> Response:
    """Take the browser to an app, or another place, without a question.

    Not by a redirect: this may be the end of a sign-in form, whose page may only lead to us.
    """
    return page("onward.html", location=location, place=place)


def stopped(status: int, title: str, text: str) -> Response:
    """A page that says why there is no other; the text as one or more sentences."""
    sentences = f"{text[:1].upper()}{text[1:]}".removesuffix(".") + "."
    return page("stopped.html", status, title=title, text=sentences)


def _headers(leads_to: str | None) -> dict[str, str]:
    places = "'self'"
    if leads_to is not None:
        parts = urlsplit(leads_to)
        is_web = parts.scheme in ("http", "https")
        places += f" {parts.scheme}://{parts.netloc}" if is_web else f" {parts.scheme}:"
    return {
        "Content-Security-Policy": (
            "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; "
            f"form-action {places}; frame-ancestors 'none'"
        ),
        # Without an origin in the request we could not tell our own form from another's.
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        **NEVER_STORED,
    }
