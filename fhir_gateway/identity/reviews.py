"""Doubts about a study's patient as Tasks, so that an administrator sees and settles them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from records import Records, codes, identifiers

Resource = dict[str, Any]

SYSTEM = f"{identifiers.SID}/identity-review"
OPEN = frozenset({"requested", "received", "accepted", "in-progress", "on-hold"})
SETTLED = "the records agree again"

log = structlog.get_logger(__name__)


def is_flagged(study: Resource | None) -> bool:
    """Whether a stored study carries doubts."""
    tags = (study or {}).get("meta", {}).get("tag", [])
    return any(tag.get("system") == codes.PATIENT_FLAG for tag in tags)


async def bring(records: Records, study: Resource, flags: Sequence[codes.Code]) -> None:
    """One Task per study that has doubts; it ends by itself when they are gone.

    A Task that a person has ended is not opened again for the same doubts; one that ended by
    itself is.

    Args:
        study: the ImagingStudy as stored, with its subject.
    """
    uid = identifiers.oid(identifiers.study_uid_of(study) or study["id"])
    known = await records.first("Task", {"identifier": identifiers.token(SYSTEM, uid)})
    if known is None:
        if flags:
            condition = identifiers.by_identifier(SYSTEM, uid)
            await records.create(_task(study, uid, flags), if_none_exist=condition)
            log.warning("identity.review_asked", study=study["id"], flags=_names(flags))
        return
    wanted = {**known, **_doubts(study, flags)}
    if not flags and known["status"] in OPEN:
        wanted |= {"status": "completed", "statusReason": {"text": SETTLED}}
    elif flags and (known.get("reasonCode") != wanted["reasonCode"] or _settled(known)):
        wanted |= {"status": "requested"}
        wanted.pop("statusReason", None)
    if wanted != known:
        await records.update({**wanted, "lastModified": _now()})


async def untag(records: Records, study: Resource, flags: Sequence[codes.Code]) -> None:
    """Take tags off that no longer hold: an update of HAPI's adds tags and never removes one."""
    kept = {flag.code for flag in flags}
    gone = [
        tag
        for tag in study.get("meta", {}).get("tag", [])
        if tag.get("system") == codes.PATIENT_FLAG and tag.get("code") not in kept
    ]
    if gone:
        parameter = {"name": "meta", "valueMeta": {"tag": gone}}
        await records.operation(
            "POST",
            f"ImagingStudy/{study['id']}/$meta-delete",
            data={"resourceType": "Parameters", "parameter": [parameter]},
        )


def _task(study: Resource, uid: str, flags: Sequence[codes.Code]) -> Resource:
    now = _now()
    return {
        "resourceType": "Task",
        "identifier": [{"system": SYSTEM, "value": uid}],
        "status": "requested",
        "intent": "order",
        "code": codes.concept(codes.IDENTITY_REVIEW, text=codes.IDENTITY_REVIEW.display),
        "authoredOn": now,
        "lastModified": now,
        **_doubts(study, flags),
    }


def _doubts(study: Resource, flags: Sequence[codes.Code]) -> Resource:
    about = {
        "focus": {"reference": f"ImagingStudy/{study['id']}"},
        "for": {"reference": study["subject"]["reference"]},
    }
    if not flags:
        return about
    text = "; ".join(flag.display for flag in flags)
    return about | {"reasonCode": codes.concept(*flags, text=text)}


def _settled(task: Resource) -> bool:
    return bool(task.get("statusReason", {}).get("text") == SETTLED)


def _names(flags: Sequence[codes.Code]) -> list[str]:
    return [flag.code for flag in flags]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
