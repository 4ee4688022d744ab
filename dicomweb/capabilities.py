"""Retrieve Capabilities (PS3.18 section 8.9): the routing table as WADL or JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import orjson
from starlette.requests import Request
from starlette.responses import Response

from dicomweb.door import Rule
from dicomweb.media import Offer, choose, parse_accept

WADL = "application/vnd.sun.wadl+xml"
_FORMS = (Offer(WADL), Offer("application/json"), Offer("application/dicom+json"))
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_SEARCH = ("limit", "offset", "includefield", "fuzzymatching", "{attribute}")


def capabilities(request: Request, base: str, rules: Sequence[Rule]) -> Response:
    """OPTIONS of the service root, or GET /capabilities.

    Raises:
        NotAcceptable: neither WADL nor JSON is wanted.
    """
    asked = request.query_params.getlist("accept") or request.headers.getlist("accept")
    offer = choose(parse_accept(",".join(asked)), _FORMS)
    text = _wadl(base, rules) if offer.part == WADL else orjson.dumps(_json(base, rules))
    methods = "OPTIONS"
    return Response(text, media_type=offer.part, headers={"Allow": methods, "Vary": "Accept"})


def _by_path(rules: Iterable[Rule]) -> dict[str, list[Rule]]:
    paths: dict[str, list[Rule]] = {}
    for rule in rules:
        paths.setdefault(_PARAMETER.sub(r"{\1}", rule.path), []).append(rule)
    return paths


def _json(base: str, rules: Sequence[Rule]) -> dict[str, Any]:
    return {
        "base": base,
        "resources": [
            {
                "path": path,
                "methods": [
                    {"method": rule.method, "id": _id(rule), "summary": rule.summary}
                    for rule in methods
                ],
            }
            for path, methods in _by_path(rules).items()
        ],
    }


def _id(rule: Rule) -> str:
    """A name for the method, as PS3.18's own examples have it: RetrieveStudy, SearchForStudies."""
    words = re.findall(r"[A-Za-z]+", rule.summary) or [rule.method, rule.path]
    return "".join(word[:1].upper() + word[1:] for word in words)


def _wadl(base: str, rules: Sequence[Rule]) -> bytes:
    resources = "".join(_resource(path, methods) for path, methods in _by_path(rules).items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<application xmlns="http://wadl.dev.java.net/2009/02">'
        f"<resources base={quoteattr(base)}>{resources}</resources></application>\n"
    ).encode()


def _resource(path: str, methods: list[Rule]) -> str:
    names = _PARAMETER.findall(path)
    parameters = "".join(
        f'<param name="{name}" style="template" required="true"/>' for name in names
    )
    body = "".join(_method(rule) for rule in methods)
    return f"<resource path={quoteattr(path.lstrip('/'))}>{parameters}{body}</resource>"


def _method(rule: Rule) -> str:
    query = _SEARCH if rule.interaction == "s" and rule.resource == "ImagingStudy" else ()
    parameters = "".join(f'<param name="{escape(name)}" style="query"/>' for name in query)
    request = f"<request>{parameters}</request>" if parameters else ""
    documentation = f"<doc>{escape(rule.summary)}</doc>" if rule.summary else ""
    return f'<method name="{rule.method}" id="{_id(rule)}">{documentation}{request}</method>'
