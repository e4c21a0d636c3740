"""Training data: HDF5 as the paper's own tools write it, with exact distances where they are known; and pools to draw from.

One group a subject holds `surf_points` (N, 3), `surf_normals` (N, 3) and `landmarks` (K, 3) in the unit cube: model units
divided by two. Ours add, where known, `points` (P, 3) with exact signed `distances` (P,), `skin` (V, 3) of corresponding
vertices, `field` (G,) exact distances at places that are the same for all, the attribute `mm_per_unit`, and for phantoms the
truth that measurements are tested against (millimetres, millilitres; patient space). Attributes also name the organ, its
landmarks, and the number of closed bodies that it consists of. A torso lies where the similarity of its landmarks to the
official mean anchors puts it, the normalisation that the fit also uses; a file of other tools is brought there when it is read.
Other organs lie as `organ_data` put them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..core.errors import DependencyError, ShapeModelError
from ..core.files import disk_errors, replacing
from ..core.resources import TORSO
from ..geometry.transforms import fit_similarity
from ..landmarks.mean_anchors import OFFICIAL_MEAN_ANCHORS_MODEL
from ..landmarks.names import LANDMARK_NAMES

UNIT_CUBE_PER_MODEL_UNIT = 0.5
# Landmarks that are farther from where they should be, in model units, belong to a file in another normalisation.
SAME_NORMALISATION = 1e-4
PLACES = 1500
# What lies farther from a surface, in model units, says little of its shape.
FIELD_CLAMP = 0.15
# No body is larger, in whatever unit other tools write.
LARGEST = 1e6


def places() -> np.ndarray:
    """Return the (G, 3) places of the cube at which fields are sampled: a half of them, and those mirrored left to right."""
    half = np.random.default_rng(31).uniform(-0.9, 0.9, (PLACES // 2, 3))
    return np.concatenate([half, half * [-1.0, 1.0, 1.0]])


def mirrored_field(field: np.ndarray) -> np.ndarray:
    """Return the (G,) field of the mirrored shape."""
    return np.roll(field, PLACES // 2)


@dataclass(frozen=True)
class Subject:
    """One body to train on; model units unless the name says otherwise.

    Attributes:
        name: of its group.
        landmarks: (K, 3), K from 0.
        surface_points, surface_normals: (N, 3).
        mm_per_unit: of this body; NaN if its size is unknown.
        points: (P, 3) with exact distances, or None.
        distances: (P,) exact signed distances, negative inside, or None.
        skin: (V, 3) vertices that correspond between subjects, or None.
        truth: names of datasets -> exact values in patient space, mm and ml.
        field: (G,) exact signed distances at `places()`, or None.
        organ: what it is.
        landmark_names: of the K landmarks.
        parts: of how many closed bodies it consists.
    """

    name: str
    landmarks: np.ndarray
    surface_points: np.ndarray
    surface_normals: np.ndarray
    mm_per_unit: float = float("nan")
    points: np.ndarray | None = None
    distances: np.ndarray | None = None
    skin: np.ndarray | None = None
    truth: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    field: np.ndarray | None = None
    organ: str = TORSO
    landmark_names: tuple[str, ...] = LANDMARK_NAMES
    parts: int = 1


def _hdf5():
    try:
        import h5py
    except ImportError as error:
        raise DependencyError("Training data needs h5py: pip install 'BreastReconstructionLib[train]'.") from error
    return h5py


def write_subjects(path: Path, subjects: Iterable[Subject]) -> int:
    """Write subjects one by one, under a temporary name until all are there; returns how many.

    Raises:
        CaseError: the disk is full or the folder read-only.
        DependencyError: h5py is not installed.
    """
    h5py = _hdf5()
    count = 0
    with disk_errors(path.parent), replacing(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["frame"] = "model units / 2; +x patient's left, +y superior, +z anterior"
        for subject in subjects:
            _write_subject(file.create_group(subject.name), subject)
            count += 1
    return count


def _write_subject(group, subject: Subject) -> None:
    lengths = {
        "surf_points": subject.surface_points,
        "landmarks": subject.landmarks,
        "points": subject.points,
        "distances": subject.distances,
        "skin": subject.skin,
        "field": subject.field,
    }
    for name, values in lengths.items():
        if values is not None:
            group.create_dataset(name, data=np.asarray(values * UNIT_CUBE_PER_MODEL_UNIT, np.float32))
    group.create_dataset("surf_normals", data=np.asarray(subject.surface_normals, np.float32))
    if np.isfinite(subject.mm_per_unit):
        group.attrs["mm_per_unit"] = subject.mm_per_unit
    group.attrs["organ"], group.attrs["parts"] = subject.organ, subject.parts
    group.attrs["landmark_names"] = ",".join(subject.landmark_names)
    for name, values in subject.truth.items():
        group.create_dataset(f"truth/{name}", data=values)


def read_subjects(path: Path) -> list[Subject]:
    """Read every group of a file, in the order of their names.

    Raises:
        ShapeModelError: missing, not HDF5, a group without its datasets, or numbers that are not finite.
        DependencyError: h5py is not installed.
    """
    h5py = _hdf5()
    if not path.is_file():
        raise ShapeModelError(f"The training data {path.name} does not exist; make it by 'breast-reconstruction train prepare'.")
    try:
        with h5py.File(path, "r") as file:
            return [_read_subject(name, file[name], path.name) for name in sorted(file)]
    except (OSError, LookupError, RuntimeError, TypeError, ValueError, MemoryError) as error:  # h5py's, of damaged files
        raise ShapeModelError(f"{path.name} is not an HDF5 file, or is damaged; make it again.") from error


def _read_subject(name: str, group, file_name: str) -> Subject:
    try:
        values = {key: group[key][()] for key in ("surf_points", "surf_normals", "landmarks")}
        values |= {key: group[key][()] for key in ("points", "distances", "skin", "field") if key in group}
        truth = {key: group[f"truth/{key}"][()] for key in group.get("truth", ())}
    except (KeyError, AttributeError) as error:
        raise ShapeModelError(
            f"{name} in {file_name} lacks surf_points, surf_normals or landmarks; prepare the scan again."
        ) from error
    for key, array in values.items():
        array = np.asarray(array)
        if array.dtype.kind not in "fiu" or array.ndim == 0 or (array.ndim == 2 and array.shape[1] != 3) or array.ndim > 2:
            raise ShapeModelError(f"{key} of {name} in {file_name} is no list of numbers or places; prepare the scan again.")
        if not np.isfinite(array).all() or np.abs(array).max(initial=0.0) > LARGEST or (len(array) == 0 and key != "landmarks"):
            raise ShapeModelError(f"{key} of {name} in {file_name} is empty, not finite or huge; prepare the scan again.")
    lengths = {key: array / UNIT_CUBE_PER_MODEL_UNIT for key, array in values.items() if key != "surf_normals"}
    organ = str(group.attrs.get("organ", TORSO))
    normals, mm_per_unit = values["surf_normals"], float(group.attrs.get("mm_per_unit", np.nan))
    if organ == TORSO:
        lengths, normals, mm_per_unit = _by_landmarks(lengths, normals, mm_per_unit)
    names = str(group.attrs.get("landmark_names", ",".join(LANDMARK_NAMES)))
    subject = Subject(
        name,
        lengths["landmarks"].reshape(-1, 3),
        lengths["surf_points"].astype(np.float32),
        normals.astype(np.float32),
        mm_per_unit,
        *(lengths[key].astype(np.float32) if key in lengths else None for key in ("points", "distances", "skin")),
        truth=truth,
        field=lengths["field"].astype(np.float32) if "field" in lengths else None,
        organ=organ,
        landmark_names=tuple(name for name in names.split(",") if name),
        parts=int(group.attrs.get("parts", 1)),
    )
    if len(subject.landmarks) != len(subject.landmark_names):
        raise ShapeModelError(
            f"{name} in {file_name} has {len(subject.landmarks)} landmarks and {len(subject.landmark_names)} names of them; "
            "prepare it again."
        )
    return subject


def _by_landmarks(
    lengths: dict[str, np.ndarray], normals: np.ndarray, mm_per_unit: float
) -> tuple[dict[str, np.ndarray], np.ndarray, float]:
    """A torso where its landmarks say, if it is not there already."""
    align = fit_similarity(lengths["landmarks"].astype(float), OFFICIAL_MEAN_ANCHORS_MODEL)
    if np.abs(align.apply(lengths["landmarks"]) - lengths["landmarks"]).max() <= SAME_NORMALISATION:
        return lengths, normals, mm_per_unit
    moved = {key: align.apply(array) for key, array in lengths.items() if key in ("landmarks", "surf_points", "points", "skin")}
    if "distances" in lengths:
        moved["distances"] = lengths["distances"] * align.scale
    return moved, align.apply_directions(normals), mm_per_unit / align.scale


@dataclass(frozen=True)
class Pool:
    """Rows of several subjects, one after the other; a subject may have none.

    Attributes:
        rows: (T, C) float32.
        first, count: (S,) where each subject's rows begin, and how many they are.
    """

    rows: torch.Tensor
    first: torch.Tensor
    count: torch.Tensor

    @classmethod
    def of(cls, parts: list[np.ndarray | None], columns: int) -> Pool:
        """Join one array (N, C), or None, a subject."""
        count = torch.tensor([0 if part is None else len(part) for part in parts])
        some = [part for part in parts if part is not None]
        rows = np.concatenate(some) if some else np.empty((0, columns), np.float32)
        return cls(torch.from_numpy(np.ascontiguousarray(rows, np.float32)), count.cumsum(0) - count, count)

    def draw(self, subjects: torch.Tensor, each: int, generator: torch.Generator) -> torch.Tensor:
        """Return (B, each, C) rows drawn with replacement; every one of the (B,) subjects must have some."""
        uniform = torch.rand(len(subjects), each, generator=generator, dtype=torch.float64)
        count = self.count[subjects, None]
        return self.rows[self.first[subjects, None] + (uniform * count).long().clamp_max(count - 1)]


@dataclass(frozen=True)
class TrainingSet:
    """S subjects in memory, model units.

    Attributes:
        names: of the subjects.
        exact: rows x, y, z, exact signed distance.
        surface: rows x, y, z and the normal.
        anchors: (S, K, 3) landmarks.
        skins: (S, V, 3) float32 corresponding vertices, or None unless every subject has them.
        mm_per_unit: (S,), NaN where unknown.
        fields: (S, G) float32 distances at `places()`, or None unless every subject has them.
        organ, landmark_names, parts: the same for all; see Subject.
    """

    names: tuple[str, ...]
    exact: Pool
    surface: Pool
    anchors: np.ndarray
    skins: np.ndarray | None
    mm_per_unit: np.ndarray
    fields: np.ndarray | None
    organ: str
    landmark_names: tuple[str, ...]
    parts: int

    @classmethod
    def of(cls, subjects: list[Subject]) -> TrainingSet:
        """Join subjects.

        Raises:
            ShapeModelError: they are not of one kind.
        """
        first = subjects[0]
        for other in subjects[1:]:
            if (other.organ, other.landmark_names, other.parts) != (first.organ, first.landmark_names, first.parts):
                raise ShapeModelError(
                    f"{first.name} ({first.organ}, {len(first.landmarks)} landmarks, {first.parts} parts) and {other.name} "
                    f"({other.organ}, {len(other.landmarks)}, {other.parts}) are not of one kind; train on one organ at a time."
                )
        exact = [None if s.points is None or s.distances is None else np.column_stack([s.points, s.distances]) for s in subjects]
        surface = [np.column_stack([s.surface_points, s.surface_normals]) for s in subjects]
        vertices = {None if s.skin is None else s.skin.shape for s in subjects}
        return cls(
            tuple(s.name for s in subjects),
            Pool.of(exact, 4),
            Pool.of(surface, 6),
            np.stack([s.landmarks for s in subjects]),
            np.stack([s.skin for s in subjects]) if len(vertices) == 1 and None not in vertices else None,
            np.array([s.mm_per_unit for s in subjects]),
            None if any(s.field is None for s in subjects) else np.stack([s.field for s in subjects if s.field is not None]),
            first.organ,
            first.landmark_names,
            first.parts,
        )

    def __len__(self) -> int:
        return len(self.names)


def split(subjects: list[Subject], validation: int, seed: int) -> tuple[list[Subject], list[Subject]]:
    """Return subjects to train on and `validation` others, drawn by the seed, both in order."""
    held_out = set(np.random.default_rng([21, seed]).choice(len(subjects), validation, replace=False).tolist())
    parts: tuple[list[Subject], list[Subject]] = ([], [])
    for i, subject in enumerate(subjects):
        parts[i in held_out].append(subject)
    return parts
