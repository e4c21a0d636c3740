"""Landmark files: picks in video frames, picks in selected frames, and 3D points.

| file | holds |
|---|---|
| `.csv` with `landmark,video_frame,x_px,y_px` | picks in frames of the video (counted from 0), one or more rows a landmark |
| `.csv` with `landmark,x,y,z` | 3D points in world |
| `<frame>_landmarks.txt` | six rows `x y` in the order of LANDMARK_NAMES, picked in the selected frame `<frame>.png` |
| `.pp` (MeshLab), `.ply` | 3D points in world; `.pp` by name or in order, `.ply` in order |
| `.mrk.json` (Slicer) | 3D points; RAS numbers are world numbers |

Pixels are continuous: the centre of the upper left pixel is (0.5, 0.5).
"""

from __future__ import annotations

import csv
import json
import os
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import LandmarkError
from .names import LANDMARK_NAMES


@dataclass(frozen=True)
class Pick:
    """One landmark picked in one picture.

    Attributes:
        landmark: a name of LANDMARK_NAMES.
        video_frame: index in the video, or None if the picture is named.
        frame_name: file name of a selected frame, or None if the video frame is numbered.
        x_px, y_px: pixels.
    """

    landmark: str
    video_frame: int | None
    frame_name: str | None
    x_px: float
    y_px: float


@dataclass(frozen=True)
class LandmarkInput:
    """What a landmark file gave: picks in pictures, or 3D points in world; the other one is empty."""

    picks: tuple[Pick, ...]
    points_world: dict[str, np.ndarray]


def read_landmarks(path: Path) -> LandmarkInput:
    """Read any supported landmark file, by its ending.

    Raises:
        LandmarkError: the file is missing or unreadable, a landmark is missing, unknown or repeated.
    """
    path = Path(path)
    if not path.is_file():
        raise LandmarkError(f"The landmark file {path.name} does not exist; give the file that holds the six landmarks.")
    name = path.name.lower()
    try:
        if name.endswith("_landmarks.txt"):
            return _read_frame_picks(path)
        if name.endswith(".csv"):
            return _read_csv(path)
        if name.endswith((".mrk.json", ".json")):
            return _points(_read_mrk_json(path), path)
        if name.endswith(".pp"):
            return _points(_read_pp(path), path)
        if name.endswith(".ply"):
            return _points(_read_ply(path), path)
    except (ValueError, KeyError, IndexError, UnicodeDecodeError, ElementTree.ParseError) as error:
        raise LandmarkError(f"The landmark file {path.name} cannot be understood: {error}.") from error
    raise LandmarkError(f"{path.name} is not a landmark file; use .csv, <frame>_landmarks.txt, .mrk.json, .pp or .ply.")


def require_all(names: set[str], where: str) -> None:
    """Raise LandmarkError unless each of the six landmarks is in `names`."""
    missing = [name for name in LANDMARK_NAMES if name not in names]
    if missing:
        raise LandmarkError(f"{where} lacks {_listing(missing)}; place all six landmarks.")


def read_video_picks(path: Path) -> tuple[Pick, ...]:
    """Read `landmark,video_frame,x_px,y_px` rows; landmarks may still be missing.

    Raises:
        LandmarkError: the file cannot be understood.
    """
    try:
        return _video_picks(*_csv_rows(path), path)
    except (ValueError, KeyError, OSError, UnicodeDecodeError) as error:
        raise LandmarkError(f"The landmark file {path.name} cannot be understood: {error}.") from error


def write_video_picks(path: Path, picks: list[tuple[str, int, float, float]]) -> None:
    """Write `landmark,video_frame,x_px,y_px` rows, in one step."""
    temporary = path.with_name(path.name + ".partial")
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["landmark", "video_frame", "x_px", "y_px"])
        writer.writerows((name, frame, f"{x:.2f}", f"{y:.2f}") for name, frame, x, y in picks)
    os.replace(temporary, path)


def write_landmarks_pp(path: Path, points_world: dict[str, np.ndarray]) -> None:
    """Write a MeshLab picked-points file of 3D points in world, in one step."""
    root = ElementTree.Element("PickedPoints")
    for name, point in points_world.items():
        values = {axis: f"{value:.9g}" for axis, value in zip("xyz", point, strict=True)}
        ElementTree.SubElement(root, "point", {**values, "active": "1", "name": name})
    temporary = path.with_name(path.name + ".partial")
    ElementTree.ElementTree(root).write(temporary, encoding="utf-8")
    os.replace(temporary, path)


def write_landmarks_mrk_json(path: Path, landmarks_ras: dict[str, np.ndarray]) -> None:
    """Write a Slicer markups file (points in RAS mm, stored as LPS), in one step."""
    points = [
        {
            "id": str(i + 1),
            "label": name,
            "position": [-float(point[0]), -float(point[1]), float(point[2])],
            "positionStatus": "defined",
        }
        for i, (name, point) in enumerate(landmarks_ras.items())
    ]
    document = {
        "@schema": "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
        "markups-schema-v1.0.3.json#",
        "markups": [
            {
                "type": "Fiducial",
                "coordinateSystem": "LPS",
                "coordinateUnits": "mm",
                "controlPoints": points,
            }
        ],
    }
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(document, indent=1))
    os.replace(temporary, path)


def _listing(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _known(name: str, path: Path) -> str:
    cleaned = name.strip().lower().replace("_", "-").replace(" ", "-")
    if cleaned not in LANDMARK_NAMES:
        raise LandmarkError(f"{path.name} names an unknown landmark '{name}'; the names are {', '.join(LANDMARK_NAMES)}.")
    return cleaned


def _points(rows: list[tuple[str | None, np.ndarray]], path: Path) -> LandmarkInput:
    named = all(name and name.strip().lower().replace("_", "-").replace(" ", "-") in LANDMARK_NAMES for name, _ in rows)
    if not named:
        if len(rows) != len(LANDMARK_NAMES):
            raise LandmarkError(f"{path.name} holds {len(rows)} unnamed points; it must hold the six landmarks in order.")
        rows = [(name, point) for name, (_, point) in zip(LANDMARK_NAMES, rows, strict=True)]
    points: dict[str, np.ndarray] = {}
    for name, point in rows:
        name = _known(name, path)
        if name in points:
            raise LandmarkError(f"{path.name} holds {name} twice; keep one.")
        if not np.isfinite(point).all():
            raise LandmarkError(f"{path.name} holds no finite position for {name}.")
        points[name] = point
    require_all(set(points), path.name)
    return LandmarkInput((), {name: points[name] for name in LANDMARK_NAMES})


def _csv_rows(path: Path) -> tuple[set[str], list[dict[str, str]]]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        header = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = header
        return set(header), list(reader)


def _video_picks(header: set[str], rows: list[dict[str, str]], path: Path) -> tuple[Pick, ...]:
    if not {"landmark", "video_frame", "x_px", "y_px"} <= header:
        raise LandmarkError(f"{path.name} must begin with the header landmark,video_frame,x_px,y_px.")
    picks = []
    for row in rows:
        pick = Pick(_known(row["landmark"], path), int(row["video_frame"]), None, float(row["x_px"]), float(row["y_px"]))
        if pick.video_frame < 0 or not np.isfinite([pick.x_px, pick.y_px]).all():
            raise LandmarkError(f"{path.name} holds an impossible frame or position for {pick.landmark}.")
        picks.append(pick)
    return tuple(picks)


def _read_csv(path: Path) -> LandmarkInput:
    header, rows = _csv_rows(path)
    if {"landmark", "x", "y", "z"} <= header:
        return _points([(row["landmark"], np.array([float(row[k]) for k in "xyz"])) for row in rows], path)
    picks = _video_picks(header, rows, path)
    require_all({pick.landmark for pick in picks}, path.name)
    return LandmarkInput(picks, {})


def _read_frame_picks(path: Path) -> LandmarkInput:
    numbers = np.array([line.replace(",", " ").split()[:2] for line in path.read_text().splitlines() if line.strip()], float)
    if numbers.shape != (len(LANDMARK_NAMES), 2) or not np.isfinite(numbers).all():
        raise LandmarkError(f"{path.name} must hold six rows 'x y', one a landmark in order.")
    frame = path.name[: -len("_landmarks.txt")] + ".png"
    picks = [Pick(name, None, frame, float(x), float(y)) for name, (x, y) in zip(LANDMARK_NAMES, numbers, strict=True)]
    return LandmarkInput(tuple(picks), {})


def _read_mrk_json(path: Path) -> list[tuple[str, np.ndarray]]:
    markups = json.loads(path.read_text())["markups"][0]
    sign = np.array([-1.0, -1.0, 1.0]) if str(markups.get("coordinateSystem", "LPS")) in ("LPS", "0") else np.ones(3)
    points = [point for point in markups["controlPoints"] if point.get("positionStatus", "defined") == "defined"]
    return [(str(point["label"]), sign * np.array(point["position"], float)) for point in points]


def _read_pp(path: Path) -> list[tuple[str, np.ndarray]]:
    points = ElementTree.parse(path).getroot().iter("point")
    active = [point for point in points if point.get("active", "1") == "1"]
    return [(point.get("name"), np.array([float(point.get(k)) for k in "xyz"])) for point in active]


def _read_ply(path: Path) -> list[tuple[None, np.ndarray]]:
    import trimesh

    cloud = trimesh.load(path, process=False)
    return [(None, np.asarray(point, float)) for point in np.asarray(cloud.vertices)]
