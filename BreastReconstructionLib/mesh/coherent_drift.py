"""Coherent point drift: a template's surface moved smoothly onto points, without known correspondences.

Myronenko and Song 2010, in NumPy, since pycpd moves no points but those that were fitted. The motion is a sum of few kernels
about places on the template (Nyström), along straight lines or along its surface: geodesic distances keep neighbours apart that
are near in space and far along the bone, as ribs are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from ..core.errors import RegistrationError
from ..core.progress import Progress
from ..geometry.transforms import Similarity, fit_similarity
from .geodesics import geodesic_distances

FEWEST_POINTS = 20
SMALLEST_EIGENVALUE, SMALLEST_DEVIATION = 1e-6, 1e-3


@dataclass(frozen=True)
class DriftSettings:
    """What is assumed of the motion.

    Attributes:
        kernel: 'euclidean' or 'geodesic'.
        width: of the kernel, of the template's size (root mean square distance from its centre).
        stiffness: weight of the motion's smoothness (lambda).
        outliers: share of points that belong to nothing.
        nodes: vertices of the template that are fitted.
        kernels: of which the motion consists.
        points: of the target that are used.
        iterations: at most, of each stage.
        with_scale: the first stage is a similarity; a rigid motion if not.
    """

    kernel: str = "euclidean"
    width: float = 0.35
    stiffness: float = 0.5
    outliers: float = 0.05
    nodes: int = 1000
    kernels: int = 150
    points: int = 2000
    iterations: int = 60
    with_scale: bool = True


@dataclass(frozen=True)
class Drift:
    """A motion.

    Attributes:
        similarity: the first stage.
        vertices: (V, 3) the template's vertices before.
        moved: (V, 3) and after.
        deviation: standard deviation of target points about the moved surface, in their unit.
    """

    similarity: Similarity
    vertices: np.ndarray
    moved: np.ndarray
    deviation: float

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Move (N, 3) other points of the template, as the three vertices nearest to each move, weighted by nearness."""
        distance, index = cKDTree(self.vertices).query(points, k=3)
        weight = 1.0 / np.maximum(distance, 1e-9)
        weight /= weight.sum(axis=1, keepdims=True)
        placed = self.similarity.apply(self.vertices)
        return self.similarity.apply(points) + ((self.moved - placed)[index] * weight[..., None]).sum(axis=1)


def drift(
    vertices: np.ndarray, faces: np.ndarray, target: np.ndarray, settings: DriftSettings, progress: Progress | None = None
) -> Drift:
    """Move a template's surface onto points.

    Args:
        vertices, faces: (V, 3) and (F, 3) of the template.
        target: (N, 3) points, in the same unit and roughly the same orientation.
        settings: see DriftSettings.
        progress: told an iteration.

    Raises:
        RegistrationError: too few points, or a template in several pieces with a geodesic kernel.
    """
    progress = progress or Progress()
    if len(target) < FEWEST_POINTS or len(vertices) < FEWEST_POINTS:
        raise RegistrationError(f"Only {min(len(target), len(vertices))} points are there to register; give more.")
    rng = np.random.default_rng(71)
    aim = target[rng.permutation(len(target))[: settings.points]]
    nodes = spread(vertices, settings.nodes)
    size = float(np.sqrt(((vertices - vertices.mean(axis=0)) ** 2).sum(axis=1).mean()))
    similarity, variance = _similar(vertices[nodes], aim, settings, progress.part(0.0, 0.3))
    placed = similarity.apply(vertices)
    basis = _basis(vertices, faces, nodes[: settings.kernels], size, settings)
    weights, smallest = np.zeros((basis.shape[1], 3)), (SMALLEST_DEVIATION * size) ** 2
    here, fitted = basis[nodes], placed[nodes]
    for iteration in range(settings.iterations):
        progress(0.3 + 0.7 * iteration / settings.iterations, f"registration, step {iteration + 1}")
        moved = fitted + here @ weights
        expected = _Expected.of(moved, aim, variance, settings.outliers)
        seen, toward = expected.seen, expected.toward
        matrix = (here * seen[:, None]).T @ here + settings.stiffness * variance * np.eye(here.shape[1]) / size**2
        before = weights
        weights = np.linalg.solve(matrix, here.T @ (toward - seen[:, None] * fitted))
        variance = expected.variance(fitted + here @ weights, smallest)
        if np.abs(here @ (weights - before)).max() < 1e-4 * size:
            break
    return Drift(similarity, vertices, placed + basis @ weights, float(np.sqrt(variance)))


def spread(points: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of points that lie as far as possible from each other, the first ones first (Gonzalez 1985)."""
    chosen = [int(np.linalg.norm(points - points.mean(axis=0), axis=1).argmax())]
    away = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(away.argmax()))
        away = np.minimum(away, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(chosen)


def _similar(source: np.ndarray, aim: np.ndarray, settings: DriftSettings, progress: Progress) -> tuple[Similarity, float]:
    """The first stage (there, section 4): each node goes to the mean of what it is thought to be."""
    found = Similarity(1.0, np.eye(3), aim.mean(axis=0) - source.mean(axis=0))
    variance = float(_squares(found.apply(source), aim).mean() / 3)
    for iteration in range(settings.iterations):
        progress(iteration / settings.iterations, f"first registration, step {iteration + 1}")
        moved = found.apply(source)
        expected = _Expected.of(moved, aim, variance, settings.outliers)
        counts = expected.seen > 1e-6
        toward = expected.toward[counts] / expected.seen[counts, None]
        found = fit_similarity(source[counts], toward, settings.with_scale, expected.seen[counts])
        after = found.apply(source)
        variance = expected.variance(after, 1e-8 * float(np.ptp(aim, axis=0).max()) ** 2)
        if np.abs(after - moved).max() < 1e-4 * np.ptp(aim, axis=0).max():
            break
    return found, variance


@dataclass(frozen=True)
class _Expected:
    """Which target points are thought to belong to which nodes.

    Attributes:
        seen: (M,) how many belong to each node.
        toward: (M, 3) sums of these.
        square: sum of their squares.
    """

    seen: np.ndarray
    toward: np.ndarray
    square: float

    @classmethod
    def of(cls, moved: np.ndarray, aim: np.ndarray, variance: float, outliers: float) -> _Expected:
        share = np.exp(-0.5 * _squares(moved, aim) / variance)
        room = max(float(np.prod(np.ptp(aim, axis=0))), 1e-12)
        share /= share.sum(axis=0) + (2 * np.pi * variance) ** 1.5 * outliers / (1 - outliers) * len(moved) / room + 1e-300
        return cls(share.sum(axis=1), share @ aim, float(share.sum(axis=0) @ (aim**2).sum(axis=1)))

    def variance(self, moved: np.ndarray, smallest: float) -> float:
        """Of the points about where their nodes are now."""
        left = self.square - 2 * float((self.toward * moved).sum()) + float(self.seen @ (moved**2).sum(axis=1))
        return max(left / (3 * max(float(self.seen.sum()), 1e-12)), smallest)


def _squares(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(M, N) squares of distances."""
    return np.maximum((one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T, 0.0)


def _basis(vertices: np.ndarray, faces: np.ndarray, places: np.ndarray, size: float, settings: DriftSettings) -> np.ndarray:
    """(V, L) functions whose weights have equal priors: kernels about places, times the root of their own inverse."""
    if settings.kernel == "geodesic":
        away = geodesic_distances(vertices, faces, places).T
    else:
        away = np.linalg.norm(vertices[:, None] - vertices[places][None], axis=2)
    kernel = np.exp(-0.5 * (away / (settings.width * size)) ** 2)
    own = kernel[places]
    values, vectors = np.linalg.eigh(0.5 * (own + own.T))
    # Geodesic Gaussians are not always positive definite: what is not is left out.
    kept = values > SMALLEST_EIGENVALUE * values.max()
    return kernel @ (vectors[:, kept] / np.sqrt(values[kept]))
