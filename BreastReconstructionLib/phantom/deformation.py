"""Smooth deformations that go on where MakeHuman's shapes end: the bodies that a clinic sees.

All are displacement fields on the skin of the upper body, in millimetres, in model axes (+x patient's left, +y superior,
+z anterior), placed by the body's own landmarks, so that topology and landmark vertices stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.linalg import splu

from ..mesh.boundary import boundary_loops
from .basis import TorsoBasis, load_torso_basis

# Of the breast on the mean body: centre above the nipple, half axes across and up, mm.
BREAST_ABOVE_NIPPLE, BREAST_ACROSS, BREAST_UP = 12.0, 72.0, 82.0
# How far behind the nipple it ends.
BREAST_DEPTH = 130.0
# How far around a removed breast the skin is smoothed, and by how many rounds of averaging.
FLAT_REACH, FLAT_ROUNDS = 1.3, 60
# Abduction of the mean body's arms, and how far an arm that hangs straight down (times sqrt(2)) is pushed off the trunk.
MEAN_ARMS_DEGREES, HANGING_ARM_OUTWARD_MM = 45.0, 40.0


@dataclass(frozen=True)
class Breast:
    """What is done to one breast.

    Attributes:
        ptosis_mm: how far nipple and lower pole sink.
        tuberous: share by which the base is constricted, 0 to 0.3.
        implant_mm: how far the upper pole is pushed forward.
        flattened: 0 to 1; 1 is a breast removed.
        scar_mm: depth of a horizontal scar on a flat side.
    """

    ptosis_mm: float = 0.0
    tuberous: float = 0.0
    implant_mm: float = 0.0
    flattened: float = 0.0
    scar_mm: float = 0.0


@dataclass(frozen=True)
class Deformation:
    """What is done to a body.

    Attributes:
        left, right: the breasts.
        fold_mm, fold_length_mm: height and distance of fat folds about the waist.
        shoulders_forward_degrees: of both shoulders about the sternum's axis.
        arms_degrees: abduction of the arms beyond MEAN_ARMS_DEGREES, -45 (hanging) to 45 (level).
        twist_degrees: rotation of the shoulders against the hips.
        clavicle_mm: height of the clavicles' ridges.
        rib_mm: height of the lower ribs.
    """

    left: Breast = field(default_factory=Breast)
    right: Breast = field(default_factory=Breast)
    fold_mm: float = 0.0
    fold_length_mm: float = 80.0
    shoulders_forward_degrees: float = 0.0
    arms_degrees: float = 0.0
    twist_degrees: float = 0.0
    clavicle_mm: float = 0.0
    rib_mm: float = 0.0


def sample_deformation(rng: np.random.Generator, weight: float) -> Deformation:
    """Draw what a clinic's patients have; four of ten have nothing but a posture.

    Args:
        rng: random numbers.
        weight: MakeHuman's weight of the body, 0 to 1: fat has folds, lean has ribs.
    """
    sides = [{}, {}]
    kind = rng.choice(["none", "ptosis", "implant", "tuberous", "mastectomy"], p=[0.4, 0.28, 0.12, 0.06, 0.14])
    for side in sides:
        if kind == "ptosis":
            side["ptosis_mm"] = rng.uniform(6.0, 40.0)
        elif kind == "implant":
            side["implant_mm"] = rng.uniform(6.0, 24.0)
        elif kind == "tuberous":
            side["tuberous"] = rng.uniform(0.08, 0.28)
    if kind == "mastectomy":
        scar = rng.uniform(1.5, 4.0) if rng.random() < 0.5 else 0.0
        sides[rng.integers(2)] |= {"flattened": rng.uniform(0.85, 1.0), "scar_mm": scar}
    elif kind != "none" and rng.random() < 0.3:  # only one side
        sides[rng.integers(2)].clear()
    return Deformation(
        left=Breast(**sides[0]),
        right=Breast(**sides[1]),
        fold_mm=rng.uniform(2.0, 7.0) if weight > 0.6 and rng.random() < 0.4 else 0.0,
        fold_length_mm=rng.uniform(65.0, 110.0),
        shoulders_forward_degrees=float(np.clip(rng.normal(0.0, 5.0), -8.0, 14.0)),
        arms_degrees=_sample_arms(rng),
        twist_degrees=float(np.clip(rng.normal(0.0, 2.5), -7.0, 7.0)),
        clavicle_mm=rng.uniform(1.0, 5.0) if rng.random() < 0.5 * (1.4 - weight) else 0.0,
        rib_mm=rng.uniform(0.5, 2.0) if weight < 0.5 and rng.random() < 0.4 else 0.0,
    )


def _sample_arms(rng: np.random.Generator) -> float:
    """Seven of ten hold the arms about as the mean body does, the others anywhere from hanging to level."""
    if rng.random() < 0.7:
        return float(np.clip(rng.normal(0.0, 9.0), -25.0, 25.0))
    return float(rng.uniform(-MEAN_ARMS_DEGREES, 90.0 - MEAN_ARMS_DEGREES))


def deform(body_mm: np.ndarray, landmarks_mm: np.ndarray, what: Deformation, basis: TorsoBasis) -> np.ndarray:
    """Return the deformed (S, 3) skin of a body.

    Args:
        body_mm: (S, 3) skin of the upper body.
        landmarks_mm: (6, 3) on it.
        what: see Deformation.
        basis: whose topology the body has.
    """
    result = body_mm.copy()
    for breast, nipple, left in ((what.left, landmarks_mm[2], True), (what.right, landmarks_mm[3], False)):
        if breast != Breast():
            result = _deform_breast(result, nipple, breast, left, basis)
    notch, navel = landmarks_mm[:2]
    if what.fold_mm:
        result += _folds(body_mm, navel, what.fold_mm, what.fold_length_mm)
    if what.clavicle_mm:
        for coracoid in landmarks_mm[4:]:
            result[:, 1:] += _ridge(body_mm, notch, coracoid, what.clavicle_mm)[:, None] * np.array([0.5, 0.87])
    if what.rib_mm:
        result += _ribs(body_mm, notch, navel, what.rib_mm)
    return pose(result, landmarks_mm, what)


def breast_region(basis: TorsoBasis, left: bool) -> np.ndarray:
    """Return the indices of one breast's vertices in the skin of the upper body: an ellipse on the mean body's front."""
    return _region(basis, left)


@lru_cache(maxsize=1)
def breast_ellipses(basis: TorsoBasis) -> np.ndarray:
    """(2, S) squared distance from each breast's centre on the mean body, 1 at the edge; infinite behind and across."""
    ratio = breast_ratios(basis)
    mean = basis.subdivision @ basis.template_mm.astype(float)
    squares = []
    for nipple, own in zip((basis.torso @ mean)[basis.landmarks[2:4]], ratio, strict=True):
        front = mean[:, 2] > nipple[2] - BREAST_DEPTH
        squares.append(np.where(front & (np.sign(nipple[0]) * mean[:, 0] > 0.0), own**2, np.inf))
    return np.stack(squares)


@lru_cache(maxsize=1)
def breast_ratios(basis: TorsoBasis) -> np.ndarray:
    """(2, S) distance from each breast's centre across the ellipse on the mean body, 1 at its edge; it goes on everywhere."""
    mean, found = basis.subdivision @ basis.template_mm.astype(float), []
    for nipple in (basis.torso @ mean)[basis.landmarks[2:4]]:
        across, up = mean[:, 0] - nipple[0], mean[:, 1] - nipple[1] - BREAST_ABOVE_NIPPLE
        found.append(np.hypot(across / BREAST_ACROSS, up / BREAST_UP))
    return np.stack(found)


def _region(basis: TorsoBasis, left: bool, factor: float = 1.0) -> np.ndarray:
    """Vertices within a breast's ellipse, enlarged by a factor."""
    return np.flatnonzero(breast_ellipses(basis)[0 if left else 1] < factor**2)


@lru_cache(maxsize=1)
def neighbour_mean(basis: TorsoBasis) -> sparse.csr_matrix:
    """(S, S) mean over a vertex's neighbours."""
    count = basis.subdivision.shape[0]
    edges = np.concatenate([basis.body_faces[:, [0, 1]], basis.body_faces[:, [1, 2]], basis.body_faces[:, [2, 0]]])
    neighbours = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count)).tocsr()
    neighbours = ((neighbours + neighbours.T) > 0).astype(float)
    degree = np.asarray(neighbours.sum(axis=1)).ravel()
    return (sparse.diags(1.0 / np.maximum(degree, 1)) @ neighbours).tocsr()


@lru_cache(maxsize=2)
def _chest_wall_solver(basis: TorsoBasis, left: bool):
    """Over a breast's region: its vertices, harmonic interpolation from the skin around it, and averaging of neighbours.

    Harmonic, not biharmonic: a membrane does not carry on the slope with which a breast begins at the region's edge.
    """
    mean, count = neighbour_mean(basis), basis.subdivision.shape[0]
    inside = _region(basis, left)
    outside = np.setdiff1d(np.arange(count), inside)
    rows = (mean - sparse.identity(count)).tocsr()[inside]
    averaging = mean[inside][:, inside]
    return inside, splu(rows[:, inside].tocsc()), rows[:, outside], outside, averaging


def chest_wall(body_mm: np.ndarray, left: bool, basis: TorsoBasis) -> tuple[np.ndarray, np.ndarray]:
    """Return a breast's vertex indices and their (N, 3) places on a membrane spanned by the skin around it."""
    inside, solver, coupling, outside, _ = _chest_wall_solver(basis, left)
    return inside, solver.solve(-(coupling @ body_mm[outside]))


def breast_faces(basis: TorsoBasis, left: bool) -> np.ndarray:
    """Return the (F, 3) faces of the upper body's skin that reach into one breast."""
    return basis.body_faces[np.isin(basis.body_faces, _region(basis, left)).any(axis=1)]


def volume_integral(corners: np.ndarray) -> float:
    """Volume (mm^3) between (F, 3, 3) triangles and the origin, by the divergence theorem."""
    return float(np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6.0)


def breast_truth(body_ras: np.ndarray) -> dict[str, np.ndarray]:
    """Return each breast's exact volume (ml) between skin and `chest_wall`, and its boundary, a closed (K, 3) loop in mm.

    A breast is what `breast_region` says: an ellipse on the mean body, carried to this one by the topology.

    Args:
        body_ras: (S, 3) skin of the upper body, mm.
    """
    basis, result = load_torso_basis(), {}
    for side, left in (("left", True), ("right", False)):
        inside, wall = chest_wall(body_ras, left, basis)
        faces = breast_faces(basis, left)
        behind = body_ras.copy()
        behind[inside] = wall
        # Skin and wall share the loop around them, so the difference of their integrals is the volume between them.
        volume = [volume_integral(x[faces]) for x in (body_ras, behind)]
        result[f"{side}_breast_volume_ml"] = np.array((volume[0] - volume[1]) / 1000.0)
        result[f"{side}_breast_boundary_ras"] = body_ras[boundary_loops(faces)[0]]
    return result


def breast_height(body_mm: np.ndarray, left: bool, basis: TorsoBasis) -> tuple[np.ndarray, np.ndarray]:
    """Return a breast's vertex indices and their (N,) height above the wall, mm; fading to 0 at the edge of the breast."""
    inside, wall = chest_wall(body_mm, left, basis)
    return inside, _middle(inside, left, basis) * np.clip(body_mm[inside, 2] - wall[:, 2], 0.0, None)


def _middle(inside: np.ndarray, left: bool, basis: TorsoBasis) -> np.ndarray:
    """1 in the middle of a breast, 0 at its edge."""
    return smoothstep(1.0 - breast_ellipses(basis)[0 if left else 1, inside], 0.0, 0.6)


def _deform_breast(body: np.ndarray, nipple: np.ndarray, breast: Breast, left: bool, basis: TorsoBasis) -> np.ndarray:
    inside, wall = chest_wall(body, left, basis)
    result, skin = body.copy(), body[inside]
    height = np.clip(skin[:, 2] - wall[:, 2], 0.0, None)
    middle = _middle(inside, left, basis)
    share = middle * height / max(height.max(), 1e-6)  # 0 at the edge of the breast, 1 at its summit
    from_nipple = skin - nipple
    if breast.implant_mm:
        upper = np.exp(-0.5 * (from_nipple[:, 0] ** 2 + (from_nipple[:, 1] - 40.0) ** 2) / 32.0**2)
        skin = skin + breast.implant_mm * (middle * upper)[:, None] * np.array([0.0, 0.2, 1.0])
    if breast.tuberous:
        base = breast.tuberous * np.sqrt(share) * (1.0 - 0.5 * share)
        skin = skin - diffused(base[:, None] * from_nipple * np.array([1.0, 1.0, -0.15]), basis, left)
    if breast.ptosis_mm:
        sunk = share * (0.35 + 0.65 / (1.0 + np.exp(from_nipple[:, 1] / 25.0)))
        skin = skin + diffused(breast.ptosis_mm * sunk[:, None] * np.array([0.0, -1.0, -0.15]), basis, left)
    if breast.flattened:
        result[inside] = skin + breast.flattened * (wall - skin)
        around, smoothing = _region(basis, left, FLAT_REACH), neighbour_mean(basis)
        for _ in range(round(FLAT_ROUNDS * breast.flattened)):  # no edge where the breast was
            result[around] = smoothing[around] @ result
        skin = result[inside]
        along = np.exp(-0.5 * (from_nipple[:, 0] / 45.0) ** 2)
        groove = np.exp(-0.5 * ((from_nipple[:, 1] - 8.0 - 0.15 * from_nipple[:, 0]) / 7.0) ** 2)
        skin = skin - breast.scar_mm * (along * groove)[:, None] * np.array([0.0, 0.0, 1.0])
    result[inside] = skin
    return result


def diffused(displacement: np.ndarray, basis: TorsoBasis, left: bool, rounds: int = 60) -> np.ndarray:
    """Spread a displacement of a breast's vertices over their neighbours, so that skin shears without tearing.

    It falls to 0 at the edge of the region, and keeps its largest length.
    """
    averaging, largest = _chest_wall_solver(basis, left)[4], np.linalg.norm(displacement, axis=1).max()
    for _ in range(rounds):
        displacement = averaging @ displacement
    return displacement * largest / max(np.linalg.norm(displacement, axis=1).max(), 1e-9)


def _outward(body: np.ndarray) -> np.ndarray:
    """Horizontal unit directions away from the trunk's axis."""
    away = body * np.array([1.0, 0.0, 1.0]) - np.array([0.0, 0.0, np.median(body[:, 2])])
    return away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)


def _folds(body: np.ndarray, navel: np.ndarray, height_mm: float, length_mm: float) -> np.ndarray:
    """Rolls about the waist, sharp below and round above."""
    above = body[:, 1] - navel[1]
    envelope = np.exp(-(((above - 50.0) / 75.0) ** 4)) * np.exp(-((body[:, 0] / 230.0) ** 4))
    phase = 2 * np.pi * above / length_mm
    wave = np.sin(phase) + 0.2 * np.sin(2 * phase + 0.8)
    return height_mm * (envelope * wave)[:, None] * _outward(body)


def _ridge(body: np.ndarray, start: np.ndarray, stop: np.ndarray, height_mm: float) -> np.ndarray:
    """(S,) height of a ridge of 16 mm along a line on the skin, with a hollow above it."""
    axis = stop - start
    along = np.clip(((body - start) @ axis) / (axis @ axis), 0.0, 1.0)
    off = body - (start + along[:, None] * axis)
    distance = np.linalg.norm(off, axis=1)
    above = off[:, 1]
    taper = np.clip(4 * along * (1 - along) + 0.3, 0.0, 1.0)
    ridge = np.exp(-0.5 * (distance / 8.0) ** 2)
    hollow = 0.5 * np.exp(-0.5 * ((distance - 16.0) / 8.0) ** 2) * (above > 0)
    return height_mm * taper * (ridge - hollow)


def _ribs(body: np.ndarray, notch: np.ndarray, navel: np.ndarray, height_mm: float) -> np.ndarray:
    """Ripples of 24 mm between breasts and waist, falling outwards as ribs do."""
    share = (body[:, 1] - navel[1]) / (notch[1] - navel[1])
    envelope = np.exp(-(((share - 0.28) / 0.11) ** 2)) * np.clip((np.abs(body[:, 0]) - 25.0) / 40.0, 0.0, 1.0)
    envelope *= np.exp(-((body[:, 0] / 190.0) ** 4))
    phase = 2 * np.pi * (body[:, 1] + 0.45 * np.abs(body[:, 0])) / 24.0
    return height_mm * (envelope * np.cos(phase))[:, None] * _outward(body)


def pose(body: np.ndarray, landmarks: np.ndarray, what: Deformation) -> np.ndarray:
    """Arms about the shoulder joints, shoulders about the sternum's axis, shoulders against hips."""
    result = body.copy()
    notch, navel = landmarks[:2]
    for coracoid, sign in ((landmarks[4], 1.0), (landmarks[5], -1.0)):
        joint = coracoid + np.array([sign * 12.0, -12.0, -45.0])
        outside = sign * (body[:, 0] - joint[0]) + 0.25 * (body[:, 1] - joint[1])
        weight = smoothstep(outside, -40.0, 90.0)
        angle = np.radians(what.arms_degrees)
        # The patient's left is +x: raising an arm turns left arms one way and right arms the other.
        moved = turned(body - joint, 2, sign * angle) - (body - joint)
        moved[:, 0] += sign * HANGING_ARM_OUTWARD_MM * max(0.0, -np.sin(angle))
        result += weight[:, None] * moved
    for sign in (1.0, -1.0):
        hinge = notch + np.array([sign * 25.0, 0.0, -50.0])
        weight = smoothstep(sign * body[:, 0], 25.0, 170.0) * smoothstep(body[:, 1], navel[1] + 120.0, notch[1] - 40.0)
        angle = sign * np.radians(what.shoulders_forward_degrees)
        result += weight[:, None] * (turned(result - hinge, 1, -angle) - (result - hinge))
    height = np.clip((body[:, 1] - navel[1]) / (notch[1] - navel[1]), -0.3, 1.3)
    axis = np.array([0.0, 0.0, np.median(body[:, 2])])
    angles = np.radians(what.twist_degrees) * (height - 0.5)
    x, z = (result - axis)[:, 0], (result - axis)[:, 2]
    result[:, 0] = axis[0] + x * np.cos(angles) + z * np.sin(angles)
    result[:, 2] = axis[2] - x * np.sin(angles) + z * np.cos(angles)
    return result


def smoothstep(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smoothstep from 0 at `low` to 1 at `high`."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def turned(points: np.ndarray, axis: int, angle: float) -> np.ndarray:
    """Rotate (N, 3) points about a coordinate axis."""
    a, b = [(1, 2), (2, 0), (0, 1)][axis]
    result = points.copy()
    result[:, a] = points[:, a] * np.cos(angle) - points[:, b] * np.sin(angle)
    result[:, b] = points[:, a] * np.sin(angle) + points[:, b] * np.cos(angle)
    return result
