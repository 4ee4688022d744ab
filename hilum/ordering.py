"""What can be ordered over UPS-RS: the inference package's side of it, for the gateway's bridge."""

from __future__ import annotations

from functools import partial
from typing import Any

import procrastinate
import structlog

import inference.hook
from fhir_gateway.workitems import Ordering
from hilum.settings import Settings
from inference import orders
from inference.errors import ModelError
from inference.models import load_model
from records import Records

log = structlog.get_logger(__name__)


def ordering(settings: Settings, queue: procrastinate.App) -> Ordering | None:
    """The installed model by its label; None where no inference runs or the model is broken."""
    if not settings.inference.enabled:
        return None
    try:
        model = load_model(settings.inference.model)
    except ModelError as error:
        log.error("no_orders", reason=str(error))
        return None

    async def place(
        records: Records, study: dict[str, Any], label: str, order: dict[str, Any]
    ) -> dict[str, Any] | None:
        if label != model.label:
            raise ValueError(f"{label} is not installed")
        return await orders.place(records, study, model, order)

    start = partial(inference.hook.defer_run, queue)
    return Ordering({model.label: model.description}, place, start, orders.cancel)
