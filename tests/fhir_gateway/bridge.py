"""The bridge of work items and Tasks, with the worker's part played by its module of states."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydicom.uid import generate_uid

from archive.workitem_document import code_item, element
from fhir_gateway.workitems import Ordering, WorkitemBridge
from inference import orders
from inference import task as tasks
from inference.models import load_model
from records import identifiers
from tests.dicomweb.workitem import value, work_item
from tests.fhir_gateway.dicom import header, store

MODEL = load_model()
SEGMENTATION, REPORT = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"


@dataclass
class Bridge:
    """The bridge, started anew for each round."""

    config: object
    archive: object
    records: object
    pool: object
    started: list = field(default_factory=list)

    async def round(self):
        async def place(records, study, label, order):
            assert label == MODEL.label
            return await orders.place(records, study, MODEL, order)

        async def start(task_id):
            self.started.append(task_id)

        ordering = Ordering({MODEL.label: "test"}, place, start, orders.cancel)
        fresh = WorkitemBridge(
            self.config, self.archive.workitems, self.archive, self.records, self.pool
        )
        await fresh.round(ordering)

    def order(self, study, **changes):
        """A work item that orders a run; gives its UID."""
        uid = generate_uid()
        wanted = element("00404018", code_item(MODEL.label, "99HILUM", "Segment"))
        document = work_item(study=study, **{"t00404018": wanted, **changes})
        self.archive.workitems.create(uid, document)
        return uid

    def item(self, uid):
        return self.archive.workitems.get(uid)

    def state(self, uid):
        return self.item(uid).state

    def reason(self, uid):
        return value(self.item(uid).attributes, "00741002", "00741238")

    async def tasks_of(self, study):
        return await self.records.search("Task", {"focus": f"ImagingStudy/{study['id']}"})

    async def the_task(self, study):
        (task,) = await self.tasks_of(study)
        return task

    async def complete(self, task, study_uid):
        """What the worker's last transaction does, and the objects that it has stored before."""
        made = {}
        for name, kind in (("segmentation", SEGMENTATION), ("measurement-report", REPORT)):
            data = header(study_uid, Modality="OT", SOPClassUID=kind)
            store(self.archive, data)
            made[name] = str(data.SOPInstanceUID)
        output = [
            {
                "type": {"text": name},
                "valueReference": {
                    "identifier": {
                        "system": identifiers.DICOM_UID,
                        "value": identifiers.oid(uid),
                    }
                },
            }
            for name, uid in made.items()
        ]
        claimed = task if task["status"] == "in-progress" else await tasks.claim(self.records, task)
        done = tasks.prepare_completion(claimed) | {"status": "completed", "output": output}
        await self.records.update(done)
        return made
