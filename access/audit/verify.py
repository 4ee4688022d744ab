"""Walks the spool and says which records were removed, changed, put elsewhere or cut off."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from access.audit.anchor import Anchor
from access.audit.chain import chains, is_in_use, name_parts, retired
from access.audit.record import (
    START,
    AuditEventKind,
    Head,
    SpooledRecord,
    decode,
    digest_of,
    place_of,
)
from access.audit.retention import noted


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was written.

    Attributes:
        kind: removed, changed, reordered, repeated, damaged, torn or truncated.
        first, last: sequence numbers, inclusive.
    """

    chain: str
    kind: str
    first: int
    last: int
    text: str

    def __str__(self) -> str:
        span = str(self.first) if self.first == self.last else f"{self.first} to {self.last}"
        return f"{self.chain}: {self.kind}: {span}: {self.text}"


@dataclass(slots=True)
class Report:
    """What a walk has found.

    Attributes:
        ends: first and last record of each chain, as they are now.
        repairs: notes of half-written records that a crash left; no fault.
    """

    records: int = 0
    ends: dict[str, tuple[int, int]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    repairs: list[str] = field(default_factory=list)


def verify(folder: Path, anchors: Sequence[Anchor] = ()) -> Report:
    """Walk every chain of a spool. Anchors show also what was cut off or written anew."""
    report, notes = Report(), dict[str, set[Head]]()
    walks: dict[str, _Walk] = {}
    for chain, files in chains(folder).items():
        anchored = {one.heads[chain].sequence for one in anchors if chain in one.heads}
        walks[chain] = _Walk(chain, report, anchored)
        for path in files:
            for record in walks[chain].read(path):
                if (note := noted(record.record)) is not None:
                    notes.setdefault(note[0], set()).add(note[1])
                if record.record.event is AuditEventKind.REPAIR:
                    report.repairs.append(record.record.detail or "")
    known = retired(folder)
    for chain in sorted({*walks, *known, *(c for one in anchors for c in one.heads)}):
        walk = walks.get(chain) or _Walk(chain, report, set())
        lawful = notes.get(chain, set()) & {known.get(chain, START)}
        walk.finish(lawful.pop() if lawful else START)
        for anchor in anchors:
            if chain in anchor.heads:
                walk.hold_against(anchor, anchor.heads[chain])
    return report


class _Walk:
    """One chain, read file by file; of what is behind it only the last record is remembered."""

    def __init__(self, chain: str, report: Report, anchored: set[int]) -> None:
        self._chain = chain
        self._report = report
        self._anchored = anchored
        self._kept: dict[int, str] = {}  # digests of the anchored records
        self._first: tuple[int, str | None] | None = None
        self._last = START
        self._damaged: set[int] = set()
        self._told: set[Finding] = set()

    def read(self, path: Path) -> Iterator[SpooledRecord]:
        """Take in one file; gives its records."""
        parts = name_parts(path)
        expected, highest = (parts[1] if parts else 1), 0
        found: dict[int, tuple[str | None, str]] = {}  # digest of the one before, and its own
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    if is_in_use(path.parent, self._chain):
                        break  # it is being written
                    text = f"{len(line)} bytes of a half-written record at the end of {path.name}"
                    self._find("torn", expected, expected, text)
                    break
                self._report.records += 1
                try:
                    (sequence, previous), record = place_of(line), decode(line)
                except ValueError:
                    self._find("damaged", expected, expected, f"unreadable in {path.name}")
                    # Known by its place: it is there, whatever it says.
                    found.setdefault(expected, (None, digest_of(line)))
                    self._damaged.add(expected)
                    expected += 1
                    continue
                if sequence in found:
                    self._find("repeated", sequence, sequence, "its number is there twice")
                else:
                    found[sequence] = (previous, digest_of(line))
                    if sequence < highest:
                        self._find("reordered", sequence, sequence, f"it stands behind {highest}")
                expected, highest = sequence + 1, max(highest, sequence)
                yield record
        self._follow(found)

    def _follow(self, found: dict[int, tuple[str | None, str]]) -> None:
        """Compare each record with what the next one says of it."""
        for sequence in sorted(found):
            told, digest = found[sequence]
            if sequence in self._anchored:
                self._kept[sequence] = digest
            last = self._last
            if self._first is None:
                self._first = (sequence, told)
            elif sequence <= last.sequence:
                text = f"it stands behind {last.sequence}"
                self._find("reordered", sequence, sequence, text)
                continue
            elif sequence > last.sequence + 1:
                self._gone(last.sequence + 1, sequence - 1)
            elif told not in (None, last.digest) and last.sequence not in self._damaged:
                text = f"its content is not what record {sequence} was written behind"
                self._find("changed", last.sequence, last.sequence, text)
            self._last = Head(sequence, digest)

    def finish(self, start: Head) -> None:
        """Compare the first record with where the chain may begin.

        Args:
            start: the last record that went after its time, or START.
        """
        if self._first is None:
            return
        first, told = self._first
        if first > start.sequence + 1:
            self._gone(start.sequence + 1, first - 1)
        elif first == start.sequence + 1 and told not in (None, start.digest):
            self._find("changed", first, first, "it does not follow what went before it")
        self._report.ends[self._chain] = (first, self._last.sequence)

    def hold_against(self, anchor: Anchor, head: Head) -> None:
        """Compare with an anchor taken earlier."""
        when = anchor.at.isoformat(timespec="seconds")
        if head.sequence > self._last.sequence:
            text = f"the chain had {head.sequence} records on {when}"
            self._find("truncated", self._last.sequence + 1, head.sequence, text)
        elif self._kept.get(head.sequence, head.digest) != head.digest:
            text = f"not as it was on {when}: it, or records before it, were written anew"
            self._find("changed", head.sequence, head.sequence, text)

    def _gone(self, first: int, last: int) -> None:
        self._find("removed", first, last, "no such record in the spool")

    def _find(self, kind: str, first: int, last: int, text: str) -> None:
        finding = Finding(self._chain, kind, first, last, text)
        if finding not in self._told:
            self._told.add(finding)
            self._report.findings.append(finding)


def records(folder: Path) -> Iterable[SpooledRecord]:
    """Every readable record of the spool, chain by chain."""
    for files in chains(folder).values():
        for path in files:
            with path.open("rb") as file:
                for line in file:
                    try:
                        yield decode(line)
                    except ValueError:
                        continue
