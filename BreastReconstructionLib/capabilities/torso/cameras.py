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
from ...sfm.dense import densify
from ...sfm.reconstruction import CameraReconstruction, check_sweep
from ...video.frames import Frames
from .sources import is_imported
from .stages import CAMERAS, FRAMES, CamerasOptions, DenseOptions


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
    from ...video.stillness import SUSPICIOUS_SHARE, TRIPOD

    try:
        result = reconstruct_with_colmap(frames.folder, frames.names, folder / "colmap", progress, options.feature_pixels)
    except CameraError as error:
        if frames.still_share > SUSPICIOUS_SHARE:
            raise CameraError(TRIPOD) from error
        raise
    for name in ("database.db", "database.db-wal", "database.db-shm"):
        (folder / "colmap" / name).unlink(missing_ok=True)  # 60 MB that nothing reads again
    return result


def _by_vggsfm(options: CamerasOptions, frames: Frames, folder: Path, progress: Progress) -> CameraReconstruction:
    from ...sfm.vggsfm import reconstruct_with_vggsfm

    assert options.vggsfm_python is not None  # seen to by the check
    assert options.vggsfm_checkout is not None
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


def run_dense(options: DenseOptions, inputs: Inputs, folder: Path, progress: Progress) -> None:
    """Measure points between the pictures."""
    cameras = inputs.result(CAMERAS).cameras
    cloud, references = densify(cameras, inputs.result(FRAMES).read, progress, options.flow_pixels)
    cloud.save(folder)
    references.save(folder)
    points, normals = cloud.points_world.astype(float), cloud.normals_world.astype(float)
    # For landmarks that are picked on this cloud in another program.
    write_ply(folder / "dense_world.ply", TriangleMesh(points, np.empty((0, 3), int), Frame.WORLD, normals, cloud.colors))
