"""The stage that proposes landmarks, and the picture by which a person judges them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core.progress import Progress
from ...core.run import Inputs
from ...geometry.cameras import Camera
from ...geometry.pictures import shrunk_to
from ...landmarks.files import PROPOSED, write_video_picks
from ...landmarks.names import LANDMARK_NAMES
from ...landmarks.proposal import PROPOSED_FILE, PROPOSED_PICTURE, SURE, Proposal
from ...video.frames import Frames, write_png
from .sources import landmark_network_path
from .stages import CAMERAS, DENSE, FRAMES, ProposalOptions

PANEL_PX = 900
SURE_BGR, UNSURE_BGR = (60, 200, 60), (40, 140, 255)


def run(options: ProposalOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Propose the landmarks; write them as picks, and a picture."""
    from ...proposal.model_file import load_landmark_network
    from ...proposal.propose import propose_landmarks

    frames, cameras, cloud = inputs.result(FRAMES), inputs.result(CAMERAS).cameras, inputs.result(DENSE)
    network, _ = load_landmark_network(landmark_network_path(options))
    proposal = propose_landmarks(network, cameras, frames.read, cloud.points_world, cloud.normals_world, progress)
    proposal.save(folder)
    write_video_picks(folder / PROPOSED_FILE, _picks(proposal, cameras, frames))
    write_png(folder / PROPOSED_PICTURE, _picture(proposal, cameras, frames))


def _picks(proposal: Proposal, cameras: dict[str, Camera], frames: Frames) -> list[tuple[str, int, float, float, str]]:
    """Where the landmarks are in the frames that are shown, in pixels of the video as it was filmed."""
    number = dict(zip(frames.names, frames.video_frames, strict=True))
    rows = []
    for name, point in zip(LANDMARK_NAMES, proposal.points_world, strict=True):
        if name in proposal.unknown:
            continue
        for frame in proposal.shown_in:
            camera = cameras[frame]
            x, y = camera.project(point[None])[0][0]
            if 0 <= x <= camera.width and 0 <= y <= camera.height:
                rows.append((name, number[frame], frames.width - x if frames.mirrored else x, y, PROPOSED))
    return rows


def _picture(proposal: Proposal, cameras: dict[str, Camera], frames: Frames) -> np.ndarray:
    """(H, W, 3) BGR: the shown frames side by side, the landmarks on them, and with what confidence."""
    import cv2

    panels = []
    for frame in proposal.shown_in:
        drawn, factor = shrunk_to(frames.read(frame), PANEL_PX)
        pixels = cameras[frame].project(proposal.points_world)[0] * factor
        for name, pixel, confidence in zip(LANDMARK_NAMES, pixels, proposal.confidence, strict=True):
            if not np.isfinite(pixel).all():
                continue
            color = SURE_BGR if confidence >= SURE else UNSURE_BGR
            x, y = (int(v) for v in pixel)
            cv2.circle(drawn, (x, y), 7, color, 2, cv2.LINE_AA)
            cv2.circle(drawn, (x, y), 1, color, -1)
            text, font = f"{name} {confidence:.2f}", (cv2.FONT_HERSHEY_SIMPLEX, 0.42)
            (width, height), _ = cv2.getTextSize(text, *font, 1)
            cv2.rectangle(drawn, (x + 9, y - 10 - height), (x + 13 + width, y - 4), (40, 40, 40), cv2.FILLED)
            cv2.putText(drawn, text, (x + 11, y - 7), *font, color, 1, cv2.LINE_AA)
        panels.append(drawn)
    return np.concatenate(panels, axis=1)
