"""From picks in pictures to landmarks in world, and the checks that catch exchanged landmarks."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from ..core.errors import LandmarkError
from ..core.files import write_json
from ..geometry.cameras import Camera, triangulate
from .files import CONFIRMED, PROPOSED, LandmarkInput, Pick
from .names import LANDMARK_NAMES

LANDMARKS_FILE = "landmarks.json"
RAY_NEIGHBOURS = 5
SUSPICIOUS_REPROJECTION_PX = 12.0
# Cameras whose mean offset or direction is shorter than this share have gone all around.
ALL_AROUND = 0.3
# A landmark on the front is seen by most cameras; by fewer than this share, it is not where it is said to be.
SEEN_SHARE = 0.2


@dataclass(frozen=True)
class Landmarks:
    """The six landmarks in world.

    Attributes:
        points_world: (6, 3), order of LANDMARK_NAMES.
        reprojection_px: root mean square error of each over the frames it was picked in; NaN if picked in one or none.
        views: number of frames each was picked in; 0 for points given in 3D.
        warnings: what the user should know.
        proposed, confirmed: names of those that the program found, and that nobody looked at since or a person confirmed.
    """

    points_world: np.ndarray
    reprojection_px: np.ndarray
    views: np.ndarray
    warnings: tuple[str, ...] = ()
    proposed: tuple[str, ...] = ()
    confirmed: tuple[str, ...] = ()

    def save(self, folder: Path) -> None:
        """Write one JSON."""
        document = {
            "names": LANDMARK_NAMES,
            "points_world": self.points_world.tolist(),
            "reprojection_px": [None if np.isnan(v) else float(v) for v in self.reprojection_px],
            "views": self.views.tolist(),
            "warnings": self.warnings,
            "proposed": self.proposed,
            "confirmed": self.confirmed,
        }
        write_json(folder / LANDMARKS_FILE, document)

    @classmethod
    def load(cls, folder: Path) -> Landmarks:
        """Read what `save` wrote."""
        values = json.loads((folder / LANDMARKS_FILE).read_text())
        return cls(
            np.array(values["points_world"]),
            np.array([np.nan if v is None else v for v in values["reprojection_px"]]),
            np.array(values["views"]),
            tuple(values["warnings"]),
            tuple(values.get("proposed", ())),  # cases of up to 0.11 have neither
            tuple(values.get("confirmed", ())),
        )


def locate_landmarks(
    given: LandmarkInput,
    cameras: dict[str, Camera],
    name_of_video_frame: dict[int, str],
    cloud_world: np.ndarray,
) -> Landmarks:
    """Find the landmarks in world.

    Picked in two or more frames: triangulated. In one: of the 5 cloud points nearest to the ray, the one closest to the
    camera. Given in 3D: taken as they are. Then checked against the cameras.

    Args:
        given: picks or points.
        cameras: registered cameras by frame name.
        name_of_video_frame: frame name of each selected video frame.
        cloud_world: (N, 3) reconstructed points.

    Raises:
        LandmarkError: outside the image, in an unregistered frame, where no camera looks, or exchanged.
    """
    if given.points:
        points = np.array([given.points[name] for name in LANDMARK_NAMES])
        points = points if given.points_to_world is None else given.points_to_world.apply(points)
        _check_in_view(points, list(cameras.values()))
        landmarks = Landmarks(points, np.full(6, np.nan), np.zeros(6, int))
    else:
        landmarks = _from_picks(given.picks, cameras, name_of_video_frame, cloud_world)
        landmarks = replace(landmarks, proposed=given.named(PROPOSED), confirmed=given.named(CONFIRMED))
    check_order(landmarks.points_world, list(cameras.values()))
    return landmarks


def _from_picks(
    picks: tuple[Pick, ...], cameras: dict[str, Camera], name_of_video_frame: dict[int, str], cloud: np.ndarray
) -> Landmarks:
    seen: dict[str, list[tuple[Camera, np.ndarray]]] = {name: [] for name in LANDMARK_NAMES}
    unregistered: dict[str, str] = {}
    for pick in picks:
        frame = pick.frame_name or name_of_video_frame.get(pick.video_frame)
        label = pick.frame_name or f"video frame {pick.video_frame}"
        camera = cameras.get(frame) if frame else None
        if camera is None:
            unregistered[pick.landmark] = label
            continue
        if not (0 <= pick.x_px <= camera.width and 0 <= pick.y_px <= camera.height):
            raise LandmarkError(
                f"The {pick.landmark} in {label} lies at ({pick.x_px:.0f}, {pick.y_px:.0f}), outside the image of "
                f"{camera.width} x {camera.height} pixels; pick it again."
            )
        seen[pick.landmark].append((camera, np.array([pick.x_px, pick.y_px])))
    points, errors, views, warnings = [], [], [], []
    tree = cKDTree(cloud)
    for name in LANDMARK_NAMES:
        if not seen[name]:
            raise LandmarkError(
                f"The {name} is picked only in {unregistered.get(name, 'no frame')}, which could not be placed in space; "
                "pick it in another frame."
            )
        of_name = [camera for camera, _ in seen[name]]
        pixels = np.array([pixel for _, pixel in seen[name]])
        if len(of_name) == 1:
            point, error = _on_ray(of_name[0], pixels[0], cloud, tree), np.nan
        else:
            point, error = triangulate_picks(of_name, pixels)
        if error > SUSPICIOUS_REPROJECTION_PX:
            warnings.append(f"The picks of the {name} disagree by {error:.0f} px between frames; look at them again.")
        points.append(point)
        errors.append(error)
        views.append(len(of_name))
    if unregistered:
        frames = ", ".join(sorted(set(unregistered.values())))
        warnings.append(f"Picks in {frames} are not used: the frame could not be placed in space.")
    return Landmarks(np.array(points), np.array(errors), np.array(views), tuple(warnings))


def triangulate_picks(cameras: list[Camera], pixels: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the (3,) point in world of one landmark picked in two or more frames, and its RMS reprojection error in pixels."""
    point = triangulate(cameras, pixels)
    projected = np.array([camera.project(point[None])[0][0] for camera in cameras])
    return point, float(np.sqrt(((projected - pixels) ** 2).sum(axis=1).mean()))


def most_frontal(cameras: dict[str, Camera]) -> str:
    """Return the name of the frame that looks at the patient most frontally: along the mean of all viewing directions.

    The phone is taken to have gone about as far to the left as to the right. Where it went all around, no direction is the mean
    one, and the frame in the middle of the video is taken.
    """
    mean = np.mean([camera.viewing_direction_world for camera in cameras.values()], axis=0)
    if np.linalg.norm(mean) < ALL_AROUND:
        return list(cameras)[len(cameras) // 2]
    return max(cameras, key=lambda name: cameras[name].viewing_direction_world @ mean)


def _on_ray(camera: Camera, pixel: np.ndarray, cloud: np.ndarray, tree: cKDTree) -> np.ndarray:
    origin, ray = camera.center_world, camera.rays_world(pixel[None])[0]
    offset = cloud - origin
    along = offset @ ray
    across = np.linalg.norm(offset - along[:, None] * ray, axis=1)
    across[along <= 0] = np.inf
    nearest = np.argpartition(across, RAY_NEIGHBOURS)[:RAY_NEIGHBOURS]
    chosen = nearest[along[nearest].argmin()]
    # The cloud point's depth, on the picked ray itself.
    return origin + along[chosen] * ray


def _check_in_view(points_world: np.ndarray, cameras: list[Camera]) -> None:
    """Raise LandmarkError if points that are said to be in world lie where hardly any camera looks."""
    inside = np.zeros(len(points_world), int)
    for camera in cameras:
        pixels, depth = camera.project(points_world)
        inside += (depth > 0) & (pixels > 0).all(axis=1) & (pixels < [camera.width, camera.height]).all(axis=1)
    worst = int(inside.argmin())
    if inside[worst] < SEEN_SHARE * len(cameras):
        raise LandmarkError(
            f"The {LANDMARK_NAMES[worst]} of the landmark file lies where only {inside[worst]} of {len(cameras)} frames look: "
            "its points are not in the coordinates of this case's cameras (a result's are in millimetres, and only the file that "
            "this program wrote says how to go back); pick the landmarks in frames, or in dense_world.ply."
        )


def check_order(points_world: np.ndarray, cameras: list[Camera]) -> None:
    """Raise LandmarkError if landmarks are exchanged, judged by each other and by the cameras, which look at the front.

    The phone may have been held in any way: up is where the coracoids are, as seen from the navel. Where it went all around the
    patient, front is where the nipples are, as seen from the coracoids.
    """
    notch, navel, left_nipple, right_nipple, left_coracoid, right_coracoid = points_world
    shoulders = (left_coracoid + right_coracoid) / 2
    if np.linalg.norm(notch - shoulders) > np.linalg.norm(navel - shoulders):
        raise LandmarkError("The sternal notch lies below the navel; exchange the two.")
    downward = (navel - notch) / np.linalg.norm(navel - notch)
    center = points_world.mean(axis=0)
    offsets = np.array([camera.center_world for camera in cameras]) - center
    front = offsets.mean(axis=0)
    if np.linalg.norm(front) < ALL_AROUND * np.linalg.norm(offsets, axis=1).mean():
        front = (left_nipple + right_nipple) / 2 - shoulders
    leftward = np.cross(downward, -front)  # facing the camera, the patient's left is on the picture's right
    for what, left, right in (("nipples", left_nipple, right_nipple), ("coracoids", left_coracoid, right_coracoid)):
        if (left - right) @ leftward <= 0:
            raise LandmarkError(
                f"Left and right of the {what} are exchanged; left means the patient's left, on the right of the picture. If the "
                "picture itself shows what a mirror shows, as some front cameras film, give --mirrored instead (in the panel: "
                "The video is mirrored)."
            )
