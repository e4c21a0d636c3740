"""Shape models of organs: the stage, with its options. It needs no other: what it fits to is a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.options import option
from ...core.stage import Stage

if TYPE_CHECKING:
    from .results import CompletedOrgan


@dataclass(frozen=True)
class OrganOptions:
    """A model's shape, fitted to a segmentation, a mesh, points or contours."""

    organ_input: Path | None = option(
        None,
        in_key=False,
        flag="--input",
        metavar="FILE",
        help="segmentation (NIfTI, NRRD, DICOM SEG), mesh or points (PLY, STL, OBJ), or contours (markups curves)",
        label="Or a file",
    )
    organ_segments: str = option(
        "",
        flag="--segments",
        metavar="NAMES",
        help="names or labels of the segments that are the organ together, separated by commas (default: all)",
        label="Its segments",
        advanced=True,
    )
    organ_model: Path | None = option(
        None,
        in_key=False,
        flag="--organ-model",
        metavar="FILE",
        help="shape model of the organ (default: the bundled synthetic lungs)",
        label="Model's file",
        advanced=True,
    )
    organ_landmarks: Path | None = option(
        None,
        in_key=False,
        flag="--organ-landmarks",
        metavar="FILE",
        help="markups file with the model's landmarks; without one the pose is searched",
        label="Landmarks",
        advanced=True,
    )
    organ_detail_mm: float = option(
        2.0,
        draft=4.0,
        flag="--organ-detail",
        within=(0.5, 20.0),
        unit="mm",
        metavar="D",
        help="size of the triangles of the result",
        label="Detail",
        advanced=True,
    )


ORGAN: Stage[OrganOptions, CompletedOrgan] = Stage(
    name="organ",
    title="Whole organ",
    options=OrganOptions,
    result="capabilities.organ.results:CompletedOrgan",
    work="capabilities.organ.complete:run",
    revision=1,
    share=1.0,
    sources="capabilities.organ.sources:sources_of_organ",
    check="capabilities.organ.sources:check_organ",
    section="organ",
    command="organ fit",
    publishes=("organ/organ.ply", "organ/organ.nii.gz", "organ/organ.json"),
)
