"""Benchmarks of the whole way from a video: time, memory and error, camera settings, and growth with the frames."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from BreastReconstructionLib.capabilities.torso import TORSO
from BreastReconstructionLib.capabilities.torso.stages import ALIGN, FRAMES, SURFACE, FitOptions, SurfaceOptions
from BreastReconstructionLib.core.case import Case
from BreastReconstructionLib.core.progress import Progress
from BreastReconstructionLib.core.resources import resource_path
from BreastReconstructionLib.core.run import Inputs, Job
from BreastReconstructionLib.core.settings import Settings
from BreastReconstructionLib.geometry.transforms import fit_similarity
from BreastReconstructionLib.measurement.accuracy import read_truth, score
from BreastReconstructionLib.shape_model.tracks import TrackFit

from .measure import measured, peak_gb_of

# Bodies that no training ever saw; what differs besides body, skin, room and path is in the options.
VIDEOS = (
    (2, ["--distortion", "-0.06", "0.02"]),
    (3, ["--distortion", "-0.10", "0.03", "--distance", "850"]),
    (4, ["--breathing", "2"]),
    (5, ["--contrast", "easy", "--sweep", "150", "--distance", "950"]),
    (6, ["--distortion", "0.05", "-0.01", "--sweep", "170", "--distance", "800"]),
)
# Coarse surfaces suffice to compare fits: vertices lie on the zero level.
SCORED_DETAIL_MM = 4.0
# The version that speed is set against, by its commit: 0.10.0.
BEFORE = "53cba9d"
BUSY_LOOPS = 4
GROWTH_FRAMES = (15, 30, 60, 120)


def command(*arguments, code: Path | None = None) -> tuple[int, float, float, str]:
    """Run the command line; return its exit code, seconds, peak memory in GB, and what it printed.

    It is started from a small process: Linux counts what the starting process holds as memory of the started one.

    Args:
        arguments: of the command line.
        code: folder of another version of the program.
    """
    run = measured(_command, code, *arguments).value
    return run["code"], run["seconds"], run["peak_gb"], run["text"]


def _command(code: Path | None, *arguments) -> dict:
    """Run the command line of a version of the program; also tells the seconds of all cores together."""
    start = time.perf_counter()
    words = [sys.executable, "-m", "BreastReconstructionLib", *map(str, arguments)]
    where = {} if code is None else {"cwd": code, "env": {**os.environ, "PYTHONPATH": str(code)}}
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **where)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)  # this child's own peak, not the largest of all
    process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "code": process.returncode,
        "seconds": time.perf_counter() - start,
        "peak_gb": peak_gb_of(usage),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "text": text,
    }


def version_before(folder: Path) -> Path | None:
    """Return the code of BEFORE, taken from the history; None where there is no history."""
    code = folder / f"version-{BEFORE}"
    if not code.exists():
        root = Path(__file__).parents[2]
        packed = subprocess.run(["git", "-C", root, "archive", BEFORE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if packed.returncode != 0:
            return None
        code.mkdir()
        subprocess.run(["tar", "x", "-C", code], input=packed.stdout, check=True)
    return code


def stages_of(case: Path) -> dict[str, float]:
    """Seconds of each stage."""
    stages = json.loads((case / "case.json").read_text())["stages"]
    return {name: record["seconds"] for name, record in stages.items()}


def demo(folder: Path, quality: str) -> dict:
    """The bundled sample."""
    case = folder / f"demo-{quality}"
    code, seconds, peak, text = command("demo", "--quality", quality, "-o", case)
    if code != 0:
        print(text)
        return {"failed": text.strip().splitlines()[-1]}
    accuracy = json.loads((case / "accuracy.json").read_text())
    report = json.loads((case / "report.json").read_text())
    print(f"demo, {quality}: {seconds:.0f} s, peak memory {peak:.2f} GB, frames {report['frames']}")
    print("  " + ", ".join(f"{name} {value:.1f} s" for name, value in stages_of(case).items()))
    for key in ("as_delivered", "after_similarity", "surface_to_truth"):
        print(f"  {key:17s}" + "  ".join(f"{name} {value:.2f}" for name, value in accuracy[key].items()))
    print("  landmarks_mm     " + "  ".join(f"{name} {value:.1f}" for name, value in accuracy["landmarks_mm"].items()))
    result = {"seconds": seconds, "mean_mm": accuracy["as_delivered"]["mean_mm"], "peak_gb": peak}
    earlier = version_before(folder)
    if earlier is not None:
        _, seconds_before, _, _ = command("demo", "--quality", quality, "-o", folder / f"before-{quality}", code=earlier)
        result |= {"seconds_before": seconds_before, "ratio_to_before": seconds / seconds_before}
        print(f"  the version before ({BEFORE}): {seconds_before:.0f} s; ratio {result['ratio_to_before']:.2f}")
    return result | {"accuracy": accuracy, "stages": stages_of(case)}


def busy(folder: Path) -> dict:
    """The bundled sample in draft, alone and beside four loops that never rest: how much longer, and how much more work."""
    alone = measured(_command, None, "demo", "--quality", "draft", "-o", folder / "busy-alone").value
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY_LOOPS)]
    try:
        beside = measured(_command, None, "demo", "--quality", "draft", "-o", folder / "busy-beside").value
    finally:
        for loop in loops:
            loop.kill()
    result = {name: beside[name] / alone[name] for name in ("seconds", "cpu_seconds")}
    print(f"{BUSY_LOOPS} busy loops: {result['seconds']:.2f} times as long, {result['cpu_seconds']:.2f} times the CPU time")
    return {"seconds_ratio": result["seconds"], "cpu_ratio": result["cpu_seconds"], "alone": alone, "beside": beside}


def videos(folder: Path) -> list[dict]:
    """Five further phantom videos; those that lie in the folder already are used as they are."""
    rows = []
    print(f"seed  {'what differs':46s}  mean  median   RMS   95 %  after similarity  worst landmark  seconds    GB")
    for seed, options in VIDEOS:
        video, case = folder / f"video{seed}", folder / f"case{seed}"
        what = " ".join(options)
        code, text = 0, ""
        if not (video / "truth.json").exists():
            code, _, _, text = command("phantom", "video", "--seed", seed, *options, "-o", video)
        if code == 0:
            marker = json.loads((video / "truth.json").read_text())["marker"]
            given = ["--landmarks", video / "picks.csv", "--marker", marker, "--truth", video]
            code, seconds, peak, text = command("reconstruct", video / "video.mp4", *given, "-o", case)
        if code != 0:
            print(f"{seed:4d}  {what:46s}  FAILED: {text.strip().splitlines()[-1]}", flush=True)
            rows.append({"seed": seed, "options": what, "failed": text.strip().splitlines()[-1]})
            continue
        accuracy = json.loads((case / "accuracy.json").read_text())
        values = list(accuracy["as_delivered"].values())
        print(
            f"{seed:4d}  {what:46s}"
            + "".join(f"  {value:5.2f}" for value in values)
            + f"  {accuracy['after_similarity']['mean_mm']:16.2f}  {max(accuracy['landmarks_mm'].values()):14.1f}"
            + f"  {seconds:7.0f}  {peak:4.2f}",
            flush=True,
        )
        rows.append({"seed": seed, "options": what, "seconds": seconds, "peak_gb": peak, **accuracy})
    return rows


def points(folder: Path) -> dict:
    """What weights by covariance and the fit to the pictures bring: the sample and the folder's videos, fitted three ways."""
    from BreastReconstructionLib.capabilities.torso.shape import refine_by_pictures
    from BreastReconstructionLib.shape_model.fit import FitSettings, fit_shape
    from BreastReconstructionLib.shape_model.model_file import load_model

    if not (folder / "demo-normal" / "accuracy.json").exists():
        demo(folder, "normal")
    cases = {"sample": (folder / "demo-normal", resource_path("SampleData", "phantom"))}
    cases |= {f"video {seed}": (folder / f"case{seed}", folder / f"video{seed}") for seed, _ in VIDEOS}
    result = {}
    print("mean error, mm    equal weights  weighted by covariance  and fitted to the pictures")
    for name, (case, truth) in cases.items():
        if not (case / "accuracy.json").exists():
            continue
        inputs, model, settings = _inputs(case, truth), load_model(), FitSettings()
        aligned = inputs.result(ALIGN)
        equal = fit_shape(aligned.points_model, aligned.landmarks_model, model, settings)
        weighted = fit_shape(aligned.points_model, aligned.landmarks_model, model, settings, noise_model=aligned.noise_model)
        refined = refine_by_pictures(weighted, inputs, model, settings, FitOptions(), Progress()).fit
        errors = [_fit_error_mm(inputs, truth, fit) for fit in (equal, weighted, refined)]
        print(f"{name:16s}" + "".join(f"  {error:13.3f}" for error in errors), flush=True)
        result[name] = dict(zip(("equal_mm", "weighted_mm", "pictures_mm"), errors, strict=True))
    return result


def _inputs(case: Path, truth: Path) -> Inputs:
    """What the surface stage of a finished case has at hand."""
    values = {
        "video": truth / "video.mp4",
        "landmarks": truth / "picks.csv",
        "marker": [json.loads((truth / "truth.json").read_text())["marker"]],
    }
    return Inputs(Job(Case(case), TORSO, Settings().with_values(TORSO.stages, values)), SURFACE)


def _fit_error_mm(inputs: Inputs, truth: Path, fit) -> float:
    """Mean error as delivered of a fit put in place of the case's own."""
    from BreastReconstructionLib.capabilities.torso.results import Refinement
    from BreastReconstructionLib.capabilities.torso.surface import deliver

    unrefined = TrackFit.without_tracks(fit, 0), Refinement.nothing()
    found = deliver(SurfaceOptions(detail_mm=SCORED_DETAIL_MM), inputs, *unrefined, Progress())
    used = inputs.result(FRAMES).video_frames
    return score(found.mesh, found.landmarks_ras, read_truth(truth), used)["as_delivered"]["mean_mm"]


def _sample_frames(folder: Path) -> Path:
    case = folder / "sample-frames"
    sample = resource_path("SampleData", "phantom")
    command("frames", sample / "video.mp4", "--landmarks", sample / "picks.csv", "--approximate-scale", "-o", case)
    return case / "frames"


def mapping(folder: Path) -> list[dict]:
    """Cameras of the sample's frames: resolution of the features, and global against incremental mapping."""
    frames = _sample_frames(folder)
    rows = []
    print("features at  mapper       registered  extract  match    map  centre error  rotation error")
    for pixels in (960, 1280, 1920):
        for row in measured(_map_cameras, frames, folder / "mapping", pixels).value:
            rows.append({"feature_pixels": pixels, **row})
            print(
                f"{pixels:8d} px  {row['mapper']:11s}  {row['registered']:10d}  {row['extract_s']:5.1f} s"
                f"  {row['match_s']:3.0f} s  {row['map_s']:3.0f} s  {row['center_mm']:9.2f} mm  {row['rotation_degrees']:8.3f} °",
                flush=True,
            )
    return rows


def _map_cameras(frames_folder: Path, work: Path, pixels: int) -> list[dict]:
    import pycolmap

    from BreastReconstructionLib.sfm import colmap
    from BreastReconstructionLib.sfm.colmap_model import from_pycolmap
    from BreastReconstructionLib.video.frames import Frames

    frames = Frames.load(frames_folder)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    clock = [time.perf_counter()]
    names = frames.names
    database = colmap.find_features(frames.folder, names, work, pixels)
    clock.append(time.perf_counter())
    colmap.match_neighbours(database, work, names)
    clock.append(time.perf_counter())
    incremental = colmap.map_incrementally(database, frames.folder, work, len(names))[0]
    clock.append(time.perf_counter())
    (work / "global").mkdir()
    models = pycolmap.global_mapping(database, frames.folder, work / "global")
    clock.append(time.perf_counter())
    extract, match, first, second = np.diff(clock)
    rows = []
    largest = max(models.values(), key=lambda model: model.num_reg_images())
    for mapper, seconds, model in (("incremental", first, incremental), ("global", second, largest)):
        cameras = from_pycolmap(model, names, mapper).cameras
        center, rotation = camera_error(cameras, frames)
        row = {"mapper": mapper, "registered": len(cameras), "extract_s": extract, "match_s": match, "map_s": seconds}
        rows.append(row | {"center_mm": center, "rotation_degrees": rotation})
    return rows


def camera_error(cameras: dict, frames) -> tuple[float, float]:
    """Root mean square error of the centres, mm, and mean error of the rotations, degrees, after a similarity."""
    truth = read_truth(resource_path("SampleData", "phantom")).cameras
    frame_of = dict(zip(frames.names, frames.video_frames, strict=True))
    pairs = [(camera, truth[frame_of[name]]) for name, camera in cameras.items()]
    found = np.array([camera.center_world for camera, _ in pairs])
    exact = np.array([camera.center_world for _, camera in pairs])
    similarity = fit_similarity(found, exact)
    center = np.sqrt(((similarity.apply(found) - exact) ** 2).sum(axis=1).mean())
    traces = [np.trace(true.rotation.T @ camera.rotation @ similarity.rotation.T) for camera, true in pairs]
    return float(center), float(np.degrees(np.arccos(np.clip((np.array(traces) - 1) / 2, -1, 1))).mean())


def growth_in_frames(folder: Path) -> dict:
    """Seconds of cameras, dense points and all stages, and peak memory, against the number of frames; draft quality."""
    video = folder / "growth-video"
    if not (video / "truth.json").exists():
        command("phantom", "video", "--seed", 9100, "--frames", 130, "-o", video)
    marker = json.loads((video / "truth.json").read_text())["marker"]
    result = {}
    for count in GROWTH_FRAMES:
        case = folder / f"growth-{count}"
        given = ["--landmarks", video / "picks.csv", "--marker", marker, "--quality", "draft", "--frames", count]
        code, seconds, peak, text = command("reconstruct", video / "video.mp4", *given, "-o", case)
        if code != 0:
            raise RuntimeError(text)
        stages = stages_of(case)
        result[count] = {"seconds": seconds, "peak_gb": peak, "cameras": stages["cameras"], "dense": stages["dense"]}
        print(
            f"  {count} frames: {seconds:.0f} s (cameras {stages['cameras']:.0f}, dense {stages['dense']:.0f}), {peak:.2f} GB",
            flush=True,
        )
    return result
