"""Cameras that somebody else found: a COLMAP model folder, or a saved VGGSfM predictions file."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from ..errors import CameraError, DependencyError
from ..geometry import Camera
from .colmap import from_pycolmap
from .reconstruction import CameraReconstruction, check_registered, lost_warning


def read_colmap_model(folder: Path, names: tuple[str, ...], aliases: dict[str, str]) -> CameraReconstruction:
    """Read `cameras`, `images`, `points3D` (.bin or .txt) and look the frames up by name.

    Args:
        folder: the model.
        names: frame names of the case.
        aliases: original file name -> frame name, for image folders.

    Raises:
        DependencyError: pycolmap is not installed.
        CameraError: no model there, or none of its images is a frame of the case.
    """
    try:
        import pycolmap
    except ImportError as error:
        raise DependencyError("Reading a COLMAP model needs pycolmap; install it with 'pip install pycolmap'.") from error
    if not any((folder / f"images{ending}").is_file() for ending in (".bin", ".txt")):
        raise CameraError(f"{folder.name} holds no COLMAP model (cameras, images, points3D as .bin or .txt).")
    try:
        model = pycolmap.Reconstruction(folder)
    except (ValueError, RuntimeError, IndexError) as error:
        raise CameraError(f"The COLMAP model in {folder.name} is damaged; export it again.") from error
    result = from_pycolmap(model, names, f"COLMAP model {folder.name}, imported")
    return _renamed(result, names, aliases)


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
    # Plain arrays are data, not code; the official file keeps depth maps as such.
    arrays = [np.ndarray, np.dtype, np._core.multiarray._reconstruct, *(type(np.dtype(t)) for t in "fdilqB?")]
    try:
        with torch.serialization.safe_globals(arrays):
            values = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CameraError(f"{path.name} holds program code or is damaged and is not opened; run VGGSfM again.") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CameraError(f"{path.name} is damaged; run VGGSfM again.") from error
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


def _renamed(result: CameraReconstruction, names: tuple[str, ...], aliases: dict[str, str]) -> CameraReconstruction:
    cameras = {}
    for name, camera in result.cameras.items():
        own = name if name in names else aliases.get(Path(name).name)
        if own is not None:
            values = {key: getattr(camera, key) for key in ("width", "height", "intrinsics", "distortion")}
            cameras[own] = Camera(name=own, rotation=camera.rotation, translation=camera.translation, **values)
    if not cameras:
        raise CameraError(
            f"None of the {len(result.cameras)} imported cameras belongs to a frame of this case; their image names must be "
            f"those of the frames ({names[0]}, …) or of the picture files."
        )
    check_registered(len(cameras), len(names))
    lost = tuple(name for name in names if name not in cameras)
    return CameraReconstruction(
        cameras=dict(sorted(cameras.items())),
        lost=lost,
        points_world=result.points_world,
        colors=result.colors,
        track_lengths=result.track_lengths,
        reprojection_error_px=result.reprojection_error_px,
        source=result.source,
        warnings=lost_warning(lost, len(names)),
    )
