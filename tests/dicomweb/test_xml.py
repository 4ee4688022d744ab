"""The Native DICOM Model: as DCMTK writes it, read back without loss, and nothing hostile in it."""

from __future__ import annotations

import io
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pydicom.data
import pytest
from pydicom import Dataset, dcmread

from dicomweb.errors import BadRequest
from dicomweb.xml import from_native, to_native
from tests.dicomweb.server import file_of, slice_of

GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
CHARSETS = Path(pydicom.data.__file__).parent / "charset_files"


def rich() -> Dataset:
    dataset = slice_of(
        PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう", SpecificCharacterSet="ISO_IR 192"
    )
    dataset.OtherPatientNames = ["A^B^C^D^E", "F"]
    dataset.ImageType = ["ORIGINAL", "", "AXIAL"]
    dataset.ImageComments = "less < than & more > than"
    dataset.FrameIncrementPointer = 0x00181063
    block = dataset.private_block(0x0029, "ACME 1.0", create=True)
    block.add_new(0x01, "LO", "private")
    block.add_new(0x02, "DS", ["1.5", "2"])
    code = Dataset()
    code.CodeValue = "1"
    dataset.ProcedureCodeSequence = [code, Dataset()]
    return dataset


def flat(node: ET.Element, prefix: str = "") -> list[tuple[str, str]]:
    """Every text of the model by its path; numbers as numbers, white space at the ends apart."""
    found = []
    for child in node:
        name = child.get("tag") or f"{child.tag}{child.get('number', '')}"
        path = f"{prefix}/{name}[{child.get('privateCreator', '')}{child.get('keyword', '')}]"
        text = (child.text or "").strip()
        if text and child.tag == "Value" and text.replace(".", "", 1).isdigit():
            text = str(float(text))
        # A value that is not there needs no element (table A.1.5-2): DCMTK writes an empty one.
        if child.tag != "InlineBinary" and (text or child.get("tag")):
            found.append((path, text))
        found += flat(child, path)
    return found


def test_the_model_is_the_one_that_dcmtk_writes(tmp_path):
    file = tmp_path / "rich.dcm"
    dataset = rich()
    del dataset.PixelData
    file.write_bytes(file_of(dataset))

    theirs = subprocess.run(["dcm2xml", "-nat", file], capture_output=True, check=True).stdout
    ours = to_native(dcmread(file).to_json_dict())

    assert flat(ET.fromstring(ours)) == flat(ET.fromstring(theirs))


def significant(document):
    """Without delimiters at the end of names, which say nothing (PS3.5 6.2.1), and "" as None."""
    if isinstance(document, list):
        return [significant(one) for one in document]
    if not isinstance(document, dict):
        return None if document == "" else document
    names = {k: v.rstrip("^") for k, v in document.items() if k in GROUPS and v.rstrip("^")}
    rest = {k: significant(v) for k, v in document.items() if k not in GROUPS}
    return names | rest


def test_what_is_written_is_read_back():
    document = dcmread(io.BytesIO(file_of(rich()))).to_json_dict()

    again = from_native(to_native(document))

    assert again == significant(document)


@pytest.mark.parametrize("path", sorted(CHARSETS.glob("*.dcm")), ids=lambda path: path.name)
def test_names_in_every_character_set_survive(path):
    document = dcmread(path).to_json_dict()

    again = from_native(to_native(document))

    assert again == significant(document)


def test_control_characters_and_markup_in_values_stay_text():
    name = "Evil\x1b[31m\x00</PersonName>]]>&<script>"

    xml = to_native({"00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]}})

    family = ET.fromstring(xml).find(".//FamilyName")
    assert family is not None and family.text == "Evil\ufffd[31m\ufffd</PersonName>]]>&<script>"


BOMB = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    "<NativeDicomModel>&b;</NativeDicomModel>"
)
READS_A_FILE = (
    '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><NativeDicomModel>&f;</NativeDicomModel>'
)
DEEP = "<DicomAttribute tag='00081115' vr='SQ'><Item number='1'>" * 100


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        READS_A_FILE,
        f"<NativeDicomModel>{DEEP}{'</Item></DicomAttribute>' * 100}</NativeDicomModel>",
        "<Other/>",
        "<NativeDicomModel>",
        "<NativeDicomModel><DicomAttribute tag='../../x' vr='LO'/></NativeDicomModel>",
        "<NativeDicomModel><DicomAttribute tag='00280010' vr='US'><Value>x</Value>"
        "</DicomAttribute></NativeDicomModel>",
    ],
)
def test_xml_that_is_hostile_or_wrong_is_refused(text):
    with pytest.raises(BadRequest):
        from_native(text.encode())


def test_xml_in_another_encoding_is_refused():
    with pytest.raises(BadRequest):
        from_native("<NativeDicomModel/>".encode("utf-16"))
