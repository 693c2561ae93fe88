"""What a soak prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.soak.schedule import Fault
from tests.soak.verdict import Evidence
from tests.soak.watch import Recovery


@dataclass(frozen=True)
class Happened:
    """A fault that was done: when it began and how long it took until it was mended (seconds), and what came of it."""

    fault: Fault
    at: float
    lasted: float
    remark: str
    recovery: Recovery


def row(happened: Happened) -> str:
    """One line of the table of faults."""
    took = happened.recovery.seconds
    again = "never" if took is None else f"{took:.2f} s"
    what = f"{happened.fault}{f' ({happened.remark})' if happened.remark else ''}"
    return f"{happened.fault.number:>3}  {happened.fault.at:>6.1f}  {happened.at:>6.1f}  {happened.lasted:>6.2f} s  {again:>8}  {what}"


def table(faults: Sequence[Happened]) -> str:
    """All faults. `again` is from the mending to the first job, put after it, that each daemon that was hit has handled."""
    return "\n".join(["  #    plan      at     lasted     again  what", *map(row, faults)])


def counts(evidence: Evidence, crashes: int, errors: dict[str, int]) -> str:
    """The ledger in a few lines."""
    complaints = ", ".join(f"{number} {name}" for name, number in sorted(errors.items())) or "none"
    return "\n".join(
        [
            f"put        {len(evidence.attempted)} attempted, {len(evidence.confirmed)} confirmed; puts that failed: {complaints}",
            f"handled    {len(evidence.handled)}, buried {len(evidence.buried)}, processes ended by poison {crashes}",
            f"lost       {len(evidence.lost)}",
            f"unexpected {len(evidence.unexpected)}",
            f"duplicates {evidence.duplicates} (bound {evidence.bound})",
            f"left       {evidence.left or 'nothing'}",
        ]
    )
