"""What bodies vary in and MakeHuman's do not: where on the skin a landmark lies, muscle, the line of the neck, a posture unlike
on both sides.

MakeHuman puts a nipple always at the same place of a breast and a coracoid at the same place of a shoulder; on bodies from
scans they lie up to 25 mm from there. Here the skin about a landmark slides over the body's own surface, and what stands out
of it (a nipple) or sinks into it (a navel) goes along. As all deformations, these keep topology and landmark vertices.
Millimetres, model axes (+x patient's left, +y superior, +z anterior).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from ..mesh.mesh import vertex_normals
from .basis import TorsoBasis
from .deformation import neighbour_mean, smoothstep, turned

# In the order of LANDMARK_NAMES. Standard deviation of the slide across and up, and the farthest, mm.
SLIDE_MM = (4.0, 8.0, None, None, 9.0, 9.0)
FARTHEST_SLIDE_MM = (10.0, 20.0, 25.0, 25.0, 22.0, 22.0)
# On the mean body: the skin that goes along wholly ends at the first distance from the landmark, what moves at all at the second.
WHOLE_MM, REACH_MM = 22.0, (60.0, 75.0, 75.0, 75.0, 70.0, 70.0)
# Radius on the mean body of what stands out or sinks in at navel and nipples; the other landmarks are smooth.
RELIEF_MM = (None, 20.0, 22.0, 22.0, None, None)
# No slide is longer than this share of the distance, on the body itself, over which it fades: beyond about 0.45 skin folds.
LARGEST_SHARE = 0.35
# A slide is made in so many steps, each brought back to the surface.
SLIDE_STEPS = 3
SURFACE_NEIGHBOURS = 10
# Of the bodies that no training sees: how many bumps, and their standard widths.
BUMPS, BUMP_WIDTH_MM = 20, (22.0, 60.0)


@dataclass(frozen=True)
class Variation:
    """How a body differs from what MakeHuman's shapes know.

    Attributes:
        slides_mm: six pairs, across (+x) and up (+y): how far the skin about each landmark slides.
        pectoral_mm: height of the two chest muscles above the breasts, left and right.
        deltoid_mm: height of the shoulders' muscles, left and right.
        trapezius_mm: height of the line from neck to shoulders.
        shoulder_height_mm: how much higher the left shoulder is than the right.
        lean_degrees: of the shoulders to the left against the hips.
        left_arm_degrees: abduction of the left arm beyond the right one's.
        bumps_mm, bumps_seed: height of smooth bumps and dents anywhere, and which: what no training sees.
    """

    slides_mm: tuple[tuple[float, float], ...] = ((0.0, 0.0),) * 6
    pectoral_mm: tuple[float, float] = (0.0, 0.0)
    deltoid_mm: tuple[float, float] = (0.0, 0.0)
    trapezius_mm: float = 0.0
    shoulder_height_mm: float = 0.0
    lean_degrees: float = 0.0
    left_arm_degrees: float = 0.0
    bumps_mm: float = 0.0
    bumps_seed: int = 0


def sample_variation(rng: np.random.Generator) -> Variation:
    """Draw a variation: half of the nipples' slide is common to both sides, the rest each one's own."""
    limited = lambda deviation, limit, size=None: np.clip(rng.normal(0.0, deviation, size), -limit, limit)
    common, slides = _in_disc(rng), []
    for number, (deviation, farthest) in enumerate(zip(SLIDE_MM, FARTHEST_SLIDE_MM, strict=True)):
        if deviation is None:
            outward = np.array([1.0 if number == 2 else -1.0, 1.0])
            slide = farthest * (0.5 * common * outward + 0.5 * _in_disc(rng))
        else:
            slide = rng.normal(0.0, deviation, 2)
            slide *= min(1.0, farthest / max(float(np.linalg.norm(slide)), 1e-9))
        slides.append((float(slide[0]), float(slide[1])))
    muscle, own = limited(3.0, 7.0, 2), limited(1.0, 2.5, (2, 2))
    return Variation(
        slides_mm=tuple(slides),
        pectoral_mm=(float(muscle[0] + own[0, 0]), float(muscle[0] + own[0, 1])),
        deltoid_mm=(float(muscle[1] + own[1, 0]), float(muscle[1] + own[1, 1])),
        trapezius_mm=float(limited(5.0, 12.0)),
        shoulder_height_mm=float(limited(5.0, 14.0)),
        lean_degrees=float(limited(1.2, 3.5)),
        left_arm_degrees=float(limited(5.0, 14.0)),
    )


def _in_disc(rng: np.random.Generator) -> np.ndarray:
    """A point of the unit disc, even by area."""
    angle, radius = rng.uniform(0.0, 2 * np.pi), np.sqrt(rng.uniform(0.0, 1.0))
    return radius * np.array([np.cos(angle), np.sin(angle)])


def vary(body_mm: np.ndarray, what: Variation, basis: TorsoBasis) -> np.ndarray:
    """Return the varied (S, 3) skin of an upper body."""
    vertices = landmark_vertices(basis)
    result = _muscles(body_mm, body_mm[vertices], what)
    result = _posture(result, result[vertices], what)
    for number, slide in enumerate(what.slides_mm):
        if slide != (0.0, 0.0):
            result = _slid(result, number, np.array(slide), basis)
    return result + _bumps(result, what, basis) if what.bumps_mm else result


def _bumps(body: np.ndarray, what: Variation, basis: TorsoBasis) -> np.ndarray:
    """(S, 3) displacement along the normals by Gaussian bumps about random places of the front."""
    rng = np.random.default_rng([37, what.bumps_seed])
    normals = vertex_normals(body, basis.body_faces)
    front = np.flatnonzero((normals[:, 2] > 0.2) & (np.abs(body[:, 1] - body[landmark_vertices(basis), 1].mean()) < 300.0))
    height = np.zeros(len(body))
    for center in body[rng.choice(front, BUMPS)]:
        width = rng.uniform(*BUMP_WIDTH_MM)
        height += rng.normal(0.0, what.bumps_mm) * np.exp(-0.5 * ((body - center) ** 2).sum(axis=1) / width**2)
    return height[:, None] * normals


@lru_cache(maxsize=1)
def landmark_vertices(basis: TorsoBasis) -> np.ndarray:
    """(6,) vertices of the upper body's skin that are nearest to the landmarks of the mean body's torso."""
    mean = basis.subdivision @ basis.template_mm.astype(float)
    wanted = (basis.torso @ mean)[basis.landmarks]
    return np.linalg.norm(mean[None] - wanted[:, None], axis=2).argmin(axis=1)


def _muscles(body: np.ndarray, landmarks: np.ndarray, what: Variation) -> np.ndarray:
    notch, nipples, coracoids = landmarks[0], landmarks[2:4], landmarks[4:]
    result, forward = body.copy(), smoothstep(body[:, 2] - np.median(body[:, 2]), 0.0, 60.0)
    for side, sign in enumerate((1.0, -1.0)):
        own = smoothstep(sign * (body[:, 0] - notch[0]), 0.0, 40.0) * forward
        middle = 0.5 * (coracoids[side] + nipples[side]) + np.array([-sign * 15.0, 15.0, 0.0])
        off = (body - middle) / np.array([60.0, 35.0, 90.0])
        result[:, 2] += what.pectoral_mm[side] * own * np.exp(-0.5 * (off**2).sum(axis=1))
        deltoid = coracoids[side] + np.array([sign * 45.0, -25.0, -20.0])
        off = (body - deltoid) / np.array([32.0, 45.0, 45.0])
        outward = np.array([0.75 * sign, 0.25, 0.6])
        result += what.deltoid_mm[side] * np.exp(-0.5 * (off**2).sum(axis=1))[:, None] * outward
        trapezius = 0.5 * (notch + coracoids[side]) + np.array([0.0, 45.0, -60.0])
        off = (body - trapezius) / np.array([55.0, 40.0, 60.0])
        result[:, 1] += what.trapezius_mm * np.exp(-0.5 * (off**2).sum(axis=1))
    return result


def _posture(body: np.ndarray, landmarks: np.ndarray, what: Variation) -> np.ndarray:
    result = body.copy()
    notch, navel, coracoids = landmarks[0], landmarks[1], landmarks[4:]
    joint = coracoids[0] + np.array([12.0, -12.0, -45.0])
    weight = smoothstep((result[:, 0] - joint[0]) + 0.25 * (result[:, 1] - joint[1]), -40.0, 90.0)
    moved = turned(result - joint, 2, np.radians(what.left_arm_degrees)) - (result - joint)
    result += weight[:, None] * moved
    high = smoothstep(body[:, 1], navel[1] + 120.0, notch[1] - 20.0)
    for sign in (1.0, -1.0):
        side = smoothstep(sign * (body[:, 0] - notch[0]), 15.0, 150.0)
        result[:, 1] += 0.5 * sign * what.shoulder_height_mm * side * high
    share = np.clip((result[:, 1] - navel[1]) / (notch[1] - navel[1]), -0.3, 1.3)
    angles = np.radians(what.lean_degrees) * share**2 * np.sign(share)
    result[:, 0] += np.tan(angles) * (result[:, 1] - navel[1])
    return result


def _slid(body: np.ndarray, number: int, slide: np.ndarray, basis: TorsoBasis) -> np.ndarray:
    """Slide the skin about a landmark over the body, which keeps its shape but for what stands out at the landmark."""
    base = _without_relief(body, number, basis)
    from_landmark, edge = _distances_on_mean(basis, number), REACH_MM[number]
    near, around = np.flatnonzero(from_landmark < edge), np.flatnonzero(from_landmark < 1.2 * edge)
    middle = int(np.argmin(from_landmark[near]))
    rim = base[around[from_landmark[around] > edge]]
    fades_over = float(np.median(np.linalg.norm(rim - base[near[middle]], axis=1)))
    length = min(float(np.linalg.norm(slide)), LARGEST_SHARE * fades_over)
    weight = 1.0 - smoothstep(from_landmark[near], WHOLE_MM, edge)
    normals, tree = vertex_normals(base, basis.body_faces), cKDTree(base[around])
    places, facing = base[near], normals[near]
    direction = _tangent(slide, facing[middle])
    for _ in range(SLIDE_STEPS):
        # A pole of the breast looks along the slide: turned from the landmark's tangent plane, directions have no pole there.
        along = _turned_with(direction, facing[middle], facing) * length
        places = places + along * (weight / SLIDE_STEPS)[:, None]
        onto, after = _on_surface(places, facing, base[around], normals[around], tree)
        direction = _turned_with(direction, facing[middle], after[middle][None])[0]
        places, facing = onto, after
    result = body.copy()
    # One rotation for all that stands out: its own skin's many normals would tear it.
    result[near] = places + _turned_with(body[near] - base[near], normals[near[middle]], facing[middle][None])
    return result


@lru_cache(maxsize=6)
def _distances_on_mean(basis: TorsoBasis, number: int) -> np.ndarray:
    """(S,) distance from a landmark on the mean body; infinite on the other side of the midline from a nipple, and behind."""
    mean = basis.subdivision @ basis.template_mm.astype(float)
    landmark = mean[landmark_vertices(basis)[number]]
    distance = np.linalg.norm(mean - landmark, axis=1)
    if number in (2, 3):
        distance = np.where(np.sign(landmark[0]) * mean[:, 0] > 0.0, distance, np.inf)
    return distance


def _on_surface(
    places: np.ndarray, facing: np.ndarray, vertices: np.ndarray, normals: np.ndarray, tree: cKDTree
) -> tuple[np.ndarray, np.ndarray]:
    """Bring (N, 3) places near a surface onto it by the tangent planes of the vertices about them; also (N, 3) normals there.

    Vertices that face elsewhere than the (N, 3) skin that moves lie across a fold, and do not count.
    """
    distance, nearest = tree.query(places, k=SURFACE_NEIGHBOURS)
    alike = np.clip((normals[nearest] * facing[:, None]).sum(axis=2) - 0.3, 1e-6, None)
    weight = alike * np.exp(-0.5 * (distance / np.maximum(distance[:, 2:3], 1e-6)) ** 2)
    weight /= weight.sum(axis=1, keepdims=True)
    after = (weight[..., None] * normals[nearest]).sum(axis=1)
    after /= np.linalg.norm(after, axis=1, keepdims=True)
    height = (weight * ((places[:, None] - vertices[nearest]) * normals[nearest]).sum(axis=2)).sum(axis=1)
    return places - height[:, None] * after, after


def _tangent(slide: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """(3,) unit direction of a slide (across, up) in the plane of a unit normal."""
    across = np.array([1.0, 0.0, 0.0]) - normal[0] * normal
    across /= np.linalg.norm(across)
    direction = slide[0] * across + slide[1] * np.cross(normal, across)
    return direction / np.linalg.norm(direction)


def _turned_with(vectors: np.ndarray, normal: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Vectors, (3,) or (N, 3), turned by the smallest rotations that take a unit normal to each of (N, 3) others."""
    axis, cosine = np.cross(normal, others), (others @ normal)[:, None]
    twice = np.cross(axis, np.cross(axis, vectors))
    return vectors + np.cross(axis, vectors) + twice / np.maximum(1.0 + cosine, 0.1)  # Rodrigues' formula


def _without_relief(body: np.ndarray, number: int, basis: TorsoBasis) -> np.ndarray:
    """The body with what stands out or sinks in at a landmark filled from the skin around it, whose slope goes on."""
    if RELIEF_MM[number] is None:
        return body
    inside, solver, coupling, outside = _fill(basis, number)
    base = body.copy()
    base[inside] = solver.solve(-(coupling @ body[outside]))
    return base


@lru_cache(maxsize=6)
def _fill(basis: TorsoBasis, number: int):
    """Biharmonic interpolation over a landmark's patch: its vertices, the solver, and what couples it to the rest."""
    inside = np.flatnonzero(_distances_on_mean(basis, number) < RELIEF_MM[number])
    count = basis.subdivision.shape[0]
    outside = np.setdiff1d(np.arange(count), inside)
    laplacian = (neighbour_mean(basis) - sparse.identity(count)).tocsr()
    rows = (laplacian @ laplacian).tocsr()[inside]
    return inside, splu(rows[:, inside].tocsc()), rows[:, outside], outside
