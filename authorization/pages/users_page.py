"""`/admin/users`: who may sign in, for administrators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from access.roles import MEANINGS, ROLES
from access.sessions import Session
from access.users import User, UserError, Users, normal
from authorization.pages.administration import Administration, Fields, stopped
from authorization.pages.rendering import go

LIST = "/admin/users"
_EMPTY: Fields = {"role": "viewer"}


@dataclass(frozen=True)
class UsersPage:
    """The pages."""

    office: Administration
    users: Users

    def routes(self) -> list[BaseRoute]:
        """The routes, at the root of the site."""
        one = f"{LIST}/{{username}}"
        return [
            Route(LIST, self.list, methods=["GET"]),
            Route(LIST, self.add, methods=["POST"]),
            Route(one, self.show, methods=["GET"]),
            Route(one, self.change, methods=["POST"]),
        ]

    async def list(self, request: Request) -> Response:
        """All users, and a form for one more."""
        return await self.office.look(request, lambda session: self._list(session, _EMPTY, ""))

    async def add(self, request: Request) -> Response:
        """Add a user with a first password."""

        async def work(session: Session, fields: Fields) -> Response:
            user = _user(fields, normal(fields.get("username", "")))
            what, password = f"user {user.username} added: {user.told}", fields.get("password", "")
            await self.office.recorded(
                request, session, what, lambda: self.users.add(user, password)
            )
            return go(f"{LIST}/{user.username}")

        return await self.office.change(request, work, self._list)

    async def show(self, request: Request) -> Response:
        """One user."""

        async def found(session: Session) -> Response:
            try:
                return await self._show(session, await self._find(request), None, "")
            except UserError:
                return stopped(404, "There is no such user.")

        return await self.office.look(request, found)

    async def change(self, request: Request) -> Response:
        """Change a user, forget their wrong passwords, give a new one, or remove them."""

        async def work(session: Session, fields: Fields) -> Response:
            return await self._changed(request, session, await self._find(request), fields)

        async def again(session: Session, fields: Fields, problem: str) -> Response:
            try:
                return await self._show(session, await self._find(request), fields, problem)
            except UserError:
                return stopped(404, "There is no such user.")

        return await self.office.change(request, work, again)

    async def _changed(
        self, request: Request, session: Session, user: User, fields: Fields
    ) -> Response:
        do, what = self._meant(user, fields)
        await self.office.recorded(request, session, f"user {user.username}: {what}", do)
        return go(LIST if fields.get("do") == "remove" else f"{LIST}/{user.username}")

    def _meant(self, user: User, fields: Fields) -> tuple[Callable[[], None], str]:
        """What a form wants done, and how the trail calls it. Raises UserError."""
        name, password = user.username, fields.get("password", "")
        match fields.get("do"):
            case "unlock":
                return lambda: self.users.unlock(name), "lock reset"
            case "password":
                return lambda: self.users.set_password(name, password), "new password"
            case "remove":
                return lambda: self.users.remove(name), "removed"
            case "change":
                changed = replace(_user(fields, name), disabled=bool(fields.get("disabled")))
                return lambda: self.users.change(changed), f"changed: {changed.told}"
        raise UserError("the form says nothing of what is to be done")

    async def _find(self, request: Request) -> User:
        return await self.office.thread(lambda: self.users.find(request.path_params["username"]))

    async def _list(self, session: Session, fields: Fields, problem: str) -> Response:
        users = await self.office.thread(self.users.list)
        return self.office.page("users.html", session, problem, fields, users=users, roles=MEANINGS)

    async def _show(
        self, session: Session, someone: User, fields: Fields | None, problem: str
    ) -> Response:
        shown = fields if fields is not None else _fields(someone)
        return self.office.page(
            "user.html", session, problem, shown, someone=someone, roles=MEANINGS
        )


def _user(fields: Fields, username: str) -> User:
    """The user that a form describes. Raises UserError."""
    role = next((one for one in ROLES if one == fields.get("role")), None)
    if role is None:
        raise UserError(f"a role is one of {', '.join(ROLES)}")
    return User(username, fields.get("name", ""), role, fields.get("fhir_user") or None)


def _fields(user: User) -> Fields:
    """A user as the form has them."""
    found = {"name": user.display_name, "role": user.role, "fhir_user": user.fhir_user or ""}
    return found | ({"disabled": "1"} if user.disabled else {})
