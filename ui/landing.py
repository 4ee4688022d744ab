"""The first page: what this server is, where its doors are, whether its parts are well."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from ui.login import signed_in
from ui.pages import PAGE_HEADERS, STATIC, render


@dataclass(frozen=True, slots=True)
class Component:
    """The state of one part of the running system."""

    name: str
    state: Literal["up", "starting", "down", "unknown"]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Door:
    """One way into the system, as the page presents it.

    `href` is None for a door a browser cannot open (DIMSE); `address` is what to type there.
    """

    name: str
    purpose: str
    address: str
    href: str | None = None


DOORS = (
    Door("Viewer", "OHIF: study list and images, after signing in", "/ohif/", "/ohif/"),
    Door("FHIR R4", "Patients, studies, results, $export", "/fhir/metadata", "/fhir/metadata"),
    Door("DICOMweb", "STOW-RS, QIDO-RS, WADO-RS", "/dicomweb"),
    Door("DIMSE", "C-ECHO, C-STORE from modalities and PACS", "HILUM@port 11112"),
)

Health = Callable[[], Awaitable[Sequence[Component]]]


def create_app(
    health: Health, *, version: str, doors: Sequence[Door] = DOORS, docs_url: str | None = None
) -> Starlette:
    """The application to mount at / (last, after every other mount).

    Args:
        health: asked for each view of the page; must answer quickly by itself.
        version: of Hilum, shown in the footer.
        doors: what to list, with the addresses this server really listens on.
        docs_url: link to the documentation; None leaves it out.
    """

    async def landing(request: Request) -> HTMLResponse:
        components = await health()
        page = render(
            "landing.html",
            base=request.scope.get("root_path", ""),
            components=components,
            well=all(one.state == "up" for one in components),
            doors=doors,
            version=version,
            docs_url=docs_url,
            user=signed_in(request),
        )
        return HTMLResponse(page, headers=PAGE_HEADERS)

    return Starlette(
        routes=[
            Route("/", landing, methods=["GET"]),
            Mount("/static", StaticFiles(directory=STATIC), name="static"),
        ]
    )
