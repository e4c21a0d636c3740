"""The stage that says, soon after filming, whether the video will do: from few frames, in small pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core.errors import BreastReconstructionError, CameraError
from ...core.progress import Progress
from ...core.run import Inputs
from ...geometry.cameras import Camera
from ...geometry.pictures import shrunk_to
from ...measurement.filming import Arc, Finding, blur, cut_off, lens, light, moved
from ...measurement.scale import KnownMarker
from ...sfm.reconstruction import CameraReconstruction, subject_sphere, world_upright
from ...video.frames import Frames, write_png
from ...video.stillness import LARGEST_STILL_SHARE
from .results import ARC_PICTURE, Guidance
from .sources import landmark_network_path
from .stages import FRAMES, GuidanceOptions, ProposalOptions

# Frames that are looked at, and the longer side of their pictures.
LOOKED_AT, LOOK_PX = 16, 480


def run(options: GuidanceOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Look at light, sharpness, the phone's way, what is in the picture, whether the patient stood still, and the marker."""
    import cv2

    frames = inputs.result(FRAMES)
    names = tuple(frames.names[k] for k in np.unique(np.linspace(0, len(frames.names) - 1, LOOKED_AT).round().astype(int)))
    pictures = {name: frames.read(name) for name in names}
    grays = [cv2.cvtColor(shrunk_to(picture, LOOK_PX)[0], cv2.COLOR_BGR2GRAY) for picture in pictures.values()]
    findings = [light(grays), blur(len(frames.soft), len(frames.names)), lens(grays)]
    findings += _marker(frames, inputs)
    progress(0.1, "looks where the phone went")
    try:
        cameras = _cameras(frames, names, folder / "colmap", progress.part(0.1, 0.8))
        findings += _of_way(cameras, names, pictures, folder)
    except CameraError as error:
        findings.append(Finding("cameras", False, str(error)))
    Guidance(tuple(findings), None).save(folder)


def _marker(frames: Frames, inputs: Inputs) -> list[Finding]:
    from ...measurement.markers import require_markers

    given = [KnownMarker(**values) for values in inputs.sources.get("markers", [])]
    if not given:
        return []
    try:
        require_markers(frames.names, frames.read, given, frames.mirrored)
    except BreastReconstructionError as error:
        return [Finding("marker", False, str(error))]
    return [Finding("marker", True, "The printed marker is in view.")]


def _cameras(frames: Frames, names: tuple[str, ...], work: Path, progress: Progress) -> CameraReconstruction:
    from ...sfm.colmap import reconstruct_with_colmap
    from ...sfm.turning import follow_patient

    followed = None
    if frames.still_share > LARGEST_STILL_SHARE:
        names = frames.names  # neighbours must be near for places to be followed
        followed = follow_patient(frames.read, names, progress.part(0.0, 0.5))
    return reconstruct_with_colmap(frames.folder, names, work, progress.part(0.5, 1.0), LOOK_PX, followed)


def _of_way(found: CameraReconstruction, names: tuple[str, ...], pictures: dict[str, np.ndarray], folder: Path) -> list[Finding]:
    """What the phone's way and the landmarks on it say; the picture of the way is written."""
    from ...proposal.model_file import load_landmark_network
    from ...proposal.propose import in_space, seen_in

    network, _ = load_landmark_network(landmark_network_path(ProposalOptions()))
    looked_at = [name for name in names if name in found.cameras]
    cameras = [found.cameras[name] for name in looked_at]
    seen = seen_in(network, [pictures[name][..., ::-1] for name in looked_at])
    landmarks = in_space(cameras, seen).points
    middle = len(cameras) // 2
    halves = [in_space(cameras[part], seen.only(part)).points for part in (slice(None, middle), slice(middle, None))]
    every: list[Camera] = list(found.cameras.values())
    center, _distance = subject_sphere(every)
    arc = Arc.of(every, landmarks, world_upright(every).rotation[2], center)
    write_png(folder / ARC_PICTURE, arc.picture())
    return [arc.finding(), cut_off(cameras, landmarks), moved(*halves)]
