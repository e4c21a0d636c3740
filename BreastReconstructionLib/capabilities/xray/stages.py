"""Bone from a radiograph: the stage, with its options. It needs no other: what it starts from is a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.options import option
from ...core.stage import Stage

if TYPE_CHECKING:
    from .results import BoneResult

BY_FIT, BY_NETWORK = "fit", "network"


@dataclass(frozen=True)
class XrayOptions:
    """A bone, from one radiograph or two. Research use."""

    xray_picture: Path | None = option(
        None, in_key=False, flag="--picture", metavar="FILE", help="radiograph: DICOM, PNG, TIFF or JPEG", label="Radiograph"
    )
    xray_lateral: Path | None = option(
        None,
        in_key=False,
        flag="--lateral",
        metavar="FILE",
        help="a second one, the patient turned by a quarter to the left in the same stand",
        label="Lateral",
    )
    xray_pixel_mm: float = option(
        0.0,
        flag="--pixel-size",
        within=(0.0, 3.0),
        unit="mm",
        metavar="MM",
        help="side of a pixel at the detector; 0: the file says it",
        label="Pixel",
    )
    xray_source_to_detector_mm: float = option(
        0.0,
        flag="--source-to-detector",
        within=(0.0, 4000.0),
        unit="mm",
        metavar="MM",
        help="distance from source to detector; 0: the file says it",
        label="Source to detector",
    )
    xray_source_to_bone_mm: float = option(
        0.0,
        flag="--source-to-bone",
        within=(0.0, 4000.0),
        unit="mm",
        metavar="MM",
        help="distance from the source to the middle of the bone; 0: the file says it",
        label="Source to bone",
    )
    xray_side: str = option(
        "right",
        choices={"right": "of the patient's right", "left": "of the left: the model is mirrored"},
        flag="--side",
        help="which side the bone is of",
        label="Side",
    )
    xray_model: Path | None = option(
        None,
        in_key=False,
        flag="--xray-model",
        metavar="FILE",
        help="network for this bone, its shape model beside it (default: the bundled synthetic femur)",
        label="Network's file",
        advanced=True,
    )
    xray_template: Path | None = option(
        None,
        in_key=False,
        flag="--template",
        metavar="FILE",
        help="PLY that is brought onto the bone, labels in the scalar 'part' (default: the bundled one)",
        label="Template",
        advanced=True,
    )
    xray_road: str = option(
        BY_FIT,
        choices={BY_FIT: "the shape model, fitted to the picture", BY_NETWORK: "what the network sees, without a shape model"},
        flag="--road",
        help="how the surface is found",
        label="By",
        advanced=True,
    )
    xray_kernel: str = option(
        "euclidean",
        choices={"euclidean": "along straight lines", "geodesic": "along the template's surface"},
        flag="--kernel",
        help="how far the template's motion reaches",
        label="Template moves",
        advanced=True,
    )
    xray_detail_mm: float = option(
        2.0,
        draft=4.0,
        flag="--bone-detail",
        within=(0.5, 20.0),
        unit="mm",
        metavar="D",
        help="size of the triangles of the bone",
        label="Detail",
        advanced=True,
    )


XRAY: Stage[XrayOptions, BoneResult] = Stage(
    name="xray",
    title="Bone from X-ray",
    options=XrayOptions,
    result="capabilities.xray.results:BoneResult",
    work="capabilities.xray.work:run",
    revision=1,
    share=1.0,
    sources="capabilities.xray.sources:sources_of_xray",
    check="capabilities.xray.sources:check_xray",
    section="xray",
    command="xray reconstruct",
    publishes=("xray/bone.ply", "xray/template.ply", "xray/overlay.png", "xray/xray.json"),
)
