"""Which series a study's scanner habits make T1, T1c, T2 or FLAIR."""

import pytest
from pydicom.uid import SegmentationStorage

from inference.errors import NoModelApplies
from inference.select import Sequence, SeriesFacts, choose, reference, sequence_of

IMAGE = ("ORIGINAL", "PRIMARY", "M")


def series(text="", **facts):
    defaults = {"uid": text or "1", "slices": 120, "image_type": IMAGE}
    return SeriesFacts(text=text.lower(), **(defaults | facts))


@pytest.mark.parametrize(
    ("text", "facts", "expected"),
    [
        ("T1 MPRAGE sag", {}, Sequence.T1),
        ("t1_mpr_ns_sag_p2_iso", {}, Sequence.T1),
        ("Ax BRAVO", {}, Sequence.T1),
        ("3D T1-TFE nativ", {"contrast": True}, Sequence.T1),
        ("T1 tra ohne KM", {"contrast": True}, Sequence.T1),
        ("T1 axial sans injection", {}, Sequence.T1),
        ("AX T1 PRE", {}, Sequence.T1),
        ("T1 -C", {}, Sequence.T1),
        ("T1 MPRAGE", {"contrast": True}, Sequence.T1C),
        ("AX T1 POST GD", {}, Sequence.T1C),
        ("t1_tse_tra_km", {}, Sequence.T1C),
        ("T1 +C", {}, Sequence.T1C),
        ("T1CE 3D", {}, Sequence.T1C),
        ("T1-CE", {}, Sequence.T1C),
        ("T1 3D gado", {}, Sequence.T1C),
        ("Ax T1 avec injection", {}, Sequence.T1C),
        ("T1 con contraste", {}, Sequence.T1C),
        ("T2 TSE tra", {}, Sequence.T2),
        ("AX T2 FSE PROPELLER", {"contrast": True}, Sequence.T2),
        ("t2_space_dark-fluid_sag", {}, Sequence.FLAIR),
        ("AX T2 FLAIR", {"contrast": True}, Sequence.FLAIR),
        ("t2_tirm_tra_dark-fluid", {}, Sequence.FLAIR),
        ("AX T1 FLAIR", {}, Sequence.T1),
        ("serie 4", {"echo_ms": 100, "repetition_ms": 5000}, Sequence.T2),
        (
            "serie 5",
            {"echo_ms": 120, "repetition_ms": 9000, "inversion_ms": 2500},
            Sequence.FLAIR,
        ),
        ("serie 6", {"echo_ms": 10, "repetition_ms": 500}, Sequence.T1),
        ("serie 7", {"echo_ms": 10, "repetition_ms": 500, "contrast": True}, Sequence.T1C),
        ("serie 8", {}, None),
        ("T1 localizer", {}, None),
        ("scout T2", {}, None),
        ("ep2d_diff_b1000_T2", {}, None),
        ("T2* GRE", {}, None),
        ("SWI T2", {}, None),
        ("ADC (10^-6)", {}, None),
        ("T1 subtraction", {}, None),
        ("DSC perf T2", {}, None),
        ("TOF MRA T1", {}, None),
        ("T1 MPRAGE", {"image_type": ("DERIVED", "SECONDARY", "MPR")}, None),
        ("T1 MPRAGE", {"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, None),
        ("T2", {"diffusion": True}, None),
        ("T1", {"slices": 3}, None),
        ("T1", {"modality": "CT"}, None),
        ("T1 SEG", {"modality": "SEG", "sop_class": SegmentationStorage}, None),
        ("T1 sag", {"body_part": "KNEE"}, None),
        ("T1 sag", {"body_part": "HEAD"}, Sequence.T1),
    ],
)
def test_a_series_is_recognised_by_the_habits_of_its_scanner(text, facts, expected):
    assert sequence_of(series(text, **facts)) == expected


def test_of_two_candidates_the_one_with_more_then_finer_then_later_images_is_chosen():
    thick = series("T1 tse", uid="thick", slices=25)
    fine = series("T1 mprage", uid="fine", slices=176)
    repeat = series("T1 mprage rep", uid="repeat", slices=176, number=9)

    assert choose([thick, fine])[Sequence.T1].uid == "fine"
    assert choose([repeat, fine])[Sequence.T1].uid == "repeat"


def test_one_sequence_is_enough_and_none_is_no_failure_of_the_model():
    only = choose([series("T2 FLAIR"), series("DWI")])

    assert list(only) == [Sequence.FLAIR]
    assert reference(only) == Sequence.FLAIR
    with pytest.raises(NoModelApplies):
        choose([series("DWI"), series("scout")])
