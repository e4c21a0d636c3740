"""Several visits of one patient side by side: the same numbers, by date."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...core.case import Case
from ...core.errors import MeasurementError
from ...core.files import write_text
from ...core.settings import read_settings
from ...measurement.rows import Row
from .stages import MEASURE, SUMMARY


@dataclass(frozen=True)
class Series:
    """Numbers of several visits.

    Attributes:
        visits: a word for each: the date of its video if one was typed, else the name of its case folder.
        rows: what was measured, and of each visit its row, or None where it lacks it.
    """

    visits: tuple[str, ...]
    rows: tuple[tuple[str, str, str, tuple[Row | None, ...]], ...]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the columns, and the cells of each row."""
        columns = ["measured", "side", "how", *self.visits]
        cells = [
            [name, side, method, *("" if r is None else f"{r.value:.1f} ± {r.uncertainty:.1f} {r.unit}" for r in found)]
            for name, side, method, found in self.rows
        ]
        return columns, cells

    def write(self, path: Path) -> None:
        """Write the table as CSV."""
        text = io.StringIO()
        columns, cells = self.table()
        csv.writer(text, lineterminator="\n").writerows([columns, *cells])
        write_text(path, text.getvalue())


def series_of(folders: Sequence[Path]) -> Series:
    """Read the measurements of several cases, in the order given.

    Raises:
        CaseError: a case is missing, or was not measured.
        MeasurementError: fewer than two cases.
    """
    if len(folders) < 2:
        raise MeasurementError("A series needs two visits or more; measure another case of the patient.")
    tables = [{(r.name, r.side, r.method): r for r in Case(folder).result(MEASURE).rows} for folder in folders]
    keys = list(dict.fromkeys(key for table in tables for key in table))
    rows = tuple((*key, tuple(table.get(key) for table in tables)) for key in keys)
    words = [_word(folder) for folder in folders]
    unlike = len(set(words)) == len(words)
    return Series(tuple(words if unlike else [f"{number}: {word}" for number, word in enumerate(words, 1)]), rows)


def _word(folder: Path) -> str:
    date = read_settings(folder, (SUMMARY,), others=True).of(SUMMARY).capture_date if (folder / "settings.json").is_file() else ""
    return date or folder.name
