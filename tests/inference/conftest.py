"""Phantoms and the demo study, made once for the package's tests."""

from datetime import UTC, datetime

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from access.internal_rights import INFERENCE
from hilum.example.series import write_study
from inference.config import InferenceConfig
from inference.models import load_model
from inference.runs import Run
from inference.segment import Segmenter
from inference.select import choose, facts_of
from inference.volume import Volume, volume_from_instances
from tests.inference.stack import serving

HOOK_SECRET = "a secret of the hook"


def rotation(x_deg=0.0, y_deg=0.0, z_deg=0.0):
    """Rotation about x, then y, then z."""
    result = np.eye(3)
    for axis, degrees in enumerate((x_deg, y_deg, z_deg)):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        one, two = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[one, one] = turn[two, two] = c
        turn[one, two], turn[two, one] = -s, s
        result = turn @ result
    return result


@pytest.fixture
def make_grid():
    def make(shape, spacing=(1.0, 1.0, 1.0), turn=None, origin=(0.0, 0.0, 0.0)):
        """A volume of zeros; spacing in mm along (slices, rows, columns)."""
        affine = np.eye(4)
        directions = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=float)  # axial
        affine[:3, :3] = (turn if turn is not None else np.eye(3)) @ directions @ np.diag(spacing)
        affine[:3, 3] = origin
        return Volume(np.zeros(shape, np.float32), affine, "1.2.3")

    return make


@pytest.fixture
def ball():
    def make(grid, radius_mm, inner_mm=0.0):
        """Voxels whose centre is within a ball (or shell) about the grid's middle."""
        indices = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
        places = grid.place(indices.reshape(-1, 3).astype(float))
        centre = grid.place(((np.array(grid.shape) - 1) / 2.0)[None])[0]
        distance = np.linalg.norm(places - centre, axis=1).reshape(grid.shape)
        return (distance <= radius_mm) & (distance >= inner_mm)

    return make


@pytest.fixture
def make_slices():
    def make(grid, *, order=None, frame="1.2.3", **attributes):
        """Single-frame MR instances of a volume, in any order."""
        instances = []
        for index in range(grid.shape[0]):
            instance = Dataset()
            instance.file_meta = Dataset()
            instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            instance.SOPClassUID = MRImageStorage
            instance.SOPInstanceUID = f"1.2.3.{index + 1}"
            instance.FrameOfReferenceUID = frame
            instance.ImagePositionPatient = [
                float(v) for v in grid.place(np.array([[index, 0, 0.0]]))[0]
            ]
            spacing = grid.spacing
            row = grid.affine[:3, 2] / spacing[2]
            column = grid.affine[:3, 1] / spacing[1]
            instance.ImageOrientationPatient = [float(v) for v in (*row, *column)]
            instance.PixelSpacing = [spacing[1], spacing[2]]
            instance.Rows, instance.Columns = grid.shape[1:]
            instance.SamplesPerPixel = 1
            instance.PhotometricInterpretation = "MONOCHROME2"
            instance.BitsAllocated = instance.BitsStored = 16
            instance.HighBit = 15
            instance.PixelRepresentation = 0
            instance.PixelData = grid.voxels[index].astype("<u2").tobytes()
            for keyword, value in attributes.items():
                setattr(instance, keyword, value)
            instances.append(instance)
        return [instances[k] for k in order] if order is not None else instances

    return make


@pytest.fixture(scope="session")
def segmenter():
    return Segmenter(load_model(), threads=2)


@pytest.fixture(scope="session")
def load_case(tmp_path_factory):
    def load(case, **options):
        """A written case as {sequence: volume}, chosen and built as a run does it."""
        folder = tmp_path_factory.mktemp("case")
        series = {}
        for path in write_study(case, folder, study_uid="2.25.1000", **options):
            instance = dcmread(path)
            series.setdefault(instance.SeriesInstanceUID, []).append(instance)
        chosen = choose(facts_of(found[54], len(found)) for found in series.values())
        return {kind: volume_from_instances(series[facts.uid]) for kind, facts in chosen.items()}

    return load


@pytest.fixture(scope="session")
def demo(load_case):
    return load_case("synth-ring")


@pytest.fixture
def run():
    return Run("ab" * 32, "2.25.1000", datetime(2026, 1, 15, 10, 0, tzinfo=UTC))


@pytest.fixture
def turned():
    return rotation


@pytest.fixture(scope="module")
def pixels(postgres, tmp_path_factory):
    with serving(postgres, tmp_path_factory.mktemp("pixels")) as served:
        yield served


@pytest.fixture(scope="module")
def config(pixels, hapi):
    return InferenceConfig(
        records_url=hapi.config.base_url,
        records_credentials=hapi.config.grants.credentials(INFERENCE),
        dicomweb_url=pixels.url,
        token=pixels.token,
        hook_secret=HOOK_SECRET,
        threads=2,
        stuck_s=0,
    )
