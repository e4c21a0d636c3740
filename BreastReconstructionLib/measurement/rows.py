"""The table of what was measured: one row a number, each with unit, side, method and uncertainty."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..core.files import write_json, write_text

COLUMNS = ("name", "side", "value", "unit", "uncertainty", "method")


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        name: what was measured.
        side: 'left', 'right' or ''.
        value: in `unit`.
        unit: 'mm', 'ml' or 'degrees'.
        uncertainty: one standard deviation, in `unit`.
        method: how, with the wall of a volume, and where its places come from.
    """

    name: str
    side: str
    value: float
    unit: str
    uncertainty: float
    method: str

    @property
    def key(self) -> str:
        """Of a file, or a node."""
        return "-".join(part for part in (self.side, self.name.replace(",", "").replace(" ", "-")) if part)

    def words(self) -> str:
        """The row as people read it."""
        side = f"{self.side} " if self.side else ""
        return f"{side}{self.name}: {self.value:.0f} ± {self.uncertainty:.0f} {self.unit} ({self.method})"


def write_rows(folder: Path, name: str, rows: tuple[Row, ...]) -> None:
    """Write rows as CSV and as JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([[r.name, r.side, f"{r.value:.2f}", r.unit, f"{r.uncertainty:.2f}", r.method] for r in rows])
    write_text(folder / f"{name}.csv", text.getvalue())
    write_json(folder / f"{name}.json", [asdict(row) for row in rows])


def read_rows(folder: Path, name: str) -> tuple[Row, ...]:
    """Read what `write_rows` wrote."""
    return tuple(Row(**values) for values in json.loads((folder / f"{name}.json").read_text()))


def differences(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Return left minus right of every number that both sides have."""
    right = {(r.name, r.method): r for r in rows if r.side == "right"}
    found = []
    for left in rows:
        other = right.get((left.name, left.method)) if left.side == "left" else None
        if other is not None:
            uncertainty = float(np.hypot(left.uncertainty, other.uncertainty))
            name = f"{left.name}, left minus right"
            found.append(Row(name, "", left.value - other.value, left.unit, uncertainty, left.method))
    return tuple(found)
