"""The neural surface: the stages, in order, with their options.

frames, cameras -> neural -> extract
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.options import option
from ...core.stage import Stage
from ..torso.stages import ALIGN, CAMERAS, FIT, FRAMES, SURFACE

if TYPE_CHECKING:
    from .results import NeuralMesh, NeuralScene


@dataclass(frozen=True)
class NeuralOptions:
    """Signed distance and colour, learned from the pictures."""

    neural_start: str = option(
        "sphere",
        flag="--start",
        by_hand=True,  # the panel offers the sphere alone: on a torso the photometric refinement is faster and mostly better
        choices={
            "sphere": "a sphere: any object",
            "places": "the case's surface, at the places where the pictures contradict the shape model",
            "torso": "the case's surface as a whole (for graphics cards)",
        },
        help="what is known before the pictures",
        label="Starts from",
    )
    masks: Path | None = option(
        None,
        in_key=False,
        metavar="FOLDER",
        help="pictures named like the frames or like your pictures, white on the object, black beside it",
        label="Masks",
    )
    make_masks: bool = option(False, help="tell the object from the background by their colours", label="Make masks")
    ball: float = option(
        0.25,
        within=(0.02, 0.8),
        advanced=True,
        help="radius of what is looked at, as a share of the camera's distance to it; with masks they decide",
        label="Radius of the ball",
    )
    neural_pixels: int = option(
        640,
        draft=256,
        metavar="PX",
        within=(64, 4096),
        unit="px",
        advanced=True,
        help="longer side of the pictures learned from",
        label="Pictures learned from",
    )
    neural_levels: int = option(
        8,
        metavar="N",
        within=(2, 16),
        advanced=True,
        help="resolutions of the hash grid, coarse to fine",
        label="Levels of the grid",
    )
    neural_table: int = option(
        16,
        metavar="N",
        within=(8, 22),
        advanced=True,
        help="rows of a level's table, as a power of 2",
        label="Size of the tables",
    )
    neural_finest: int = option(
        192, metavar="N", within=(16, 4096), advanced=True, help="cells a side of the finest level", label="Finest cells"
    )
    neural_width: int = option(
        64, metavar="N", within=(8, 512), advanced=True, help="width of the networks", label="Width of the networks"
    )
    neural_steps: int = option(
        2000, draft=800, flag="--steps", metavar="N", within=(20, 500_000), help="steps of optimisation", label="Steps"
    )
    neural_rays: int = option(
        512, flag="--rays", metavar="N", within=(16, 65_536), advanced=True, help="rays a step", label="Rays a step"
    )
    mask_loss: str = option(
        "cross-entropy",
        choices={"cross-entropy": "cross-entropy", "mse": "mean square", "off": "none"},
        advanced=True,
        help="how opacity and mask are compared",
        label="Loss of the masks",
    )
    mask_weight: float = option(
        0.3, metavar="X", within=(0.0, 100.0), advanced=True, help="of the loss of the masks", label="Weight of masks"
    )
    points_weight: float = option(
        0.3,
        metavar="X",
        within=(0.0, 100.0),
        advanced=True,
        help="of the mean distance of the sparse points that the pictures see; 0 for none",
        label="Weight of sparse points",
    )
    eikonal_weight: float = option(
        0.1,
        metavar="X",
        within=(0.0, 100.0),
        advanced=True,
        help="of the gradient's difference from length 1",
        label="Weight of the eikonal",
    )
    curvature_weight: float = option(
        5e-4, metavar="X", within=(0.0, 100.0), advanced=True, help="of the mean curvature", label="Weight of curvature"
    )
    weight_decay: float = option(
        0.01, metavar="X", within=(0.0, 10.0), advanced=True, help="of the networks", label="Weight decay"
    )
    neural_seed: int = option(0, metavar="N", within=(0, 1_000_000), advanced=True, help="of all that is drawn", label="Seed")


@dataclass(frozen=True)
class ExtractOptions:
    """The mesh of the learned distance."""

    neural_cells: int = option(
        256,
        flag="--cells",
        metavar="N",
        within=(16, 4096),
        help="cells a side of the ball's cube: at any time another resolution without learning again",
        label="Cells a side",
    )
    object_marker: str = option(
        "",
        metavar="DICT[:NUMBER]:MM",
        help="printed ArUco marker and the side of its black square; without one, and without a surface of a torso in the case, "
        "the mesh has no millimetres",
        label="Marker",
    )


_HERE = "capabilities.refinement"

NEURAL: Stage[NeuralOptions, NeuralScene] = Stage(
    name="neural",
    title="Neural surface",
    options=NeuralOptions,
    result=f"{_HERE}.results:NeuralScene",
    needs=(FRAMES, CAMERAS),
    welcomes=(ALIGN, FIT, SURFACE),
    work=f"{_HERE}.neural:run",
    sources=f"{_HERE}.sources:sources_of_neural",
    check=f"{_HERE}.sources:check_neural",
    revision=1,
    share=0.95,
    section="neural",
)
EXTRACT: Stage[ExtractOptions, NeuralMesh] = Stage(
    name="extract",
    title="Mesh of the neural surface",
    options=ExtractOptions,
    result=f"{_HERE}.results:NeuralMesh",
    needs=(FRAMES, CAMERAS, NEURAL),
    welcomes=(SURFACE,),
    work=f"{_HERE}.neural:run_extract",
    check=f"{_HERE}.sources:check_extract",
    revision=1,
    share=0.05,
    section="neural",
)
