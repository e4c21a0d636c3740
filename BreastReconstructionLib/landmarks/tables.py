"""Tables as spreadsheets write them, in any encoding and with any separator; what is not clear is refused by row."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import LandmarkError


def read_text(path: Path) -> str:
    """Return the text of a file in any of the encodings that spreadsheets write."""
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    if b"\0" in data[:64]:
        return data.decode("utf-16-le")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


@dataclass(frozen=True)
class Table:
    """Rows of a spreadsheet.

    Attributes:
        name: of the file.
        columns: their names, in lower case with underscores.
        rows: number of the line, and cells by column.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]

    @classmethod
    def read(cls, path: Path) -> Table:
        """Read a header and rows, separated by commas, semicolons or tabs; empty rows and those after a # are passed over.

        Raises:
            LandmarkError: a row has more cells than the header has names.
        """
        lines = read_text(path).splitlines()
        first = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
        separator = None
        if first < len(lines) and (found := re.fullmatch(r'"?sep=(.)"?', lines[first].strip())):  # as Excel writes it
            separator, first = found[1], first + 1
        header = lines[first] if first < len(lines) else ""
        separator = separator or max(",;\t", key=header.count)
        names = next(csv.reader([header], delimiter=separator), [])
        columns = tuple(re.sub(r"[\s-]+", "_", name.strip().lower()) for name in names)
        rows = []
        for number, line in enumerate(lines[first + 1 :], first + 2):
            if line.startswith("#"):
                continue
            cells = [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
            if any(cells[len(columns) :]):
                commas = "; are these decimal commas? Write points, or separate by semicolons" if separator == "," else ""
                raise LandmarkError(
                    f"{path.name} cannot be understood: row {number} holds {len(cells)} cells, the header names "
                    f"{len(columns)}{commas}."
                )
            if any(cells):
                rows.append((number, dict(zip(columns, cells, strict=False))))
        return cls(path.name, columns, tuple(rows))

    def cell(self, row: int, values: dict[str, str], column: str) -> str:
        """Return the text of a cell.

        Raises:
            LandmarkError: it is empty.
        """
        text = values.get(column, "")
        if text == "":
            raise LandmarkError(
                f"{self.name} cannot be understood: row {row} has no {column}; fill it in, or was the file cut short?"
            )
        return text

    def number(self, row: int, values: dict[str, str], column: str) -> float:
        """Return the number of a cell, with a decimal point or comma; px or mm may follow.

        Raises:
            LandmarkError: it is empty, or not a number.
        """
        text = self.cell(row, values, column)
        found = re.fullmatch(r"([-+]?\d*[.,]?\d+(?:[eE][-+]?\d+)?)\.?\s*(?:px|mm)?", text)
        number = float(found[1].replace(",", ".")) if found else math.nan
        if not math.isfinite(number):
            raise LandmarkError(f"{self.name} cannot be understood: row {row}, column {column}: '{text}' is not a number.")
        return number
