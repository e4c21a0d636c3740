"""The one result type of all camera backends, and its COLMAP files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from ..core.errors import CameraError
from ..core.files import write_json
from ..core.progress import Progress
from ..geometry.cameras import Camera
from ..geometry.transforms import Similarity

CAMERAS_FILE, POINTS_FILE = "cameras.json", "sparse_points.npz"
FEWEST_CAMERAS = 8
# Mean reprojection error of a sound run in pixels, as a share of the picture's longer side, and the least for small pictures:
# 0.37 to 0.52 px of 1920 and 0.34 to 0.40 of 960 were seen; pixels that are not square gave 1.2 of 1920.
USUAL_REPROJECTION_SHARE, LEAST_USUAL_REPROJECTION_PX = 0.75 / 1920, 0.45
# The phone must have gone so far around the patient; by less than the second, the sides are the shape model's guess.
SMALLEST_SWEEP_DEGREES, SMALL_SWEEP_DEGREES = 20.0, 70.0


@dataclass(frozen=True)
class CameraReconstruction:
    """Posed cameras and sparse points in world.

    Attributes:
        cameras: image name -> Camera, registered frames only.
        lost: names of frames without a pose.
        points_world: (N, 3).
        colors: (N, 3) uint8 RGB.
        track_lengths: (N,) number of frames that see each point.
        reprojection_error_px: mean over all observations.
        source: how it was made, in words.
        warnings: what the user should know.
        sightings: image name -> (K,) indices of the points that it sees; empty where the source does not say.
    """

    cameras: dict[str, Camera]
    lost: tuple[str, ...]
    points_world: np.ndarray
    colors: np.ndarray
    track_lengths: np.ndarray
    reprojection_error_px: float
    source: str
    warnings: tuple[str, ...] = ()
    sightings: dict[str, np.ndarray] = field(default_factory=dict)

    def seen(self, names: tuple[str, ...]) -> np.ndarray:
        """(V, N) which of the named images sees which point; all of them where the source does not say."""
        seen = np.full((len(names), len(self.points_world)), not self.sightings)
        for row, name in zip(seen, names, strict=True):
            row[self.sightings.get(name, [])] = True
        return seen

    def save(self, folder: Path) -> None:
        """Write one JSON of the cameras and one npz of the points beside it."""
        cameras = [
            {
                "name": camera.name,
                "width": camera.width,
                "height": camera.height,
                "intrinsics": camera.intrinsics.tolist(),
                "distortion": camera.distortion.tolist(),
                "rotation": camera.rotation.tolist(),
                "translation": camera.translation.tolist(),
            }
            for camera in self.cameras.values()
        ]
        document = {
            "convention": "x_camera = rotation x_world + translation; OpenCV axes; pixel centres at +0.5",
            "cameras": cameras,
            "lost": self.lost,
            "reprojection_error_px": self.reprojection_error_px,
            "source": self.source,
            "warnings": self.warnings,
        }
        write_json(folder / CAMERAS_FILE, document)
        np.savez_compressed(
            folder / POINTS_FILE,
            points_world=self.points_world,
            colors=self.colors,
            track_lengths=self.track_lengths,
            sighting_names=np.array(list(self.sightings), str),
            sighting_counts=np.array([len(points) for points in self.sightings.values()], int),
            sighting_points=np.concatenate([*self.sightings.values(), np.empty(0, int)]).astype(np.int32),
        )

    @classmethod
    def load(cls, folder: Path) -> CameraReconstruction:
        """Read what `save` wrote."""
        document = json.loads((folder / CAMERAS_FILE).read_text())
        cameras = {}
        for values in document["cameras"]:
            arrays = {key: np.array(values[key]) for key in ("intrinsics", "distortion", "rotation", "translation")}
            cameras[values["name"]] = Camera(values["name"], values["width"], values["height"], **arrays)
        with np.load(folder / POINTS_FILE) as points:
            return cls(
                cameras=cameras,
                lost=tuple(document["lost"]),
                points_world=points["points_world"],
                colors=points["colors"],
                track_lengths=points["track_lengths"],
                reprojection_error_px=document["reprojection_error_px"],
                source=document["source"],
                warnings=tuple(document["warnings"]),
                sightings=_sightings(points) if "sighting_names" in points else {},  # cases of up to 0.7 have none
            )


def _sightings(file: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    parts = np.split(file["sighting_points"], np.cumsum(file["sighting_counts"])[:-1])
    return {str(name): points for name, points in zip(file["sighting_names"], parts, strict=False)}


class CameraBackend(Protocol):
    """Anything that finds the cameras of pictures."""

    def __call__(self, image_folder: Path, names: tuple[str, ...], work_folder: Path, progress: Progress) -> CameraReconstruction:
        """Reconstruct the cameras of the named pictures; files of its own go to `work_folder`."""


def check_registered(cameras: int, total: int) -> None:
    """Raise CameraError if too few frames have a pose."""
    if cameras < FEWEST_CAMERAS:
        raise CameraError(
            f"Only {cameras} of {total} frames could be placed in space (at least {FEWEST_CAMERAS} are needed); film more "
            "slowly, in good light, with a patterned background such as posters or furniture in view."
        )


def usual_reprojection_px(longer_side_px: int) -> float:
    """Return the mean reprojection error that a sound run does not exceed."""
    return max(USUAL_REPROJECTION_SHARE * longer_side_px, LEAST_USUAL_REPROJECTION_PX)


def sweep_degrees(cameras: list[Camera]) -> float:
    """Return how far the cameras went around the subject: the angle about it that holds them all, less the widest gap."""
    center, _ = subject_sphere(cameras)
    offsets = np.array([camera.center_world for camera in cameras]) - center
    axes = np.linalg.svd(offsets - offsets.mean(axis=0))[2][:2]
    # The plane in which the cameras lie; angles in it are about the subject.
    angles = np.sort(np.degrees(np.arctan2(*(offsets @ axes.T).T)))
    gaps = np.diff(np.append(angles, angles[0] + 360))
    return float(360 - gaps.max())


def check_sweep(cameras: list[Camera]) -> tuple[str, ...]:
    """Return what to say of an arc that is short.

    Raises:
        CameraError: it is too short to see any depth.
    """
    sweep = sweep_degrees(cameras)
    if sweep < SMALLEST_SWEEP_DEGREES:
        raise CameraError(
            f"The phone went only {sweep:.0f} degrees around the patient; walk from one side of the patient to the other, half a "
            "circle (180 degrees)."
        )
    if sweep < SMALL_SWEEP_DEGREES:
        return (f"The phone went only {sweep:.0f} degrees around the patient: the sides are guessed; walk half a circle.",)
    return ()


def lost_warning(lost: tuple[str, ...], total: int) -> tuple[str, ...]:
    """Name the frames that were lost, if any."""
    if not lost:
        return ()
    return (f"{len(lost)} of {total} frames could not be placed in space and are not used: {', '.join(lost)}.",)


def subject_sphere(cameras: list[Camera]) -> tuple[np.ndarray, float]:
    """Return the point nearest to all optical axes, and the median distance of the cameras to it.

    Raises:
        CameraError: the optical axes are parallel, so the cameras do not look at one subject.
    """
    centers = np.array([camera.center_world for camera in cameras])
    axes = np.array([camera.viewing_direction_world for camera in cameras])
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    normal = across.sum(axis=0)
    if np.linalg.cond(normal) > 1e5:
        raise CameraError("The cameras do not look at one subject; walk around the patient instead of past them.")
    center = np.linalg.solve(normal, (across @ centers[:, :, None]).sum(axis=0)[:, 0])
    return center, float(np.median(np.linalg.norm(centers - center, axis=1)))


def frames_apart(cameras: dict[str, Camera], center_world: np.ndarray, degrees: float) -> list[str]:
    """Return the names, in order, of frames that see a point at least so many degrees from where the last one chosen does."""
    names = sorted(cameras)
    directions = np.array([cameras[name].center_world - center_world for name in names])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    nearest, chosen = np.cos(np.radians(degrees)), [0]
    for i, direction in enumerate(directions):
        if direction @ directions[chosen[-1]] < nearest:
            chosen.append(i)
    return [names[i] for i in chosen]


def world_upright(cameras: list[Camera], distance_mm: float = 900.0) -> Similarity:
    """Return a map from world to an upright RAS frame, for showing cameras and points before landmarks are known.

    Down is the mean of the pictures' downward axes, anterior is where the cameras stand, the origin is the point nearest to all
    optical axes, and the scale is a guess: a phone is held at about `distance_mm`.

    Raises:
        CameraError: the cameras do not look at one subject.
    """
    subject, distance = subject_sphere(cameras)
    superior = -np.mean([camera.rotation[1] for camera in cameras], axis=0)
    superior = superior / np.linalg.norm(superior)
    front = np.mean([camera.center_world for camera in cameras], axis=0) - subject
    anterior = front - (front @ superior) * superior
    anterior = anterior / np.linalg.norm(anterior)
    rotation = np.array([np.cross(anterior, superior), anterior, superior])
    scale = distance_mm / distance
    return Similarity(scale, rotation, -scale * rotation @ subject)
