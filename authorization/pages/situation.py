"""Where a person stands between an app's question and its answer; and which step comes next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from access.caller import Caller
from access.sessions import Session
from access.users import User
from authorization.choices import Choice
from authorization.clients import Client
from authorization.context import LaunchContext
from authorization.requests import AuthorizationRequest

STEPS = "/auth/steps"
Step = Literal["launch", "patient", "encounter", "study", "consent"]
# What is chosen of a patient, so that one has to be known first.
_OF_A_PATIENT = ("launch/patient", "launch/encounter", "launch/imagingstudy")


@dataclass(frozen=True, slots=True)
class Situation:
    """One open request in the hands of a signed-in user.

    Attributes:
        offered: the scopes asked for that the client and the user may have.
        choice: what was chosen so far.
        token: of the browser session.
    """

    request: AuthorizationRequest
    client: Client
    session: Session
    token: str
    offered: str
    choice: Choice

    @property
    def user(self) -> User:
        """Who is signed in."""
        return self.session.user

    @property
    def caller(self) -> Caller:
        """The user by the app, for the audit trail."""
        caller = self.user.caller(client=self.client.client_id)
        return replace(caller, patient=self.choice.context.patient)

    @property
    def here(self) -> str:
        """Path of the page."""
        return f"{STEPS}/{self.request.request_id}"

    @property
    def step(self) -> Step:
        """What is to be asked next."""
        scopes, choice = self.offered.split(), self.choice
        if self.request.launch is not None and "launch" not in choice.chosen:
            return "launch"
        about_patient = any(one.startswith("patient/") or one in _OF_A_PATIENT for one in scopes)
        if about_patient and choice.context.patient is None:
            return "patient"
        if (
            "launch/encounter" in scopes
            and choice.context.encounter is None
            and "encounter" not in choice.chosen
        ):
            return "encounter"
        if (
            "launch/imagingstudy" in scopes
            and choice.study is None
            and "study" not in choice.chosen
        ):
            return "study"
        return "consent"

    def chose(self, what: str, context: LaunchContext | None = None) -> Choice:
        """The choice with one more answer."""
        return Choice(context or self.choice.context, self.choice.chosen | {what})

    @property
    def grantable(self) -> str:
        """The offered scopes, without those whose context was not chosen after all."""
        missing = set()
        if self.choice.context.encounter is None:
            missing.add("launch/encounter")
        if self.choice.study is None:
            missing.add("launch/imagingstudy")
        if self.request.launch is None:
            missing.add("launch")
        return " ".join(one for one in self.offered.split() if one not in missing)

    def with_study(self, logical_id: str) -> LaunchContext:
        """The context with an ImagingStudy."""
        entry = {"reference": f"ImagingStudy/{logical_id}"}
        context = self.choice.context
        return replace(context, fhir_context=(*context.fhir_context, entry))
