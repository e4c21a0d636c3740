"""Cameras by COLMAP (pycolmap): SIFT, sequential matching, incremental mapping."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.errors import CameraError
from ..core.progress import Progress, run_cancellable
from ..core.threads import cores
from .colmap_model import from_pycolmap
from .library import load_pycolmap
from .reconstruction import FEWEST_CAMERAS, CameraReconstruction, check_registered, usual_reprojection_px
from .turning import FollowedPlaces

# Skin shows little to SIFT at COLMAP's 0.0067; 0.002 gives ten times more points on it.
PEAK_THRESHOLD = 0.002
MATCH_OVERLAP = 6
FEWEST_MATCHES = 30
# The strongest of a frame: twice as many moved the sample's cameras by 0.05 mm and took two thirds more time.
# Many frames overlap more. Each needs fewer features, or the time of mapping grows faster than the frames; all cameras are
# adjusted together each time their number has doubled, not grown by a tenth (on 120 frames the same reprojection error in 0.55
# of the time; with few frames that costs accuracy on patients who move); and matched frames lie few degrees apart, so that
# COLMAP looks in vain for a first pair 16 degrees apart (10 s).
MANY_FRAMES = 40
MOST_FEATURES, FEATURES_OF_MANY, FEWEST_FEATURES = 4000, 180_000, 1500
ADJUSTMENT_RATIO_OF_MANY, FIRST_PAIR_DEGREES_OF_MANY = 2.0, 5.0
BATCH_FRAMES, BATCH_PAIRS = 6, 24
# A phone's main camera films with a focal length of 0.7 to 0.85 of the longer side; COLMAP's own guess is 1.2.
FOCAL_FACTOR = 0.8
RANDOM_SEED = 0
# A run that failed is looked at again for a zoom, in small pictures; medians of its thirds that differ by less are no zoom.
ZOOM_PIXELS, SMALLEST_ZOOM, ZOOM_OVER_NOISE = 640, 1.1, 2.0
# A second focal length is believed if it takes the residuals down to this share, and differs by more than this.
SECOND_FOCAL_GAIN, SECOND_FOCAL_DIFFERENCE = 0.8, 0.01
# A second model of so many frames that the best one lacks means another place.
OTHER_PLACE_SHARE = 0.2
SILENT = Progress()


def reconstruct_with_colmap(
    image_folder: Path,
    names: tuple[str, ...],
    work_folder: Path,
    progress: Progress,
    feature_pixels: int,
    followed: FollowedPlaces | None = None,
) -> CameraReconstruction:
    """Find the cameras: sequential matches, all pairs if those do not suffice; one shared lens, RADIAL in the end.

    Args:
        image_folder: holds the frames.
        names: their file names, in order of time.
        work_folder: emptied and filled.
        progress: reported by frames and pairs.
        feature_pixels: pictures are shrunk to this longer side before features are sought.
        followed: places to match instead of features, of a patient who turns.

    Raises:
        DependencyError: pycolmap is not installed.
        CameraError: too little texture, separate places, or fewer than 8 registered frames.
    """
    shutil.rmtree(work_folder, ignore_errors=True)
    work_folder.mkdir(parents=True)
    if followed is not None:
        database = write_followed(followed, image_folder, names, work_folder, progress.part(0.0, 0.4))
        models = map_incrementally(database, image_folder, work_folder, len(names), progress.part(0.4, 1.0))
        return _as_reconstruction(models, names, work_folder)[0]
    database = find_features(image_folder, names, work_folder, feature_pixels, progress.part(0.0, 0.35))
    near = match_neighbours(database, work_folder, names, progress.part(0.35, 0.7))
    models = map_incrementally(database, image_folder, work_folder, len(names), progress.part(0.7, 0.85))
    if len(models) != 1 or models[0].num_reg_images() < len(names):
        far = sorted(set(itertools.combinations(range(len(names)), 2)) - set(near))
        _match(database, work_folder, names, far, "matching all frames", progress.part(0.85, 0.93))
        models = map_incrementally(database, image_folder, work_folder, len(names), progress.part(0.93, 1.0))
    look_for_zoom = lambda: _refuse_zoom(
        image_folder, names, work_folder / "zoom", min(feature_pixels, ZOOM_PIXELS), progress.part(0.93, 1.0)
    )
    try:
        result, sound = _as_reconstruction(models, names, work_folder)
    except CameraError:
        look_for_zoom()
        raise
    if not sound:
        look_for_zoom()
    return result


def _refuse_zoom(image_folder: Path, names: tuple[str, ...], work_folder: Path, feature_pixels: int, progress: Progress) -> None:
    """Raise CameraError if the focal length changes over the video."""
    try:
        zoom = _zoom(image_folder, names, work_folder, feature_pixels, progress)
    except CameraError:  # nor can cameras be found in this way: what is already known says more
        return
    finally:
        shutil.rmtree(work_folder, ignore_errors=True)
    if zoom >= SMALLEST_ZOOM:
        raise CameraError(
            f"The phone zoomed while it filmed (its focal length changed {zoom:.2g} times); film again without zooming, from one "
            "distance."
        )


def _zoom(image_folder: Path, names: tuple[str, ...], work_folder: Path, feature_pixels: int, progress: Progress) -> float:
    """Return by how much the focal length changes over the video, 1 if that is no more than chance.

    The cameras are found again, each with a lens of its own; a zoom moves all of a third of the video, chance single frames.
    """
    work_folder.mkdir()
    database = find_features(image_folder, names, work_folder, feature_pixels, progress.part(0.0, 0.4), one_lens=False)
    match_neighbours(database, work_folder, names, progress.part(0.4, 0.7))
    models = map_incrementally(database, image_folder, work_folder, len(names), progress.part(0.7, 1.0))
    if not models or models[0].num_reg_images() < max(FEWEST_CAMERAS, len(names) // 3):
        return 1.0
    posed = sorted((i for i in models[0].images.values() if i.has_pose), key=lambda image: image.name)
    focal = np.array([models[0].cameras[image.camera_id].mean_focal_length() for image in posed])
    third = max(2, len(focal) // 3)
    parts = [np.log(part) for part in (focal[:third], focal[third:-third], focal[-third:]) if len(part)]
    middles = [float(np.median(part)) for part in parts]
    noise = float(np.median(np.concatenate([np.abs(part - middle) for part, middle in zip(parts, middles, strict=True)])))
    change = max(middles) - min(middles)
    return float(np.exp(change)) if change > ZOOM_OVER_NOISE * noise else 1.0


def find_features(
    image_folder: Path,
    names: tuple[str, ...],
    work_folder: Path,
    feature_pixels: int,
    progress: Progress = SILENT,
    one_lens: bool = True,
) -> Path:
    """Find SIFT features; returns the database, in which all frames share one lens, or each has its own.

    Raises:
        DependencyError: pycolmap is not installed.
        CameraError: too little texture.
    """
    pycolmap = load_pycolmap()
    database = work_folder / "database.db"
    features = pycolmap.FeatureExtractionOptions()
    features.sift.peak_threshold = PEAK_THRESHOLD
    features.sift.max_num_features = min(MOST_FEATURES, max(FEATURES_OF_MANY // len(names), FEWEST_FEATURES))
    features.max_image_size = feature_pixels
    features.num_threads = cores()
    features.use_gpu = False  # GPU SIFT needs a display on most machines
    reader = _phone()
    _extract(database, image_folder, names, features, reader, progress, one_lens)
    _check_texture(database, len(names))
    return database


def _phone():
    """COLMAP's options for pictures of a phone."""
    reader = load_pycolmap().ImageReaderOptions()
    reader.camera_model = "SIMPLE_RADIAL"
    reader.default_focal_length_factor = FOCAL_FACTOR
    return reader


def write_followed(
    followed: FollowedPlaces, image_folder: Path, names: tuple[str, ...], work_folder: Path, progress: Progress
) -> Path:
    """Write places that were followed as features and matches; returns the database, in which all frames share one lens."""
    pycolmap = load_pycolmap()
    database = work_folder / "database.db"
    mode = pycolmap.CameraMode.SINGLE
    pycolmap.Database.open(database).close()  # makes it
    pycolmap.import_images(database, image_folder, camera_mode=mode, image_names=list(names), options=_phone())
    matches = {pair: followed.matches(*pair) for pair in itertools.combinations(range(len(names)), 2)}
    matches = {pair: rows for pair, rows in matches.items() if len(rows) >= FEWEST_MATCHES}
    with pycolmap.Database.open(database) as opened:
        numbers = [opened.read_image_with_name(name).image_id for name in names]
        for number, pixels in zip(numbers, followed.pixels, strict=True):
            opened.write_keypoints(number, pixels.astype(np.float32))
        for (i, j), rows in matches.items():
            opened.write_matches(numbers[i], numbers[j], rows.astype(np.uint32))
    listing = _listed(work_folder, names, matches)
    verify = lambda token: pycolmap.verify_matches(database, listing, cancellation_token=token)
    _cancellable(progress, "places on the patient", verify)
    listing.unlink()
    return database


def match_neighbours(
    database: Path, work_folder: Path, names: tuple[str, ...], progress: Progress = SILENT
) -> list[tuple[int, int]]:
    """Match each frame with those that follow it; returns the pairs."""
    near = [(i, j) for i in range(len(names)) for j in range(i + 1, min(i + 1 + MATCH_OVERLAP, len(names)))]
    _match(database, work_folder, names, near, "matching neighbouring frames", progress)
    return near


def _extract(
    database: Path, image_folder: Path, names: tuple[str, ...], features, reader, progress: Progress, one_lens: bool
) -> None:
    """Find features, a few frames at a time: progress is exact, and a cancelled run stops soon."""
    pycolmap = load_pycolmap()

    for start in range(0, len(names), BATCH_FRAMES):
        if start and one_lens:
            with pycolmap.Database.open(database) as opened:
                reader.existing_camera_id = opened.read_all_cameras()[0].camera_id
        _cancellable(
            progress.part(start / len(names), min(start + BATCH_FRAMES, len(names)) / len(names)),
            f"features of {start} of {len(names)} frames",
            lambda token, start=start: pycolmap.extract_features(
                database,
                image_folder,
                image_names=list(names[start : start + BATCH_FRAMES]),
                camera_mode=pycolmap.CameraMode.SINGLE if one_lens else pycolmap.CameraMode.PER_IMAGE,
                reader_options=reader,
                extraction_options=features,
                device=pycolmap.Device.cpu,
                cancellation_token=token,
            ),
        )


def _match(
    database: Path, folder: Path, names: tuple[str, ...], pairs: list[tuple[int, int]], words: str, progress: Progress
) -> None:
    """Match and verify the given pairs of frames, some at a time."""
    pycolmap = load_pycolmap()

    matching = pycolmap.FeatureMatchingOptions()
    matching.use_gpu, matching.num_threads = False, cores()
    pairing = pycolmap.ImportedPairingOptions()
    for start in range(0, len(pairs), BATCH_PAIRS):
        part = pairs[start : start + BATCH_PAIRS]
        pairing.match_list_path = _listed(folder, names, part)
        _cancellable(
            progress.part(start / len(pairs), (start + len(part)) / len(pairs)),
            f"{words}: {start} of {len(pairs)} pairs",
            lambda token: pycolmap.match_image_pairs(
                database,
                matching_options=matching,
                pairing_options=pairing,
                device=pycolmap.Device.cpu,
                cancellation_token=token,
            ),
        )
    (folder / "pairs.txt").unlink(missing_ok=True)


def _listed(folder: Path, names: tuple[str, ...], pairs: Iterable[tuple[int, int]]) -> Path:
    """Write pairs of frames as COLMAP reads them."""
    listing = folder / "pairs.txt"
    listing.write_text("".join(f"{names[i]} {names[j]}\n" for i, j in pairs))
    return listing


def map_incrementally(database: Path, image_folder: Path, work_folder: Path, total: int, progress: Progress = SILENT) -> list:
    """Incremental mapping; all models, largest first."""
    pycolmap = load_pycolmap()

    output = work_folder / "models"
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    options = pycolmap.IncrementalPipelineOptions()
    options.min_model_size = 3
    options.random_seed, options.num_threads = RANDOM_SEED, cores()
    options.extract_colors = True
    if total > MANY_FRAMES:
        options.ba_global_frames_ratio = options.ba_global_points_ratio = ADJUSTMENT_RATIO_OF_MANY
        options.mapper.init_min_tri_angle = FIRST_PAIR_DEGREES_OF_MANY
    registered = [0]

    def another() -> None:
        registered[0] += 1

    models = _cancellable(
        progress,
        "placing cameras",
        lambda token: pycolmap.incremental_mapping(
            database, image_folder, output, options=options, next_image_callback=another, cancellation_token=token
        ),
        lambda: registered[0] / total,
    )
    return sorted(models.values(), key=lambda model: -model.num_reg_images())


def _cancellable(progress: Progress, words: str, work, fraction=lambda: 0.0):
    pycolmap = load_pycolmap()

    token = pycolmap.CancellationToken()
    progress(0.0, words)
    result = run_cancellable(lambda: work(token), progress.token, token.cancel, lambda: progress(min(fraction(), 1.0), words))
    progress(1.0, words)
    return result


def _check_texture(database: Path, total: int) -> None:
    pycolmap = load_pycolmap()

    with pycolmap.Database.open(database) as opened:
        counts = [opened.num_keypoints_for_image(image.image_id) for image in opened.read_all_images()]
    if np.median(counts) < 100:
        raise CameraError(
            f"The frames show almost no texture ({int(np.median(counts))} features a frame); film in good light, "
            "with a patterned background such as posters or furniture in view."
        )


def _as_reconstruction(models: list, names: tuple[str, ...], work_folder: Path) -> tuple[CameraReconstruction, bool]:
    """Return the best model's cameras, and whether their residuals are those of a sound run."""
    if not models:
        check_registered(0, len(names))
    best = models[0]
    check_one_place([_placed(model) for model in models])
    check_registered(len(_placed(best)), len(names))
    warnings, sound = _adjust(best)
    final = work_folder / "model"
    final.mkdir(exist_ok=True)
    best.write(final)
    shutil.rmtree(work_folder / "models")
    result = from_pycolmap(best, names, "COLMAP, incremental, from the frames")
    return replace(result, warnings=(*result.warnings, *warnings)), sound


def check_one_place(placed: list[set[str]]) -> None:
    """Raise CameraError if a second model holds frames that the first one lacks: another place, not a spare copy of some frames.

    Args:
        placed: names of the frames of each model, the largest first.
    """
    elsewhere = len(placed[1] - placed[0]) if len(placed) > 1 else 0
    if elsewhere >= max(3, OTHER_PLACE_SHARE * len(placed[0])):
        raise CameraError(
            f"The video shows separate places that do not connect ({len(placed[0])} and {elsewhere} frames); film the patient in "
            "one go, in one place, without cuts."
        )


def _placed(model) -> set[str]:
    return {image.name for image in model.images.values() if image.has_pose}


def _adjust(model) -> tuple[tuple[str, ...], bool]:
    """Adjust all cameras once more, with a second term of radial distortion, in place.

    Returns what the user should know, and whether the residuals are those of a sound run.

    The mapping itself is steadier with one term. But one term alone bends the room: a phone's lens of k1 = -0.1 and
    k2 = 0.03 moved the cameras by 0.6 mm and changed the scale at the marker by 0.5 %. Where the residuals stay large, a second
    focal length is tried: pixels that are not square, of which the file did not say so.
    """
    pycolmap = load_pycolmap()
    for camera in model.cameras.values():
        camera.model, camera.params = pycolmap.CameraModelId.RADIAL, [*camera.params, 0.0]
    _solve(model)
    error = model.compute_mean_reprojection_error()
    longer = max(max(camera.width, camera.height) for camera in model.cameras.values())
    usual = usual_reprojection_px(longer)
    if error <= usual:
        return (), True
    before = {number: list(camera.params) for number, camera in model.cameras.items()}
    for camera in model.cameras.values():
        f, cx, cy, k1, k2 = camera.params
        camera.model, camera.params = pycolmap.CameraModelId.OPENCV, [f, f, cx, cy, k1, k2, 0.0, 0.0]
    _solve(model)
    camera = next(iter(model.cameras.values()))
    ratio = camera.params[0] / camera.params[1]
    gained = model.compute_mean_reprojection_error() < min(SECOND_FOCAL_GAIN * error, usual)
    if gained and abs(ratio - 1) > SECOND_FOCAL_DIFFERENCE:
        words = (
            f"The video's pixels are not square (the picture is stretched {max(ratio, 1 / ratio):.3g} times "
            f"{'across' if ratio > 1 else 'upward'}), and its file does not say so; this was allowed for, but the original file "
            "is better."
        )
        return (words,), True
    for number, camera in model.cameras.items():
        camera.model, camera.params = pycolmap.CameraModelId.RADIAL, before[number]
    _solve(model)
    return (), False


def _solve(model) -> None:
    """Adjust all cameras, lenses and points, in place."""
    pycolmap = load_pycolmap()
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    config = pycolmap.BundleAdjustmentConfig()
    for image in model.reg_image_ids():
        config.add_image(image)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    # pycolmap.bundle_adjustment does the same, but sets the level of COLMAP's log back and writes to the user's terminal.
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()
    model.update_point_3d_errors()
