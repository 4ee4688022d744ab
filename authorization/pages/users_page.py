"""`/admin/users`: who may sign in, for administrators."""

from __future__ import annotations

from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from access.roles import MEANINGS, ROLES
from access.sessions import Session
from access.users import User, UserError, Users, normal
from authorization.pages.administration import Administration, Fields, stopped, typed
from authorization.pages.rendering import go, page

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
            await self.office.thread(lambda: self.users.add(user, fields.get("password", "")))
            self._record(request, session, f"user {user.username} added")
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
        thread, name = self.office.thread, user.username
        match fields.get("do"):
            case "unlock":
                await thread(lambda: self.users.unlock(name))
                what = "lock reset"
            case "password":
                await thread(lambda: self.users.set_password(name, fields.get("password", "")))
                what = "new password"
            case "remove":
                await thread(lambda: self.users.remove(name))
                await thread(lambda: self.office.endings.of_user(name))
                self._record(request, session, f"user {name}: removed")
                return go(LIST)
            case "change":
                changed = replace(_user(fields, name), disabled=bool(fields.get("disabled")))
                await thread(lambda: self.users.change(changed))
                if _rights(changed) != _rights(user):
                    await thread(lambda: self.office.endings.of_user(name))
                what = "changed"
            case _:
                raise UserError("the form says nothing of what is to be done")
        self._record(request, session, f"user {name}: {what}")
        return go(f"{LIST}/{name}")

    async def _find(self, request: Request) -> User:
        return await self.office.thread(lambda: self.users.find(request.path_params["username"]))

    async def _list(self, session: Session, fields: Fields, problem: str) -> Response:
        return page(
            "users.html",
            400 if problem else 200,
            user=session.user,
            csrf=session.csrf,
            users=await self.office.thread(self.users.list),
            roles=MEANINGS,
            fields=typed(fields),
            problem=problem,
        )

    async def _show(
        self, session: Session, someone: User, fields: Fields | None, problem: str
    ) -> Response:
        return page(
            "user.html",
            400 if problem else 200,
            user=session.user,
            csrf=session.csrf,
            someone=someone,
            roles=MEANINGS,
            fields=typed(fields if fields is not None else _fields(someone)),
            problem=problem,
        )

    def _record(self, request: Request, session: Session, detail: str) -> None:
        self.office.door.record_change(request, session.user, detail)


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


def _rights(user: User) -> tuple[str, str | None, bool]:
    return user.role, user.fhir_user, user.disabled
