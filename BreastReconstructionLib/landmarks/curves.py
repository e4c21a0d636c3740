"""Slicer's markups files of lines, curves and closed curves, and of points with free names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..core.errors import LandmarkError
from ..core.files import write_json
from ..geometry.transforms import RAS_TO_LPS
from .files import MARKUPS_SCHEMA, cleaned_label, control_point, write_landmarks_mrk_json

LINE, CURVE, CLOSED_CURVE = "Line", "Curve", "ClosedCurve"


def write_curve(path: Path, points_ras: np.ndarray, kind: str) -> None:
    """Write (N, 3) points, RAS mm, as a line of two points, a linear curve or a closed linear curve.

    Linear, so that the length that Slicer shows is the polyline's.
    """
    write_json(path, {"@schema": MARKUPS_SCHEMA, "markups": [_markup(points_ras, kind)]})


def write_boundaries(case: Path, curves_ras: dict[str, np.ndarray]) -> Path:
    """Keep closed curves, (N, 3) RAS mm by name, in a case folder; returns the file."""
    markups = []
    for points in curves_ras.values():
        markups += [_markup(points, CLOSED_CURVE)]
    path = case / "boundaries.mrk.json"
    write_json(path, {"@schema": MARKUPS_SCHEMA, "markups": markups})
    return path


def add_points(case: Path, earlier: str, points_ras: dict[str, np.ndarray]) -> Path:
    """Keep named points in a case folder, with those of an earlier file ('' for none); returns the file."""
    known = read_points(Path(earlier)) if earlier and Path(earlier).is_file() else {}
    path = case / "points.mrk.json"
    write_landmarks_mrk_json(path, {**known, **points_ras})
    return path


def _markup(points_ras: np.ndarray, kind: str) -> dict:
    points = [control_point(i + 1, "", point) for i, point in enumerate(points_ras)]
    curve = {} if kind == LINE else {"curveType": "linear"}
    return {"type": kind, "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": points, **curve}


def read_points(path: Path) -> dict[str, np.ndarray]:
    """Return the placed points of a markups file, (3,) RAS mm each, by their label in small letters with hyphens.

    Raises:
        LandmarkError: no markups file.
    """
    return {label: point for label, point in _points_of(path) if label}


def read_closed_curves(path: Path) -> list[np.ndarray]:
    """Return the (N, 3) points, RAS mm, of each curve of a markups file.

    Raises:
        LandmarkError: no markups file, or a curve that is not closed or has fewer than four points.
    """
    curves = []
    for markup in _markups(path):
        if markup.get("type") != CLOSED_CURVE:
            raise LandmarkError(f"{path.name} holds a curve that is not closed; draw the breast's boundary as a closed curve.")
        points = _positions(markup, path)
        if len(points) < 4:
            raise LandmarkError(f"The boundary in {path.name} has {len(points)} points; a closed curve needs four or more.")
        curves.append(np.array([point for _, point in points]))
    return curves


def read_curves(path: Path) -> list[tuple[np.ndarray, bool]]:
    """Return the (N, 3) points, RAS mm, of each curve or line of a markups file, and whether it is closed.

    Raises:
        LandmarkError: no markups file, or none of its curves has three points.
    """
    curves = []
    for markup in _markups(path):
        points = [point for _, point in _positions(markup, path)]
        if markup.get("type") in (CURVE, CLOSED_CURVE) and len(points) >= 3:
            curves.append((np.array(points), markup["type"] == CLOSED_CURVE))
    if not curves:
        raise LandmarkError(f"{path.name} holds no curve of three points or more; draw the organ's outlines as curves.")
    return curves


def read_curve_points(path: Path) -> np.ndarray:
    """Return the (N, 3) points, RAS mm, of a markups file in their order."""
    return np.array([point for _, point in _points_of(path)])


def read_kind(path: Path) -> str:
    """Return what a markups file holds: LINE, CURVE, CLOSED_CURVE or another of Slicer's words."""
    return str(_markups(path)[0].get("type", ""))


def _points_of(path: Path) -> list[tuple[str, np.ndarray]]:
    return [pair for markup in _markups(path) for pair in _positions(markup, path)]


def _markups(path: Path) -> list[dict]:
    try:
        return list(json.loads(path.read_text())["markups"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LandmarkError(f"{path.name} is no markups file of Slicer (.mrk.json); save the points again.") from error


def _positions(markup: dict, path: Path) -> list[tuple[str, np.ndarray]]:
    try:
        from_space = RAS_TO_LPS if markup.get("coordinateSystem", "LPS") in ("LPS", "1") else np.eye(3)
        return [
            (
                cleaned_label(str(p.get("label", ""))),
                from_space @ np.array(p["position"], float),
            )
            for p in markup["controlPoints"]
            if p.get("positionStatus", "defined") == "defined"
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise LandmarkError(f"{path.name} is damaged; save the points again.") from error
