"""The draft text of a report: what was measured, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping

from inference import terms
from inference.measure import Measurement, Region
from inference.models import Model

SEQUENCES = ("T1", "T1c", "T2", "FLAIR")


def conclusion(
    measurements: Mapping[Region, Measurement], inputs: Mapping[str, str], model: Model
) -> str:
    """The conclusion of the preliminary report, in English.

    Args:
        measurements: of every region.
        inputs: the sequences that were there, by name.
        model: what measured.
    """
    sentences = [*_findings(measurements), *cautions(inputs, model)]
    sentences.append(f"Measured automatically by {model.label}; not reviewed.")
    return " ".join([*sentences, "Not for clinical use."])


def cautions(inputs: Mapping[str, str], model: Model) -> list[str]:
    """What a reader must know against the result: sequences not there, lesions not shown."""
    absent = [name for name in SEQUENCES if name not in inputs]
    sentences = []
    if absent:
        sentences.append(f"The study has no {_listed(absent)} series; the result is less reliable.")
    if model.minimum_ml:
        sentences.append(f"Lesions smaller than {model.minimum_ml:g} mL are not shown.")
    return sentences


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
