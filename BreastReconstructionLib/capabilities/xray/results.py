"""What the stage leaves behind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ...core.files import write_json
from ...mesh.files import read_mesh, write_ply
from ...mesh.mesh import TriangleMesh

_BONE_FILE, _TEMPLATE_FILE, _OVERLAY_FILE, _NUMBERS_FILE = "bone.ply", "template.ply", "overlay.png", "xray.json"


@dataclass(frozen=True)
class BoneResult:
    """The bone.

    Attributes:
        folder: where its files are.
        numbers: content of xray.json.
    """

    folder: Path
    numbers: dict

    @cached_property
    def bone(self) -> TriangleMesh:
        """Closed, patient space (the picture's axes); scalar `uncertainty_mm` unless by the network alone."""
        return read_mesh(self.folder / _BONE_FILE)

    @cached_property
    def template(self) -> TriangleMesh | None:
        """The template on the bone, with its labels; None if there is none."""
        path = self.folder / _TEMPLATE_FILE
        return read_mesh(path) if path.is_file() else None

    @property
    def overlay_file(self) -> Path:
        """The radiograph with the bone's outline."""
        return self.folder / _OVERLAY_FILE

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against it."""
        return tuple(self.numbers["warnings"])

    @staticmethod
    def save(folder: Path, bone: TriangleMesh, template: TriangleMesh | None, overlay: np.ndarray, numbers: dict) -> None:
        """Write meshes, overlay and numbers."""
        import cv2

        write_ply(folder / _BONE_FILE, bone)
        if template is not None:
            write_ply(folder / _TEMPLATE_FILE, template)
        cv2.imwrite(str(folder / _OVERLAY_FILE), overlay)
        write_json(folder / _NUMBERS_FILE, numbers)

    @classmethod
    def load(cls, folder: Path) -> BoneResult:
        """Read what `save` wrote; meshes when they are asked for."""
        return cls(folder, json.loads((folder / _NUMBERS_FILE).read_text()))
