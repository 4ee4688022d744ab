"""UPS-RS (PS3.18 chapter 11): create, read, change, claim, finish, cancel and search work items."""

from __future__ import annotations

import re
from collections.abc import Iterable
from uuid import uuid4

from starlette.responses import Response

from archive import workitem_document as ups
from archive.keys import DicomJson
from archive.workitem_errors import InvalidWorkitem
from archive.workitems import Workitems
from dicomweb import workitem_subscribers as subscribers
from dicomweb.data_set import data_set_of
from dicomweb.door import Handler, Interaction, Rule, Visit, in_thread, is_uid
from dicomweb.errors import BadRequest
from dicomweb.search import question_of
from dicomweb.workitem_payload import answer_with, refusing, uid_in_query, warned

RESOURCE = "Task"
ITEMS = "/workitems"
ITEM = ITEMS + "/{workitem}"
SUBSCRIBER = ITEM + "/subscribers/{ae}"
AFFECTED_UID = "00001000"
MAX_BYTES = 4 * 1024 * 1024
# Returned by a search unless more is asked for: return keys of table CC.2.5-3 that tell the work.
RETURNED = frozenset({
    "00080005", "00080016", "00080018", "00080050", "00100010", "00100020", "00100021", "00100024",
    "00100030", "00100040", "0020000D", "00380010", "00380014", "00400400", "00404005", "00404008",
    "00404010", "00404011", "00404018", "00404025", "00404026", "00404027", "00404034", "00404041",
    "0040A370", "00741000", "00741200", "00741202", "00741204", "00741224",
})  # fmt: skip
_NOT_IN_AE = re.compile(r"[^A-Za-z0-9_-]")


def workitems(visit: Visit) -> Workitems:
    """The work items behind the door."""
    return visit.archive.workitems


def item_uid(visit: Visit) -> str:
    """The work item that the path names."""
    return str(visit.request.path_params["workitem"])


async def create(visit: Visit) -> Response:
    """POST /workitems: 201 with the place of the new work item."""
    document = await data_set_of(visit, MAX_BYTES)
    uid = uid_in_query(visit, "workitem", "affectedsopinstanceuid") or _named_uid(document)
    uid = uid or f"2.25.{uuid4().int}"
    if not is_uid(uid):
        raise BadRequest("the data set's SOP Instance UID is not valid")
    completed = await in_thread(workitems(visit).create, uid, document, visit.caller.studies)
    place = f"{visit.door.base_url(visit.request)}{ITEMS}/{uid}"
    headers = {"Location": place, "Content-Location": place}
    if completed:
        headers |= warned(visit, "The Workitem was created with modifications.")
    return Response(status_code=201, headers=headers)


def _named_uid(document: DicomJson) -> str | None:
    for name in (AFFECTED_UID, ups.SOP_UID):
        found = document.get(name)
        value = ups.first(document, name) if isinstance(found, dict) else None
        if value:
            return str(value)
    return None


async def retrieve(visit: Visit) -> Response:
    """GET /workitems/{workitem}; the Transaction UID is never shown."""
    item = await in_thread(workitems(visit).get, item_uid(visit), visit.caller.studies)
    tag = f'"{item.version}"'
    if visit.request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    return answer_with(visit, [item.attributes], {"ETag": tag})


async def update(visit: Visit) -> Response:
    """POST /workitems/{workitem}: change attributes, with the lock where it is claimed."""
    changes = await data_set_of(visit, MAX_BYTES)
    transaction = uid_in_query(visit, "transaction", "transaction-uid") or _transaction(changes)
    uid = item_uid(visit)
    await in_thread(workitems(visit).update, uid, changes, transaction, visit.caller.studies)
    return Response(status_code=200, headers=_place(visit))


async def change_state(visit: Visit) -> Response:
    """PUT /workitems/{workitem}/state: claim, complete or cancel."""
    wanted = await data_set_of(visit, MAX_BYTES)
    ups.check(wanted)
    state = ups.first(wanted, ups.STATE)
    if state is None:
        raise InvalidWorkitem("Procedure Step State (0074,1000) is missing")
    changed = await in_thread(
        workitems(visit).change_state,
        item_uid(visit),
        str(state),
        _transaction(wanted),
        visit.caller.studies,
    )
    headers = _place(visit)
    if not changed:
        headers |= warned(visit, f"The UPS is already in the requested state of {state}.")
    return Response(status_code=200, headers=headers)


async def request_cancel(visit: Visit) -> Response:
    """POST /workitems/{workitem}/cancelrequest: for whoever does not perform the work."""
    request = await data_set_of(visit, MAX_BYTES, optional=True)
    changed = await in_thread(
        workitems(visit).request_cancel,
        item_uid(visit),
        request,
        _requester(visit),
        visit.caller.studies,
    )
    already = "The UPS is already in the requested state of CANCELED."
    return Response(status_code=202, headers={} if changed else warned(visit, already))


async def search(visit: Visit) -> Response:
    """GET /workitems: 200, 204 without a match, 206 where the server gave fewer than asked for."""
    question = question_of(visit, visit.caller.studies)
    page = await in_thread(workitems(visit).search, question.query)
    if not page.items:
        return Response(status_code=204)
    most = question.query.limit or 0
    capped = page.has_more and (question.asked is None or question.asked > most)
    headers = {}
    if capped:
        text = f"The number of results exceeded the maximum of {most}; use limit and offset."
        headers = warned(visit, text)
    keys = {path[:8] for path, _ in question.query.match}
    found = [_returned(item, question.query.include, keys) for item in page.items]
    response = answer_with(visit, found, headers)
    response.status_code = 206 if capped else 200
    return response


def _returned(item: DicomJson, include: Iterable[str], keys: set[str]) -> DicomJson:
    if "all" in include:
        return item
    wanted = RETURNED | keys | {path[:8] for path in include}
    return {name: found for name, found in item.items() if name in wanted}


def _transaction(document: DicomJson) -> str | None:
    found = document.get(ups.TRANSACTION)
    value = ups.first(document, ups.TRANSACTION) if isinstance(found, dict) else None
    return str(value) if value else None


def _place(visit: Visit) -> dict[str, str]:
    base = visit.door.base_url(visit.request)
    return {"Content-Location": f"{base}{ITEMS}/{item_uid(visit)}"}


def _requester(visit: Visit) -> str:
    """Requesting AE is an AE title; over HTTP the caller's name has to stand for it."""
    return _NOT_IN_AE.sub("_", visit.caller.subject)[:16] or "UNKNOWN"


def _rule(method: str, path: str, interaction: Interaction, handler: Handler, summary: str) -> Rule:
    return Rule(method, path, interaction, refusing(handler), summary, RESOURCE)


RULES: tuple[Rule, ...] = (
    _rule("POST", ITEMS, "c", create, "Create a work item"),
    _rule("GET", ITEMS, "s", search, "Search for work items"),
    _rule("GET", ITEM, "r", retrieve, "Retrieve a work item"),
    _rule("POST", ITEM, "u", update, "Update a work item"),
    _rule("PUT", ITEM + "/state", "u", change_state, "Claim, complete or cancel a work item"),
    _rule("POST", ITEM + "/cancelrequest", "u", request_cancel, "Request a cancellation"),
    _rule("POST", SUBSCRIBER, "r", subscribers.subscribe, "Subscribe to work items"),
    _rule("DELETE", SUBSCRIBER, "r", subscribers.unsubscribe, "End a subscription"),
    _rule("POST", SUBSCRIBER + "/suspend", "r", subscribers.suspend, "Suspend a subscription"),
)
