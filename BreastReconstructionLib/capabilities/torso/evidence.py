"""What the pictures say of each place of the surface: measured, drawn by the model alone, or contradicted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ...landmarks.names import LANDMARK_NAMES
from ...measurement.regions import Evidence
from ...measurement.skin import AREOLA, LARGEST_UNLIKENESS, SkinTone
from ...mesh.mesh import TriangleMesh, vertex_areas, weighted_share
from ...shape_model.fit import ShapeFit
from ...shape_model.model import ShapeModel
from .appearance import Appearance

# A measured point of skin so near, in model units (8 mm), is one of this place.
MEASURED_WITHIN = 0.027
# Less of the frames show skin at a place where there is none; arms and sleeves pass before a flank in many.
USUAL_SHARE = 0.5
# With less agreement, at least so many frames must have looked, for a place to be contradicted.
LEAST_AGREEMENT, FEWEST_VIEWS = 0.5, 3

# Unlike the bodies of the training: length of the code (1 is usual), a landmark off its place, 95 % of the points' distances.
UNUSUAL_CODE, UNUSUAL_LANDMARK_MM, UNUSUAL_RESIDUAL_MM = 1.5, 6.0, 6.0
# In the order of LANDMARK_NAMES, then the flanks.
PLACES = (
    "the neck",
    "the waist",
    "the left breast",
    "the right breast",
    "the left shoulder",
    "the right shoulder",
    "the left flank",
    "the right flank",
)


@dataclass(frozen=True)
class Judgement:
    """Of V vertices.

    Attributes:
        agreement: (V,) 0 to 1: whether the frames that see a vertex show the patient's skin there; 1 where none sees it.
        evidence: (V,) values of Evidence.
    """

    agreement: np.ndarray
    evidence: np.ndarray


def judge(
    vertices_model: np.ndarray,
    normals_model: np.ndarray,
    seen: Appearance,
    to_skin: np.ndarray,
    nipples_model: np.ndarray,
    tone: SkinTone,
) -> Judgement:
    """Set a surface against the pictures.

    Args:
        vertices_model, normals_model: (V, 3) in the frame in which the tone was learned.
        seen: what the frames show of each vertex.
        to_skin: (V,) distance to the nearest measured point of skin, model units.
        nipples_model: (2, 3); areolae are skin of another colour.
        tone: the skin's colour.
    """
    unlike = tone.unlikeness(seen.colors, normals_model) / LARGEST_UNLIKENESS
    areola = cKDTree(nipples_model).query(vertices_model)[0] < AREOLA
    shown = np.minimum(seen.skin_share / USUAL_SHARE, 1.0)
    unlike[areola], shown[areola] = 0.0, 1.0
    agreement = shown * np.exp(-np.log(2.0) * unlike**2)
    agreement[seen.views == 0] = 1.0
    near = to_skin < MEASURED_WITHIN
    evidence = np.where((seen.views > 0) & near, Evidence.MEASURED, Evidence.DRAWN)
    evidence[(seen.looked >= FEWEST_VIEWS) & (agreement < LEAST_AGREEMENT) & ~near] = Evidence.CONTRADICTED
    return Judgement(agreement, evidence)


def shares(mesh: TriangleMesh) -> dict[str, float]:
    """Return which shares of the torso (without the model's flat back and its cuts) are measured, drawn, contradicted."""
    area = vertex_areas(mesh.vertices, mesh.faces) * (mesh.scalars["torso"] > 0)
    return {kind.name.lower(): weighted_share(mesh.scalars["evidence"] == kind, area) for kind in reversed(Evidence)}


def contradicted_where(mesh: TriangleMesh, landmarks_ras: np.ndarray) -> str:
    """Say in words near which landmarks a surface in patient space is contradicted."""
    places = mesh.vertices[(mesh.scalars["evidence"] == Evidence.CONTRADICTED) & (mesh.scalars["torso"] > 0)]
    navel, nipples, coracoids = landmarks_ras[1], landmarks_ras[2:4], landmarks_ras[4:]
    flanks = np.column_stack([coracoids[:, 0], coracoids[:, 1], 0.5 * (nipples[:, 2] + navel[2])])
    nearest = cKDTree(np.concatenate([landmarks_ras, flanks])).query(places)[1]
    shares_of_places = np.bincount(nearest, minlength=len(PLACES)) / max(len(places), 1)
    return "at " + " and ".join(name for name, share in zip(PLACES, shares_of_places, strict=True) if share > 0.15)


def unusual(fit: ShapeFit, model: ShapeModel, landmark_distances_mm: np.ndarray) -> list[str]:
    """Say in words why a body is unlike those that the model was made from; empty if it is like them."""
    reasons = []
    if fit.prior_distance > UNUSUAL_CODE:
        reasons.append(f"its shape lies {fit.prior_distance:.1f} times as far from the mean as bodies usually do")
    worst = int(np.argmax(landmark_distances_mm))
    if landmark_distances_mm[worst] > UNUSUAL_LANDMARK_MM:
        reasons.append(
            f"the {LANDMARK_NAMES[worst]} of its shape is {landmark_distances_mm[worst]:.0f} mm from where it was placed"
        )
    if fit.residual_p95 * model.mm_per_unit > UNUSUAL_RESIDUAL_MM:
        reasons.append(f"5 % of the points lie more than {fit.residual_p95 * model.mm_per_unit:.0f} mm from it")
    return reasons
