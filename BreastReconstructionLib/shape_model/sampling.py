"""Shapes from a model without measured points: random, between two others, along its directions; and the missing side of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..core.errors import FitError
from ..fields.evaluation import Shape
from ..geometry.transforms import Frame, Similarity, model_to_patient
from ..landmarks.names import LANDMARK_NAMES
from ..mesh.extraction import ZeroLevel, cells_for, extract_zero_level, project_to_zero_level
from ..mesh.halving import bent_edges, edges_of, halved
from ..mesh.mesh import TriangleMesh, vertex_normals
from .fit import FitSettings, ShapeFit, fit_shape
from .model import ShapeModel

# Points nearer to the midline than this stay on either side: the breastbone belongs to both (9 mm).
MIDLINE = 0.03
# Triangles are halved where that moves the surface by more than this share of the smaller ones' size.
FLAT = 0.01


@dataclass(frozen=True)
class MeshWithLandmarks:
    """A shape.

    Attributes:
        mesh: in its frame.
        landmarks: (6, 3) the model's anchors, in the same frame.
    """

    mesh: TriangleMesh
    landmarks: np.ndarray

    def moved(self, transform: Similarity, frame: Frame) -> MeshWithLandmarks:
        """Return the shape in another frame, given the map from its own."""
        return MeshWithLandmarks(self.mesh.moved(transform, frame), transform.apply(self.landmarks))

    def in_patient(self, model: ShapeModel) -> MeshWithLandmarks:
        """Return the shape in patient space (mm, RAS) at the model's mean scale."""
        return self.moved(model_to_patient(model.mm_per_unit), Frame.PATIENT)


def mesh_of_code(
    model: ShapeModel,
    code: torch.Tensor,
    cell: float,
    flat_cell: float | None = None,
    displacement: Callable[[np.ndarray], np.ndarray] | None = None,
) -> MeshWithLandmarks:
    """Return the surface of a (latent,) code in the model frame.

    Args:
        model: the shape model.
        code: (latent,).
        cell: size of the triangles, model units.
        flat_cell: their size where the surface is so flat that halving them moves it by less than FLAT of a cell; the same
            everywhere if it is not given.
        displacement: of (N, 3) places along their normals, model units; what is flat, is so after it. The mesh is not moved.

    Raises:
        FitError: the code has no surface.
    """
    shape = Shape.of(model, code)
    field, level = shape.field(), level_of_shape(shape, flat_cell or cell)
    vertices, normals = project_to_zero_level(level, field)
    faces = level.faces
    while level.cell > 1.2 * cell:
        edges, numbers = edges_of(faces)
        moved, turned = vertices, normals
        if displacement is not None:
            moved = vertices + displacement(vertices)[:, None] * normals
            turned = vertex_normals(moved, faces)
        chosen = bent_edges(moved, turned, edges, FLAT * cell)
        faces = halved(faces, edges, numbers, chosen, len(vertices))
        level = replace(level, vertices=vertices[edges[chosen]].mean(axis=1), faces=faces, cell=0.5 * level.cell)
        added = project_to_zero_level(level, field)
        vertices, normals = np.concatenate([vertices, added[0]]), np.concatenate([normals, added[1]])
    return MeshWithLandmarks(TriangleMesh(vertices, faces, Frame.MODEL, normals), shape.anchors_model)


def level_of_shape(shape: Shape, cell: float) -> ZeroLevel:
    """Return the zero level of a shape in cells of at most a size in model units.

    Raises:
        FitError: it has none.
    """
    field = shape.field()
    return extract_zero_level(field, cells_for(cell, field.side))


def random_codes(model: ShapeModel, count: int, seed: int) -> torch.Tensor:
    """Return (count, latent) codes, drawn from the normal distribution of the training codes."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(count, model.latent_basis.shape[1], generator=generator)
    return model.latent_mean + u @ model.latent_basis.T


def codes_between(first: torch.Tensor, second: torch.Tensor, count: int) -> torch.Tensor:
    """Return (count, latent) codes on the line from one (latent,) code to another, both ends included."""
    share = torch.linspace(0.0, 1.0, count)[:, None]
    return (1 - share) * first + share * second


def codes_along(model: ShapeModel, direction: int, deviations: np.ndarray) -> torch.Tensor:
    """Return the codes at (K,) standard deviations along one principal direction (0 is the strongest)."""
    column = model.latent_basis[:, direction]
    return model.latent_mean + torch.as_tensor(np.asarray(deviations), dtype=torch.float32)[:, None] * column


def complete_side(
    points_model: np.ndarray,
    landmarks_model: np.ndarray,
    model: ShapeModel,
    side: str,
    settings: FitSettings | None = None,
    noise_model: np.ndarray | None = None,
) -> ShapeFit:
    """Predict one side of the chest from the other: a fit in which that side's points and nipple are left out.

    What is left out follows the other side as left and right go together in the training population.

    Args:
        points_model: (N, 3) aligned model frame.
        landmarks_model: (6, 3) in the same frame.
        model: the shape model.
        side: 'left' or 'right', the patient's, which is to be predicted.
        settings: see FitSettings.
        noise_model: (N,) standard deviations of the points, or None.

    Raises:
        FitError: too few points are left on the other side.
    """
    sign = {"left": 1.0, "right": -1.0}[side]
    kept = sign * points_model[:, 0] < MIDLINE
    if kept.sum() < 200:
        raise FitError(f"Only {kept.sum()} points lie on the other side; the {side} side cannot be predicted from them.")
    landmarks = np.array(landmarks_model, float)
    landmarks[LANDMARK_NAMES.index(f"{side}-nipple")] = np.nan  # unknown
    noise = None if noise_model is None else noise_model[kept]
    return fit_shape(points_model[kept], landmarks, model, settings, noise_model=noise)
