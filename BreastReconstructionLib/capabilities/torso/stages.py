"""From video to surface: the stages, in order, with their options. Everything else about them is made from this page.

frames -> markers; frames -> cameras -> dense -> landmarks -> align -> scale, fit -> refine -> surface -> report
dense -> proposal, which a person confirms; frames -> guidance, while the patient is still undressed
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.options import option
from ...core.stage import Stage

if TYPE_CHECKING:
    from ...landmarks.locate import Landmarks
    from ...landmarks.proposal import Proposal
    from ...measurement.scale import Scale
    from ...sfm.dense import DenseCloud
    from ...sfm.reconstruction import CameraReconstruction
    from ...shape_model.align import AlignedCloud
    from ...shape_model.tracks import TrackFit
    from ...video.frames import Frames
    from .results import Guidance, Markers, Refinement, Report, Surface


@dataclass(frozen=True)
class FramesOptions:
    """Which pictures of the video are used."""

    video: Path | None = option(
        None, flag="VIDEO", by_hand=True, in_key=False, help="video file, or folder of pictures", label="Video or pictures"
    )
    frame_count: int = option(
        30, draft=20, flag="--frames", metavar="N", within=(8, 1000), help="frames to use", label="Number of frames"
    )
    strategy: str = option(
        "sharp",
        choices={"sharp": "sharpest about equal times", "uniform": "equal times"},
        help="how frames are chosen",
        label="Choice of frames",
    )
    mirrored: bool = option(
        False, help="the video shows what a mirror shows (some front cameras): flip it", label="The video is mirrored"
    )


@dataclass(frozen=True)
class MarkersOptions:
    """Printed markers of known size in the pictures."""

    marker: tuple[str, ...] = option(
        (),
        by_hand=True,
        in_key=False,
        metavar="DICT[:NUMBER]:MM",
        help="printed ArUco marker and the side of its black square, such as DICT_4X4_50:80, or DICT_4X4_50:7:80",
    )


@dataclass(frozen=True)
class GuidanceOptions:
    """Whether the video will do; there is nothing to choose."""


@dataclass(frozen=True)
class CamerasOptions:
    """Where the phone was, picture by picture."""

    cameras: str = option(
        "colmap",
        by_hand=True,
        in_key=False,
        metavar="HOW",
        help="colmap, vggsfm, a COLMAP model folder, or a vggsfm_predictions.pt",
        label="Who finds the cameras",
    )
    vggsfm_python: Path | None = option(
        None, by_hand=True, in_key=False, metavar="FILE", help="Python of your VGGSfM environment"
    )
    vggsfm_checkout: Path | None = option(None, by_hand=True, in_key=False, metavar="FOLDER", help="your VGGSfM source folder")
    feature_pixels: int = option(
        960,
        draft=480,
        metavar="PX",
        within=(320, 4096),
        unit="px",
        advanced=True,
        help="longer side of the pictures in which COLMAP looks for features",
        label="Pictures for features",
    )


@dataclass(frozen=True)
class DenseOptions:
    """Points on the patient, measured between the pictures."""

    flow_pixels: int = option(
        1440,
        draft=960,
        metavar="PX",
        within=(320, 4096),
        unit="px",
        advanced=True,
        help="longer side of the pictures between which points are measured",
        label="Pictures for points",
    )


@dataclass(frozen=True)
class ProposalOptions:
    """The six landmarks, as the program finds them."""

    landmark_network: Path | None = option(
        None, by_hand=True, in_key=False, metavar="FILE", help="network that proposes landmarks (default: the bundled one)"
    )


@dataclass(frozen=True)
class LandmarksOptions:
    """The six landmarks."""

    landmarks: Path | None = option(
        None,
        by_hand=True,
        in_key=False,
        metavar="FILE",
        help="the six landmarks: .csv with landmark,video_frame,x_px,y_px; <frame>_landmarks.txt; .mrk.json, .pp or .ply",
    )
    accept_proposed: bool = option(
        False,
        by_hand=True,
        help="take landmarks as the program proposes them, unseen; without --landmarks they are proposed first",
    )


@dataclass(frozen=True)
class AlignOptions:
    """The points, brought to the frame of the shape model."""

    model: Path | None = option(None, by_hand=True, in_key=False, metavar="FILE", help="shape model (default: the bundled one)")


@dataclass(frozen=True)
class ScaleOptions:
    """What is known in millimetres."""

    distance: tuple[str, ...] = option(
        (),
        by_hand=True,
        in_key=False,
        metavar="A:B=MM",
        help="known straight distance, such as left-nipple:right-nipple=210; with --marker or another distance they are compared",
    )
    approximate_scale: bool = option(False, by_hand=True, in_key=False, help="nothing was measured: mean body size")
    trust_scale: bool = option(
        False, help="I have checked the scale: use it, whatever speaks against it", label="I have checked the scale"
    )


@dataclass(frozen=True)
class FitOptions:
    """The shape model, fitted to points and pictures."""

    regularisation: float = option(
        1.0, metavar="X", within=(0.05, 20.0), help="strength of the prior; more gives smoother, more typical shapes"
    )
    first_order_fit: bool = option(
        False, advanced=True, help="fit by Adam: slower, for fits that do not converge", label="First-order fit"
    )
    patch_pixels: int = option(
        1920,
        draft=960,
        metavar="PX",
        within=(320, 4096),
        unit="px",
        advanced=True,
        help="longer side of the pictures in which patches of skin are found again",
        label="Pictures for patches",
    )
    patch_rounds: int = option(
        2,
        draft=1,
        metavar="N",
        within=(1, 4),
        advanced=True,
        help="how often patches are found anew, by the surface that they gave the time before",
        label="Rounds of patches",
    )


@dataclass(frozen=True)
class RefineOptions:
    """The fitted surface, moved where the pictures know better."""

    refine: bool = option(
        True,
        draft=False,
        flag="--refine",
        help="move the surface until the pictures agree: scars, folds, nipples, what the shape model cannot draw",
        label="Refine by the pictures",
    )
    refine_cell_mm: float = option(
        1.5,
        flag="--refine-cell",
        metavar="D",
        within=(1.0, 6.0),
        unit="mm",
        advanced=True,
        help="size of the triangles that are moved; smaller details do not come out, and half the size takes four times as long",
        label="Triangles of the refinement",
    )


@dataclass(frozen=True)
class SurfaceOptions:
    """The surface that is delivered."""

    detail_mm: float = option(
        1.0,
        draft=3.0,
        flag="--detail",
        metavar="D",
        within=(0.4, 10.0),
        unit="mm",
        words={"preview": 3.0, "normal": 1.0, "fine": 0.5},
        help="size of the triangles where the surface is curved; where it is flat they are up to twice as large",
        label="Detail",
    )
    remove_unseen: bool = option(False, help="leave out what no frame saw")
    remove_contradicted: bool = option(
        False,
        help="leave out where the frames show no skin: an absent arm, hair, clothing",
        label="Leave out what the pictures contradict",
    )
    correct_nipples: bool = option(False, help="move the surface's nipples to the landmarks")


@dataclass(frozen=True)
class ReportOptions:
    """Numbers and a sheet to check."""

    truth: Path | None = option(
        None,
        in_key=False,
        advanced=True,
        metavar="FOLDER",
        help="folder of a phantom's truth, to measure the error",
        label="Truth of a phantom",
    )


_HERE = "capabilities.torso"

FRAMES: Stage[FramesOptions, Frames] = Stage(
    name="frames",
    title="Frames",
    options=FramesOptions,
    result="video.frames:Frames",
    work=f"{_HERE}.frames:run",
    sources=f"{_HERE}.sources:sources_of_frames",
    check=f"{_HERE}.sources:check_frames",
    revision=1,
    share=0.03,
    section="video",
)
MARKERS: Stage[MarkersOptions, Markers] = Stage(
    name="markers",
    title="Printed markers",
    options=MarkersOptions,
    result=f"{_HERE}.results:Markers",
    needs=(FRAMES,),
    work=f"{_HERE}.scale:run_markers",
    sources=f"{_HERE}.sources:sources_of_markers",
    check=f"{_HERE}.sources:check_markers",
    revision=1,
    share=0.01,
    section="scale",
)
GUIDANCE: Stage[GuidanceOptions, Guidance] = Stage(
    name="guidance",
    title="Check of the video",
    options=GuidanceOptions,
    result=f"{_HERE}.results:Guidance",
    needs=(FRAMES,),
    work=f"{_HERE}.guidance:run",
    sources=f"{_HERE}.sources:sources_of_markers",
    revision=1,
    share=0.06,
    section="video",
    command="check",
)
CAMERAS: Stage[CamerasOptions, CameraReconstruction] = Stage(
    name="cameras",
    title="Cameras",
    options=CamerasOptions,
    result="sfm.reconstruction:CameraReconstruction",
    needs=(FRAMES,),
    work=f"{_HERE}.cameras:run",
    sources=f"{_HERE}.sources:sources_of_cameras",
    check=f"{_HERE}.sources:check_cameras",
    revision=1,
    share=0.23,
    section="cameras",
)
DENSE: Stage[DenseOptions, DenseCloud] = Stage(
    name="dense",
    title="Points",
    options=DenseOptions,
    result="sfm.dense:DenseCloud",
    needs=(FRAMES, CAMERAS),
    work=f"{_HERE}.cameras:run_dense",
    revision=1,
    share=0.14,
    section="cameras",
)
PROPOSAL: Stage[ProposalOptions, Proposal] = Stage(
    name="proposal",
    title="Proposed landmarks",
    options=ProposalOptions,
    result="landmarks.proposal:Proposal",
    needs=(FRAMES, CAMERAS, DENSE),
    work=f"{_HERE}.proposal:run",
    sources=f"{_HERE}.sources:sources_of_proposal",
    revision=1,
    share=0.02,
    section="landmarks",
    publishes=("proposal/proposed_landmarks.csv", "proposal/proposed_landmarks.png"),
)
LANDMARKS: Stage[LandmarksOptions, Landmarks] = Stage(
    name="landmarks",
    title="Landmarks",
    options=LandmarksOptions,
    result="landmarks.locate:Landmarks",
    needs=(FRAMES, CAMERAS, DENSE),
    work=f"{_HERE}.landmarks:run",
    sources=f"{_HERE}.sources:sources_of_landmarks",
    check=f"{_HERE}.sources:check_landmarks",
    revision=1,
    share=0.01,
    section="landmarks",
)
ALIGN: Stage[AlignOptions, AlignedCloud] = Stage(
    name="align",
    title="Alignment",
    options=AlignOptions,
    result="shape_model.align:AlignedCloud",
    needs=(DENSE, LANDMARKS),
    work=f"{_HERE}.shape:run_align",
    sources=f"{_HERE}.sources:sources_of_align",
    check=f"{_HERE}.sources:check_align",
    revision=2,
    share=0.02,
    section="surface",
)
SCALE: Stage[ScaleOptions, Scale] = Stage(
    name="scale",
    title="Scale",
    options=ScaleOptions,
    result="measurement.scale:Scale",
    needs=(FRAMES, MARKERS, CAMERAS, LANDMARKS, ALIGN),
    work=f"{_HERE}.scale:run",
    sources=f"{_HERE}.sources:sources_of_scale",
    check=f"{_HERE}.sources:check_scale",
    revision=1,
    share=0.02,
    section="scale",
)
FIT: Stage[FitOptions, TrackFit] = Stage(
    name="fit",
    title="Fit",
    options=FitOptions,
    result="shape_model.tracks:TrackFit",
    needs=(FRAMES, CAMERAS, DENSE, ALIGN),
    work=f"{_HERE}.shape:run_fit",
    revision=3,
    share=0.12,
    section="surface",
)
REFINE: Stage[RefineOptions, Refinement] = Stage(
    name="refine",
    title="Refinement",
    options=RefineOptions,
    result=f"{_HERE}.results:Refinement",
    needs=(FRAMES, CAMERAS, ALIGN, FIT),
    work=f"{_HERE}.refine:run",
    revision=3,
    share=0.24,
    section="surface",
)
SURFACE: Stage[SurfaceOptions, Surface] = Stage(
    name="surface",
    title="Surface",
    options=SurfaceOptions,
    result=f"{_HERE}.results:Surface",
    needs=(FRAMES, CAMERAS, DENSE, LANDMARKS, ALIGN, SCALE, FIT, REFINE),
    work=f"{_HERE}.surface:run",
    revision=5,
    share=0.08,
    section="surface",
)
REPORT: Stage[ReportOptions, Report] = Stage(
    name="report",
    title="Report",
    options=ReportOptions,
    result=f"{_HERE}.results:Report",
    needs=(FRAMES, MARKERS, CAMERAS, DENSE, LANDMARKS, ALIGN, FIT, REFINE, SURFACE),
    work=f"{_HERE}.report:run",
    sources=f"{_HERE}.sources:sources_of_report",
    check=f"{_HERE}.sources:check_report",
    revision=5,
    share=0.02,
    section="surface",
    publishes=(
        "surface/surface.ply",
        "surface/landmarks.mrk.json",
        "report/report.json",
        "report/report.png",
        "report/accuracy.json",
    ),
)
