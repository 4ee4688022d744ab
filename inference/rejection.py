"""Marks SEG and SR of an earlier run as rejected: a Key Object Selection, as IHE IOCM has it.

The archive deletes nothing. Whoever shows the study sees from the note that its objects gave way.
"""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
from pydicom import Dataset
from pydicom.sr.coding import Code

from inference.dicom_results import MANUFACTURER, SERIAL_NUMBER, headers, settled
from inference.models import Model
from inference.runs import Run

REJECTED = Code("113001", "DCM", "Rejected for Quality Reasons")
SERIES_NUMBER = 9003
WHY = "Superseded: the study has grown, and a later run has measured all of it."


def rejection(objects: Sequence[Dataset], model: Model, run: Run) -> Dataset:
    """The note that rejects `objects`, the same bytes for every repeat of the run.

    Args:
        objects: SEG and SR of earlier runs; one at least.
        model: whose results they are.
        run: the one that takes their place.

    Source: IHE RAD TF-3 4.66.4.1.3.1; PS3.3 A.35.4.
    """
    rejected = headers(objects)
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=run.uid("observer"),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=model.name,
        serial_number=SERIAL_NUMBER,
    )
    content = hd.ko.KeyObjectSelection(
        document_title=REJECTED,
        referenced_objects=rejected,
        observer_device_context=hd.sr.ObserverContext(
            observer_type=hd.sr.CodedConcept("121007", "DCM", "Device"),
            observer_identifying_attributes=device,
        ),
        description=WHY,
    )
    note = hd.ko.KeyObjectSelectionDocument(
        evidence=rejected,
        content=content,
        series_instance_uid=run.uid("KO series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=run.uid("KO"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        series_description="Rejected results",
    )
    return settled(note, rejected[0], run)
