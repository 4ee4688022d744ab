"""One run from pixels to DICOM results. Blocking: a worker calls it in a thread."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog
from pydicom import Dataset

from inference.dicom_results import labels_from, report, segmentation
from inference.key_images import KeyImage, key_images
from inference.lesions import Lesion, lesions_of
from inference.measure import Labels, Measurement, Region, measure
from inference.register import align, on_grid
from inference.runs import Run
from inference.segment import Segmenter
from inference.select import Sequence as Kind
from inference.select import choose, facts_of, reference
from inference.source import Source
from inference.volume import volume_from_instances

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a run found.

    Attributes:
        inputs: sequence name to Series Instance UID.
        seconds: time by stage.
        unstored: SEG and SR as far as the archive lacks them.
    """

    labels: Labels
    measurements: Mapping[Region, Measurement]
    images: Sequence[KeyImage]
    seg_uid: str
    sr_uid: str
    inputs: Mapping[str, str]
    seconds: Mapping[str, float]
    unstored: Sequence[Dataset]
    lesions: Sequence[Lesion]


@dataclass(slots=True)
class Stopwatch:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)


def find(run: Run, series: Sequence[str], source: Source, segmenter: Segmenter) -> Findings:
    """Fetch the MR series that the model needs, segment, measure, and build SEG and SR.

    Args:
        run: names and dates the results.
        series: Series Instance UIDs of the study's MR series.
        source: where pixels come from.
        segmenter: the model.

    Raises:
        InferenceError: a subclass says what the study or the server lacks.
    """
    watch = Stopwatch()
    with watch.stage("choose"):
        headers = (source.series_header(run.study_uid, uid) for uid in series)
        chosen = choose(facts_of(header.instance, header.slices) for header in headers)
    with watch.stage("fetch"):
        fetched = {
            kind: source.instances(run.study_uid, facts.uid) for kind, facts in chosen.items()
        }
    with watch.stage("volume"):
        volumes = {kind: volume_from_instances(found) for kind, found in fetched.items()}
        grid = volumes[reference(chosen)]
        volumes = {kind: align(volume, grid) for kind, volume in volumes.items()}
    with watch.stage("segment"):
        stored = _stored_segmentation(run, source)
        labels = labels_from(stored, grid) if stored else segmenter.segment(volumes, grid)
    with watch.stage("measure"):
        t1, t1c = (
            on_grid(volumes[kind], grid) if kind in volumes else None
            for kind in (Kind.T1, Kind.T1C)
        )
        measurements = measure(labels, grid, t1, t1c)
        lesions = lesions_of(labels, grid, t1, t1c)
    with watch.stage("write"):
        seg = stored or segmentation(labels, grid, segmenter.model, run)
        sr = report(measurements, seg, grid, segmenter.model, run, lesions)
        images = key_images(labels, grid)
    log.info("run_measured", study=run.study_uid, run=run.identifier, **watch.seconds)
    return Findings(
        labels,
        measurements,
        images,
        str(seg.SOPInstanceUID),
        str(sr.SOPInstanceUID),
        {kind.value: facts.uid for kind, facts in chosen.items()},
        watch.seconds,
        [sr] if stored else [seg, sr],
        lesions,
    )


def _stored_segmentation(run: Run, source: Source) -> Dataset | None:
    """The Segmentation that an earlier attempt of the same run stored before it was cut off.

    The archive keeps the first copy for ever, so the numbers must be taken from that one: the
    network's last bits may differ between machines.
    """
    return source.find_instance(run.study_uid, run.uid("SEG series"), run.uid("SEG"))
