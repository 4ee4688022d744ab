"""Names of every script: answered in the character set asked in, or in UTF-8, never broken."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode

from dimse.association.admission import Admission, AdmissionConfig
from dimse.peer_table import PeerTable
from dimse.peers import Peer, Peers
from dimse.query.identifier import to_dataset
from dimse.query.scp import QueryConfig, service
from dimse.wire.charset import can_encode, choose, texts_of
from tests.archive.phantom import slice_of
from tests.dimse.test_find import ask, finder, found, patient, store

__all__ = ["finder", "patient"]

SAMPLES = [
    path
    for path in sorted((Path(pydicom.__file__).parent / "data" / "charset_files").glob("*.dcm"))
    if "SQEncoding" not in path.stem  # no name outside a sequence
]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_names_of_every_sample_are_found_and_come_back_as_they_are(finder, archive, patient, path):
    sample = dcmread(path)
    name, charset = sample.PatientName, sample.get("SpecificCharacterSet")
    store(archive, slice_of(PatientID=patient, PatientName=name, SpecificCharacterSet=charset))

    (answer,) = found(
        ask(
            finder,
            charset=charset,
            QueryRetrieveLevel="STUDY",
            PatientID=patient,
            PatientName=str(name),
        )
    )

    assert str(answer.PatientName) == str(name).rstrip("=")


# A character set, and characters that it has.
SETS = [
    (("ISO_IR 100",), "äöüßéñÅ"),
    (("ISO_IR 101",), "łőčžŠ"),
    (("ISO_IR 144",), "Люксембург"),
    (("ISO_IR 127",), "قباني"),
    (("ISO_IR 126",), "Διονυσιος"),
    (("ISO_IR 138",), "שרון"),
    (("ISO_IR 148",), "ğışÇ"),
    (("ISO_IR 166",), "นามสกุล"),
    (("ISO_IR 13",), "ﾔﾏﾀﾞ"),
    (("", "ISO 2022 IR 87"), "山田太郎やまだ"),
    (("ISO 2022 IR 13", "ISO 2022 IR 87"), "ﾔﾏ山田"),
    (("", "ISO 2022 IR 149"), "洪吉洞홍길동"),
    (("", "ISO 2022 IR 58"), "王小东"),
    (("GB18030",), "王小东𠮷"),
    (("GBK",), "王小东"),
    (("ISO_IR 192",), "𠮷王Жé"),
]


@given(
    st.sampled_from(SETS),
    st.sampled_from(SETS),
    st.data(),
)
@settings(max_examples=300, deadline=None)
def test_whatever_is_chosen_reads_back_what_was_written(wished, written, data):
    letters = st.text(st.sampled_from(written[1] + "aZ 9-"), max_size=8)
    groups = data.draw(st.lists(st.tuples(letters, letters), min_size=1, max_size=3))
    name = {
        group: "^".join(parts).strip()
        for group, parts in zip(("Alphabetic", "Ideographic", "Phonetic"), groups, strict=False)
    }
    comment = data.draw(letters).strip()
    document = {
        "00100010": {"vr": "PN", "Value": [name]},
        "00081030": {"vr": "LO", "Value": [comment]},
    }

    terms = choose(texts_of(document), [wished[0]])
    raw = encode(to_dataset(document, terms), False, True)
    back = decode(BytesIO(raw), False, True)

    wanted = "=".join(name.get(g, "") for g in ("Alphabetic", "Ideographic", "Phonetic"))
    assert str(back.PatientName).rstrip("=") == wanted.rstrip("=")
    assert (back.StudyDescription or "") == comment
    assert terms in (wished[0], ("ISO_IR 192",))


# The library writes ISO 2022 IR 58 without its escape sequence: that goes out as UTF-8.
@pytest.mark.parametrize(("terms", "letters"), [one for one in SETS if "IR 58" not in one[0][-1]])
def test_a_character_set_that_has_the_letters_is_used(terms, letters):
    assert can_encode(letters, terms)


@pytest.mark.parametrize(
    ("terms", "text"),
    [
        ((), "é"),
        (("ISO_IR 6",), "é"),
        (("ISO_IR 100",), "ł"),
        (("", "ISO 2022 IR 87"), "é"),
        (("", "ISO 2022 IR 149"), "ﾔ"),
        (("ISO_IR 144",), "é"),
    ],
)
def test_a_character_set_that_lacks_a_letter_is_not(terms, text):
    assert not can_encode(text, terms)


def test_the_character_set_of_the_peers_entry_comes_first(open_door, archive, patient, postgres):
    store(archive, slice_of(PatientID=patient, PatientName="Müller^Jörg"))
    dsn = postgres.dsn("dimse_tests")
    Peers(dsn).add(Peer("latin", "ASKER", "127.0.0.1", 104, character_set="ISO_IR 100"))
    table = PeerTable(dsn)
    door = open_door(
        Admission(AdmissionConfig(), table),
        services=lambda archive, ledger: [service(archive, ledger, QueryConfig())],
    )

    (answer,) = found(ask(door, QueryRetrieveLevel="STUDY", PatientID=patient, PatientName=""))
    Peers(dsn).remove("latin")
    table.close()

    assert answer.SpecificCharacterSet == "ISO_IR 100"
    assert str(answer.PatientName) == "Müller^Jörg"


@pytest.mark.parametrize("group", ["山田^太郎", "=山田^太郎", "==やまだ^たろう", "*=山田*"])
def test_a_group_of_a_name_is_matched_by_itself(finder, archive, patient, group):
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    store(archive, slice_of(PatientID=patient, PatientName=name))

    answers = found(
        ask(
            finder,
            charset="ISO_IR 192",
            QueryRetrieveLevel="STUDY",
            PatientID=patient,
            PatientName=group,
        )
    )

    assert [str(answer.PatientName) for answer in answers] == [name]


@pytest.mark.parametrize("value", ["Doe^Jane^^^", "Doe^Jane^", "Doe^Jane"])
def test_empty_components_at_the_end_of_a_name_mean_nothing(finder, archive, patient, value):
    store(archive, slice_of(PatientID=patient, PatientName="Doe^Jane"))

    assert found(ask(finder, QueryRetrieveLevel="STUDY", PatientID=patient, PatientName=value))


def test_a_character_set_that_does_not_exist_is_refused(finder):
    identifier = Dataset()
    identifier.QueryRetrieveLevel, identifier.PatientName = "STUDY", "x"

    ((status, _),) = ask(finder, QueryRetrieveLevel="STUDY", charset="ISO_IR 999")

    assert (status.Status, status.OffendingElement) == (0xA900, 0x00080005)


@pytest.mark.parametrize(
    "value",
    [
        "%",
        "_oe^Jane",
        "Doe' or '1'='1",
        "(.*)*$",
        "[D]oe",
        "Doe\\",
        "Doe\r\nroot^x",
        "=cmd|' /C'!A0",
    ],
)
def test_signs_of_other_languages_are_only_text_and_no_value_is_logged(
    finder, archive, patient, capfd, value
):
    store(archive, slice_of(PatientID=patient, PatientName="Doe^Jane"))

    answers = ask(
        finder,
        QueryRetrieveLevel="STUDY",
        PatientID=patient,
        StudyDescription="",
        PatientName=value,
    )

    assert [status.Status for status, _ in answers] == [0x0000]
    assert value not in capfd.readouterr().out + finder.audit()
