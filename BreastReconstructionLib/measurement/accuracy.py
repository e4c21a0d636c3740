"""Error of a reconstructed surface against a phantom's exact truth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ..core.errors import CaseError
from ..geometry.cameras import Camera
from ..geometry.transforms import Frame, fit_similarity
from ..landmarks.files import read_landmarks
from ..landmarks.names import LANDMARK_NAMES
from ..mesh.distance import closest_on_mesh, summary_mm
from ..mesh.files import read_mesh
from ..mesh.mesh import TriangleMesh, sample_surface, vertex_normals
from ..mesh.registration import register_to_surface
from ..mesh.visibility import visible_vertices

FEWEST_VIEWS = 3
CUT_MARGIN_MM = 10.0
SAMPLES = 8000


@dataclass(frozen=True)
class Truth:
    """A phantom's truth.

    Attributes:
        vertices_ras, faces: closed torso, mm.
        skin: (V,) True for skin.
        landmarks_ras: (6, 3) mm.
        cameras: exact camera of each video frame, in the truth's patient space.
    """

    vertices_ras: np.ndarray
    faces: np.ndarray
    skin: np.ndarray
    landmarks_ras: np.ndarray
    cameras: dict[int, Camera]


def read_truth(folder: Path) -> Truth:
    """Read what `phantom video` wrote beside the mp4.

    Raises:
        CaseError: a file is missing or damaged.
    """
    incomplete = f"{folder.name} holds no complete phantom truth (torso.ply, truth.json, landmarks.mrk.json)."
    if not all((folder / name).is_file() for name in ("torso.ply", "truth.json", "landmarks.mrk.json")):
        raise CaseError(incomplete)
    try:
        mesh = read_mesh(folder / "torso.ply")
        document = json.loads((folder / "truth.json").read_text())
        settings = document["settings"]
        cameras = {
            values["video_frame"]: Camera(
                str(values["video_frame"]),
                settings["width"],
                settings["height"],
                *(np.array(values[key]) for key in ("intrinsics", "distortion", "rotation", "translation")),
            )
            for values in document["cameras"]
        }
    except (OSError, ValueError, KeyError) as error:
        raise CaseError(incomplete) from error
    points = read_landmarks(folder / "landmarks.mrk.json").points
    landmarks = np.array([points[name] for name in LANDMARK_NAMES])
    return Truth(mesh.vertices, mesh.faces, mesh.scalars["skin"] > 0.5, landmarks, cameras)


def score(surface: TriangleMesh, landmarks_ras: np.ndarray, truth: Truth, video_frames: tuple[int, ...]) -> dict:
    """Compare a delivered surface with the truth.

    Scored is the phantom's skin that at least 3 of the used frames see, at least 10 mm from the cut. The truth is
    registered to the surface rigidly (as delivered) and with scale (after similarity).

    Args:
        surface: with normals; scalars `views` limit the opposite direction to what was seen.
        landmarks_ras: (6, 3) mm, delivered landmarks.
        truth: see read_truth.
        video_frames: the frames that were used.

    Returns:
        the content of `accuracy.json`; distances in mm.
    """
    surface.require(Frame.PATIENT)
    assert surface.normals is not None
    scored = _scored_vertices(truth, video_frames)
    samples = _sample(truth, scored)
    rigid = fit_similarity(truth.landmarks_ras, landmarks_ras, with_scale=False)
    result: dict = {}
    for name, with_scale in (("as_delivered", False), ("after_similarity", True)):
        start = rigid.apply(samples)
        transform = register_to_surface(start, surface.vertices, surface.normals, with_scale).after(rigid)
        distance, _ = closest_on_mesh(transform.apply(samples), surface.vertices, surface.faces)
        result[name] = summary_mm(distance / transform.scale)
        if not with_scale:
            errors = np.linalg.norm(transform.apply(truth.landmarks_ras) - landmarks_ras, axis=1)
            result["landmarks_mm"] = {key: float(e) for key, e in zip(LANDMARK_NAMES, errors, strict=True)}
            result["surface_to_truth"] = summary_mm(_backward(surface, truth, scored, transform))
        else:
            result["scale_error_percent"] = float(100 * (transform.scale - 1))
    result["scored_share_of_skin"] = float(scored.sum() / truth.skin.sum())
    return result


def _scored_vertices(truth: Truth, video_frames: tuple[int, ...]) -> np.ndarray:
    normals = vertex_normals(truth.vertices_ras, truth.faces)
    views = np.zeros(len(normals), int)
    for frame in video_frames:
        views += visible_vertices(truth.cameras[frame], truth.vertices_ras, normals)[0]
    mixed = truth.faces[truth.skin[truth.faces].any(axis=1) & ~truth.skin[truth.faces].all(axis=1)]
    rim = np.unique(mixed[truth.skin[mixed]])
    from_cut = cKDTree(truth.vertices_ras[rim]).query(truth.vertices_ras)[0]
    return truth.skin & (views >= FEWEST_VIEWS) & (from_cut >= CUT_MARGIN_MM)


def _sample(truth: Truth, scored: np.ndarray) -> np.ndarray:
    """Points spread evenly by area over the scored faces; always the same ones."""
    faces = truth.faces[scored[truth.faces].all(axis=1)]
    return sample_surface(truth.vertices_ras, faces, SAMPLES, np.random.default_rng(0))[0]


def _backward(surface: TriangleMesh, truth: Truth, scored: np.ndarray, transform) -> np.ndarray:
    """Distances from seen surface vertices to the truth, where the nearest truth is scored; mm."""
    rng = np.random.default_rng(0)
    seen = np.flatnonzero(surface.scalars["views"] >= FEWEST_VIEWS)
    chosen = rng.choice(seen, min(SAMPLES, len(seen)), replace=False)
    points = transform.inverse().apply(surface.vertices[chosen])
    nearest = cKDTree(truth.vertices_ras).query(points)[1]
    return closest_on_mesh(points[scored[nearest]], truth.vertices_ras, truth.faces)[0]
