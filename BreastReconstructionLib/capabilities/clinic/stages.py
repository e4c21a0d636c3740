"""What is done with a surface: the stages, in order, with their options.

skin; surface, skin -> register; surface -> measure -> compare, summary; register, measure -> scanwall
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.options import option
from ...core.stage import Stage
from ..torso.stages import SURFACE

if TYPE_CHECKING:
    from .results import Comparison, Measurements, ScanRegistration, ScanSkin, ScanWall, Summary


@dataclass(frozen=True)
class SkinOptions:
    """The skin in a CT or MRI volume."""

    volume: Path | None = option(
        None, by_hand=True, in_key=False, metavar="FILE", help="CT or MRI: .nrrd, .nii.gz, .mha, or a folder of one DICOM series"
    )
    modality: str = option(
        "auto", choices={"auto": "by its values", "ct": "CT", "mri": "MRI"}, help="what the volume is", label="Kind of volume"
    )


@dataclass(frozen=True)
class RegisterOptions:
    """The surface, brought to the volume."""

    scan_landmarks: Path | None = option(
        None,
        by_hand=True,
        in_key=False,
        metavar="FILE",
        help="three or more of the six landmarks as points on the volume's skin, .mrk.json; without, the start is searched",
    )
    region: str = option(
        "ribs",
        choices={"ribs": "ribs and sternum, which posture leaves alone", "front": "all that is seen (same posture only)"},
        help="which skin decides",
        label="Registered by",
    )
    region_curve: Path | None = option(
        None,
        advanced=True,
        in_key=False,
        metavar="FILE",
        help="closed curve on the surface, .mrk.json: the skin inside decides, instead of the region above",
        label="Curve around the deciding skin",
    )
    register_scale: bool = option(
        False, help="take the scale from the volume: the video needs no ruler", label="Scale from the volume"
    )
    deformable: bool = option(
        False, help="also bend the surface onto the skin of the volume (another posture)", label="Bend to the volume's posture"
    )
    trust_registration: bool = option(
        False,
        help="I have looked at the registration: keep it, whatever speaks against it",
        label="I have checked the registration",
    )


@dataclass(frozen=True)
class MeasureOptions:
    """Distances, folds, boundaries and volumes."""

    measure_points: Path | None = option(
        None,
        by_hand=True,
        in_key=False,
        metavar="FILE",
        help="points placed by hand on the surface, .mrk.json: landmarks by name, left-midclavicle, left-areola-medial, "
        "left-areola-lateral and so on; what is missing is proposed",
    )
    breast_boundaries: Path | None = option(
        None,
        by_hand=True,
        in_key=False,
        metavar="FILE",
        help="closed curves drawn around the breasts on the surface, .mrk.json; a side without one is proposed",
    )


@dataclass(frozen=True)
class ScanWallOptions:
    """Volumes to a chest wall that was drawn in the registered volume."""

    chest_wall: Path | None = option(
        None,
        in_key=False,
        metavar="FILE",
        help="label map in the volume's space, .nrrd or .nii.gz: all that is not 0 is chest wall or behind it",
        label="Chest wall's label map",
    )


@dataclass(frozen=True)
class CompareOptions:
    """Change since an earlier visit."""

    earlier: Path | None = option(
        None, by_hand=True, in_key=False, metavar="FOLDER", help="case folder of the earlier visit of the same patient"
    )


@dataclass(frozen=True)
class SummaryOptions:
    """The sheet for the clinician."""

    patient_name: str = option("", help="what stands at the top of the PDF; nothing of the patient unless you type it")
    capture_date: str = option("", help="date of the video, as it shall stand in the PDF", label="Date of the video")


_HERE = "capabilities.clinic"

SKIN: Stage[SkinOptions, ScanSkin] = Stage(
    name="skin",
    title="Skin of the volume",
    options=SkinOptions,
    result=f"{_HERE}.results:ScanSkin",
    work=f"{_HERE}.register:run_skin",
    sources=f"{_HERE}.sources:sources_of_skin",
    check=f"{_HERE}.sources:check_skin",
    revision=1,
    share=0.2,
    section="clinic",
)
REGISTER: Stage[RegisterOptions, ScanRegistration] = Stage(
    name="register",
    title="Registration to the volume",
    options=RegisterOptions,
    result=f"{_HERE}.results:ScanRegistration",
    needs=(SURFACE, SKIN),
    work=f"{_HERE}.register:run",
    sources=f"{_HERE}.sources:sources_of_register",
    check=f"{_HERE}.sources:check_register",
    revision=2,
    share=0.3,
    section="clinic",
)
MEASURE: Stage[MeasureOptions, Measurements] = Stage(
    name="measure",
    title="Measurements",
    options=MeasureOptions,
    result=f"{_HERE}.results:Measurements",
    needs=(SURFACE,),
    work=f"{_HERE}.measure:run",
    sources=f"{_HERE}.sources:sources_of_measure",
    check=f"{_HERE}.sources:check_measure",
    revision=1,
    share=0.2,
    section="clinic",
    publishes=("measure/measurements.csv",),
)
SCAN_WALL: Stage[ScanWallOptions, ScanWall] = Stage(
    name="scanwall",
    title="Volume to the wall in the scan",
    options=ScanWallOptions,
    result=f"{_HERE}.results:ScanWall",
    needs=(SURFACE, REGISTER, MEASURE),
    work=f"{_HERE}.scan_wall:run",
    sources=f"{_HERE}.sources:sources_of_scan_wall",
    revision=1,
    share=0.1,
    section="clinic",
)
COMPARE: Stage[CompareOptions, Comparison] = Stage(
    name="compare",
    title="Change since an earlier visit",
    options=CompareOptions,
    result=f"{_HERE}.results:Comparison",
    needs=(SURFACE, MEASURE),
    work=f"{_HERE}.compare:run",
    sources=f"{_HERE}.sources:sources_of_compare",
    check=f"{_HERE}.sources:check_compare",
    revision=1,
    share=0.1,
    section="clinic",
    publishes=("compare/changes.csv",),
)
SUMMARY: Stage[SummaryOptions, Summary] = Stage(
    name="summary",
    title="PDF for the clinician",
    options=SummaryOptions,
    result=f"{_HERE}.results:Summary",
    needs=(SURFACE, MEASURE),
    welcomes=(COMPARE,),
    work=f"{_HERE}.summary:run",
    revision=2,
    share=0.1,
    section="clinic",
    publishes=("summary/summary.pdf",),
)
