"""Cameras that somebody else found: a COLMAP model folder, or a saved VGGSfM predictions file."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.errors import CameraError
from ..core.files import unpacks_sanely
from ..geometry.cameras import Camera
from ..geometry.pictures import shrunk_picture
from .colmap_model import from_pycolmap
from .library import load_pycolmap
from .reconstruction import CameraReconstruction, check_registered, lost_warning

# Pairs of neighbouring frames that are compared with imported cameras, in pictures of this size; right ones come out below 1 px,
# cameras of the neighbouring frame at 10 and more.
CHECKED_PAIRS, CHECKED_PX, FEWEST_MATCHES, LARGEST_EPIPOLAR_PX = 6, 640, 30, 4.0


def read_colmap_model(
    folder: Path, names: tuple[str, ...], aliases: dict[str, str], size: tuple[int, int]
) -> CameraReconstruction:
    """Read `cameras`, `images`, `points3D` (.bin or .txt) and look the frames up by name.

    Args:
        folder: the model.
        names: frame names of the case.
        aliases: original file name -> frame name, for image folders.
        size: width and height of the frames, pixels; cameras of larger or smaller pictures of that shape are scaled.

    Raises:
        DependencyError: pycolmap is not installed.
        CameraError: no model there, of pictures of another shape, or none of its images is a frame of the case.
    """
    pycolmap = load_pycolmap()
    if not any((folder / f"images{ending}").is_file() for ending in (".bin", ".txt")):
        raise CameraError(f"{folder.name} holds no COLMAP model (cameras, images, points3D as .bin or .txt).")
    try:
        _check_counts(folder)
        result = from_pycolmap(pycolmap.Reconstruction(folder), names, f"COLMAP model {folder.name}, imported")
    except (ValueError, RuntimeError, LookupError, MemoryError, struct.error) as error:
        raise CameraError(f"The COLMAP model in {folder.name} is damaged; export it again.") from error
    return _renamed(_resized(result, size), names, aliases)


def _check_counts(folder: Path) -> None:
    """Walk through the binary files, whose counts pycolmap reserves memory for before it reads.

    Raises:
        ValueError: a count that the file is too short for.
    """
    for name, least, rest in (
        ("cameras", 48, None),
        ("rigs", 8, _rest_of_rig),
        ("frames", 68, _rest_of_frame),
        ("images", 73, _rest_of_image),
        ("points3D", 51, _rest_of_point),
    ):
        path = folder / f"{name}.bin"
        if path.is_file():
            content, place = path.read_bytes(), 8
            for _ in range(_count(content, 0, least)):
                if rest is None:
                    break
                place = rest(content, place)


# Each returns where a record ends that begins at `place`.


def _rest_of_rig(content: bytes, place: int) -> int:
    (sensors,) = struct.unpack_from("<I", content, place + 4)
    place += 8 + (8 if sensors else 0)  # its number and count, and the first sensor, which has no pose
    for _ in range(1, sensors):
        place += 9 + (56 if content[place + 8] else 0)
    return place


def _rest_of_frame(content: bytes, place: int) -> int:
    (data,) = struct.unpack_from("<I", content, place + 64)  # after frame, rig and pose
    return _within(content, place + 68 + 16 * data)


def _rest_of_image(content: bytes, place: int) -> int:
    place = content.index(b"\0", place + 64) + 1  # number, quaternion, translation and camera, then the name
    return place + 8 + 24 * _count(content, place, least=24)


def _rest_of_point(content: bytes, place: int) -> int:
    place += 43  # number, place, colour and error
    return place + 8 + 8 * _count(content, place, least=8)


def _within(content: bytes, place: int) -> int:
    if place > len(content):
        raise ValueError("a record that the file is too short for")
    return place


def _count(content: bytes, place: int, least: int) -> int:
    """The count of 8 bytes at a place, of records of so many bytes at least."""
    (count,) = struct.unpack_from("<Q", content, place)
    if count * least > len(content) - place:
        raise ValueError("a count that the file is too short for")
    return count


def read_vggsfm_predictions(
    path: Path, names: tuple[str, ...], aliases: dict[str, str], width: int, height: int
) -> CameraReconstruction:
    """Read `vggsfm_predictions.pt`; frames that VGGSfM dropped are mapped back by name.

    VGGSfM keeps the order of sorted file names and leaves invalid frames out. Which ones are left is read from
    `image_names` (written by our runner) or from the keys of `depth_dict`; a file that says neither is accepted only if it
    has a camera for every frame.

    Args:
        path: the file; opened with `weights_only=True`.
        names: frame names of the case.
        aliases: original file name -> frame name.
        width, height: of the frames, pixels.

    Raises:
        CameraError: damaged, holding code, of other shapes, or not assignable to frames.
    """
    values = _load(path)
    try:
        extrinsics = np.asarray(values["extrinsics_opencv"], float)
        intrinsics = np.asarray(values["intrinsics_opencv"], float)
        points = np.asarray(values["points3D"], float).reshape(-1, 3)
        rgb = np.asarray(values["points3D_rgb"], float).reshape(-1, 3)
        extra = values.get("extra_params")
        radial = np.zeros(len(extrinsics)) if extra is None else np.asarray(extra, float).reshape(len(extrinsics), -1)[:, 0]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise CameraError(f"{path.name} lacks parts of a VGGSfM predictions file; run VGGSfM again.") from error
    if extrinsics.shape[1:] != (3, 4) or intrinsics.shape != (len(extrinsics), 3, 3) or len(rgb) != len(points):
        raise CameraError(f"{path.name} holds arrays of other shapes than VGGSfM writes; run VGGSfM again.")
    found = _names_in(values, len(extrinsics), names, path)
    cameras = {}
    for name, pose, matrix, k1 in zip(found, extrinsics, intrinsics, radial, strict=True):
        distortion = np.array([k1, 0, 0, 0, 0.0])
        cameras[name] = Camera(name, width, height, matrix, distortion, pose[:, :3], pose[:, 3])
    result = CameraReconstruction(
        cameras=cameras,
        lost=(),
        points_world=points,
        colors=np.clip(rgb * 255, 0, 255).astype(np.uint8),
        track_lengths=np.zeros(len(points), int),
        reprojection_error_px=float("nan"),
        source=f"VGGSfM predictions {path.name}",
    )
    return _renamed(result, names, aliases)


def _load(path: Path) -> dict:
    import torch

    if not path.is_file():
        raise CameraError(f"The predictions file {path.name} does not exist; check the path.")
    damaged = CameraError(f"{path.name} is damaged; run VGGSfM again.")
    if not unpacks_sanely(path):
        raise damaged
    # Plain arrays are data, not code; the official file keeps depth maps as such.
    arrays = [np.ndarray, np.dtype, np._core.multiarray._reconstruct, *(type(np.dtype(t)) for t in "fdilqB?")]
    try:
        with torch.serialization.safe_globals(arrays):
            values = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CameraError(f"{path.name} holds program code or is damaged and is not opened; run VGGSfM again.") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise damaged from error
    if not isinstance(values, dict):
        raise CameraError(f"{path.name} is not a VGGSfM predictions file.")
    return values


def _names_in(values: dict, count: int, names: tuple[str, ...], path: Path) -> list[str]:
    listed = values.get("image_names") or sorted(values.get("depth_dict") or [])
    found = [Path(str(name)).name for name in listed]
    if len(found) == count:
        return found
    if count == len(names):
        return sorted(names)
    raise CameraError(
        f"{path.name} holds {count} cameras for {len(names)} frames and does not say which frames were dropped; run VGGSfM "
        "through 'breast-reconstruction', or import its COLMAP model instead."
    )


def _resized(result: CameraReconstruction, size: tuple[int, int]) -> CameraReconstruction:
    """Scale the cameras to the frames' size.

    Raises:
        CameraError: their pictures had another shape.
    """
    cameras = {}
    for name, camera in result.cameras.items():
        factor = size[0] / camera.width
        if abs(camera.height * factor - size[1]) > 1.5:
            raise CameraError(
                f"The imported cameras were found for pictures of {camera.width} x {camera.height} pixels, the frames have "
                f"{size[0]} x {size[1]}; find them for these pictures, or give the pictures they were found for."
            )
        cameras[name] = camera.resized(factor)
    return replace(result, cameras=cameras)


def _renamed(result: CameraReconstruction, names: tuple[str, ...], aliases: dict[str, str]) -> CameraReconstruction:
    """Give the cameras the names of the case's frames: by the names of the user's own pictures where there are such."""
    own = {Path(name).name: name for name in result.cameras}
    by_name = aliases
    if not aliases or (not set(own) <= set(aliases) and set(own) <= set(names)):
        by_name = {name: name for name in names}  # found for the case's own frames
    cameras = {}
    for name, camera in result.cameras.items():
        if (frame := by_name.get(Path(name).name)) is not None:
            cameras[frame] = replace(camera, name=frame)
    if not cameras:
        raise CameraError(
            f"None of the {len(result.cameras)} imported cameras belongs to a frame of this case; their image names must be "
            f"those of the frames ({names[0]}, …) or of the picture files."
        )
    if (strangers := sorted(set(own) - set(by_name))) and not aliases:
        raise CameraError(
            f"The imported cameras name {strangers[0]}, which is no frame of this case ({names[0]} to {names[-1]}): they were "
            "found for other pictures; give the folder of those pictures in place of the video."
        )
    check_registered(len(cameras), len(names))
    lost = tuple(name for name in names if name not in cameras)
    sightings = {by_name[Path(name).name]: points for name, points in result.sightings.items() if Path(name).name in by_name}
    return CameraReconstruction(
        cameras=dict(sorted(cameras.items())),
        sightings=sightings,
        lost=lost,
        points_world=result.points_world,
        colors=result.colors,
        track_lengths=result.track_lengths,
        reprojection_error_px=result.reprojection_error_px,
        source=result.source,
        warnings=(
            *lost_warning(lost, len(names)),
            f"Imported cameras were matched to {len(cameras)} of {len(names)} frames by name"
            + (f" ({next(n for n in own if by_name.get(n) == min(cameras))} is frame {min(cameras)})." if aliases else "."),
        ),
    )


def check_cameras_fit_pictures(cameras: dict[str, Camera], read_picture: Callable[[str], np.ndarray]) -> None:
    """Compare imported cameras with the pictures they are taken to belong to.

    Features are matched between neighbouring frames; in the right pictures they lie on each other's epipolar lines.

    Args:
        cameras: frame name -> Camera.
        read_picture: name -> (H, W, 3) BGR.

    Raises:
        CameraError: they do not, so the cameras belong to other pictures.
    """
    import cv2

    names = sorted(cameras)
    starts = np.unique(np.linspace(0, len(names) - 2, CHECKED_PAIRS).round().astype(int))
    sift, distances = cv2.SIFT_create(1500), []
    for first, second in ((names[i], names[i + 1]) for i in starts):
        views = []
        for name in (first, second):
            camera = cameras[name].shrunk(CHECKED_PX)
            gray = cv2.cvtColor(shrunk_picture(read_picture(name), camera), cv2.COLOR_BGR2GRAY)
            points, descriptors = sift.detectAndCompute(gray, None)
            views.append((camera, np.array([point.pt for point in points]).reshape(-1, 2) + 0.5, descriptors))
        (one, pixels_one, described_one), (two, pixels_two, described_two) = views
        if described_one is None or described_two is None:
            continue
        pairs = cv2.BFMatcher().knnMatch(described_one, described_two, k=2)
        good = [p[0] for p in pairs if len(p) == 2 and p[0].distance < 0.75 * p[1].distance]
        if len(good) >= FEWEST_MATCHES:
            index = np.array([(match.queryIdx, match.trainIdx) for match in good])
            distances.append(np.median(_epipolar_px(one, two, pixels_one[index[:, 0]], pixels_two[index[:, 1]])))
    if distances and np.median(distances) > LARGEST_EPIPOLAR_PX:
        raise CameraError(
            f"The imported cameras do not fit the frames (matched features lie {np.median(distances):.0f} pixels off where they "
            "should): they were found for other pictures, or their names are shifted; import the model that was made of these."
        )


def _epipolar_px(one: Camera, two: Camera, pixels_one: np.ndarray, pixels_two: np.ndarray) -> np.ndarray:
    """Distance of (N, 2) pixels of the second camera to the epipolar lines of the first one's, in pixels."""
    rotation = two.rotation @ one.rotation.T
    translation = two.translation - rotation @ one.translation
    x, y, z = translation / max(np.linalg.norm(translation), 1e-12)
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation
    rays_one = np.column_stack([one.normalized(pixels_one), np.ones(len(pixels_one))])
    rays_two = np.column_stack([two.normalized(pixels_two), np.ones(len(pixels_two))])
    lines = rays_one @ essential.T
    off = np.abs((lines * rays_two).sum(axis=1)) / np.maximum(np.linalg.norm(lines[:, :2], axis=1), 1e-12)
    return off * two.intrinsics[0, 0]
