"""The options of the stages from video to surface."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...core.options import option


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
