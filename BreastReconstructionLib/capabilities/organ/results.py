"""What the stage leaves behind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ...core.files import write_json
from ...geometry.transforms import Similarity
from ...geometry.volume import Volume, write_volume
from ...mesh.files import read_mesh, write_ply
from ...mesh.mesh import TriangleMesh
from ...mesh.segments import joined
from ...shape_model.fit import ShapeFit
from ...shape_model.organ_fit import FittedOrgan

_MESH_FILE, _LABEL_FILE, _NUMBERS_FILE = "organ.ply", "organ.nii.gz", "organ.json"


@dataclass(frozen=True)
class CompletedOrgan:
    """The whole organ.

    Attributes:
        folder: where its files are.
        numbers: content of organ.json.
    """

    folder: Path
    numbers: dict

    @cached_property
    def mesh(self) -> TriangleMesh:
        """All bodies, closed, patient space; scalars `uncertainty_mm` and `seen`."""
        return read_mesh(self.folder / _MESH_FILE)

    @cached_property
    def bodies(self) -> list[TriangleMesh]:
        """Each body by itself, from the patient's left."""
        return [read_mesh(self.folder / _body_file(number)) for number in range(self.numbers["bodies"])]

    @cached_property
    def fit(self) -> ShapeFit:
        """Code and similarity."""
        return ShapeFit.load(self.folder)

    @property
    def label_file(self) -> Path:
        """The label volume: 1 in the first body, 2 in the second."""
        return self.folder / _LABEL_FILE

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against it."""
        return tuple(self.numbers["warnings"])

    @property
    def model_to_patient(self) -> Similarity:
        """From the fitted shape's model frame to patient space."""
        return Similarity.from_dict(self.numbers["model_to_patient"])

    @staticmethod
    def save(folder: Path, found: FittedOrgan, labels: Volume, numbers: dict) -> None:
        """Write meshes, label volume, fit and numbers."""
        found.fit.save(folder)
        write_ply(folder / _MESH_FILE, joined(found.bodies))
        for number, body in enumerate(found.bodies):
            write_ply(folder / _body_file(number), body)
        write_volume(folder / _LABEL_FILE, labels)
        own = {
            "bodies": len(found.bodies),
            "volume_ml": found.volume_ml,
            "volume_uncertainty_ml": found.volume_uncertainty_ml,
            "seen_percent": 100 * found.seen_share,
            "residual_mm": found.residual_mm,
            "from_mean_mm": found.from_mean_mm,
            "form_deviations": found.fit.prior_distance,
            "warnings": found.warnings,
            "model_to_patient": found.model_to_patient.as_dict(),
        }
        write_json(folder / _NUMBERS_FILE, {**own, **numbers})

    @classmethod
    def load(cls, folder: Path) -> CompletedOrgan:
        """Read what `save` wrote; meshes when they are asked for."""
        return cls(folder, json.loads((folder / _NUMBERS_FILE).read_text()))


def _body_file(number: int) -> str:
    return f"body-{number + 1}.ply"
