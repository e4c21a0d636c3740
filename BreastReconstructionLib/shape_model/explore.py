"""Live shapes of a model: the mean, moved along the principal directions of the latent codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..geometry import model_to_patient
from ..surface.extraction import ZeroLevel, cells_for, extract_zero_level, follow_zero_level
from ..surface.mesh_file import TriangleMesh
from .evaluation import Shape, distances_and_gradients, signed_distances
from .model_file import ShapeModel

# A following step is good to first order; beyond this change of the whitened code the surface is extracted anew.
LARGEST_STEP = 0.5
PREVIEW_MM = 6.0


@dataclass
class Explorer:
    """Meshes of one model for changing coefficients; small changes move the last mesh, large ones make a new one.

    Attributes:
        model: see ShapeModel; coefficients are standard deviations along the columns of its latent basis.
        detail_mm: size of the triangles.
    """

    model: ShapeModel
    detail_mm: float = PREVIEW_MM
    _extracted_at: np.ndarray | None = None
    _last: ZeroLevel | None = None

    def mesh(self, coefficients: np.ndarray) -> tuple[TriangleMesh, np.ndarray]:
        """Return the mesh in patient space (mm, RAS) and the (6, 3) landmarks, for (K,) coefficients."""
        mm_per_unit = self.model.mm_per_unit
        code = self.model.latent_mean + self.model.latent_basis[:, : len(coefficients)] @ torch.from_numpy(
            np.asarray(coefficients, np.float32)
        )
        shape = Shape.of(self.model, code)
        near = (
            self._last is not None
            and len(self._extracted_at) == len(coefficients)
            and np.linalg.norm(coefficients - self._extracted_at) <= LARGEST_STEP
        )
        if not near:
            cells = cells_for(self.detail_mm / mm_per_unit)
            self._last = extract_zero_level(lambda points: signed_distances(shape, points), cells)
            self._extracted_at = np.array(coefficients, float)
        self._last, normals = follow_zero_level(self._last, lambda points: distances_and_gradients(shape, points))
        to_patient = model_to_patient(mm_per_unit)
        vertices = to_patient.apply(self._last.vertices_model)
        mesh = TriangleMesh(vertices, self._last.faces, to_patient.apply_directions(normals))
        return mesh, to_patient.apply(np.asarray(shape.anchors_model))
