"""A figure: one measured value, where it comes from, and the one way it is written."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from reports.errors import UnreadableValue
from reports.regions import UNITS, Kind

_PLACES: dict[Kind, int] = {
    Kind.VOLUME: 1,
    Kind.LONG_AXIS: 1,
    Kind.SHORT_AXIS: 1,
    Kind.PARTS: 0,
    Kind.ENHANCEMENT: 2,
}
_SHOWN_UNIT: dict[Kind, str] = {
    Kind.VOLUME: "mL",
    Kind.LONG_AXIS: "mm",
    Kind.SHORT_AXIS: "mm",
    Kind.PARTS: "",
    Kind.ENHANCEMENT: "",
}
LARGEST = Decimal(100_000)  # beyond any head, in mL and in mm alike


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value and the Observation that states it.

    Attributes:
        value: finite, 0 or more; in the unit that `kind` is written in.
        source: reference of the Observation, `Observation/ID`.
    """

    kind: Kind
    value: Decimal
    source: str

    @property
    def number(self) -> str:
        """The value as every text and table writes it: rounded half up, decimal point.

        A value that would round to zero without being zero reads "<0.1", never "0.0".
        """
        places = _PLACES[self.kind]
        step = Decimal(1).scaleb(-places)
        rounded = self.value.quantize(step, rounding=ROUND_HALF_UP)
        if self.value and not rounded:
            return f"<{step}"
        return f"{rounded:f}"

    @property
    def unit(self) -> str:
        """The unit as it is written; empty for a bare number."""
        return _SHOWN_UNIT[self.kind]

    @property
    def text(self) -> str:
        """Number and unit, held together by a no-break space."""
        return f"{self.number}\u00a0{self.unit}" if self.unit else self.number


def figure(kind: Kind, quantity: dict[str, object], source: str) -> Figure:
    """Read a FHIR Quantity.

    Raises:
        UnreadableValue: no number, not finite, negative, absurdly large, in another unit, a count
            that is not whole, or bounded by a comparator.
    """
    if "comparator" in quantity:
        raise UnreadableValue(source, f"{kind} is bounded, not measured")
    unit = quantity.get("code", quantity.get("unit"))
    if unit not in UNITS[kind]:
        raise UnreadableValue(source, f"{kind} is not in {' or '.join(UNITS[kind])}")
    raw = quantity.get("value")
    if isinstance(raw, bool) or not isinstance(raw, int | float | Decimal):
        raise UnreadableValue(source, f"{kind} is not a number")
    value = Decimal(str(raw))
    if not value.is_finite() or value < 0 or value > LARGEST:
        raise UnreadableValue(source, f"{kind} is out of range")
    if kind is Kind.PARTS and value != value.to_integral_value():
        raise UnreadableValue(source, f"{kind} is not a whole number")
    return Figure(kind, abs(value), source)
