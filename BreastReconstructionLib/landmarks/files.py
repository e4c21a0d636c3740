"""Landmark files: picks in pictures, and 3D points.

| file | holds |
|---|---|
| `.csv` with `landmark,video_frame,x_px,y_px` | picks in frames of the video (counted from 0), one or more rows a landmark |
| `.csv` with `landmark,picture,x_px,y_px` | the same in pictures of a folder, by their own names |
| `.csv` with `landmark,x,y,z` | 3D points in world |
| `<frame>_landmarks.txt` | six rows `x y` in the order of LANDMARK_NAMES, in the selected frame or picture `<frame>` |
| `.pp` (MeshLab), `.ply` | 3D points in world; `.pp` by name or in order, `.ply` in order |
| `.mrk.json` (Slicer) | 3D points; RAS numbers are world numbers, but for a result's own file, which says how to go back |

A fifth column `source` of picks says `proposed` where the program found them and nobody has looked yet, `confirmed` where a
person did; else a person placed them.

Pixels are continuous: the centre of the upper left pixel is (0.5, 0.5). They are those of the video as a player shows it:
upright, with square pixels, not flipped by the option for mirrored videos.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.errors import LandmarkError
from ..core.files import replacing, write_json
from ..geometry.transforms import Similarity
from ..video.pictures import IMAGE_ENDINGS
from .names import LANDMARK_NAMES
from .tables import Table, read_text

# Key under which a result's own markups file says how its patient space comes from world; Slicer passes it over.
OWN_KEY = "BreastReconstruction"
MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/markups-schema-v1.0.3.json#"
)
# What the panel keeps in a case of the places that were clicked.
PICKS_FILE = "landmarks.csv"
# Who says where a landmark is: the program, and then a person who looked.
PROPOSED, CONFIRMED = "proposed", "confirmed"
# Names of frames that the program chose itself.
OWN_FRAME = re.compile(r"\d{3,}\.png")


@dataclass(frozen=True)
class Pick:
    """One landmark picked in one picture.

    Attributes:
        landmark: a name of LANDMARK_NAMES.
        video_frame: index in the video, or None if the picture is named.
        frame_name: file name of a selected frame or of a picture of the folder, or None if the video frame is numbered.
        x_px, y_px: pixels.
        source: PROPOSED, CONFIRMED, or '' where a person placed it.
    """

    landmark: str
    video_frame: int | None
    frame_name: str | None
    x_px: float
    y_px: float
    source: str = ""


@dataclass(frozen=True)
class LandmarkInput:
    """What a landmark file gave: picks in pictures, or 3D points; the other one is empty.

    Attributes:
        picks: in pictures.
        points: name -> (3,), as the file has them.
        points_to_world: from the file's points to world; None where they are world numbers.
    """

    picks: tuple[Pick, ...]
    points: dict[str, np.ndarray]
    points_to_world: Similarity | None = None

    @property
    def names_pictures(self) -> bool:
        """True if some picks are in named pictures; only then does it matter which pictures a folder holds."""
        return any(pick.frame_name is not None for pick in self.picks)

    def named(self, source: str) -> tuple[str, ...]:
        """Names of the landmarks some picks of which have a source, PROPOSED or CONFIRMED, in the order of LANDMARK_NAMES."""
        names = {pick.landmark for pick in self.picks if pick.source == source}
        return tuple(name for name in LANDMARK_NAMES if name in names)

    def of_pictures(self, files: tuple[Path, ...]) -> LandmarkInput:
        """Return the same with pictures of a folder numbered as the folder's pictures are; the user's names come first.

        Raises:
            LandmarkError: a pick names a picture that is neither in the folder nor a chosen frame.
        """
        numbers = {path.name.lower(): i for i, path in enumerate(files)}
        stems = {path.stem.lower(): i for i, path in enumerate(files)}
        picks = []
        for pick in self.picks:
            if pick.frame_name is not None:
                name = pick.frame_name.lower()
                number = numbers.get(name, stems.get(Path(name).stem))
                if number is not None:
                    pick = replace(pick, video_frame=number, frame_name=None)
                elif not OWN_FRAME.fullmatch(name):
                    where = "is in the folder of pictures" if files else "can be in a video, whose frames are numbered"
                    raise LandmarkError(
                        f"The {pick.landmark} is picked in {pick.frame_name}, but no picture of that name {where}."
                    )
            picks.append(pick)
        return replace(self, picks=tuple(picks))

    def flipped(self, width_px: int) -> LandmarkInput:
        """Return the same in pictures of that width that are flipped left to right; frames chosen by the program are already."""
        picks = [replace(p, x_px=width_px - p.x_px) if p.frame_name is None else p for p in self.picks]
        return replace(self, picks=tuple(picks))


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
            return _read_mrk_json(path)
        if name.endswith(".pp"):
            return _points(_read_pp(path), path)
        if name.endswith(".ply"):
            return _points(_read_ply(path), path)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, ElementTree.ParseError) as error:
        raise LandmarkError(f"The landmark file {path.name} cannot be understood: {error}.") from error
    raise LandmarkError(f"{path.name} is not a landmark file; use .csv, <frame>_landmarks.txt, .mrk.json, .pp or .ply.")


def require_all(names: set[str], where: str) -> None:
    """Raise LandmarkError unless each of the six landmarks is in `names`."""
    missing = [name for name in LANDMARK_NAMES if name not in names]
    if missing:
        raise LandmarkError(f"{where} lacks {_listing(missing)}; place all six landmarks.")


def read_video_picks(path: Path) -> tuple[Pick, ...]:
    """Read rows of picks; landmarks may still be missing.

    Raises:
        LandmarkError: the file cannot be understood.
    """
    try:
        return _picks(Table.read(path))
    except (ValueError, OSError, csv.Error) as error:
        raise LandmarkError(f"The landmark file {path.name} cannot be understood: {error}.") from error


def write_video_picks(path: Path, picks: Sequence[tuple[str, int, float, float] | tuple[str, int, float, float, str]]) -> None:
    """Write `landmark,video_frame,x_px,y_px` rows, in one step; and `source`, if some rows have one."""
    sources = [pick[4] if len(pick) > 4 else "" for pick in picks]
    columns = ["landmark", "video_frame", "x_px", "y_px", *(["source"] if any(sources) else [])]
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for (name, frame, x, y, *_), source in zip(picks, sources, strict=True):
            writer.writerow([name, frame, f"{x:.2f}", f"{y:.2f}", source][: len(columns)])


def write_landmarks_pp(path: Path, points_world: dict[str, np.ndarray]) -> None:
    """Write a MeshLab picked-points file of 3D points in world, in one step."""
    root = ElementTree.Element("PickedPoints")
    for name, point in points_world.items():
        values = {axis: f"{value:.9g}" for axis, value in zip("xyz", point, strict=True)}
        ElementTree.SubElement(root, "point", {**values, "active": "1", "name": name})
    with replacing(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8")


def write_landmarks_mrk_json(
    path: Path, landmarks_ras: dict[str, np.ndarray], world_to_patient_ras_mm: Similarity | None = None
) -> None:
    """Write a Slicer markups file (points in RAS mm, stored as LPS), in one step.

    With the similarity the file can be given back as landmarks of the same case: `read_landmarks` undoes it.
    """
    points = [control_point(i + 1, name, point) for i, (name, point) in enumerate(landmarks_ras.items())]
    document = {
        "@schema": MARKUPS_SCHEMA,
        "markups": [
            {
                "type": "Fiducial",
                "coordinateSystem": "LPS",
                "coordinateUnits": "mm",
                "controlPoints": points,
            }
        ],
    }
    if world_to_patient_ras_mm is not None:
        document[OWN_KEY] = {"world_to_patient_ras_mm": world_to_patient_ras_mm.as_dict()}
    write_json(path, document)


def control_point(number: int, label: str, point_ras: np.ndarray) -> dict:
    """Return a (3,) point, RAS mm, as markups files hold it."""
    position = [-float(point_ras[0]), -float(point_ras[1]), float(point_ras[2])]
    return {"id": str(number), "label": label, "position": position, "positionStatus": "defined"}


def _listing(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def cleaned_label(name: str) -> str:
    """Return a label in small letters with hyphens, as landmarks are named."""
    return re.sub(r"[\s_]+", "-", name.strip().lower())


def _known(name: str, where: str) -> str:
    cleaned = cleaned_label(name)
    if cleaned not in LANDMARK_NAMES:
        near = difflib.get_close_matches(cleaned, LANDMARK_NAMES, 1)
        hint = f"is it {near[0]}? The names are" if near else "the names are"
        raise LandmarkError(f"{where} names an unknown landmark '{name}'; {hint} {', '.join(LANDMARK_NAMES)}.")
    return cleaned


def _points(rows: list[tuple[str | None, np.ndarray]], path: Path, to_world: Similarity | None = None) -> LandmarkInput:
    # By order only where no name is known: one misspelt name must not turn five good ones into others.
    if not any(name and cleaned_label(name) in LANDMARK_NAMES for name, _ in rows):
        if len(rows) != len(LANDMARK_NAMES):
            raise LandmarkError(f"{path.name} holds {len(rows)} unnamed points; it must hold the six landmarks in order.")
        rows = [(name, point) for name, (_, point) in zip(LANDMARK_NAMES, rows, strict=True)]
    points: dict[str, np.ndarray] = {}
    for name, point in rows:
        name = _known(name or "", path.name)
        if name in points:
            raise LandmarkError(f"{path.name} holds {name} twice; keep one.")
        if point.shape != (3,) or not np.isfinite(point).all():
            raise LandmarkError(f"{path.name} holds no finite position for {name}.")
        points[name] = point
    require_all(set(points), path.name)
    return LandmarkInput((), {name: points[name] for name in LANDMARK_NAMES}, to_world)


def _picks(table: Table) -> tuple[Pick, ...]:
    if not {"landmark", "x_px", "y_px"} <= set(table.columns) or not {"video_frame", "picture"} & set(table.columns):
        raise LandmarkError(
            f"{table.name} must begin with the header landmark,video_frame,x_px,y_px (or picture for video_frame)."
        )
    picks: dict[tuple, Pick] = {}
    for row, values in table.rows:
        where = f"{table.name}, row {row},"
        landmark = _known(table.cell(row, values, "landmark"), where)
        frame, picture = None, values.get("picture") or values.get("video_frame", "")
        if not picture.lower().endswith(IMAGE_ENDINGS):
            frame, picture = table.number(row, values, "video_frame" if "video_frame" in table.columns else "picture"), None
            if frame < 0 or frame != int(frame):
                raise LandmarkError(f"{where} holds an impossible frame for {landmark}: {frame:g}.")
            frame = int(frame)
        source = values.get("source", "").strip().lower()
        if source not in ("", PROPOSED, CONFIRMED):
            raise LandmarkError(f"{where} has the unknown source '{source}'; it is {PROPOSED}, {CONFIRMED} or nothing.")
        pick = Pick(landmark, frame, picture, table.number(row, values, "x_px"), table.number(row, values, "y_px"), source)
        before = picks.setdefault((landmark, frame, picture), pick)
        if before != pick:
            raise LandmarkError(f"{where} picks the {landmark} a second time in the same frame, in another place; keep one.")
    return tuple(picks.values())


def _read_csv(path: Path) -> LandmarkInput:
    table = Table.read(path)
    if {"landmark", "x", "y", "z"} <= set(table.columns):
        rows = [
            (table.cell(row, values, "landmark"), np.array([table.number(row, values, axis) for axis in "xyz"]))
            for row, values in table.rows
        ]
        return _points(rows, path)
    picks = _picks(table)
    require_all({pick.landmark for pick in picks}, path.name)
    return LandmarkInput(picks, {})


def _read_frame_picks(path: Path) -> LandmarkInput:
    # Two numbers a row: with spaces, tabs or semicolons between them a comma is a decimal one.
    rows = [line.split() if re.search(r"[\s;]", line.strip()) else line.split(",") for line in _rows_of(path)]
    cells = [[cell.strip(";") for cell in row if cell.strip(";,")] for row in rows]
    if [len(row) for row in cells] != [2] * len(LANDMARK_NAMES):
        cells = [line.replace(",", " ").replace(";", " ").split() for line in _rows_of(path)]
    if [len(row) for row in cells] != [2] * len(LANDMARK_NAMES):
        raise LandmarkError(f"{path.name} must hold six rows 'x y', one a landmark in order.")
    numbers = np.array([[float(cell.strip(",").replace(",", ".")) for cell in row] for row in cells])
    if not np.isfinite(numbers).all():
        raise LandmarkError(f"{path.name} must hold six rows 'x y', one a landmark in order.")
    frame = path.name[: -len("_landmarks.txt")] + ".png"
    picks = [Pick(name, None, frame, float(x), float(y)) for name, (x, y) in zip(LANDMARK_NAMES, numbers, strict=True)]
    return LandmarkInput(tuple(picks), {})


def _rows_of(path: Path) -> list[str]:
    return [line for line in read_text(path).splitlines() if line.strip() and not line.startswith("#")]


# Points ---------------------------------------------------------------------------------------------------------------


def _read_mrk_json(path: Path) -> LandmarkInput:
    document = json.loads(read_text(path))
    lists = document.get("markups") if isinstance(document, dict) else None
    if not isinstance(lists, list):
        raise LandmarkError(f"{path.name} is not a Slicer markups file; save the six landmarks as .mrk.json in Slicer.")
    # Slicer writes empty lists, too; of several, the one that names landmarks is meant.
    filled = [entry for entry in lists if _defined(entry)]
    named = [entry for entry in filled if any(cleaned_label(str(p.get("label", ""))) in LANDMARK_NAMES for p in _defined(entry))]
    if len(named or filled) > 1:
        raise LandmarkError(f"{path.name} holds {len(named or filled)} lists of points; keep the one with the six landmarks.")
    if not filled:
        require_all(set(), path.name)
    markups = (named or filled)[0]
    sign = np.array([-1.0, -1.0, 1.0]) if str(markups.get("coordinateSystem", "LPS")) in ("LPS", "0") else np.ones(3)
    rows = []
    for point in _defined(markups):
        position = np.array(point.get("position") or [np.nan] * 3, float)
        rows.append((str(point.get("label", "")), position if position.shape != (3,) else sign * position))
    own = document.get(OWN_KEY)
    to_world = Similarity.from_dict(own["world_to_patient_ras_mm"]).inverse() if own else None
    return _points(rows, path, to_world)


def _defined(markups: dict) -> list[dict]:
    return [point for point in markups.get("controlPoints") or [] if point.get("positionStatus", "defined") == "defined"]


def _read_pp(path: Path) -> list[tuple[str | None, np.ndarray]]:
    points = ElementTree.parse(path).getroot().iter("point")
    active = [point for point in points if point.get("active", "1") == "1"]
    return [(point.get("name"), np.array([float(str(point.get(k)).replace(",", ".")) for k in "xyz"])) for point in active]


def _read_ply(path: Path) -> list[tuple[None, np.ndarray]]:
    import trimesh

    cloud = trimesh.load(path, process=False)
    return [(None, np.asarray(point, float)) for point in np.asarray(cloud.vertices)]
