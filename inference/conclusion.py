"""The draft text of a report: what was measured, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping

from inference import terms
from inference.measure import Measurement, Region

SEQUENCES = ("T1", "T1c", "T2", "FLAIR")


def conclusion(
    measurements: Mapping[Region, Measurement], inputs: Mapping[str, str], model: str
) -> str:
    """The conclusion of the preliminary report, in English.

    Args:
        measurements: of every region.
        inputs: the sequences that were there, by name.
        model: `name@version`.
    """
    sentences = [*_findings(measurements)]
    sentences.append(absent_sequences(inputs))
    sentences.append(f"Measured automatically by {model}; not reviewed. Not for clinical use.")
    return " ".join(filter(None, sentences))


def absent_sequences(inputs: Mapping[str, str]) -> str:
    """A sentence about the sequences that the study lacks; empty where all are there."""
    absent = [name for name in SEQUENCES if name not in inputs]
    if not absent:
        return ""
    return f"The study has no {_listed(absent)} series; the result is less reliable."


def _findings(measurements: Mapping[Region, Measurement]) -> list[str]:
    whole = measurements[Region.WT]
    if not whole.volume_ml:
        return ["No lesion found by the model."]
    sentences = [
        f"Lesion of {whole.volume_ml:.1f} mL in {_parts(whole.components)}: "
        + ", ".join(
            f"{terms.REGIONS[region].name.lower()} {measurements[region].volume_ml:.1f} mL"
            for region in (Region.ET, Region.NCR, Region.ED)
        )
        + "."
    ]
    enhancing = measurements[Region.ET]
    subject, name = (enhancing, "enhancing part") if enhancing.diameters else (whole, "lesion")
    if subject.diameters:
        sentences.append(
            f"Largest in-plane diameters of the {name}: "
            f"{subject.diameters.long_axis.length_mm:.0f} x "
            f"{subject.diameters.short_axis.length_mm:.0f} mm "
            f"(slice {subject.diameters.slice_index + 1})."
        )
    if enhancing.enhancement_ratio is not None:
        sentences.append(
            f"Its T1 signal after contrast is {enhancing.enhancement_ratio:.1f} times that before."
        )
    return sentences


def _parts(count: int) -> str:
    return "one part" if count == 1 else f"{count} parts"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
