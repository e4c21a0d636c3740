"""What stands before a body in a video and is none: hair, a necklace, straps, a waistband, a plaster; and what is not there.

Everything is made of the body's own skin, moved outwards, so that it lies on any body. Patient space: mm, RAS (+x is the
patient's right, +y anterior, +z superior).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import cKDTree

from ..landmarks.names import LANDMARK_NAMES, NIPPLES
from ..mesh.mesh import vertex_normals
from .texture import cloth_texture, plane_noise, value_noise

# Things on the body; the next takes the left arm away; then a plaster over the left nipple, and a breast that has none.
HAIR, NECKLACE, STRAPS, WAISTBAND, SHORT_ARM = "hair", "necklace", "straps", "waistband", "short-arm"
PLASTER, NO_NIPPLE = "plaster", "no-nipple"
ON_BODY = (HAIR, NECKLACE, STRAPS, WAISTBAND, SHORT_ARM, PLASTER, NO_NIPPLE)
PLASTER_MM = 36.0
# How far from the coracoid the left arm (the patient's left is -x) ends.
STUMP_MM = 105.0


@dataclass(frozen=True)
class Thing:
    """A textured mesh before the body.

    Attributes:
        points: (N, 3) mm, RAS.
        faces: (F, 3).
        uv: (N, 2).
        picture: (H, W, 3) uint8 RGB.
        specular: 0 to 1.
    """

    points: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    picture: np.ndarray
    specular: float = 0.0


def things_on(body: np.ndarray, faces: np.ndarray, landmarks: np.ndarray, kinds: tuple[str, ...], seed: int) -> list[Thing]:
    """Return what lies on a body.

    Args:
        body: (S, 3) its skin.
        faces: (F, 3).
        landmarks: (6, 3).
        kinds: some of ON_BODY.
        seed: of shapes and colours.
    """
    rng = np.random.default_rng([29, seed])
    makers = {HAIR: _hair, NECKLACE: _necklace, STRAPS: _straps, WAISTBAND: _waistband, PLASTER: _plaster}
    return [thing for kind in kinds if kind in makers for thing in makers[kind](body, faces, landmarks, rng)]


def is_under_hair(points: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Tell which (N, 3) points of the skin hair covers: two locks before the shoulders, down to above the breasts."""
    notch, lowest = landmarks[0], landmarks[2:4, 2].mean() + 55.0
    beside = np.abs(points[:, 0] - notch[0] + 8.0 * np.sin(points[:, 2] / 40.0))
    front = points[:, 1] > notch[1] - 120.0
    return (beside > 48.0) & (beside < 108.0) & (points[:, 2] > lowest) & front


def is_absent(points: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Tell which (N, 3) points belong to the part of the left arm that a short arm lacks; for arms held off the trunk."""
    beside, above = (landmarks[4] - points)[:, 0], (points - landmarks[4])[:, 2]
    return (beside + 0.25 * above > 5.0) & (np.linalg.norm(points - landmarks[4], axis=1) > STUMP_MM)


def hidden_landmarks(kinds: tuple[str, ...]) -> np.ndarray:
    """Tell which of the (6,) landmarks no picture shows: under a plaster, or not there at all."""
    return np.array([name == LANDMARK_NAMES[NIPPLES[0]] and bool({PLASTER, NO_NIPPLE} & set(kinds)) for name in LANDMARK_NAMES])


def _raised(
    body: np.ndarray, faces: np.ndarray, covered: np.ndarray, height: np.ndarray, picture: np.ndarray, texture_mm: float
) -> Thing:
    """The part of the skin whose vertices are covered, moved outwards by (S,) heights."""
    part = faces[covered[faces].all(axis=1)]
    used, flat = np.unique(part, return_inverse=True)
    points = (body + height[:, None] * vertex_normals(body, faces))[used]
    uv = points[:, [0, 2]] / texture_mm
    return Thing(points, flat.reshape(-1, 3), uv, picture)


def _hair(body: np.ndarray, faces: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> list[Thing]:
    covered = is_under_hair(body, landmarks)
    from_edge = cKDTree(body[~covered]).query(body)[0]
    thickness = rng.uniform(9.0, 15.0) * np.clip(from_edge / 12.0, 0.0, 1.0)
    strands = 1.0 + 0.25 * value_noise(body * [1.0, 1.0, 0.15], 7.0, rng)
    height = 0.8 + thickness * strands
    return [_raised(body, faces, covered, height, _hair_texture(rng), 160.0)]


def _hair_texture(rng: np.random.Generator) -> np.ndarray:
    colors = np.array([[58, 40, 28], [28, 22, 20], [110, 78, 46], [96, 52, 34]], float)
    picture = np.ones((512, 512, 3), np.float32) * colors[rng.integers(len(colors))]
    for wavelength, amplitude in ((24, 0.25), (8, 0.3), (3, 0.35)):
        across = plane_noise((16, 512), wavelength, rng)
        picture *= 1 + amplitude * cv2.resize(across, (512, 512), interpolation=cv2.INTER_CUBIC)[..., None]
    return np.clip(picture, 4, 255).astype(np.uint8)


def _front(body: np.ndarray, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(N,) how far forward the skin reaches near places (x, z)."""
    forward = body[body[:, 1] > np.median(body[:, 1])]
    near = cKDTree(forward[:, [0, 2]]).query(np.column_stack([x, z]), k=6)[1]
    return forward[near, 1].max(axis=1)


def _necklace(body: np.ndarray, faces: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> list[Thing]:
    notch, t = landmarks[0], np.linspace(-1.0, 1.0, 120)
    x, z = notch[0] + 72.0 * t, notch[2] - rng.uniform(35.0, 60.0) + 90.0 * np.abs(t) ** 1.7
    line = np.column_stack([x, _front(body, x, z) + 2.5, z])
    line[:, 1] = np.convolve(np.pad(line[:, 1], 4, mode="edge"), np.ones(9) / 9, mode="valid")
    gold = np.clip(np.array([190, 150, 70]) + 30 * plane_noise((64, 64), 2, rng)[..., None], 0, 255).astype(np.uint8)
    pendant = line[len(line) // 2] + [0.0, 2.0, -9.0]
    return [_tube(line, 1.8, gold), _ball(pendant, 7.0, gold)]


def _tube(line: np.ndarray, radius: float, picture: np.ndarray) -> Thing:
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    first = np.cross(along, [0.0, 1.0, 0.0])
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    angle = np.linspace(0, 2 * np.pi, 9)
    ring = np.cos(angle)[None, :, None] * first[:, None] + np.sin(angle)[None, :, None] * second[:, None]
    return _grid(line[:, None] + radius * ring, picture, 40.0)


def _ball(center: np.ndarray, radius: float, picture: np.ndarray) -> Thing:
    around, up = np.meshgrid(np.linspace(0, 2 * np.pi, 17), np.linspace(-np.pi / 2, np.pi / 2, 9), indexing="ij")
    points = np.stack([np.cos(around) * np.cos(up), np.sin(around) * np.cos(up), np.sin(up)], axis=2)
    return _grid(center + radius * points, picture, 4.0)


def _grid(points: np.ndarray, picture: np.ndarray, repeats: float) -> Thing:
    """A mesh of (A, B, 3) points."""
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    v, u = np.meshgrid(np.linspace(0, 1, columns), np.linspace(0, repeats, rows))
    return Thing(points.reshape(-1, 3), faces, np.column_stack([u.ravel(), v.ravel()]), picture, specular=0.5)


def _straps(body: np.ndarray, faces: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> list[Thing]:
    notch, lowest = landmarks[0], landmarks[2:4, 2].mean() + 70.0
    beside = np.abs(np.abs(body[:, 0] - notch[0]) - 100.0)
    covered = (beside < 9.0) & (body[:, 2] > lowest)
    return [_raised(body, faces, covered, np.full(len(body), 1.5), cloth_texture(rng), 120.0)]


def _waistband(body: np.ndarray, faces: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> list[Thing]:
    covered = body[:, 2] < landmarks[1, 2] - 16.0
    return [_raised(body, faces, covered, np.full(len(body), 4.0), cloth_texture(rng), 200.0)]


def _plaster(body: np.ndarray, faces: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator) -> list[Thing]:
    covered = np.linalg.norm(body - landmarks[2], axis=1) < PLASTER_MM
    color = np.array([[232, 226, 214], [214, 178, 140]])[rng.integers(2)]
    gauze = np.clip(color + 12 * plane_noise((128, 128), 3, rng)[..., None], 0, 255).astype(np.uint8)
    return [_raised(body, faces, covered, np.full(len(body), 1.5), gauze, 60.0)]
