"""Error of a reconstructed surface against a phantom's exact truth."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ..core.errors import CaseError
from ..geometry.cameras import Camera
from ..geometry.transforms import Frame, Similarity, fit_similarity
from ..landmarks.files import read_landmarks
from ..landmarks.names import LANDMARK_NAMES
from ..mesh.distance import closest_on_mesh, summary_mm
from ..mesh.files import read_mesh
from ..mesh.mesh import TriangleMesh, sample_surface, vertex_areas, vertex_normals
from ..mesh.registration import register_to_surface
from ..mesh.visibility import visible_vertices
from .regions import DETAILS, REGIONS, Evidence, regions

FEWEST_VIEWS = 3
CUT_MARGIN_MM = 10.0
SAMPLES = 8000


@dataclass(frozen=True)
class Truth:
    """A phantom's truth.

    Attributes:
        vertices_ras, faces: closed torso, mm.
        skin: (V,) True for skin.
        covered: (V,) True for skin that something hides (hair).
        absent: (V,) True for what the body in the video lacks (an arm).
        detail: (V,) label of what the shape model does not know, 1 + index in regions.DETAILS; 0 elsewhere.
        landmarks_ras: (6, 3) mm.
        cameras: exact camera of each video frame, in the truth's patient space.
    """

    vertices_ras: np.ndarray
    faces: np.ndarray
    skin: np.ndarray
    covered: np.ndarray
    absent: np.ndarray
    detail: np.ndarray
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
    none = np.zeros(len(mesh.vertices))  # older truths know no clutter
    skin, covered, absent = (mesh.scalars.get(name, none) > 0.5 for name in ("skin", "covered", "absent"))
    detail = np.round(mesh.scalars.get("detail", none)).astype(int)
    return Truth(mesh.vertices, mesh.faces, skin, covered, absent, detail, landmarks, cameras)


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
    in_view = _scored_vertices(truth, video_frames)
    scored = in_view & ~truth.covered & ~truth.absent
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
            chosen, points, nearest = _seen_sample(surface, truth, transform)
            distance, _ = closest_on_mesh(points, truth.vertices_ras, truth.faces)
            result["surface_to_truth"] = summary_mm(distance[scored[nearest]])
            result["calibration"] = _calibration(surface, chosen, distance, scored[nearest], landmarks_ras)
            result |= _clutter(surface, truth, in_view, transform)
            result |= _details(surface, truth, scored, transform)
        else:
            result["scale_error_percent"] = float(100 * (transform.scale - 1))
    result["scored_share_of_skin"] = float(scored.sum() / truth.skin.sum())
    return result


def _details(surface: TriangleMesh, truth: Truth, scored: np.ndarray, transform: Similarity) -> dict:
    """Mean distance of the truth to the surface at each kind of detail, and elsewhere."""
    if not truth.detail.any():
        return {}
    found = {}
    for label, kind in enumerate(("elsewhere", *DETAILS)):
        points = _sample(truth, scored & (truth.detail == label))
        if len(points):
            found[kind] = float(closest_on_mesh(transform.apply(points), surface.vertices, surface.faces)[0].mean())
    return {"details_mm": found}


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
    if not len(faces):
        return np.empty((0, 3))
    return sample_surface(truth.vertices_ras, faces, SAMPLES, np.random.default_rng(0))[0]


def _seen_sample(surface: TriangleMesh, truth: Truth, transform: Similarity) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Surface vertices that frames saw, by area: indices, (N, 3) places in the frame of the truth, nearest true vertices."""
    area = vertex_areas(surface.vertices, surface.faces) * (surface.scalars["views"] >= FEWEST_VIEWS)
    chosen = np.random.default_rng(0).choice(len(area), SAMPLES, p=area / area.sum()) if area.any() else np.empty(0, int)
    points = transform.inverse().apply(surface.vertices[chosen])
    return chosen, points, cKDTree(truth.vertices_ras).query(points)[1]


def _calibration(
    surface: TriangleMesh, chosen: np.ndarray, distance: np.ndarray, scored: np.ndarray, landmarks_ras: np.ndarray
) -> dict[str, dict[str, float]]:
    """By region: of scored surface vertices, the share within one and two of their own stated deviations, and both means."""
    if "uncertainty_mm" not in surface.scalars:
        return {}
    assert surface.normals is not None
    chosen, distance = chosen[scored], distance[scored]
    stated = surface.scalars["uncertainty_mm"][chosen]
    where = regions(surface.vertices[chosen], surface.normals[chosen], landmarks_ras)
    parts = {"all": np.ones(len(chosen), bool), **{name: where == k for k, name in enumerate(REGIONS)}}
    return {
        name: {
            "samples": int(part.sum()),
            "error_mm": float(distance[part].mean()),
            "stated_mm": float(stated[part].mean()),
            "within_one": float((distance[part] <= stated[part]).mean()),
            "within_two": float((distance[part] <= 2 * stated[part]).mean()),
        }
        for name, part in parts.items()
        if part.any()
    }


def _clutter(surface: TriangleMesh, truth: Truth, in_view: np.ndarray, transform: Similarity) -> dict[str, dict[str, float]]:
    """Of skin that something hides, error and stated uncertainty; of what is absent, the share marked as contradicted."""
    result, nearest = {}, cKDTree(surface.vertices)
    if (hidden := in_view & truth.covered).any():
        points = transform.apply(truth.vertices_ras[hidden])
        distance, _ = closest_on_mesh(points, surface.vertices, surface.faces)
        stated = surface.scalars["uncertainty_mm"][nearest.query(points)[1]]
        shares = {"within_one": float((distance <= stated).mean()), "within_two": float((distance <= 2 * stated).mean())}
        result["covered"] = {"error_mm": float(distance.mean()), "stated_mm": float(stated.mean()), **shares}
    if (lacking := in_view & truth.absent).any() and "evidence" in surface.scalars:
        evidence = surface.scalars["evidence"][nearest.query(transform.apply(truth.vertices_ras[lacking]))[1]]
        result["absent"] = {"contradicted": float((evidence == Evidence.CONTRADICTED).mean())}
    return result
