"""Synthetic torsos: parameters drawn from a seed, meshes with one topology, exact landmarks and signed distances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from ..geometry.transforms import MODEL_AXES_TO_RAS, Similarity, fit_similarity
from ..landmarks.mean_anchors import OFFICIAL_MEAN_ANCHORS_MODEL
from ..mesh.mesh import sample_surface
from .basis import TorsoBasis, load_torso_basis
from .deformation import Deformation, deform, sample_deformation
from .variation import Variation, sample_variation, vary

BACK_Z_MODEL = -0.29
FOREIGN_BUMPS_MM = 3.0

_ANCHORS = {
    "age": {"young": 2 / 3, "old": 1.0},
    "muscle": {"minmuscle": 0.0, "averagemuscle": 0.5, "maxmuscle": 1.0},
    "weight": {"minweight": 0.0, "averageweight": 0.5, "maxweight": 1.0},
    "height": {"minheight": 0.0, "maxheight": 1.0},
    "proportions": {"idealproportions": 0.0, "uncommonproportions": 1.0},
    "cupsize": {"mincup": 0.0, "averagecup": 0.5, "maxcup": 1.0},
    "firmness": {"minfirmness": 0.0, "averagefirmness": 0.5, "maxfirmness": 1.0},
}
_OPPOSITES = {"incr": "decr", "up": "down", "out": "in", "forward": "backward"}
_PER_SIDE = ("cupsize", "firmness")
_PER_SIDE_LOCAL = (
    "breast-point-incr", "nipple-point-incr", "nipple-size-incr", "breast-dist-incr", "breast-volume-vert-up",
    "breast-trans-up",
)  # fmt: skip


@dataclass(frozen=True)
class TorsoParameters:
    """What makes a body: MakeHuman's phenotypes and local changes, for the patient's left and right apart.

    Attributes:
        left, right: name -> value; phenotypes in [0, 1] (age 2/3 young to 1 old), local changes in [-1, 1].
    """

    left: dict[str, float]
    right: dict[str, float]


@dataclass(frozen=True)
class Torso:
    """One phantom torso in patient space.

    Attributes:
        vertices_ras: (V, 3) mm; the first `skin_vertex_count` are skin, the rest close the cut.
        faces: (F, 3), the first `skin_face_count` are skin; identical for all torsos.
        landmarks_ras: (6, 3) mm, order of LANDMARK_NAMES.
        body_ras: (S, 3) mm, skin of the whole upper body, for rendering.
        to_model: similarity from patient space to model space (landmarks to the official mean anchors).
    """

    vertices_ras: np.ndarray
    faces: np.ndarray
    skin_vertex_count: int
    skin_face_count: int
    landmarks_ras: np.ndarray
    body_ras: np.ndarray
    to_model: Similarity


def sample_parameters(rng: np.random.Generator) -> TorsoParameters:
    """Draw one body of the population that the first default model was trained on."""
    ancestry = rng.dirichlet([1.0, 1.0, 1.5])
    common = {
        "age": rng.uniform(0.667, 1.0),
        "muscle": rng.uniform(0.2, 0.8),
        "weight": rng.uniform(0.2, 1.0),
        "height": rng.uniform(0.2, 0.7),
        "proportions": rng.uniform(0.0, 1.0),
        "african": ancestry[0],
        "asian": ancestry[1],
        "caucasian": ancestry[2],
    }
    names = sorted({str(label).partition(":")[2] for label in load_torso_basis().labels if _is_positive_change(label)})
    for name in names:
        common[name] = float(np.clip(rng.normal(0.0, 0.3), -0.8, 0.8))
    common["stomach-pregnant-incr"] = float(abs(rng.normal(0.0, 0.15)))
    breast = {"cupsize": rng.uniform(0.05, 1.0), "firmness": rng.uniform(0.0, 1.0)}
    breast |= {name: float(np.clip(rng.normal(0.0, 0.35), -0.8, 0.8)) for name in _PER_SIDE_LOCAL}
    asymmetry = 0.04 if rng.random() < 0.7 else 0.15
    sides = []
    for _ in range(2):
        side = {name: value + rng.normal(0.0, asymmetry) for name, value in breast.items()}
        side |= {name: float(np.clip(side[name], 0.0, 1.0)) for name in _PER_SIDE}
        sides.append(common | side)
    return TorsoParameters(*sides)


def _is_positive_change(label: str) -> bool:
    return str(label).startswith("local_change:") and str(label).rpartition("-")[2] in _OPPOSITES


def make_torso(parameters: TorsoParameters, deformation: Deformation | None = None, variation: Variation | None = None) -> Torso:
    """Evaluate a torso, deformed and varied if asked; 40 ms on one core, varied 300 ms."""
    basis = load_torso_basis()
    coefficients = np.stack([_coefficients(side, basis.labels) for side in (parameters.left, parameters.right)])
    shapes = basis.blendshapes_mm.reshape(len(basis.labels), -1)
    used = np.flatnonzero(coefficients.any(axis=0))
    left, right = (coefficients[:, used].astype(np.float32) @ shapes[used].astype(np.float32)).reshape(2, -1, 3)
    weight = basis.midline_weight[:, None]
    body = basis.subdivision @ (basis.template_mm + weight * left + (1 - weight) * right).astype(float)
    if deformation is not None:
        body = deform(body, (basis.torso @ body)[basis.landmarks], deformation, basis)
    if variation is not None:
        body = vary(body, variation, basis)
    return torso_of_body(body)


def torso_of_body(body_mm: np.ndarray) -> Torso:
    """Cut and close the torso of the (S, 3) skin of an upper body, model axes."""
    basis = load_torso_basis()
    skin = basis.torso @ body_mm
    to_model = fit_similarity(skin[basis.landmarks], OFFICIAL_MEAN_ANCHORS_MODEL)

    closed_model, faces = _close(to_model.apply(skin), basis)
    closed = to_model.inverse().apply(closed_model) @ MODEL_AXES_TO_RAS.T
    ras_to_model_axes = Similarity(1.0, MODEL_AXES_TO_RAS.T, np.zeros(3))
    return Torso(
        vertices_ras=closed,
        faces=faces,
        skin_vertex_count=len(skin),
        skin_face_count=len(basis.skin_faces),
        landmarks_ras=closed[basis.landmarks],
        body_ras=body_mm @ MODEL_AXES_TO_RAS.T,
        to_model=to_model.after(ras_to_model_axes),
    )


def sample_torso(seed: int) -> tuple[Torso, TorsoParameters]:
    """Return the first torso of the seed's stream that is a proper solid: same seed, same torso."""
    rng = np.random.default_rng([20261121, seed])
    while True:
        parameters = sample_parameters(rng)
        torso = make_torso(parameters)
        if is_proper_solid(torso):
            return torso, parameters


def sample_clinic_torso(seed: int) -> tuple[Torso, TorsoParameters, Deformation]:
    """Return the first proper solid of the seed's stream of the clinic's population: bodies of `sample_torso`, deformed.

    See deformation.sample_deformation for what a clinic's patients have.
    """
    rng = np.random.default_rng([20261122, seed])
    while True:
        parameters = sample_parameters(rng)
        deformation = sample_deformation(rng, parameters.left["weight"])
        torso = make_torso(parameters, deformation=deformation)
        if is_proper_solid(torso):
            return torso, parameters, deformation


def sample_wide_torso(seed: int) -> tuple[Torso, TorsoParameters, Deformation, Variation]:
    """Return the first proper solid of the seed's stream of the wide population: a clinic's bodies whose landmarks wander.

    See variation.sample_variation.
    """
    return _sample_varied(np.random.default_rng([20261127, seed]), 0.0)


def sample_foreign_torso(seed: int) -> tuple[Torso, TorsoParameters, Deformation, Variation]:
    """Return a torso as `sample_wide_torso` does, with bumps of 3 mm that no training sees: it stands for real bodies."""
    return _sample_varied(np.random.default_rng([20261128, seed]), FOREIGN_BUMPS_MM)


def _sample_varied(rng: np.random.Generator, bumps_mm: float) -> tuple[Torso, TorsoParameters, Deformation, Variation]:
    while True:
        parameters = sample_parameters(rng)
        deformation = sample_deformation(rng, parameters.left["weight"])
        variation = sample_variation(rng)
        if bumps_mm:
            variation = replace(variation, bumps_mm=bumps_mm, bumps_seed=int(rng.integers(1 << 30)))
        torso = make_torso(parameters, deformation, variation)
        if is_proper_solid(torso):
            return torso, parameters, deformation, variation


# By POPULATION_NAMES. The first of what is returned is the torso.
POPULATIONS: dict[str, Callable[[int], tuple]] = {
    "plain": sample_torso,
    "clinic": sample_clinic_torso,
    "wide": sample_wide_torso,
    "foreign": sample_foreign_torso,
}


def population_torso(seed: int, population: str) -> Torso:
    """Return the torso of a seed in a population, one of POPULATIONS."""
    return POPULATIONS[population](seed)[0]


def skin_points(torso: Torso, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return (count, 3) exact points on a torso's skin in model space, even by area, and their (count, 3) normals."""
    return sample_surface(torso.to_model.apply(torso.vertices_ras), torso.faces[: torso.skin_face_count], count, rng)


def _coefficients(values: dict[str, float], labels: np.ndarray) -> np.ndarray:
    """Weights of the blend shapes: products of linear interpolation weights for phenotypes, half-wave for local changes."""
    weights = {"female": 1.0}
    for name, anchors in _ANCHORS.items():
        keys, positions = list(anchors), np.array(list(anchors.values()))
        for i, key in enumerate(keys):
            weights[key] = float(np.interp(values[name], positions, np.eye(len(keys))[i]))
    if values["cupsize"] < 0.0:  # carried on below the smallest, for twins
        beyond = -values["cupsize"] / 0.5
        weights["mincup"], weights["averagecup"] = 1.0 + beyond, -beyond
    for name in ("african", "asian", "caucasian"):
        weights[name] = values[name]
    negatives = {}
    for name in values:
        stem, _, suffix = name.rpartition("-")
        if suffix in _OPPOSITES:
            negatives[f"{stem}-{_OPPOSITES[suffix]}"] = name
    result = np.zeros(len(labels))
    for i, label in enumerate(labels):
        block, _, keys = str(label).partition(":")
        if block == "local_change":
            result[i] = max(0.0, -values[negatives[keys]] if keys in negatives else values[keys])
        else:
            result[i] = np.prod([weights[key] for key in keys.split("-")])
    return result


def _close(skin_model: np.ndarray, basis: TorsoBasis) -> tuple[np.ndarray, np.ndarray]:
    """Close the skin at its cuts; the back is flat at z = -0.29, or just behind the skin where that lies deeper."""
    closing = basis.closure @ skin_model
    closing[basis.on_back, 2] = min(BACK_Z_MODEL, skin_model[basis.boundary, 2].min() - 0.005)
    return np.concatenate([skin_model, closing]), np.concatenate([basis.skin_faces, basis.closing_faces])


def is_proper_solid(torso: Torso) -> bool:
    """Tell whether the torso is a solid: its back unfolded, and no part of its skin through another."""
    cap = torso.vertices_ras[torso.faces[torso.skin_face_count :]]
    normals = np.cross(cap[:, 1] - cap[:, 0], cap[:, 2] - cap[:, 0])
    flat = np.ptp(cap[:, :, 1], axis=1) < 1e-6
    if (normals[flat, 1] >= 0).any():
        return False
    return len(self_intersections(torso.vertices_ras, torso.faces[: torso.skin_face_count])) == 0


def self_intersections(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the (K, 2) pairs of triangles that cross without sharing a vertex.

    Candidates are pairs whose circumscribed spheres about the centroids overlap and whose normals differ by more than
    60 degrees: surfaces of one orientation that are smooth at the scale of a triangle cannot cross otherwise.
    """
    corners = vertices[faces]
    centers = corners.mean(axis=1)
    radii = np.linalg.norm(corners - centers[:, None], axis=2).max(axis=1)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    pairs = cKDTree(centers).query_pairs(2 * np.quantile(radii, 0.999), output_type="ndarray")
    facing = (normals[pairs[:, 0]] * normals[pairs[:, 1]]).sum(axis=1) < 0.5
    pairs = pairs[facing]
    close = np.linalg.norm(centers[pairs[:, 0]] - centers[pairs[:, 1]], axis=1) < radii[pairs].sum(axis=1)
    pairs = pairs[close]
    shared = (faces[pairs[:, 0]][:, :, None] == faces[pairs[:, 1]][:, None, :]).any(axis=(1, 2))
    pairs = pairs[~shared]
    crossing = np.zeros(len(pairs), bool)
    for first, second in ((0, 1), (1, 0)):
        triangles, others = corners[pairs[:, first]], corners[pairs[:, second]]
        for i in range(3):
            crossing |= _segment_crosses(triangles[:, i], triangles[:, (i + 1) % 3], others)
    return pairs[crossing]


def _segment_crosses(start: np.ndarray, end: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Möller-Trumbore (1997) for (N) segments against (N) triangles."""
    direction = end - start
    edge1, edge2 = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    p = np.cross(direction, edge2)
    determinant = (edge1 * p).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / determinant
        s = start - triangles[:, 0]
        u = (s * p).sum(axis=1) * inverse
        q = np.cross(s, edge1)
        v = (direction * q).sum(axis=1) * inverse
        t = (edge2 * q).sum(axis=1) * inverse
        return (u >= 0) & (v >= 0) & (u + v <= 1) & (t >= 0) & (t <= 1) & (np.abs(determinant) > 1e-12)
