"""The stages that find the cameras, and points between their pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...core.errors import CameraError
from ...core.progress import Progress
from ...core.run import Inputs
from ...geometry.transforms import Frame
from ...mesh.files import write_ply
from ...mesh.mesh import TriangleMesh
from ...sfm.consistency import refuse_two_movements
from ...sfm.dense import densify
from ...sfm.reconstruction import CameraReconstruction, check_sweep
from ...video.frames import Frames, write_png
from ...video.stillness import LARGEST_STILL_SHARE, SUSPICIOUS_SHARE, TRIPOD
from .sources import is_imported
from .stages import CAMERAS, FRAMES, CamerasOptions, DenseOptions

# Where the patient is in each frame, beside the cameras; only of a patient who turns.
MASKS = "masks"


def run(options: CamerasOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Find or import the cameras."""
    frames = inputs.result(FRAMES)
    if is_imported(options):
        result = _imported(Path(options.cameras), frames)
    elif options.cameras == "vggsfm":
        result = _by_vggsfm(options, frames, folder, progress)
    else:
        result = _by_colmap(options, frames, folder, progress)
    short_arc = check_sweep(list(result.cameras.values()))
    replace(result, warnings=(*result.warnings, *short_arc)).save(folder)


def _by_colmap(options: CamerasOptions, frames: Frames, folder: Path, progress: Progress) -> CameraReconstruction:
    from ...sfm.colmap import reconstruct_with_colmap

    work, pixels = folder / "colmap", options.feature_pixels
    try:
        if frames.still_share > LARGEST_STILL_SHARE:
            result = _of_turning_patient(options, frames, folder, progress)
        else:
            result = reconstruct_with_colmap(frames.folder, frames.names, work, progress, pixels)
    except CameraError:
        if not SUSPICIOUS_SHARE < frames.still_share <= LARGEST_STILL_SHARE:
            raise
        result = _of_turning_patient(options, frames, folder, progress)
    for name in ("database.db", "database.db-wal", "database.db-shm"):
        (work / name).unlink(missing_ok=True)  # 60 MB that nothing reads again
    return result


def _of_turning_patient(options: CamerasOptions, frames: Frames, folder: Path, progress: Progress) -> CameraReconstruction:
    """Find the cameras by what is seen of the patient alone: to the patient it is the phone that goes round."""
    from ...sfm.colmap import reconstruct_with_colmap
    from ...sfm.turning import follow_patient

    followed = follow_patient(frames.read, frames.names, progress.part(0.0, 0.5))
    work, pixels = folder / "colmap", options.feature_pixels
    try:
        result = reconstruct_with_colmap(frames.folder, frames.names, work, progress.part(0.5, 1.0), pixels, followed)
    except CameraError as error:
        raise CameraError(
            "The background stands still while the patient turns, and the patient alone does not show enough to find out how: "
            "film again in bright, even light from nearer by, or carry the phone around a patient who stands still."
        ) from error
    masks = folder / MASKS
    masks.mkdir()
    for name, mask in zip(frames.names, followed.masks, strict=True):
        write_png(masks / name, 255 * mask.astype(np.uint8))
    return replace(result, source=f"{result.source}, on the patient alone", warnings=(*result.warnings, TRIPOD))


def _by_vggsfm(options: CamerasOptions, frames: Frames, folder: Path, progress: Progress) -> CameraReconstruction:
    from ...sfm.vggsfm import reconstruct_with_vggsfm

    assert options.vggsfm_python is not None  # seen to by the check
    assert options.vggsfm_checkout is not None
    if frames.still_share > LARGEST_STILL_SHARE:
        raise CameraError(
            "The background stands still while the patient turns, and VGGSfM would find the room; leave --cameras out: COLMAP is "
            "given the patient alone."
        )
    size = (frames.width, frames.height)
    return reconstruct_with_vggsfm(
        frames.folder, frames.names, folder / "vggsfm", size, options.vggsfm_python, options.vggsfm_checkout, progress
    )


def _imported(path: Path, frames: Frames) -> CameraReconstruction:
    from ...sfm.imported import check_cameras_fit_pictures, read_colmap_model, read_vggsfm_predictions

    aliases = dict(zip(frames.source_names, frames.names, strict=False))
    if path.suffix == ".pt":
        result = read_vggsfm_predictions(path, frames.names, aliases, frames.width, frames.height)
    else:
        result = read_colmap_model(path, frames.names, aliases, (frames.width, frames.height))
    check_cameras_fit_pictures(result.cameras, frames.read)
    return result


def masks_of_turning_patient(inputs: Inputs) -> Path | None:
    """Return the folder of the frames' masks, which is there if the patient turned before a phone that stood still."""
    masks = inputs.folder(CAMERAS) / MASKS
    return masks if masks.is_dir() else None


def read_mask(path: Path) -> np.ndarray:
    """Read a mask of the patient, (h, w) bool."""
    import cv2

    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise CameraError(f"The mask of frame {path.name} cannot be read; run the cameras stage again.")
    return picture > 0


def run_dense(options: DenseOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Measure points between the pictures."""
    cameras = inputs.result(CAMERAS).cameras
    masks = masks_of_turning_patient(inputs)
    patient = None if masks is None else (lambda name: read_mask(masks / name))
    cloud, references = densify(cameras, inputs.result(FRAMES).read, progress, options.flow_pixels, patient)
    refuse_two_movements(references, list(cameras.values()))
    cloud.save(folder)
    references.save(folder)
    points, normals = cloud.points_world.astype(float), cloud.normals_world.astype(float)
    # For landmarks that are picked on this cloud in another program.
    write_ply(folder / "dense_world.ply", TriangleMesh(points, np.empty((0, 3), int), Frame.WORLD, normals, cloud.colors))
