"""What the frames say of a surface that may lie somewhat farther in or out: grey levels, linearised by the displacement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import scipy.sparse as sparse
from scipy.spatial import cKDTree

from ..core.progress import Progress
from ..core.threads import pool
from ..geometry.cameras import Camera
from ..geometry.pictures import sample_picture
from ..mesh.mesh import TriangleMesh
from ..mesh.visibility import visible_vertices

# Where a frame's visible surface is, is drawn in cells of so many pixels; its outermost cells may show what is behind it.
CELL_PX = 5
# About the visible vertices, for blurs and displacements; and what a bilinear sample of 255s reaches.
MARGIN_PX, ALL_COUNT = 40, 252
# So wide is the edge of a sleeve or a hair that passes before the surface.
EDGE_PX = 9
# Derivatives by the displacement are taken over this, mm.
STEP_MM = 0.25
# Rounds in which light and what the places look like are told apart, and in which outliers lose their weight.
LIGHT_ROUNDS, KERNEL_ROUNDS = 3, 3
ANCHORS = 8
# Vertices that are combined at a time: so many frames' values of them stay in a core's cache.
VERTICES_AT_ONCE = 4096
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
class Comparison:
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


class Smoother:
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


@dataclass(frozen=True)
class _Sight:
    """What a frame sees of a mesh; some millimetres of displacement hardly change it.

    Attributes:
        chosen: (N,) indices of the vertices that it sees well.
        cosine: (N,) between their normals and the views.
        corner: (2,) first column and row of the part of the picture that shows them.
        gray: (h, w) uint8, that part.
        counts: (h, w) uint8, 255 where it shows the surface's skin.
    """

    chosen: np.ndarray
    cosine: np.ndarray
    corner: np.ndarray
    gray: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, mesh: TriangleMesh, frame: MovedFrame, picture: _Picture, smallest_cosine: float) -> _Sight:
        assert mesh.normals is not None
        visible, pixels, cosine = visible_vertices(frame.camera, frame.displaced(mesh.vertices), mesh.normals)
        chosen = np.flatnonzero(visible & (cosine > smallest_cosine))
        if len(chosen) == 0:
            return cls(chosen, cosine[chosen], np.zeros(2, int), picture.gray[:1, :1], np.zeros((1, 1), np.uint8))
        low = np.maximum(pixels[chosen].min(axis=0).astype(int) - MARGIN_PX, 0)
        high = pixels[chosen].max(axis=0).astype(int) + MARGIN_PX
        part = slice(low[1], high[1]), slice(low[0], high[0])
        counts = 255 * _inside(frame.camera, pixels[visible])[part] * picture.skin[part]
        return cls(chosen, cosine[chosen], low, picture.gray[part], counts)


class Comparer:
    """Compares the frames at displaced vertices."""

    def __init__(
        self, mesh: TriangleMesh, frames: list[MovedFrame], settings: PhotometricSettings, pictures: list[_Picture] | None = None
    ):
        assert mesh.normals is not None
        self._vertices, self._normals = mesh.vertices, mesh.normals
        self._frames, self._settings = frames, settings
        self._smoother = Smoother(mesh.vertices, settings.light_mm)
        with pool() as threads:
            # Four bytes a pixel, used in each step.
            self._pictures = pictures or list(threads.map(_Picture.of, frames))
            sights = threads.map(partial(_Sight.of, mesh, smallest_cosine=settings.smallest_cosine), frames, self._pictures)
            self._sights = list(sights)

    def on(self, mesh: TriangleMesh) -> Comparer:
        """The same for another mesh."""
        return Comparer(mesh, self._frames, self._settings, self._pictures)

    def __call__(self, displacement: np.ndarray, blur_px: float, progress: Progress) -> Comparison:
        """Sample all frames, and linearise."""
        places = self._vertices + displacement[:, None] * self._normals
        values, slopes, weights, steep = (np.zeros((len(self._frames), len(places)), np.float32) for _ in range(4))
        with pool() as threads:
            sampled = threads.map(lambda frame, sight: self._sampled(places, frame, sight, blur_px), self._frames, self._sights)
            for number, (sight, columns) in enumerate(zip(self._sights, sampled, strict=True)):
                progress(number / len(self._frames), f"comparing frame {number + 1} of {len(self._frames)}")
                for rows, column in zip((values, slopes, weights, steep), columns, strict=True):
                    rows[number, sight.chosen] = column
        _without_light(values, weights, self._smoother)
        return _combined(values, slopes, weights, steep, displacement, self._settings)

    def _sampled(self, places: np.ndarray, frame: MovedFrame, sight: _Sight, blur_px: float) -> tuple[np.ndarray, ...]:
        """Of the vertices that a frame sees: logarithm of grey there, its derivative by the displacement, weight, and length of
        its gradient.
        """
        moved = frame.displaced(places[sight.chosen])
        pixels, _ = frame.camera.project(moved)
        picture = cv2.GaussianBlur(cv2.LUT(sight.gray, LOGARITHMS), (0, 0), blur_px)
        ahead, _ = frame.camera.project(moved + STEP_MM * self._normals[sight.chosen])
        at = pixels - 0.5 - sight.corner
        slopes = [cv2.Sobel(picture, cv2.CV_32F, *axis, ksize=3, scale=0.125) for axis in ((1, 0), (0, 1))]
        gradient = np.column_stack([sample_picture(slope, at) for slope in slopes])
        by_displacement = (gradient * (ahead - pixels)).sum(axis=1) / STEP_MM
        weight = sight.cosine * (sample_picture(sight.counts, at) > ALL_COUNT)
        return sample_picture(picture, at), by_displacement, weight, np.linalg.norm(gradient, axis=1)


def _inside(camera: Camera, pixels: np.ndarray) -> np.ndarray:
    """(H, W) uint8, 1 where the visible surface is, but for its edge."""
    height, width = camera.height // CELL_PX + 2, camera.width // CELL_PX + 2
    cells = np.zeros((height, width), np.uint8)
    index = (pixels / CELL_PX).astype(int)
    cells[np.clip(index[:, 1], 0, height - 1), np.clip(index[:, 0], 0, width - 1)] = 1
    cells = cv2.morphologyEx(cells, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    large = cv2.resize(cells, (width * CELL_PX, height * CELL_PX), interpolation=cv2.INTER_NEAREST)
    large = cv2.erode(large, np.ones((2 * CELL_PX + 1,) * 2, np.uint8))
    return large[: camera.height, : camera.width]


def _without_light(values: np.ndarray, weights: np.ndarray, smoother: Smoother) -> None:
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
) -> Comparison:
    """Take out what each place looks like, weigh frames that disagree down, and say what displacement brings them together.

    Some vertices at a time, whose values of all frames stay in a core's cache.
    """
    parts = [slice(k, k + VERTICES_AT_ONCE) for k in range(0, values.shape[1], VERTICES_AT_ONCE)]
    with pool() as threads:
        errors = threads.map(lambda part: _errors(values[:, part], weights[:, part], settings), parts)
        noise = 1.4826 * float(np.median(np.concatenate([*errors, [0.0]])))
        of_part = lambda part: _combined_part(
            values[:, part], slopes[:, part], weights[:, part], steep[:, part], displacement[part], noise, settings
        )
        found = list(threads.map(of_part, parts))
    joined = lambda name: np.concatenate([getattr(part, name) for part in found])
    return Comparison(*(joined(name) for name in ("information", "wanted", "cost", "views")))


def _errors(values: np.ndarray, weights: np.ndarray, settings: PhotometricSettings) -> np.ndarray:
    """(N,) by how much frames differ from a place's mean, where enough frames see it."""
    error = values - (weights * values).sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-12)
    used = weights > 0
    return np.abs(error[used & (used.sum(axis=0) >= settings.fewest_views)])


def _combined_part(
    values: np.ndarray,
    slopes: np.ndarray,
    weights: np.ndarray,
    steep: np.ndarray,
    displacement: np.ndarray,
    noise: float,
    settings: PhotometricSettings,
) -> Comparison:
    """See `_combined`; of some vertices, for a known noise of the logarithms."""
    views = (weights > 0).sum(axis=0)
    enough = views >= settings.fewest_views
    variance = max(noise, 1e-4) ** 2 + (settings.jitter_px * steep) ** 2
    weight, step = weights, np.zeros(values.shape[1], np.float32)
    for _ in range(KERNEL_ROUNDS):
        total = np.maximum(weight.sum(axis=0), 1e-12)
        relative = slopes - (weight * slopes).sum(axis=0) / total
        error = values - (weight * values).sum(axis=0) / total
        left = error + relative * step
        weight = weights / variance / (1.0 + left**2 / (settings.kernel**2 * variance)) ** 2
        information = (weight * relative**2).sum(axis=0)
        moment = (weight * relative * error).sum(axis=0)
        # One place alone says little: its step is only for the kernel.
        step = -moment / (information + 1.0)
    information = np.where(enough, information, 0.0).astype(float)
    wanted = displacement - np.where(enough, moment / np.maximum(information, 1e-9), 0.0)
    return Comparison(information, wanted, np.where(enough, (weight * error**2).sum(axis=0), 0.0), views)
