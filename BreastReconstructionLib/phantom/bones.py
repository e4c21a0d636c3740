"""Synthetic bones with exact surfaces: right femur, lumbar vertebra, rib cage; patient space (mm, RAS).

Each is the zero level of a smooth union of cones with round ends along curves, whose sizes and angles are drawn at random about
figures of anatomy: a femur's neck-shaft angle 127 and anteversion 12 degrees (Noble et al. 1988), ribs that are logarithmic
spirals in their planes (Holcombe et al. 2016). They are smooth: no lips, no pores, no disease.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from ..core.errors import OptionError
from ..core.files import disk_errors
from ..core.progress import Progress
from ..geometry.transforms import Frame
from ..mesh.files import write_ply
from ..mesh.level import level_of_volume
from ..mesh.mesh import TriangleMesh
from ..mesh.segments import largest_body

# Beyond this from every body the field is only known to be outside.
REACH_MM = 12.0
RIBS = 12
SPINE, STERNUM = 0, 25
# Labels of a femur's parts.
FEMUR_PARTS = ("shaft", "head", "neck", "greater trochanter", "lesser trochanter", "medial condyle", "lateral condyle")


@dataclass(frozen=True)
class Rod:
    """A curve with a radius at each of its points.

    Attributes:
        points: (N, 3) mm, RAS.
        radii: (N,) mm.
        flat: factor by which it is thinner from front to back than from side to side.
        label: what it belongs to.
    """

    points: np.ndarray
    radii: np.ndarray
    flat: float = 1.0
    label: int = 0

    def pieces(self) -> list[Piece]:
        """One cone with round ends between each two points."""
        return [Piece(self.points[k : k + 2], self.radii[k : k + 2], self.flat) for k in range(len(self.points) - 1)]


@dataclass(frozen=True)
class Piece:
    """A cone with round ends: two (2, 3) points, their (2,) radii, and how flat it is."""

    ends: np.ndarray
    radii: np.ndarray
    flat: float

    def box(self) -> np.ndarray:
        """(2, 3) lowest and highest corner."""
        reach = self.radii.max()
        return np.stack([self.ends.min(axis=0) - reach, self.ends.max(axis=0) + reach])

    def distance(self, points: np.ndarray) -> np.ndarray:
        """(N,) distance to the nearest point of the axis, less the radius there."""
        scale = np.array([1.0, 1.0 / self.flat, 1.0])
        start, along = self.ends[0] * scale, (self.ends[1] - self.ends[0]) * scale
        from_start = points * scale - start
        share = np.clip(from_start @ along / max(along @ along, 1e-12), 0.0, 1.0)
        away = np.linalg.norm(from_start - share[:, None] * along, axis=1)
        return away - (self.radii[0] + share * (self.radii[1] - self.radii[0]))


@dataclass(frozen=True)
class Disc:
    """An upright cylinder of elliptical section with round edges and a waist.

    Attributes:
        center: (3,) mm.
        half: (3,) half its width, depth and height.
        edge: radius of the edges.
        waist: factor of the section at half its height.
        label: what it belongs to.
    """

    center: np.ndarray
    half: np.ndarray
    edge: float
    waist: float
    label: int = 0

    def pieces(self) -> list[Disc]:
        """Itself."""
        return [self]

    def box(self) -> np.ndarray:
        """(2, 3) lowest and highest corner."""
        return np.stack([self.center - self.half, self.center + self.half])

    def distance(self, points: np.ndarray) -> np.ndarray:
        """(N,) distance, exact but for the ellipse, where it is that of a circle stretched."""
        x, y, z = (points - self.center).T
        height = np.clip(np.abs(z) / self.half[2], 0.0, 1.0)
        wide = self.half[0] * (self.waist + (1.0 - self.waist) * height**2)
        out = np.hypot(x, y * self.half[0] / self.half[1]) - wide + self.edge
        up = np.abs(z) - self.half[2] + self.edge
        return np.hypot(np.maximum(out, 0.0), np.maximum(up, 0.0)) + np.minimum(np.maximum(out, up), 0.0) - self.edge


Body = Rod | Disc
Anatomy = Callable[[np.random.Generator], "list[Body]"]


def bone(kind: str, seed: int, cell_mm: float | None = None) -> TriangleMesh:
    """Return the bone of a seed, one closed surface, outward, mm RAS; scalar `part` is the label of the nearest rod.

    Args:
        kind: see BONES.
        seed: the same gives the same.
        cell_mm: of the grid on which its level is found; None for what suits the bone.

    Raises:
        OptionError: no such bone.
    """
    if kind not in BONES:
        raise OptionError(f"There is no bone called {kind}; there are {', '.join(BONES)}.")
    parts = BONES[kind].draw(np.random.default_rng([53, list(BONES).index(kind), seed]))
    return surface_of(parts, cell_mm or BONES[kind].cell_mm, BONES[kind].blend_mm)


def surface_of(parts: list[Body], cell_mm: float, blend_mm: float) -> TriangleMesh:
    """Return the surface of the smooth union of bodies, its largest one; scalar `part` is the label of the nearest body.

    The union is -b log sum exp(-d / b), b the blend: where one body is much nearer, that one's distance.
    """
    boxes = np.stack([piece.box() for part in parts for piece in part.pieces()])
    margin = 3 * cell_mm + blend_mm
    low, high = boxes[:, 0].min(axis=0) - margin, boxes[:, 1].max(axis=0) + margin
    axes = [np.arange(low[k], high[k] + cell_mm, cell_mm) for k in range(3)]
    total = np.zeros(tuple(len(axis) for axis in axes), np.float32)
    for part in parts:
        own = np.full(total.shape, REACH_MM, np.float32)
        for piece in part.pieces():
            box = piece.box() + np.array([[-REACH_MM], [REACH_MM]])
            window = tuple(slice(*np.searchsorted(axis, box[:, k])) for k, axis in enumerate(axes))
            points = np.stack(np.meshgrid(*(axis[cut] for axis, cut in zip(axes, window, strict=True)), indexing="ij"), axis=-1)
            distance = piece.distance(points.reshape(-1, 3)).reshape(points.shape[:3])
            own[window] = np.minimum(own[window], distance)
        total += np.where(own < REACH_MM, np.exp(-own / blend_mm), 0.0)
    field = np.where(total > 0, -blend_mm * np.log(np.maximum(total, 1e-30)), REACH_MM)
    matrix = np.diag([cell_mm, cell_mm, cell_mm, 1.0])
    matrix[:3, 3] = low
    mesh = level_of_volume(-field.transpose(2, 1, 0), matrix)
    whole = largest_body(mesh)
    return TriangleMesh(whole.vertices, whole.faces, Frame.PATIENT, scalars={"part": nearest_label(whole.vertices, parts)})


def nearest_label(points: np.ndarray, parts: list[Body]) -> np.ndarray:
    """Return the (N,) labels of the bodies that are nearest to (N, 3) points."""
    best, label = np.full(len(points), np.inf), np.zeros(len(points))
    for part in parts:
        distance = np.min([piece.distance(points) for piece in part.pieces()], axis=0)
        nearer = distance < best
        best[nearer], label[nearer] = distance[nearer], part.label
    return label


def _drawn(rng: np.random.Generator, mean: float, spread: float) -> float:
    """A size about a mean, normal with a relative spread, not beyond two and a half of it."""
    return float(mean * (1 + spread * np.clip(rng.normal(), -2.5, 2.5)))


def _femur(rng: np.random.Generator) -> list[Body]:
    """A right femur, standing; its patient's left is -x, where the other leg is."""
    draw = partial(_drawn, rng)
    size = draw(1.0, 0.05)
    length, head, shaft = draw(390, 0.03) * size, draw(23.5, 0.05) * size, draw(13.6, 0.07) * size
    angle, version = np.radians(draw(127, 0.04)), np.radians(12 + 7 * rng.normal())
    neck, bow, condyle = draw(52, 0.08) * size, draw(9, 0.35) * size, draw(21, 0.06) * size
    valgus = np.radians(draw(8, 0.2))
    top = np.array([0.0, 0.0, 0.5 * length])
    # The shaft leans towards the other leg below, and bows to the front.
    share = np.linspace(0, 1, 10)
    center = top + np.stack([-np.sin(valgus) * share * length, bow * 4 * share * (1 - share), -share * length], axis=1)
    widths = shaft * np.interp(share, [0, 0.1, 0.3, 0.6, 0.85, 1.0], [1.35, 1.1, 1.0, 0.98, 1.25, 1.75])
    inward = np.array([-np.cos(version), np.sin(version), 0.0])  # to the hip
    toward = np.sin(np.pi - angle) * inward + np.array([0, 0, -np.cos(angle)])
    ball = top + neck * toward
    great = top + np.array([9.0, -4.0, 12.0]) * size + rng.normal(0, 1.5, 3)
    small = center[1] + np.array([-11.0, -10.0, -2.0]) * size + rng.normal(0, 1.2, 3)
    low = center[-1]
    wide, deep = draw(23, 0.06) * size, draw(17, 0.12) * size
    parts: list[Body] = [
        Rod(center, widths),
        Rod(np.stack([top + 6 * toward, top + 0.55 * neck * toward, ball]), np.array([0.98, 0.66, 0.72]) * head, label=2),
        Rod(np.stack([ball, ball + 0.5 * toward]), np.array([head, head]), label=1),
        Rod(np.stack([top - [0, 0, 12.0 * size], great]), np.array([13.5, 10.5]) * size, label=3),
        Rod(np.stack([center[1] - [3 * size, 2 * size, 0], small]), np.array([9.0, 5.5]) * size, label=4),
    ]
    for label, side, factor in ((5, -1, 1.0), (6, 1, draw(0.97, 0.03))):
        place = low + np.array([side * wide, 0, -14.0 * size])
        front, back = place + np.array([0, 4.0 * size, 0]), place + np.array([0, -deep, -size])
        parts.append(Rod(np.stack([low, front, back]), np.array([16 * size, factor * condyle, factor * condyle]), label=label))
    return parts


def _vertebra(rng: np.random.Generator) -> list[Body]:
    """A lumbar vertebra, its canal behind the body."""
    draw = partial(_drawn, rng)
    size = draw(1.0, 0.06)
    width, depth, height = draw(22, 0.06) * size, draw(0.72, 0.06), draw(25, 0.08) * size
    canal, spinous, across = draw(17, 0.08) * size, draw(32, 0.12) * size, draw(40, 0.1) * size
    edge = -depth * width
    arch = edge - canal
    parts: list[Body] = [Disc(np.zeros(3), np.array([width, depth * width, 0.5 * height]), 3.5 * size, draw(0.9, 0.03))]
    tip = np.array([0, arch - spinous, -8 * size + 4 * rng.normal()])
    parts.append(Rod(np.stack([[0, arch, 0], tip]), np.array([5.5, 5.0]) * size))
    for side in (-1, 1):
        root = np.array([side * 13.0 * size, edge + 5 * size, 5 * size])
        corner = np.array([side * 14.0 * size, arch + 8 * size, 3 * size])
        parts.append(Rod(np.stack([root, corner]), np.array([6.0, 5.5]) * size))
        parts.append(Rod(np.stack([corner, [0, arch, 0]]), np.array([5.5, 5.0]) * size))
        end = np.array([side * across, arch + 9 * size, 6 * size + 2 * rng.normal()])
        parts.append(Rod(np.stack([corner, end]), np.array([5.0, 4.0]) * size))
        for up in (1, -1):
            facet = np.array([side * (16.0 if up > 0 else 13.0) * size, arch + (5 if up > 0 else 2) * size, up * 19.0 * size])
            parts.append(Rod(np.stack([corner, facet]), np.array([5.5, 5.0]) * size))
    return parts


def _rib_cage(rng: np.random.Generator) -> list[Body]:
    """Twelve pairs of ribs from the spine to the breastbone; `part` is 0 the spine, 1 to 12 right and 13 to 24 left ribs, 25 the
    breastbone with the cartilages."""
    draw = partial(_drawn, rng)
    size, width, depth, height = draw(1.0, 0.05), draw(1.0, 0.06), draw(1.0, 0.08), draw(310, 0.05)
    slope, radius = np.radians(draw(24, 0.15)), draw(5.4, 0.06)
    kyphosis = draw(24, 0.3)
    level = np.linspace(0, 1, RIBS)
    along = np.linspace(-0.08, 1.08, 14)
    spine = lambda share: np.stack([0 * share, -kyphosis * 4 * share * (1 - share), height * (0.5 - share)], axis=-1)
    parts: list[Body] = [Rod(spine(along), np.full(14, 15.0 * size), label=SPINE)]
    ends: dict[tuple[int, int], np.ndarray] = {}
    for number, share in enumerate(level):
        half = width * size * np.interp(share, [0, 0.2, 0.65, 1], [62, 108, 145, 128])
        deep = depth * size * np.interp(share, [0, 0.2, 0.65, 1], [85, 150, 205, 150])
        last = np.radians(np.interp(share, [0, 0.55, 0.8, 1], [158, 155, 128, 55]))
        theta = np.linspace(np.radians(8), last, 24)
        spiral = np.exp(-draw(0.10, 0.2) * theta)  # a logarithmic spiral, stretched to the chest's width and depth
        tilt = slope * (0.9 + 0.45 * share) + np.radians(1.5) * rng.normal()
        for side, first in ((1, 1), (-1, 1 + RIBS)):
            flat = np.stack([side * half * np.sin(theta) * spiral, deep * 0.5 * (1 - np.cos(theta) * spiral), 0 * theta], axis=1)
            flat -= flat[0]
            turned = Rotation.from_euler("x", -tilt).apply(flat)
            curve = spine(np.array(share)) + np.array([side * 12.0 * size, -6.0 * size, 0]) + turned
            parts.append(Rod(curve, radius * size * np.interp(theta / last, [0, 0.3, 1], [0.9, 1.0, 1.05]), label=first + number))
            ends[side, number] = curve[-1]
    front = 0.5 * (ends[1, 0] + ends[-1, 0]) + [0, 4.0, 0]
    foot = 0.5 * (ends[1, 6] + ends[-1, 6]) + [0, 12.0, 40.0]
    share = np.linspace(0, 1, 6)[:, None]
    parts.append(Rod(front + share * (foot - front), np.full(6, 12.0 * size), 0.6, STERNUM))
    for (_, number), end in ends.items():
        if number < 10:
            joint = front + min(number / 6.0, 1.0) * (foot - front)
            middle = 0.5 * (end + joint) - [0, 0, 10.0 + 4.0 * max(number - 5, 0)]
            parts.append(Rod(np.stack([end, middle, joint]), np.full(3, 5.0 * size), label=STERNUM))
    return parts


@dataclass(frozen=True)
class BoneKind:
    """How a bone is drawn, and made: the grid's cells, and how far bodies that touch grow together, mm."""

    draw: Anatomy
    cell_mm: float
    blend_mm: float


BONES = {
    "femur": BoneKind(_femur, 2.0, 4.0),
    "vertebra": BoneKind(_vertebra, 1.0, 2.0),
    "rib-cage": BoneKind(_rib_cage, 2.0, 1.0),
}


def write_phantom_bones(folder: Path, kind: str, first_seed: int, count: int, progress: Progress | None = None) -> list[Path]:
    """Write the bones of consecutive seeds as meshes; returns their paths."""
    progress, paths = progress or Progress(), []
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            progress(number / count, f"{kind} {number + 1} of {count}")
            path = folder / f"{kind}-{first_seed + number:04d}.ply"
            write_ply(path, bone(kind, first_seed + number))
            paths.append(path)
    return paths
