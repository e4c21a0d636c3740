"""What other programs use: reconstruct a case, open one, get its surface, sample the shape model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .capabilities import STAGES
from .capabilities.torso import TORSO
from .capabilities.torso.stages import REPORT, SURFACE
from .core.case import Case
from .core.run import StageEvent, StageState, run, states
from .core.settings import Settings, quality_values, read_settings
from .core.stage import stage_named
from .landmarks.names import LANDMARK_NAMES
from .mesh.mesh import TriangleMesh

if TYPE_CHECKING:
    from .shape_model.sampling import MeshWithLandmarks


class OpenCase:
    """A case folder, to be read.

    Args:
        folder: the case folder.

    Raises:
        CaseError: missing, damaged, or written by a newer version.
    """

    def __init__(self, folder: str | Path):
        self._case = Case(Path(folder))

    @property
    def folder(self) -> Path:
        """The case folder."""
        return self._case.folder

    @property
    def report(self) -> dict[str, Any]:
        """The numbers of the report, each with its unit in its name; what speaks against them is under 'doubts'.

        Raises:
            CaseError: the case has no report yet.
        """
        return self._case.result(REPORT).numbers

    @property
    def surface(self) -> TriangleMesh:
        """The surface in patient space (mm, RAS), with colours and the scalars residual_mm, views and uncertainty_mm.

        Raises:
            CaseError: the case has no surface yet.
        """
        return self._case.result(SURFACE).mesh

    @property
    def landmarks_ras(self) -> dict[str, np.ndarray]:
        """The six landmarks as placed, name -> (3,) mm in patient space.

        Raises:
            CaseError: the case has no surface yet.
        """
        return dict(zip(LANDMARK_NAMES, self._case.result(SURFACE).landmarks_ras, strict=True))

    @property
    def states(self) -> dict[str, StageState]:
        """How each stage stands by the case's own settings, by name.

        Raises:
            BreastReconstructionError: the case holds no settings, or an input that they name cannot be read.
        """
        return states(self._case, TORSO, read_settings(self.folder, STAGES))


def open_case(folder: str | Path) -> OpenCase:
    """Return a case that was reconstructed before; see OpenCase."""
    return OpenCase(folder)


def reconstruct(
    folder: str | Path,
    video: str | Path,
    landmarks: str | Path | None = None,
    *,
    quality: str = "normal",
    until: str = "report",
    progress: Callable[[StageEvent], None] = lambda event: None,
    **options: Any,
) -> OpenCase:
    """Reconstruct the torso in a video; what is finished in the case folder and unchanged is not done again.

    Args:
        folder: case folder; made if it is missing.
        video: video file, or folder of pictures.
        landmarks: file of the six landmarks; see the formats page. None will do up to the dense stage.
        quality: 'normal' or 'draft'.
        until: name of the last stage that is wanted.
        progress: called with progress events.
        options: any option of the option reference, by its name, such as `marker="DICT_4X4_50:80"` or `detail_mm=0.5`.

    Raises:
        BreastReconstructionError: its children say in one sentence what is wrong and what to do.
    """
    listed = {
        name: [value] if name in ("marker", "distance") and isinstance(value, str) else value for name, value in options.items()
    }
    values = {**quality_values(TORSO.stages, quality), "video": Path(video), **listed}
    values |= {} if landmarks is None else {"landmarks": Path(landmarks)}
    settings = Settings().with_values(TORSO.stages, values)
    return OpenCase(run(Path(folder), TORSO, settings, (stage_named(until, TORSO.stages),), progress).folder)


def sample_shapes(
    count: int, *, seed: int = 0, model: str | Path | None = None, detail_mm: float = 3.0
) -> list[MeshWithLandmarks]:
    """Return random shapes of a shape model in patient space (mm, RAS), with their landmarks.

    Args:
        count: how many.
        seed: the same seed gives the same shapes.
        model: a .safetensors file; None for the default model.
        detail_mm: size of the triangles.

    Raises:
        ShapeModelError: the model cannot be read.
    """
    from .shape_model.model_file import load_model
    from .shape_model.sampling import mesh_of_code, random_codes

    loaded = load_model(None if model is None else Path(model))
    cell = detail_mm / loaded.mm_per_unit
    return [mesh_of_code(loaded, code, cell).in_patient(loaded) for code in random_codes(loaded, count, seed)]
