"""Live shapes of a model: the mean, moved along the principal directions of the latent codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ..fields.evaluation import Shape
from ..geometry.transforms import Frame
from ..mesh.extraction import ZeroLevel, follow_zero_level
from ..mesh.mesh import TriangleMesh
from .model import ShapeModel
from .sampling import MeshWithLandmarks, level_of_shape

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

    def shape(self, coefficients: np.ndarray) -> MeshWithLandmarks:
        """Return the shape in patient space (mm, RAS) for (K,) coefficients."""
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
            self._last = level_of_shape(shape, self.detail_mm / self.model.mm_per_unit)
            self._extracted_at = np.array(coefficients, float)
        self._last, normals = follow_zero_level(self._last, shape.field())
        mesh = TriangleMesh(self._last.vertices, self._last.faces, Frame.MODEL, normals)
        return MeshWithLandmarks(mesh, shape.anchors_model).in_patient(self.model)
