"""Settings of moving studies between peers: retrieval, forwarding rules, priors."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from hilum.sections import Section


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return text


Expression = Annotated[str, AfterValidator(_expression)]


class Retrieve(Section):
    """C-MOVE and C-GET, and what we send ourselves."""

    associations: int = Field(
        1, ge=1, le=16, description="Parallel associations to one destination of a C-MOVE."
    )
    answer_s: float = Field(
        60.0, gt=0, description="Longest wait for a peer's answer to each instance."
    )


class ForwardRule(Section):
    """What is sent on, and where to; each condition that is given must hold."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Name of the rule.")
    to: str = Field(description="Name of a peer.")
    modalities: tuple[str, ...] = Field((), description="Modalities, such as CT, or SEG and SR.")
    sop_classes: tuple[str, ...] = Field((), description="SOP Class UIDs.")
    calling_aes: tuple[str, ...] = Field((), description="AE titles of senders.")
    description: Expression = Field(
        "", description="Regular expression found in StudyDescription, case ignored."
    )
    attempts: int = Field(
        5, ge=1, description="Tries for what the peer refuses; while it is away we try on."
    )


class PriorsRule(Section):
    """Which earlier studies of a patient are fetched when a new study arrives."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Name of the rule.")
    source: str = Field(description="Name of the peer to ask.")
    modalities: tuple[str, ...] = Field(
        (), description="Of the new study and of the prior: only studies with one of these."
    )
    body_parts: tuple[str, ...] = Field(
        (), description="Only priors with a series of one of these BodyPartExamined."
    )
    description: Expression = Field(
        "", description="Regular expression found in the prior's StudyDescription, case ignored."
    )
    most: int = Field(5, ge=1, le=100, description="At most so many priors, the newest first.")
    max_age_days: int = Field(3650, ge=1, description="Only priors of the last so many days.")
    by: Literal["get", "move"] = Field(
        "get",
        description="C-GET, or C-MOVE to ourselves (the source must know our AE title and port).",
    )
