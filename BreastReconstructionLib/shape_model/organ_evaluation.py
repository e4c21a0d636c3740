"""How well an organ's model completes organs that it never saw, beside its mean shape and principal components of distances.

In the lung model's own terms (LPM): F-score at thresholds and Chamfer distance (squared, both sides, its equation 7), in model
units, that is, about half the organ's extent; with the floor that sampling alone gives. And in mm, exact: points to surface.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from ..core.errors import ShapeModelError
from ..core.progress import Progress
from ..geometry.transforms import Frame, Similarity
from ..mesh.distance import closest_on_mesh
from ..mesh.level import level_of_volume
from ..mesh.mesh import TriangleMesh, connected_parts, sample_surface
from ..mesh.own_frame import own_frame
from ..mesh.patch import signed_volume
from ..mesh.segments import joined
from ..mesh.signed_distance import signed_distance
from ..mesh.solids import intersection_over_union
from .model import ShapeModel
from .organ_data import OrganSource, organ_files, read_organ
from .organ_fit import FittedOrgan, Observation, fit_organ
from .organ_training import held_out_count
from .sampling import mesh_of_code

SAMPLED, MEASURED_POINTS = 250_000, 4000
THRESHOLDS = (0.01, 0.02)
NOISE = 0.01  # model units
GRID = 44  # places a side at which distances are decomposed
BOX = 1.05
KEPT_VARIANCE = 0.999
# Ridge of the components' coefficients, against points of this standard deviation in model units.
POINT_NOISE = 0.01
IOU_CELLS = 96
PUBLISHED = {"f": (0.7047, 0.8235), "chamfer": (0.015, 0.016)}


@dataclass(frozen=True)
class Organ:
    """One organ: closed, mm RAS, and the map to its own model frame."""

    name: str
    mesh: TriangleMesh
    to_model: Similarity

    @classmethod
    def of(cls, name: str, mesh: TriangleMesh) -> Organ:
        """Find its frame."""
        return cls(name, mesh, own_frame(mesh.vertices, mesh.faces))


# What is known of an organ: (vertices, faces, generator) -> points, all in mm.
Protocol = Callable[[Organ, np.random.Generator], np.ndarray]


def _points(count: int, noise: float = 0.0) -> Protocol:
    def drawn(organ: Organ, rng: np.random.Generator) -> np.ndarray:
        points, _ = sample_surface(organ.mesh.vertices, organ.mesh.faces, count, rng)
        return points + rng.normal(0.0, 1.0, points.shape) * noise / organ.to_model.scale

    return drawn


def _half(organ: Organ, rng: np.random.Generator) -> np.ndarray:
    points, _ = sample_surface(organ.mesh.vertices, organ.mesh.faces, 5000, rng)
    along = points @ rng.normal(size=3)
    return points[along > np.median(along)]


PROTOCOLS: dict[str, Protocol] = {"points_5000": _points(5000), "half": _half, "noisy_1000": _points(1000, NOISE)}


@dataclass(frozen=True)
class DistanceComponents:
    """Principal components of signed distances on a grid (Leventon et al. 2000): a linear model that needs no correspondence.

    Attributes:
        mean: (G, G, G) values on the grid over the cube of BOX.
        basis: (K, G, G, G) directions, each times its standard deviation.
    """

    mean: np.ndarray
    basis: np.ndarray

    @classmethod
    def of(cls, organs: list[Organ], progress: Progress | None = None) -> DistanceComponents:
        """Decompose the distances of organs in their own frames."""
        progress = progress or Progress()
        axis = np.linspace(-BOX, BOX, GRID)
        places = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
        rows = np.empty((len(organs), len(places)), np.float32)
        for number, organ in enumerate(organs):
            progress(number / len(organs), f"distances of {number + 1} of {len(organs)}")
            rows[number] = signed_distance(places, organ.to_model.apply(organ.mesh.vertices), organ.mesh.faces)
        mean = rows.mean(axis=0)
        _, singular, directions = np.linalg.svd(rows - mean, full_matrices=False)
        share = np.cumsum(singular**2) / (singular**2).sum()
        count = int(np.searchsorted(share, KEPT_VARIANCE)) + 1
        scaled = directions[:count] * singular[:count, None] / np.sqrt(max(len(rows) - 1, 1))
        return cls(mean.reshape(GRID, GRID, GRID), scaled.reshape(count, GRID, GRID, GRID))

    def fitted(self, points_model: np.ndarray) -> TriangleMesh:
        """Return the zero level, in the frame of (N, 3) points, of the combination that is nearest to 0 at the points."""
        index = (points_model.T + BOX) / (2 * BOX) * (GRID - 1)
        at = lambda values: map_coordinates(values, index, order=1, mode="nearest")
        rows = np.stack([at(direction) for direction in self.basis], axis=1) / POINT_NOISE
        weight = min(1.0, 1000.0 / len(rows))  # as many independent points as the fit of the model assumes
        matrix = weight * rows.T @ rows + np.eye(len(self.basis))
        b = np.linalg.solve(matrix, -weight * rows.T @ at(self.mean) / POINT_NOISE)
        values = self.mean + np.tensordot(b, self.basis, axes=1)
        to_model = np.diag([*(np.full(3, 2 * BOX / (GRID - 1))), 1.0])
        to_model[:3, 3] = -BOX
        # level_of_volume looks towards lower values: the negative is high inside.
        return level_of_volume(-values.transpose(2, 1, 0), to_model)


def scores(found: TriangleMesh, organ: Organ, rng: np.random.Generator) -> dict[str, float]:
    """Return the figures of a mesh, mm RAS, against the true organ."""
    a, _ = sample_surface(found.vertices, found.faces, SAMPLED, rng)
    b, _ = sample_surface(organ.mesh.vertices, organ.mesh.faces, SAMPLED, rng)
    unit = organ.to_model.scale
    to_truth, to_found = cKDTree(b).query(a)[0] * unit, cKDTree(a).query(b)[0] * unit
    few, _ = sample_surface(organ.mesh.vertices, organ.mesh.faces, MEASURED_POINTS, rng)
    back, _ = sample_surface(found.vertices, found.faces, MEASURED_POINTS, rng)
    exact = closest_on_mesh(few, found.vertices, found.faces)[0]
    other = closest_on_mesh(back, organ.mesh.vertices, organ.mesh.faces)[0]
    result = {"chamfer": float((to_truth**2).mean() + (to_found**2).mean())}
    for threshold in THRESHOLDS:
        precision, recall = (to_truth < threshold).mean(), (to_found < threshold).mean()
        result[f"f_{f'{threshold:.2f}'.replace('0.', '0')}"] = float(2 * precision * recall / max(precision + recall, 1e-9))
    volumes = [signed_volume(mesh.vertices, mesh.faces) for mesh in (found, organ.mesh)]
    return result | {
        "iou": intersection_over_union(found, organ.mesh, (IOU_CELLS,) * 3),
        "surface_mm": float(exact.mean()),
        "two_sided_mm": float(0.5 * (exact.mean() + other.mean())),
        "p95_mm": float(np.percentile(exact, 95)),
        "volume_percent": float(100 * abs(volumes[0] / volumes[1] - 1)),
        "bodies": float(connected_parts(found.faces, len(found.vertices)).max() + 1),
    }


def chamfer_floor(organ: Organ, rng: np.random.Generator) -> float:
    """Return the Chamfer distance of two samplings of the true surface."""
    a, b = (sample_surface(organ.mesh.vertices, organ.mesh.faces, SAMPLED, rng)[0] for _ in range(2))
    both = cKDTree(b).query(a)[0], cKDTree(a).query(b)[0]
    return float(sum((distance**2).mean() for distance in both) * organ.to_model.scale**2)


def read_organs(folder: Path, model: ShapeModel, segments: tuple[str, ...]) -> list[Organ]:
    """Read the true organs of a folder."""
    source = OrganSource(model.organ, segments, model.parts)
    return [Organ.of(path.name.split(".")[0], read_organ(path, source).mesh) for path in organ_files(folder)]


def parted(organs: list[Organ], model: ShapeModel) -> tuple[list[Organ], list[Organ]]:
    """Return the organs that a model was trained on and those that it never saw, of the folder that it was prepared from.

    Raises:
        ShapeModelError: the folder holds another number of organs.
    """
    held = held_out_count(len(organs))
    if model.card.get("subjects") != len(organs) - held:
        raise ShapeModelError(
            f"The folder holds {len(organs)} organs; {model.card['name']} was not trained on three quarters of so many. Leave "
            "out --held-out if it saw none of them."
        )
    seed = model.card["training"]["seed"]
    chosen = set(np.random.default_rng([21, seed]).choice(len(organs), held, replace=False).tolist())
    return [o for i, o in enumerate(organs) if i not in chosen], [o for i, o in enumerate(organs) if i in chosen]


def evaluate_organ(
    model: ShapeModel, organs: list[Organ], trained: list[Organ], progress: Progress | None = None
) -> dict[str, dict]:
    """Complete organs from 5,000 points, from one half, and from 1,000 noisy points; return means and each organ's figures.

    Args:
        model: of the organ.
        organs: that it never saw.
        trained: for the principal components; empty for none.
        progress: told an organ.
    """
    progress = progress or Progress()
    components = DistanceComponents.of(trained, progress.part(0.0, 0.2)) if trained else None
    rows: dict[str, dict[str, list[dict[str, float]]]] = {}
    floors = []
    for number, organ in enumerate(organs):
        floors.append(chamfer_floor(organ, np.random.default_rng([46, number])))
        for word, protocol in PROTOCOLS.items():
            progress(0.2 + 0.8 * number / len(organs), f"{word.replace('_', ' ')}, {number + 1} of {len(organs)}")
            rng = np.random.default_rng([45, number])
            points = protocol(organ, rng)
            fitted = fit_organ(Observation(points, {}), model)
            for method, mesh in _meshes(fitted, model, components, points).items():
                row = scores(mesh, organ, rng)
                if method == "model":
                    row |= _stated(fitted, organ)
                rows.setdefault(word, {}).setdefault(method, []).append(row)
    means = {
        word: {
            method: {key: float(np.mean([row[key] for row in of])) for key in of[0]} | {"whole": _whole(of, model)}
            for method, of in methods.items()
        }
        for word, methods in rows.items()
    }
    return {"chamfer_floor": float(np.mean(floors)), "means": means, "rows": rows}


def _whole(rows: list[dict[str, float]], model: ShapeModel) -> int:
    return sum(row["bodies"] == model.parts for row in rows)


def _stated(fitted: FittedOrgan, organ: Organ) -> dict[str, float]:
    """How many of the fitted vertices lie within one and two of their stated standard deviations, and the volume."""
    error, stated = [], []
    for body in fitted.bodies:
        chosen = np.random.default_rng(2).permutation(len(body.vertices))[: MEASURED_POINTS // 2]
        error.append(closest_on_mesh(body.vertices[chosen], organ.mesh.vertices, organ.mesh.faces)[0])
        stated.append(body.scalars["uncertainty_mm"][chosen])
    ratio = np.concatenate(error) / np.concatenate(stated)
    true = signed_volume(organ.mesh.vertices, organ.mesh.faces) / 1000.0
    return {
        "within_one": float((ratio < 1).mean()),
        "within_two": float((ratio < 2).mean()),
        "volume_within_two": float(abs(fitted.volume_ml - true) < 2 * fitted.volume_uncertainty_ml),
    }


def _meshes(
    fitted: FittedOrgan, model: ShapeModel, components: DistanceComponents | None, points: np.ndarray
) -> dict[str, TriangleMesh]:
    """The meshes of the methods, all in the pose that the model's fit found."""
    back = fitted.model_to_patient
    mean = mesh_of_code(model, model.latent_mean, 2.0 / model.mm_per_unit).mesh.moved(back, Frame.PATIENT)
    found = {"model": joined(fitted.bodies), "mean": mean}
    if components is not None:
        found["components"] = components.fitted(back.inverse().apply(points)).moved(back, Frame.PATIENT)
    return found
