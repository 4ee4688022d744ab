"""DELETE of a study, series or instance: not in PS3.18, but what administrators ask for."""

from __future__ import annotations

from functools import partial

from starlette.responses import Response

from archive import Source
from dicomweb.door import Visit, in_thread
from dicomweb.errors import BadRequest

MAX_REASON_CHARS = 200


async def delete(visit: Visit) -> Response:
    """DELETE of what the path names; `?reason=` goes into the change feed's tombstones.

    Who is reading one of the instances reads it to its end.
    """
    reason = visit.request.query_params.get("reason", "deleted over DICOMweb")
    if len(reason) > MAX_REASON_CHARS or not reason.isprintable():
        raise BadRequest(f"a reason is text of at most {MAX_REASON_CHARS} characters")
    source = Source("stow", address=visit.caller.address, subject=visit.caller.subject)
    remove = partial(visit.archive.delete, source=source, reason=reason)
    await in_thread(remove, visit.study or "", visit.series, visit.instance)
    return Response(status_code=204)
