"""A surface moved along its normals until the frames agree about what they show of each place.

A place of skin looks alike in all frames that see it, but for exposure, and light that varies slowly over the skin. As functions
of the displacement the grey levels are linearised, and one sparse system a step weighs them against a smooth prior: a Gaussian
field of Matern's covariance (Lindgren, Rue & Lindstrom 2011, section 2.3). The prior is strong where the shape model is right.
Where the frames agree better without it than noise explains (a scar, a fold, a nipple of another form), it gives way.
A displacement along the normal cannot make an overhang; there the surface stays the model's, in front of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
import scipy.sparse as sparse
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from ..core.errors import FitError
from ..core.progress import Progress
from ..geometry.cameras import Camera
from ..geometry.pictures import sample_picture
from ..mesh.mesh import TriangleMesh, connected_parts
from ..mesh.visibility import visible_vertices

# Where a frame's visible surface is, is drawn in cells of so many pixels; its outermost cells may show what is behind it.
CELL_PX = 5
# So wide is the edge of a sleeve or a hair that passes before the surface.
EDGE_PX = 9
# Derivatives by the displacement are taken over this, mm.
STEP_MM = 0.25
# Rounds in which light and what the places look like are told apart, and in which outliers lose their weight.
LIGHT_ROUNDS, KERNEL_ROUNDS = 3, 3
ANCHORS = 8
# Triangles are halved where the prior gave way by more than this.
FINER_FROM = 0.2
NO_SOLUTION = "The comparison of the frames has no solution; look whether they show the patient."
# Of grey levels; the darkest say nothing.
LOGARITHMS = np.log(np.maximum(np.arange(256), 4.0)).astype(np.float32)


@dataclass(frozen=True)
class Prior:
    """What is known of a displacement before the pictures, and what the pictures are worth against it.

    Attributes:
        deviation_mm: standard deviation.
        range_mm: of correlation.
        worth: of a comparison, of 1: neighbours see the same pixels, and errors of cameras and motion are common to all, the
            more so the wider the field reaches.
    """

    deviation_mm: float
    range_mm: float
    worth: float


@dataclass(frozen=True)
class PhotometricSettings:
    """How frames are compared.

    Attributes:
        blurs_px: standard deviations of the smoothing of the pictures, step by step, by the strong prior.
        weak_blurs_px: the same, where it gave way.
        fine_blurs_px: the same, once triangles are halved there.
        light_mm: over which light and exposure of a frame vary.
        smallest_cosine: between normal and view: more grazing sights do not count.
        fewest_views: with fewer frames nothing moves.
        strong, weak: priors where the model is right, and where it is not.
        weak_steps: in which a weak prior is tried everywhere, to see where it gains.
        gain_mm: over which that gain is averaged.
        gains: mean gains, in squared standard deviations a vertex, from which the prior begins to give way, and has given way.
        seed_gain: that is reached somewhere in each part in which it gives way.
        shares: of the frames that see a place, from which the prior may give way, and may do so wholly: where fewer look, as at
            flanks, what passes before the skin (the patient's own arm) decides too much.
        told: mean information about the displacement, 1 / mm^2, from which the prior may give way, and may do so wholly: beside a
            scar smooth skin says little, and would be drawn along.
        jitter_px: standard deviation of where cameras and motion put a place in a frame.
        kernel: width of the robust kernel (Geman-McClure), in standard deviations of the noise.
        largest_mm: of a displacement.
    """

    blurs_px: tuple[float, ...] = (3.0, 1.2)
    weak_blurs_px: tuple[float, ...] = (2.0, 1.2, 1.0)
    fine_blurs_px: tuple[float, ...] = (1.0, 0.8)
    light_mm: float = 15.0
    smallest_cosine: float = 0.3
    fewest_views: int = 3
    strong: Prior = Prior(0.35, 15.0, 0.03)
    weak: Prior = Prior(2.5, 4.0, 0.3)
    weak_steps: int = 2
    gain_mm: float = 3.0
    gains: tuple[float, float] = (1.5, 3.0)
    seed_gain: float = 4.0
    shares: tuple[float, float] = (0.35, 0.5)
    told: tuple[float, float] = (10.0, 30.0)
    jitter_px: float = 0.2
    kernel: float = 3.0
    largest_mm: float = 8.0


@dataclass(frozen=True)
class MovedFrame:
    """One frame of a patient who moves a little.

    Attributes:
        camera: in the frame of the surface at rest, mm.
        read: its (H, W, 3) BGR picture.
        displaced: of (N, 3) points at rest, where they were then.
        is_skin: of such a picture, (H, W) where it may show the surface, and not what passes before it.
    """

    camera: Camera
    read: Callable[[], np.ndarray]
    displaced: Callable[[np.ndarray], np.ndarray]
    is_skin: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Displacement:
    """Of V vertices.

    Attributes:
        vertices: (V, 3) mm: those of the mesh, and others between them where the prior gave way.
        displacement_mm: (V,) along the normals, outwards positive.
        weakened: (V,) 0 to 1, where the prior gave way.
        views: (V,) frames that count.
    """

    vertices: np.ndarray
    displacement_mm: np.ndarray
    weakened: np.ndarray
    views: np.ndarray


@dataclass(frozen=True)
class _Comparison:
    """What the frames say of each vertex's displacement d.

    Attributes:
        information: (V,) and
        wanted: (V,) mm: the frames disagree by information * (d - wanted)^2, and the rest.
        cost: (V,) by how much they disagree now, in squared standard deviations of the noise.
        views: (V,) frames that count.
    """

    information: np.ndarray
    wanted: np.ndarray
    cost: np.ndarray
    views: np.ndarray


def find_displacement(
    mesh: TriangleMesh, frames: list[MovedFrame], settings: PhotometricSettings, progress: Progress
) -> Displacement:
    """Find by how much each vertex moves along its normal.

    Args:
        mesh: triangles of 1 to 2 mm, with normals; its unit is mm.
        frames: of the video, in the same frame.
        settings: see PhotometricSettings.
        progress: reported a frame.

    Raises:
        FitError: no place is seen well by enough frames, or the frames' comparison has no solution.
    """
    nowhere, everywhere = np.zeros(len(mesh.vertices)), np.ones(len(mesh.vertices))
    field, compare = _Field(mesh, settings), _Comparer(mesh, frames, settings)
    finest, costs = settings.blurs_px[-1], []
    strong = nowhere
    for part, blur in _parts(progress, 0.0, 0.25, settings.blurs_px):
        strong = field.solved(compare(strong, blur, part), nowhere)
    weak = strong
    for part, _ in _parts(progress, 0.25, 0.5, range(settings.weak_steps + 1)):
        seen = compare(weak, finest, part)
        if (seen.views < settings.fewest_views).all():
            raise FitError(f"No place of the skin is seen well by {settings.fewest_views} frames; film nearer, in better light.")
        costs.append(seen.cost)
        weak = field.solved(seen, everywhere)
    weakened = _gives_way(mesh, costs[0] - costs[-1], seen, len(frames), settings)
    moved = strong
    for part, blur in _parts(progress, 0.5, 0.75, settings.weak_blurs_px):
        moved = field.solved(compare(moved, blur, part), weakened)
    mesh, moved, weakened = _finer(mesh, moved, weakened)
    field, compare = _Field(mesh, settings), compare.on(mesh)
    for part, blur in _parts(progress, 0.75, 1.0, settings.fine_blurs_px):
        seen = compare(moved, blur, part)
        moved = field.solved(seen, weakened)
    return Displacement(mesh.vertices, np.where(seen.views > 0, moved, 0.0), weakened, seen.views)


def _finer(mesh: TriangleMesh, moved: np.ndarray, weakened: np.ndarray) -> tuple[TriangleMesh, np.ndarray, np.ndarray]:
    """Halve the triangles where the prior gave way; with the values of the new vertices."""
    from trimesh.remesh import subdivide

    chosen = np.flatnonzero((weakened[mesh.faces] > FINER_FROM).any(axis=1))
    if len(chosen) == 0:
        return mesh, moved, weakened
    carried = {"normals": mesh.normals, "values": np.column_stack([moved, weakened])}
    vertices, faces, carried = subdivide(mesh.vertices, mesh.faces, chosen, vertex_attributes=carried)
    normals = carried["normals"] / np.linalg.norm(carried["normals"], axis=1, keepdims=True)
    return TriangleMesh(vertices, faces, mesh.frame, normals), *carried["values"].T


def _parts(progress: Progress, begin: float, end: float, steps):
    """Each step with its part of the progress."""
    each = (end - begin) / len(steps)
    for number, step in enumerate(steps):
        yield progress.part(begin + number * each, begin + (number + 1) * each), step


def _gives_way(mesh: TriangleMesh, gain: np.ndarray, seen: _Comparison, frames: int, settings: PhotometricSettings) -> np.ndarray:
    """(V,) share by which the prior gives way: where without it the frames agree better than noise explains, and where they
    also say where the surface lies.
    """
    smoother, ones = _Smoother(mesh.vertices, settings.gain_mm), np.ones(len(gain))
    mean = smoother(gain, ones)
    above = mean > settings.gains[0]
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    part = connected_parts(edges[above[edges].all(axis=1)], len(mean))
    reached = np.zeros(part.max() + 1, bool)
    reached[part[mean > settings.seed_gain]] = True
    enough = _ramp(seen.views / max(frames, 1), settings.shares) * _ramp(smoother(seen.information, ones), settings.told)
    return smoother(_ramp(mean, settings.gains) * (above & reached[part]), ones) * enough


def _ramp(values: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """0 up to the lower bound, 1 from the upper one on."""
    low, high = bounds
    return np.clip((values - low) / (high - low), 0.0, 1.0)


class _Smoother:
    """Means over the surroundings on a surface, by way of anchors that are spread over it."""

    def __init__(self, vertices: np.ndarray, length_mm: float):
        anchors = np.unique(np.round(vertices / length_mm).astype(int), axis=0) * length_mm
        count = min(ANCHORS, len(anchors))
        distance, index = (a.reshape(len(vertices), count) for a in cKDTree(anchors).query(vertices, count))
        weight = np.exp(-0.5 * (distance / length_mm) ** 2)
        rows = np.repeat(np.arange(len(vertices)), count)
        self._to_anchors = sparse.csr_matrix((weight.ravel(), (index.ravel(), rows)), (len(anchors), len(vertices)))
        self._back = sparse.diags(1.0 / weight.sum(axis=1)) @ self._to_anchors.T

    def __call__(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(V,) smoothed values."""
        total = self._to_anchors @ weights
        return self._back @ ((self._to_anchors @ (weights * values)) / np.maximum(total, 1e-6))


class _Field:
    """Gaussian fields on a triangle mesh, by finite elements, whose prior varies from place to place."""

    def __init__(self, mesh: TriangleMesh, settings: PhotometricSettings):
        import potpourri3d

        self._stiffness = sparse.csc_matrix(potpourri3d.cotan_laplacian(mesh.vertices, mesh.faces))
        self._mass = np.maximum(potpourri3d.vertex_areas(mesh.vertices, mesh.faces), 1e-6)
        self._settings = settings

    def _mixed(self, name: str, weakened: np.ndarray) -> np.ndarray:
        strong, weak = (getattr(prior, name) for prior in (self._settings.strong, self._settings.weak))
        return np.exp((1 - weakened) * np.log(strong) + weakened * np.log(weak))

    def _precision(self, weakened: np.ndarray) -> sparse.csc_matrix:
        kappa = np.sqrt(8.0) / self._mixed("range_mm", weakened)
        tau = 1.0 / (np.sqrt(4.0 * np.pi) * kappa * self._mixed("deviation_mm", weakened))
        half = (sparse.diags(kappa**2 * self._mass) + self._stiffness) @ sparse.diags(tau)
        return half.T @ sparse.diags(1.0 / self._mass) @ half

    def solved(self, seen: _Comparison, weakened: np.ndarray) -> np.ndarray:
        """(V,) displacement that the comparison and the prior, which gave way by a (V,) share, agree on."""
        told = self._mixed("worth", weakened) * seen.information
        matrix = sparse.csc_matrix(self._precision(weakened) + sparse.diags(told))
        try:
            factor = splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}, diag_pivot_thresh=0.0)
        except RuntimeError as error:  # a singular matrix
            raise FitError(NO_SOLUTION) from error
        found = factor.solve(told * seen.wanted)
        if not np.isfinite(found).all():
            raise FitError(NO_SOLUTION)
        return np.clip(found, -self._settings.largest_mm, self._settings.largest_mm)


@dataclass(frozen=True)
class _Picture:
    """A frame's grey levels, (H, W) uint8, and where it shows skin, (H, W) 0 or 1, but for the edges of what it does not."""

    gray: np.ndarray
    skin: np.ndarray

    @classmethod
    def of(cls, frame: MovedFrame) -> _Picture:
        picture = frame.read()
        skin = cv2.erode(frame.is_skin(picture).astype(np.uint8), np.ones((EDGE_PX, EDGE_PX), np.uint8))
        return cls(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), skin)


class _Comparer:
    """Compares the frames at displaced vertices."""

    def __init__(
        self, mesh: TriangleMesh, frames: list[MovedFrame], settings: PhotometricSettings, pictures: list[_Picture] | None = None
    ):
        assert mesh.normals is not None
        self._vertices, self._normals = mesh.vertices, mesh.normals
        self._frames, self._settings = frames, settings
        self._pictures = pictures or [_Picture.of(frame) for frame in frames]  # 4 MB each, used in each step
        self._smoother = _Smoother(mesh.vertices, settings.light_mm)

    def on(self, mesh: TriangleMesh) -> _Comparer:
        """The same for another mesh."""
        return _Comparer(mesh, self._frames, self._settings, self._pictures)

    def __call__(self, displacement: np.ndarray, blur_px: float, progress: Progress) -> _Comparison:
        """Sample all frames, and linearise."""
        places = self._vertices + displacement[:, None] * self._normals
        values, slopes, weights, steep = (np.zeros((len(self._frames), len(places)), np.float32) for _ in range(4))
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
            sampled = pool.map(
                lambda frame, picture: self._sampled(places, frame, picture, blur_px), self._frames, self._pictures
            )
            for number, (chosen, *columns) in enumerate(sampled):
                progress(number / len(self._frames), f"comparing frame {number + 1} of {len(self._frames)}")
                for rows, column in zip((values, slopes, weights, steep), columns, strict=True):
                    rows[number, chosen] = column
        _without_light(values, weights, self._smoother)
        return _combined(values, slopes, weights, steep, displacement, self._settings)

    def _sampled(self, places: np.ndarray, frame: MovedFrame, seen: _Picture, blur_px: float) -> tuple[np.ndarray, ...]:
        """Indices of the vertices that a frame sees; logarithm of grey there, its derivative by the displacement, weight,
        and length of its gradient.
        """
        moved = frame.displaced(places)
        visible, pixels, cosine = visible_vertices(frame.camera, moved, self._normals)
        chosen = np.flatnonzero(visible & (cosine > self._settings.smallest_cosine))
        inside = _inside(frame.camera, pixels[visible])
        picture = cv2.GaussianBlur(LOGARITHMS[seen.gray], (0, 0), blur_px)
        ahead, _ = frame.camera.project(moved[chosen] + STEP_MM * self._normals[chosen])
        at = pixels[chosen] - 0.5
        slopes = [cv2.Sobel(picture, cv2.CV_32F, *axis, ksize=3, scale=0.125) for axis in ((1, 0), (0, 1))]
        gradient = np.column_stack([sample_picture(slope, at) for slope in slopes])
        by_displacement = (gradient * (ahead - pixels[chosen])).sum(axis=1) / STEP_MM
        weight = cosine[chosen] * (sample_picture(inside, at) > 0.99) * (sample_picture(seen.skin, at) > 0.99)
        return chosen, sample_picture(picture, at), by_displacement, weight, np.linalg.norm(gradient, axis=1)


def _inside(camera: Camera, pixels: np.ndarray) -> np.ndarray:
    """(H, W) float32, 1 where the visible surface is, but for its edge."""
    height, width = camera.height // CELL_PX + 2, camera.width // CELL_PX + 2
    cells = np.zeros((height, width), np.uint8)
    index = (pixels / CELL_PX).astype(int)
    cells[np.clip(index[:, 1], 0, height - 1), np.clip(index[:, 0], 0, width - 1)] = 1
    cells = cv2.morphologyEx(cells, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    large = cv2.resize(cells, (width * CELL_PX, height * CELL_PX), interpolation=cv2.INTER_NEAREST)
    large = cv2.erode(large, np.ones((2 * CELL_PX + 1,) * 2, np.uint8))
    return large[: camera.height, : camera.width].astype(np.float32)


def _without_light(values: np.ndarray, weights: np.ndarray, smoother: _Smoother) -> None:
    """Take out of each frame's (F, V) values what varies slowly over the skin and is not in the other frames."""
    for _ in range(LIGHT_ROUNDS):
        mean = (weights * values).sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-6)
        for value, weight in zip(values, weights, strict=True):
            value -= smoother(value - mean, weight).astype(np.float32)


def _combined(
    values: np.ndarray,
    slopes: np.ndarray,
    weights: np.ndarray,
    steep: np.ndarray,
    displacement: np.ndarray,
    settings: PhotometricSettings,
) -> _Comparison:
    """Take out what each place looks like, weigh frames that disagree down, and say what displacement brings them together."""
    views = (weights > 0).sum(axis=0)
    enough = views >= settings.fewest_views
    used = (weights > 0) & enough
    weight, step, variance = weights, np.zeros(values.shape[1]), None
    for _ in range(KERNEL_ROUNDS):
        total = np.maximum(weight.sum(axis=0), 1e-12)
        relative = slopes - (weight * slopes).sum(axis=0) / total
        error = values - (weight * values).sum(axis=0) / total
        left = error + relative * step
        if variance is None:
            noise = 1.4826 * float(np.median(np.abs(left[used]))) if used.any() else 1.0
            variance = max(noise, 1e-4) ** 2 + (settings.jitter_px * steep) ** 2
        weight = weights / variance / (1.0 + left**2 / (settings.kernel**2 * variance)) ** 2
        information = (weight * relative**2).sum(axis=0)
        moment = (weight * relative * error).sum(axis=0)
        # One place alone says little: its step is only for the kernel.
        step = -moment / (information + 1.0)
    information = np.where(enough, information, 0.0)
    wanted = displacement - np.where(enough, moment / np.maximum(information, 1e-9), 0.0)
    return _Comparison(information, wanted, np.where(enough, (weight * error**2).sum(axis=0), 0.0), views)
