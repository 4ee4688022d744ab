"""Bundles that pass the FHIR door: what goes in is judged, what comes out is looked at again."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from access import Caller
from access.grants import Rights
from access.rights import rights_of
from fhir_gateway.grammar import Interaction, Judge
from fhir_gateway.outcome import Refusal
from fhir_gateway.searching import encode_query, parse_query

MAX_ENTRIES = 1_000
PAGES = "_getpages"
GRANT = "_grant"
COUNTED = "+"  # behind the type that was searched: a page may tell the total as well
PAGE_PARAMETERS = frozenset(
    {PAGES, "_getpagesoffset", "_count", "_bundletype", "_pretty", "_format", "_summary",
     "_elements", "_pageId", "_total"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class JudgedBundle:
    """A batch or transaction that may go on.

    Attributes:
        resource: the Bundle for the store, without the entries that were refused.
        allowed: (position, interaction) of each entry in it.
        refused: position -> refusal; only a batch has any.
        total: number of entries that came.
    """

    resource: dict[str, Any]
    allowed: list[tuple[int, Interaction]]
    refused: dict[int, Refusal]
    total: int


def judge_bundle(body: bytes, judge: Judge) -> JudgedBundle:
    """Judge each entry of a batch or transaction alone.

    Raises:
        Refusal: not a batch or transaction, or an entry of a transaction is not allowed: then
            nothing of it is stored.
    """
    bundle = _parse(body)
    kind, entries = bundle.get("type"), bundle.get("entry", [])
    if bundle.get("resourceType") != "Bundle" or kind not in ("batch", "transaction"):
        raise Refusal(400, "only a Bundle of type batch or transaction is posted to the base")
    if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
        raise Refusal(413, f"a Bundle has at most {MAX_ENTRIES} entries")
    allowed, refused, kept = [], {}, []
    for position, entry in enumerate(entries):
        try:
            interaction, mended = _judge_entry(entry, judge)
        except Refusal as refusal:
            if kind == "transaction":
                raise Refusal(
                    refusal.status, f"entry {position}: {refusal}", code=refusal.code
                ) from refusal
            refused[position] = refusal
            continue
        allowed.append((position, interaction))
        kept.append(mended)
    return JudgedBundle({**bundle, "entry": kept}, allowed, refused, len(entries))


def _parse(body: bytes) -> dict[str, Any]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, "the body is not valid JSON") from error
    if not isinstance(parsed, dict):
        raise Refusal(400, "the body is not a FHIR resource")
    return parsed


def _judge_entry(entry: Any, judge: Judge) -> tuple[Interaction, dict[str, Any]]:
    if not isinstance(entry, dict) or not isinstance(entry.get("request"), dict):
        raise Refusal(400, "an entry has no request")
    request = entry["request"]
    method, url = str(request.get("method", "")), str(request.get("url", ""))
    parts = urlsplit(url)
    if parts.scheme or parts.netloc or parts.fragment or url.startswith("/"):
        raise Refusal(400, "the URL of an entry is relative to the base")
    condition = request.get("ifNoneExist")
    if condition is not None and not isinstance(condition, str):
        raise Refusal(400, "ifNoneExist is a string")
    interaction = judge.judge(method, parts.path, parts.query, if_none_exist=condition)
    if interaction.resource_type == "Binary" and interaction.action == "R":
        raise Refusal(403, "Binary is read alone, not in a Bundle")
    resource = entry.get("resource")
    if method in ("POST", "PUT") and isinstance(resource, dict):
        sent_type = resource.get("resourceType")
        if sent_type != interaction.resource_type and "$" not in interaction.path:
            raise Refusal(400, "the resource of an entry is not of the type in its URL")
        for kind, query in _inline_conditions(resource):
            judge.inline_condition(kind, query)
    target = interaction.path + (f"?{interaction.query}" if interaction.query else "")
    mended = {**request, "url": target}
    if condition is not None:
        mended["ifNoneExist"] = judge.condition(interaction.resource_type, condition)
    return interaction, {**entry, "request": mended}


def _inline_conditions(value: Any) -> Iterator[tuple[str, str]]:
    """References like `Patient?identifier=x`: the store resolves them, so they are searches."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, list):
            pending.extend(one)
        elif isinstance(one, dict):
            pending.extend(one.values())
            reference = one.get("reference")
            if isinstance(reference, str) and "?" in reference:
                kind, _, query = reference.partition("?")
                yield kind, query


def merge_batch(judged: JudgedBundle, answer: dict[str, Any]) -> dict[str, Any]:
    """The store's answer with a refusal in the place of each entry that did not go to it."""
    entries: list[dict[str, Any]] = [{} for _ in range(judged.total)]
    for (position, _), entry in zip(judged.allowed, answer.get("entry", []), strict=True):
        entries[position] = entry
    for position, refusal in judged.refused.items():
        status = f"{refusal.status} {HTTPStatus(refusal.status).phrase}"
        entries[position] = {"response": {"status": status, "outcome": refusal.outcome}}
    return {**answer, "entry": entries}


def check_types(bundle: dict[str, Any], rights: Rights, asked: frozenset[str]) -> None:
    """The second wall: no resource leaves in a Bundle whose type the caller may not read.

    `asked` are the types that the request itself named and that were judged already.
    """
    for entry in bundle.get("entry", []):
        resource = entry.get("resource") or {}
        kind = resource.get("resourceType")
        if kind in (None, "OperationOutcome") or kind in asked:
            continue
        if kind == "Bundle":
            check_types(resource, rights, asked)
        elif not rights.names(kind, "rs"):
            raise Refusal(403, f"the answer holds {kind}, which is not granted")


class PageLinks:
    """Paging links that only the caller who searched can follow.

    HAPI's page id is good for whoever knows it. Ours carries the searched type and a signature
    over it, the page id and the caller with all that it was granted.
    """

    def __init__(self, key: bytes, base: str) -> None:
        self._base = base
        self._key = sha256(b"hilum paging\x00" + key).digest()

    def signed(self, bundle: dict[str, Any], caller: Caller, searched: str) -> dict[str, Any]:
        """The Bundle with its links signed.

        `searched` is the type, with `COUNTED` behind it where the total may be told.
        """
        links = [self._sign(link, caller, searched) for link in bundle.get("link", [])]
        return {**bundle, "link": links} if links else bundle

    def opened(self, query: str, caller: Caller) -> tuple[str, str]:
        """The store's query behind a link and the type that was searched.

        Raises:
            Refusal: the link was not made for this caller.
        """
        pairs = parse_query(query)
        given = dict(pairs)
        if len(given) != len(pairs):  # the store might follow the one that was not signed
            raise Refusal(400, "a parameter of a page link is given twice")
        searched, _, signature = given.pop(GRANT, "").partition(".")
        expected = self._signature(given.get(PAGES, ""), caller, searched)
        if not hmac.compare_digest(signature.encode(), expected.encode()):
            raise Refusal(403, "this page link was made for another caller")
        if not set(given) <= PAGE_PARAMETERS:
            raise Refusal(400, "a parameter is not supported here", code="not-supported")
        return encode_query([(n, v) for n, v in pairs if n != GRANT]), searched

    def _sign(self, link: dict[str, Any], caller: Caller, searched: str) -> dict[str, Any]:
        url = str(link.get("url", ""))
        pages = dict(parse_query(urlsplit(url).query)).get(PAGES)
        if pages is None:
            return link
        grant = f"{searched}.{self._signature(pages, caller, searched)}"
        query = f"{urlsplit(url).query}&{GRANT}={quote(grant)}"
        return {**link, "url": f"{self._base}/?{query}"}

    def _signature(self, pages: str, caller: Caller, searched: str) -> str:
        told = "\n".join([pages, searched, repr(rights_of(caller))])
        return hmac.new(self._key, told.encode(), sha256).hexdigest()
