"""The requests that the FHIR door understands; everything else is refused (default deny).

`judge` turns method, path and query into an Interaction: what is needed, and what is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from access import AuditEventKind, Caller
from access import Interaction as Letter
from access.rights import rights_of
from fhir_gateway.model import ServerModel
from fhir_gateway.narrowing import Narrowing, Pairs
from fhir_gateway.outcome import Refusal
from fhir_gateway.searching import (
    HISTORY_PARAMETERS,
    INCLUDES,
    RESULT_PARAMETERS,
    SearchGuard,
    audited_query,
    encode_query,
    parse_query,
)

_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}\Z", re.ASCII)
_ID = re.compile(r"(?!\.+\Z)[A-Za-z0-9\-.]{1,64}\Z", re.ASCII)  # dots alone are no id
RESOURCE_PARAMETERS = frozenset({"_format", "_pretty", "_summary", "_elements"})
VALIDATE_PARAMETERS = frozenset({"profile", "mode", "_format", "_pretty"})
EVERYTHING_PARAMETERS = frozenset({"_count", "_since", "_type", "start", "end", "_format"})
NOT_COMPARING = RESULT_PARAMETERS | INCLUDES
WRITES: Mapping[str, Letter] = {"POST": "c", "PUT": "u", "PATCH": "u", "DELETE": "d"}
# Names under which a token is put into a URL, where it ends up in logs.
TOKENS = frozenset({"access_token", "id_token", "token"})
READ_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Interaction:
    """One request that is allowed.

    Attributes:
        method, path, query: what the store is asked; path without a leading slash.
        form: body of a POST _search, where that is how it came.
        bundle: the answer is a Bundle whose entries are to be looked at.
        counts: the search asks only for what is granted, so that its total may be told.
    """

    method: str
    path: str
    query: str
    resource_type: str
    resource_id: str | None
    action: Literal["C", "R", "U", "D", "E"]
    event: AuditEventKind
    form: bool = False
    bundle: bool = False
    counts: bool = False
    audited: str | None = None


class Judge:
    """Decides on the requests of one caller."""

    def __init__(self, caller: Caller, model: ServerModel) -> None:
        self._caller = caller
        self._model = model
        self._searches = SearchGuard(caller, model)
        self._narrowing = Narrowing(caller, model)
        self._rights = rights_of(caller)

    def judge(
        self,
        method: str,
        path: str,
        query: str,
        *,
        form: bytes | None = None,
        if_none_exist: str | None = None,
    ) -> Interaction:
        """What this request is.

        Args:
            path: below the FHIR base, without a leading slash.
            form: body of a POST whose content type is a form.
            if_none_exist: condition of a create.

        Raises:
            Refusal: 403 not granted, 404 no such thing here, 400 or 405 not understood.
        """
        segments = path.split("/")
        kind, rest = segments[0], segments[1:]
        if not _TYPE.match(kind) or not self._model.knows(kind):
            raise Refusal(404, "no such resource type or operation here")
        pairs = parse_query(query)
        if any(name in TOKENS for name, _ in pairs):
            raise Refusal(400, "a token belongs into the Authorization header")
        if not rest:
            return self._on_type(method, kind, pairs, if_none_exist)
        if rest == ["_search"]:
            return self._search_by_form(method, kind, pairs, form)
        if rest == ["_history"]:
            return self._history(method, kind, None, path, pairs)
        if rest[0].startswith("$") and len(rest) == 1:
            return self._operation(method, kind, None, rest[0], pairs)
        return self._on_instance(method, kind, rest, path, pairs)

    def need(self, resource_type: str, letter: Letter) -> None:
        """Refuse unless the caller's scopes grant this."""
        if not self._rights.names(resource_type, letter):
            raise Refusal(403, f"the token grants no {resource_type}.{letter}")

    def inline_condition(self, resource_type: str, query: str) -> None:
        """A reference such as `Patient?identifier=x`: the store answers whether there is one."""
        if not self._caller.may_on_all(resource_type, "s"):
            raise Refusal(403, f"references by search need {resource_type[:64]}.s without a limit")
        self.condition(resource_type, query)

    def condition(self, resource_type: str, query: str) -> str:
        """A condition such as If-None-Exist: it tells what exists, so it needs search."""
        pairs = parse_query(query)
        # HAPI ignores what does not compare: the condition would then match everything.
        if not pairs or any(not v.strip() or n in NOT_COMPARING for n, v in pairs):
            raise Refusal(400, "a condition has search parameters only, each with a value")
        return encode_query(self._searches.checked(resource_type, pairs).pairs)

    def _on_type(
        self, method: str, kind: str, pairs: Pairs, if_none_exist: str | None
    ) -> Interaction:
        if method in READ_METHODS:
            return self._search("GET", kind, kind, pairs)
        if method not in WRITES:
            raise Refusal(405, "no such method here")
        self.need(kind, WRITES[method])
        action: Literal["C", "U", "D"] = "C" if method == "POST" else "U"
        if method == "POST":
            _only(pairs, RESOURCE_PARAMETERS)
            if if_none_exist is not None:
                self.condition(kind, if_none_exist)
            query = encode_query(pairs)
        else:
            if method == "PUT":
                self.need(kind, "c")  # it creates when nothing matches
            action = "D" if method == "DELETE" else "U"
            query = self.condition(kind, encode_query(pairs))
        return Interaction(method, kind, query, kind, None, action, AuditEventKind.FHIR_WRITE)

    def _search(
        self, method: str, kind: str, path: str, pairs: Pairs, *, form: bool = False
    ) -> Interaction:
        if kind == "Binary":
            raise Refusal(403, "Binary is read by id, not searched")
        checked = self._searches.checked(kind, pairs)
        return Interaction(
            method,
            path,
            encode_query(checked.pairs),
            kind,
            None,
            "E",
            AuditEventKind.FHIR_SEARCH,
            form=form,
            bundle=True,
            counts=checked.exact,
            audited=audited_query(kind, checked.pairs),
        )

    def _search_by_form(
        self, method: str, kind: str, pairs: Pairs, form: bytes | None
    ) -> Interaction:
        if method != "POST":
            raise Refusal(405, "_search takes POST")
        if form is None:
            raise Refusal(415, "_search takes application/x-www-form-urlencoded")
        if pairs:
            raise Refusal(400, "the parameters of a POST _search stand in its body")
        return self._search("POST", kind, f"{kind}/_search", parse_query(form), form=True)

    def _history(
        self, method: str, kind: str, resource_id: str | None, path: str, pairs: Pairs
    ) -> Interaction:
        if method not in READ_METHODS:
            raise Refusal(405, "history is read only")
        if kind == "Binary":
            raise Refusal(403, "Binary has no history here")
        self.need(kind, "r" if resource_id else "s")
        if resource_id is None and not self._caller.may_on_all(kind, "s"):
            raise Refusal(403, f"the history of all {kind} is not granted")
        if resource_id is not None:
            self._narrowing.read(kind, resource_id)
        _only(pairs, HISTORY_PARAMETERS)
        query, event = encode_query(pairs), AuditEventKind.FHIR_READ
        return Interaction("GET", path, query, kind, resource_id, "R", event, bundle=True)

    def _on_instance(
        self, method: str, kind: str, rest: list[str], path: str, pairs: Pairs
    ) -> Interaction:
        resource_id, tail = rest[0], rest[1:]
        if not _ID.match(resource_id):
            raise Refusal(404, "no such resource")
        if tail == ["_history"]:
            return self._history(method, kind, resource_id, path, pairs)
        if len(tail) == 1 and tail[0].startswith("$"):
            return self._operation(method, kind, resource_id, tail[0], pairs)
        version = len(tail) == 2 and tail[0] == "_history" and _ID.match(tail[1])
        if tail and not version:
            raise Refusal(404, "no such resource or operation here")
        query = encode_query(pairs)
        if method in READ_METHODS:
            if kind != "Binary":  # who may read a Binary is decided by its securityContext
                self.need(kind, "r")
                self._narrowing.read(kind, resource_id)
            _only(pairs, RESOURCE_PARAMETERS)
            event = AuditEventKind.FHIR_READ
            return Interaction("GET", path, query, kind, resource_id, "R", event)
        if version or method not in ("PUT", "PATCH", "DELETE"):
            raise Refusal(405, "no such method here")
        self.need(kind, WRITES[method])
        _only(pairs, RESOURCE_PARAMETERS)
        action: Literal["U", "D"] = "D" if method == "DELETE" else "U"
        event = AuditEventKind.FHIR_WRITE
        return Interaction(method, path, query, kind, resource_id, action, event)

    def _operation(
        self, method: str, kind: str, resource_id: str | None, name: str, pairs: Pairs
    ) -> Interaction:
        path = "/".join(part for part in (kind, resource_id, name) if part)
        if name == "$validate" and method == "POST":
            if not self._rights.names(kind, "rcu"):
                raise Refusal(403, f"the token grants nothing on {kind}")
            # With mode=delete the store tells whether it is there and what refers to it.
            if resource_id and not self._caller.may_on_all(kind, "r"):
                raise Refusal(403, f"validate by posting to {kind}/$validate, without an id")
            _only(pairs, VALIDATE_PARAMETERS)
            event = AuditEventKind.FHIR_READ
            return Interaction("POST", path, encode_query(pairs), kind, resource_id, "E", event)
        if name == "$everything" and kind == "Patient" and resource_id and method in READ_METHODS:
            if not (self._caller.may("*", "r") and self._caller.may("*", "s")):
                raise Refusal(403, "$everything needs *.rs: it brings every type")
            self._narrowing.read(kind, resource_id)
            _only(pairs, EVERYTHING_PARAMETERS)
            query, event = encode_query(pairs), AuditEventKind.FHIR_READ
            return Interaction("GET", path, query, kind, resource_id, "R", event, bundle=True)
        raise Refusal(404, "no such operation here")


def _only(pairs: Pairs, allowed: frozenset[str]) -> None:
    for name, value in pairs:
        if name not in allowed:
            raise Refusal(400, "a parameter is not supported here", code="not-supported")
        if name == "_format" and "json" not in value:
            raise Refusal(406, "this server speaks JSON only")
