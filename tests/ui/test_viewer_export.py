"""A segmentation that OHIF saves comes back to us and can be read by others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread

from tests.dicomweb.server import file_of
from tests.fixtures.browser import Watched
from tests.ui.phantom import SIZE, SLICES, mr_series, segmentation_of, spot
from tests.ui.test_viewer import needs_bundle

SPACING = 3  # mm between slices of the phantom
pytestmark = [needs_bundle, pytest.mark.slow]


def save_in_ohif(chromium, url):
    """Open the study's segmentation in OHIF's own mode and save it as DICOM SEG."""
    watched = Watched(chromium)
    page = watched.page
    page.goto(url)
    page.get_by_text("Tumor segmentation").first.wait_for(timeout=90_000)
    watched.wait_for_pixels()
    page.get_by_text("Tumor segmentation").first.dblclick()
    page.get_by_text("Tumor", exact=True).first.wait_for(timeout=60_000)
    page.get_by_text("Yes", exact=True).click()
    page.locator("[data-cy=segmentation-collapsed-more-btn-Labelmap]").click()
    page.get_by_role("menuitem", name="Export").click()
    page.get_by_role("menuitem", name="DICOM SEG").click()
    with page.expect_response(
        lambda answer: answer.request.method == "POST" and answer.url.endswith("/studies"),
        timeout=90_000,
    ) as stowed:
        page.locator("[role=dialog] button", has_text="Save").click()
    status = stowed.value.status
    page.close()
    return status, watched.errors


def segmentations(site, study):
    """SOP Instance UID and URL of each SEG of a study."""
    with site.client(Accept="application/dicom+json") as client:
        rows = client.get(f"/studies/{study}/instances", params={"Modality": "SEG"}).json()
    return {
        row["00080018"]["Value"][0]: f"/studies/{study}/series/{row['0020000E']['Value'][0]}"
        f"/instances/{row['00080018']['Value'][0]}"
        for row in rows
    }


def test_a_segmentation_saved_in_ohif_is_stored_and_read_by_others(site, root, chromium, tmp_path):
    series = mr_series()
    study = series[0].StudyInstanceUID
    assert site.stow(*map(file_of, series), file_of(segmentation_of(series))).status_code == 200
    before = segmentations(site, study)
    token = site.token_for("system/ImagingStudy.crs", studies=[study])

    url = f"{root}/ohif/segmentation?StudyInstanceUIDs={study}&token={token}"
    status, errors = save_in_ohif(chromium, url)

    after = segmentations(site, study)
    (saved,) = set(after) - set(before)
    file = tmp_path / "saved.dcm"
    with site.client(Accept="application/dicom") as client:
        file.write_bytes(client.get(after[saved]).content)
    assert (status, errors) == (200, [])
    assert dcmread(file).SegmentationType == "BINARY"
    assert np.array_equal(read_by_dcmqi(file, tmp_path), [spot(n) for n in range(SLICES)])


def read_by_dcmqi(file, folder):
    """The segment as 3D Slicer reads it, on the slices of the phantom."""
    command = [str(Path(sys.executable).with_name("segimage2itkimage")), "--inputDICOM", str(file)]
    subprocess.run([*command, "--outputDirectory", str(folder)], check=True, capture_output=True)
    image = SimpleITK.ReadImage(str(folder / "1.nrrd"))
    mask = np.zeros((SLICES, SIZE, SIZE), bool)
    # It writes the slices between the first and the last that hold something.
    first = round(image.GetOrigin()[2] / SPACING)
    found = SimpleITK.GetArrayFromImage(image) > 0
    mask[first : first + len(found)] = found
    return mask
