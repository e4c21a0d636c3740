"""The report: numbers in JSON, and one sheet that a clinician can check at a glance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...geometry.cameras import Camera
from ...landmarks.names import LANDMARK_NAMES
from ...mesh.mesh import TriangleMesh
from ...mesh.picture import color_map, outline, render_view

PANEL = (520, 620)
RESIDUAL_RANGE_MM = 5.0
# In the order of Evidence: drawn by the model, measured, contradicted; and the closing back.
EVIDENCE_RGB = np.array([[232, 200, 90], [90, 190, 110], [220, 60, 50]])
BACK_RGB = np.array([200, 200, 200])


@dataclass(frozen=True)
class Sheet:
    """What the sheet shows.

    Attributes:
        mesh: the surface, with scalars `residual_mm`, `views`, `evidence` and `torso`, and colours.
        cameras_patient: registered cameras in patient space (mm, RAS).
        landmarks_ras: (6, 3) mm.
        lines: text, top to bottom.
    """

    mesh: TriangleMesh
    cameras_patient: dict[str, Camera]
    landmarks_ras: np.ndarray
    lines: list[str]


def draw_sheet(sheet: Sheet, read_picture: Callable[[str], np.ndarray]) -> np.ndarray:
    """Return the (H, W, 3) uint8 BGR sheet: frames with outline and landmarks, views of the surface, numbers."""
    mesh = sheet.mesh
    assert mesh.normals is not None
    assert mesh.colors is not None
    seen = mesh.scalars["views"] > 0
    names = _spread_of_frames(sheet.cameras_patient)
    frames = [_titled(_frame_panel(sheet, name, read_picture(name)), f"frame {name}: outline and landmarks") for name in names]
    residual = np.where(seen, mesh.scalars["residual_mm"], np.nan)
    evidence = np.where(mesh.scalars["torso"][:, None] > 0, EVIDENCE_RGB[mesh.scalars["evidence"].astype(int)], BACK_RGB)
    colored = [
        ("texture, front", mesh.colors, 0.0),
        ("texture, patient's left", mesh.colors, 60.0),
        ("texture, patient's right", mesh.colors, -60.0),
        (
            f"distance to measured points, 0 to {RESIDUAL_RANGE_MM:.0f} mm",
            color_map(residual, 0, RESIDUAL_RANGE_MM),
            0.0,
        ),
        ("green: measured; yellow: drawn; red: contradicted", evidence.astype(np.uint8), 0.0),
    ]
    panels = [
        _titled(render_view(mesh.vertices, mesh.normals, colors, angle, PANEL)[..., ::-1], title)
        for title, colors, angle in colored
    ]
    rows = [np.concatenate(row, axis=1) for row in ([*frames, panels[0]], panels[1:])]
    return np.concatenate([*rows, _wide_text(sheet.lines, rows[0].shape[1])], axis=0)


def _spread_of_frames(cameras: dict[str, Camera]) -> list[str]:
    """The most frontal frame, and one about 50 degrees to each side of it."""
    azimuth = {name: _azimuth(camera) for name, camera in cameras.items()}
    return [min(azimuth, key=lambda name: abs(azimuth[name] - wanted)) for wanted in (-50.0, 0.0, 50.0)]


def _azimuth(camera: Camera) -> float:
    direction = -camera.viewing_direction_world
    return float(np.degrees(np.arctan2(-direction[0], direction[1])))


def _frame_panel(sheet: Sheet, name: str, picture: np.ndarray) -> np.ndarray:
    import cv2

    camera = sheet.cameras_patient[name]
    drawn = picture.copy()
    cv2.polylines(drawn, outline(camera, sheet.mesh.vertices), True, (60, 255, 60), 3, cv2.LINE_AA)
    pixels, depth = camera.project(sheet.landmarks_ras)
    for k, (pixel, distance) in enumerate(zip(pixels, depth, strict=True)):
        if distance > 0 and np.isfinite(pixel).all():
            place = tuple(int(v) for v in pixel)
            cv2.circle(drawn, place, 12, (40, 40, 255), 3, cv2.LINE_AA)
            cv2.putText(drawn, str(k + 1), (place[0] + 16, place[1] - 8), cv2.FONT_HERSHEY_SIMPLEX, 1.3, (40, 40, 255), 3)
    width, height = PANEL
    factor = min(width / drawn.shape[1], height / drawn.shape[0])
    small = cv2.resize(drawn, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    panel = np.full((height, width, 3), 255, np.uint8)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    panel[top : top + small.shape[0], left : left + small.shape[1]] = small
    return panel


def _titled(panel: np.ndarray, title: str) -> np.ndarray:
    import cv2

    strip = np.full((34, panel.shape[1], 3), 235, np.uint8)
    cv2.putText(strip, title, (8, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([strip, panel], axis=0)


def _wide_text(lines: list[str], width: int) -> np.ndarray:
    import cv2

    legend = "Landmarks: " + ", ".join(f"{k + 1} {name}" for k, name in enumerate(LANDMARK_NAMES))
    rows = [part for line in [*lines, legend] for part in _wrapped(line, width // 10)]
    panel = np.full((26 * len(rows) + 24, width, 3), 255, np.uint8)
    for i, line in enumerate(rows):
        cv2.putText(panel, line, (14, 30 + 26 * i), cv2.FONT_HERSHEY_SIMPLEX, 0.58, (0, 0, 0), 1, cv2.LINE_AA)
    return panel


def _wrapped(line: str, columns: int) -> list[str]:
    import textwrap

    return textwrap.wrap(line.encode("ascii", "replace").decode(), columns, subsequent_indent="    ") or [""]
