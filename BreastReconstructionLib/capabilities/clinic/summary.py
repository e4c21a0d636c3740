"""The PDF for the clinician: views with the distances drawn on them, the table with uncertainties, the walls, where the scale
comes from, and the change since an earlier visit if it was compared.

Nothing of the patient stands in it unless somebody typed it.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from ... import __version__
from ...core.progress import Progress
from ...core.run import Inputs
from ...landmarks.curves import read_curve_points
from ...measurement.rows import Row
from ...mesh.mesh import TriangleMesh
from ...mesh.picture import placed_in_view, render_view
from ..torso.stages import SURFACE
from .results import Comparison, Measurements
from .stages import COMPARE, MEASURE, SummaryOptions

VIEWS = ((0.0, "front"), (45.0, "from the left, 45°"), (-45.0, "from the right, 45°"))
VIEW_PIXELS, SKIN = (640, 620), (214, 180, 160)
DRAWN = {"notch-to-nipple-along": (30, 90, 200), "inframammary-fold": (200, 60, 40), "breast-boundary": (40, 140, 60)}


def run(options: SummaryOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Write summary.pdf."""
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.lib.units import mm
    from reportlab.platypus import Image, Paragraph, SimpleDocTemplate, Spacer, Table

    surface, measured = inputs.result(SURFACE), inputs.result(MEASURE)
    styles = getSampleStyleSheet()
    body, small = styles["BodyText"], _small()
    parts: list[Any] = [Paragraph("Breast surface: measurements", styles["Title"])]
    said = [f"Patient: {escape(options.patient_name)}"] if options.patient_name else []
    said += [f"Date of the video: {escape(options.capture_date)}"] if options.capture_date else []
    scale = surface.scale
    said.append(f"Scale: {escape(scale.source)}; uncertain by {100 * scale.relative_uncertainty:.1f} %.")
    parts += [Paragraph(text, body) for text in said]
    parts += [Paragraph(f"<b>DOUBTFUL:</b> {escape(doubt)}", body) for doubt in scale.doubts]
    progress(0.2, "views")
    curves = _drawn_curves(measured)
    pictures = [
        Image(io.BytesIO(_png(_view(surface.mesh, curves, azimuth))), width=60 * mm, height=58 * mm) for azimuth, _ in VIEWS
    ]
    parts += [Spacer(1, 3 * mm), Table([pictures, [Paragraph(name, small) for _, name in VIEWS]])]
    progress(0.6, "table")
    head = ["", "left", "right", "left − right", "how"]
    rows = [[escape(cell) for cell in row] for row in table_of(measured.rows)]
    parts += [Spacer(1, 3 * mm), _table(head, rows, (45, 24, 24, 24, 63)), Spacer(1, 3 * mm)]
    parts.append(
        Paragraph("± is one standard deviation: of the surface, of where the ends were placed, and of the scale together.", small)
    )
    parts += [Paragraph(escape(note), small) for note in measured.warnings]
    compared = inputs.welcome(COMPARE)
    if compared is not None:
        parts += [Paragraph("Change since the earlier visit", styles["Heading2"])]
        head = ["", "side", "change", "how"]
        parts += [_table(head, changes_of(compared), (55, 20, 35, 70)), Spacer(1, 2 * mm)]
        parts.append(Paragraph("In bold: more than twice its standard deviation.", small))
        parts += [Paragraph(escape(note), small) for note in compared.warnings]
    parts.append(
        Paragraph(f"BreastReconstruction {__version__}. The shape model knows synthetic bodies; not for diagnosis.", small)
    )
    progress(0.8, "PDF")
    document = SimpleDocTemplate(
        str(folder / "summary.pdf"), pagesize=A4, title="Breast surface: measurements", author="", leftMargin=15 * mm,
        rightMargin=15 * mm, topMargin=12 * mm, bottomMargin=12 * mm,
    )  # fmt: skip
    document.build(parts)


def _small() -> Any:
    from reportlab.lib.styles import getSampleStyleSheet

    return getSampleStyleSheet()["BodyText"].clone("small", fontSize=8, leading=10)


def _table(head: list[str], rows: list[list[str]], widths_mm: tuple[float, ...]) -> Any:
    """A table of cells that are reportlab's marked-up text."""
    from reportlab.lib import colors
    from reportlab.lib.units import mm
    from reportlab.platypus import Paragraph, Table, TableStyle

    small = _small()
    cells = [[Paragraph(cell, small) for cell in row] for row in rows]
    table = Table([head, *cells], repeatRows=1, colWidths=[width * mm for width in widths_mm])
    lines = [("GRID", (0, 0), (-1, -1), 0.25, colors.grey), ("FONTSIZE", (0, 0), (-1, 0), 8), ("VALIGN", (0, 0), (-1, -1), "TOP")]
    table.setStyle(TableStyle(lines))
    return table


def changes_of(compared: Comparison) -> list[list[str]]:
    """Rows of a comparison as marked-up text; what exceeds its uncertainty is bold."""
    found = []
    for row, exceeds in zip(compared.rows, compared.exceeding, strict=True):
        cells = [row.name, row.side, f"{row.value:+.0f} ± {row.uncertainty:.0f} {row.unit}", row.method]
        found.append([f"<b>{escape(cell)}</b>" if exceeds else escape(cell) for cell in cells])
    return found


def table_of(rows: tuple[Row, ...]) -> list[list[str]]:
    """Rows as people read them: left and right side by side."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        name = row.name.removesuffix(", left minus right")
        column = 3 if name != row.name else {"left": 1, "right": 2}.get(row.side, 1)
        cells = found.setdefault((name, row.method), [name, "", "", "", row.method])
        cells[column] = f"{row.value:.0f} ± {row.uncertainty:.0f} {row.unit}"
    return list(found.values())


def _drawn_curves(measured: Measurements) -> list[tuple[np.ndarray, tuple[int, int, int], bool]]:
    """Points, colour, and whether it is closed, of each curve that the views show."""
    found = []
    for name, path in measured.curves.items():
        color = next((color for part, color in DRAWN.items() if part in name), None)
        if color is not None:
            found.append((read_curve_points(path), color, "boundary" in name))
    return found


def _view(mesh: TriangleMesh, curves: list[tuple[np.ndarray, tuple[int, int, int], bool]], azimuth: float) -> np.ndarray:
    import cv2

    assert mesh.normals is not None
    colors = np.tile(np.array(SKIN, np.uint8), (len(mesh.vertices), 1))
    picture = np.ascontiguousarray(render_view(mesh.vertices, mesh.normals, colors, azimuth, VIEW_PIXELS))
    for points, color, closed in curves:
        places = placed_in_view(points, mesh.vertices, azimuth, VIEW_PIXELS)
        cv2.polylines(picture, [np.round(places).astype(np.int32)], closed, color, 2, cv2.LINE_AA)
    return picture


def _png(picture: np.ndarray) -> bytes:
    import cv2

    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
