"""Which searches may pass: every parameter is understood, and every type it touches is granted.

A parameter that looks at another resource (`_has`, a chain) tells about that resource even when
it is not returned, so the caller must be able to search it. Source: docs/conformance (SMART).
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qsl, quote

from access import Caller
from access.rights import rights_of
from fhir_gateway.dates import whole_days
from fhir_gateway.model import ServerModel
from fhir_gateway.narrowing import Narrowed, Narrowing
from fhir_gateway.narrowing import Pairs as Pairs
from fhir_gateway.outcome import Refusal

MAX_FIELDS = 200
INCLUDES = frozenset({"_include", "_revinclude"})
RESULT_PARAMETERS = frozenset(
    {"_count", "_sort", "_summary", "_elements", "_total", "_format", "_pretty", "_offset"}
)
HISTORY_PARAMETERS = frozenset({"_count", "_since", "_at", "_format", "_pretty", "_sort"})
# Values of these parameters are ids and codes; all others stay out of the audit trail.
AUDITED = frozenset(
    {"_id", "_lastUpdated", "identifier", "patient", "subject", "status", "category", "code",
     "date", "started", "modality", "_count", "_include", "_revinclude", "_type", "_since"}
)  # fmt: skip


def parse_query(text: str | bytes) -> Pairs:
    """Name and value pairs of a query string or form, strictly UTF-8."""
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        pairs = parse_qsl(
            decoded, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except (ValueError, UnicodeDecodeError) as error:
        raise Refusal(400, "the query is not valid UTF-8 or has too many fields") from error
    if any(char < " " or char == "\x7f" for pair in pairs for part in pair for char in part):
        raise Refusal(400, "the query holds control characters")  # a NUL breaks the store's SQL
    return pairs


def encode_query(pairs: Pairs) -> str:
    """A query string; `|` and everything unusual is percent-encoded, as HAPI needs it."""
    return "&".join(f"{quote(n, safe=':.')}={quote(v, safe=':,.')}" for n, v in pairs)


def audited_query(resource_type: str, pairs: Pairs) -> str:
    """The search for the audit trail, with values that may name a person taken out."""
    shown = [(n, v if n.split(":")[0] in AUDITED else "***") for n, v in pairs]
    return f"{resource_type}?" + "&".join(f"{name}={value}" for name, value in shown)


class SearchGuard:
    """Judges and mends the parameters of one caller's search."""

    def __init__(self, caller: Caller, model: ServerModel) -> None:
        self._caller = caller
        self._model = model
        self._rights = rights_of(caller)
        self._narrowing = Narrowing(caller, model)

    def checked(self, resource_type: str, pairs: Pairs) -> Narrowed:
        """The search as it may go to the store.

        Raises:
            Refusal: a type is not granted (403), or a parameter is not known here (400).
        """
        if not self._rights.names(resource_type, "s"):
            raise Refusal(403, f"searching {resource_type[:64]} is not granted")
        mended = [(name, self._checked(resource_type, name, value)) for name, value in pairs]
        return self._narrowing.search(resource_type, mended)

    def _checked(self, resource_type: str, name: str, value: str) -> str:
        base = name.split(":", 1)[0]
        if base in INCLUDES:
            self._check_include(name, value)
            return value
        if base == "_sort":
            if "." in value:
                raise Refusal(400, "_sort over a chain is not supported", code="not-supported")
            return value
        if name in RESULT_PARAMETERS:
            if name == "_format" and "json" not in value:
                raise Refusal(406, "this server speaks JSON only")
            return value
        return self._filter(resource_type, name, value)

    def _filter(self, resource_type: str, name: str, value: str) -> str:
        """Follow `_has` and chains to the parameter that compares, and mend its value."""
        if name.startswith("_has:"):
            parts = name.split(":", 3)
            if len(parts) != 4 or not self._model.knows(parts[1]):
                raise Refusal(400, "_has needs a type, a reference and a parameter")
            self._need_whole(parts[1])
            return self._filter(parts[1], parts[3], value)
        head, chained, rest = name.partition(".")
        parameter, _, modifier = head.partition(":")
        kind = self._model.kind(resource_type, parameter)
        if kind is None:
            raise Refusal(400, "a search parameter is not supported", code="not-supported")
        if not chained:
            return whole_days(value) if kind == "date" and not modifier else value
        targets = frozenset({modifier}) if modifier else self._targets(resource_type, parameter)
        for target in targets:
            self._need_whole(target)
        return self._through(targets, rest, value)

    def _through(self, targets: Iterable[str], rest: str, value: str) -> str:
        """Continue a chain in the target types that know its next step."""
        step = rest.split(".", 1)[0].split(":", 1)[0]
        able = [one for one in targets if step == "_has" or self._model.kind(one, step)]
        if not able:
            raise Refusal(400, "a chained search parameter is not supported", code="not-supported")
        mended = {self._filter(one, rest, value) for one in able}
        return mended.pop() if len(mended) == 1 else value

    def _targets(self, resource_type: str, parameter: str) -> frozenset[str]:
        targets = self._model.targets_of(resource_type, parameter)
        if not targets:
            raise Refusal(400, "a chained search parameter is not supported", code="not-supported")
        return targets

    def _check_include(self, name: str, value: str) -> None:
        """What an include brings must be readable; the answer is looked at once more."""
        if name not in INCLUDES:
            raise Refusal(403, "iterating includes are not allowed")
        parts = value.split(":")
        if len(parts) not in (2, 3) or not self._model.knows(parts[0]):
            raise Refusal(403, "an include names its source type and its parameter")
        if self._model.kind(parts[0], parts[1]) != "reference":
            raise Refusal(400, "an include names a reference parameter")
        brought = parts[0] if name == "_revinclude" else (parts[2] if len(parts) == 3 else None)
        if brought is not None and not self._rights.names(brought, "r"):
            raise Refusal(403, "an included type is not granted")
        if name == "_revinclude" and not self._rights.names(parts[0], "s"):
            raise Refusal(403, "an included type is not granted")

    def _need_whole(self, resource_type: str) -> None:
        """What is asked about another resource tells about it, shown or not."""
        if not self._caller.may_on_all(resource_type, "s"):
            raise Refusal(403, f"searching all {resource_type[:64]} is not granted")
