"""From video to surface: the stages, in order, with their options. Everything else about them is made from this page.

frames -> markers; frames -> cameras -> dense -> landmarks -> align -> scale, fit -> refine -> surface -> report
dense -> proposal, which a person confirms; frames -> guidance, while the patient is still undressed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.stage import Stage
from .options import (
    AlignOptions,
    CamerasOptions,
    DenseOptions,
    FitOptions,
    FramesOptions,
    GuidanceOptions,
    LandmarksOptions,
    MarkersOptions,
    ProposalOptions,
    RefineOptions,
    ReportOptions,
    ScaleOptions,
    SurfaceOptions,
)

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
    revision=2,
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
    revision=2,
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
    revision=2,
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
    revision=7,
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
