"""More than usual: a long film of a good phone, ten times the frames, and a disk that takes its time.

Each must end in a surface; its seconds, its peak memory, and how far it lies from that of the sample's own draft are told.
"""

from __future__ import annotations

import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np

from BreastReconstructionLib.core.resources import resource_path
from BreastReconstructionLib.mesh.files import read_mesh
from Testing.Benchmarks.video_parts import command

from .repeats import apart_mm

FILM_PX, FILM_RATE, GROUP, REPEATS = (2160, 3840), 60, 12, 6
SAMPLE_PX = (1080, 1920)
GRAIN = 4.0
MANY_FRAMES = 300
# What each opened file and each forced write costs on the slow disk.
SLOW_OPEN_S, SLOW_SYNC_S = 0.02, 0.3
# Loaded by the interpreter before the program.
SLOW_DISK = f"""
import os, sys, time
where, sync = os.environ["SLOW_FOLDER"], os.fsync
def wait(event, arguments):
    if event == "open" and str(arguments[0]).startswith(where):
        time.sleep({SLOW_OPEN_S})
sys.addaudithook(wait)
def slow_sync(descriptor):
    time.sleep({SLOW_SYNC_S})
    sync(descriptor)
os.fsync = slow_sync
"""


def campaign(seed: int, folder: Path) -> list[dict]:
    """Run the three; print and return one row each.

    Args:
        seed: of the body that is filmed in many frames.
        folder: for films and cases; a film that is there is used.
    """
    sample = resource_path("SampleData", "phantom")
    usual = folder / "load-usual"
    rows = [_row("sample, draft", ["demo", "--quality", "draft"], usual, None)]
    film = folder / "load-film"
    if not (film / "picks.csv").exists():
        long_film(sample, film)
    given = ["--landmarks", film / "picks.csv", "--marker", json.loads((sample / "truth.json").read_text())["marker"]]
    size = f"4K, {FILM_RATE} frames a second, {(film / 'video.mp4').stat().st_size / 1e9:.1f} GB, draft"
    rows.append(_row(size, ["reconstruct", film / "video.mp4", *given, "--quality", "draft"], folder / "load-4k", usual))
    rows.append(_row("sample, draft, slow disk", ["demo", "--quality", "draft"], folder / "load-slow", usual, slow=True))
    video = folder / "load-video"
    if not (video / "truth.json").exists():
        command("phantom", "video", "--seed", 9100 + seed, "--frames", MANY_FRAMES, "-o", video)
    given = ["--landmarks", video / "picks.csv", "--marker", json.loads((video / "truth.json").read_text())["marker"]]
    few = ["reconstruct", video / "video.mp4", *given, "--quality", "draft"]
    rows.append(_row("another body, draft", few, folder / "load-few", None))
    rows.append(
        _row(f"the same, {MANY_FRAMES} frames", [*few, "--frames", MANY_FRAMES], folder / "load-many", folder / "load-few")
    )
    return rows


def _row(what: str, words: list, case: Path, usual: Path | None, slow: bool = False) -> dict:
    """Run the command line into a fresh case; its surface is held against that of the usual one."""
    shutil.rmtree(case, ignore_errors=True)
    if slow:
        code, seconds, peak, text = _on_a_slow_disk(words, case)
    else:
        code, seconds, peak, text = command(*words, "-o", case)
    apart = float("nan")
    if code == 0 and usual is not None:
        apart = float(apart_mm(read_mesh(case / "surface.ply"), read_mesh(usual / "surface.ply")).mean())
    frames = json.loads((case / "case.json").read_text())["stages"].get("frames", {}).get("seconds", float("nan"))
    row = {
        "work": what,
        "faults": int(code != 0),
        "seconds": round(seconds),
        "of_which_frames_s": round(frames),
        "peak_gb": round(peak, 2),
        "apart_mm": round(apart, 2),
    }
    print(f"  {row}" if code == 0 else f"  FAULT {what}: {text.strip().splitlines()[-1]}", flush=True)
    return row


def _on_a_slow_disk(words: list, case: Path) -> tuple[int, float, float, str]:
    """Run it with every file of the case opened and forced to the disk late."""
    hook = case.parent / "slow-disk"
    hook.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text(SLOW_DISK)
    before = dict(os.environ)
    try:
        os.environ.update(PYTHONPATH=os.pathsep.join([str(hook), str(Path.cwd())]), SLOW_FOLDER=str(case))
        return command(*words, "-o", case)
    finally:
        os.environ.clear()
        os.environ.update(before)


def long_film(sample: Path, folder: Path) -> None:
    """Write the sample as a film of two minutes in 4K, 60 frames a second with grain, and its picks.

    Each picture is one group of frames, encoded once and written several times: encoding all would take half an hour.
    """
    import av
    import cv2

    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    grain = random.normal(0.0, GRAIN, (*FILM_PX[::-1], 3)).astype(np.float32)
    capture = cv2.VideoCapture(str(sample / "video.mp4"))
    with av.open(str(folder / "video.mp4"), "w") as film:
        stream = film.add_stream("libx264", rate=FILM_RATE)
        stream.width, stream.height, stream.pix_fmt = *FILM_PX, "yuv420p"
        stream.options = {"preset": "ultrafast", "tune": "zerolatency", "crf": "26", "g": str(GROUP)}
        written = 0
        while True:
            read, picture = capture.read()
            if not read:
                break
            large = cv2.resize(picture, FILM_PX, interpolation=cv2.INTER_CUBIC).astype(np.float32)
            moved = [np.clip(large + np.roll(grain, 31 * k, axis=1), 0, 255).astype(np.uint8) for k in range(GROUP)]
            group = [packet for one in moved for packet in stream.encode(av.VideoFrame.from_ndarray(one, format="bgr24"))]
            if len(group) != GROUP or not group[0].is_keyframe:
                raise RuntimeError("the encoder does not give a group of frames for a group of pictures")
            for _ in range(REPEATS):
                for packet in group:
                    again = av.Packet(bytes(packet))
                    again.stream, again.time_base, again.is_keyframe = stream, Fraction(1, FILM_RATE), packet.is_keyframe
                    again.pts = again.dts = written
                    film.mux(again)
                    written += 1
    head, *rows = (sample / "picks.csv").read_text().split()
    scale = FILM_PX[0] / SAMPLE_PX[0]
    picks = [row.split(",") for row in rows]
    moved_picks = [f"{n},{int(f) * GROUP * REPEATS},{float(x) * scale:.2f},{float(y) * scale:.2f}" for n, f, x, y in picks]
    (folder / "picks.csv").write_text("\n".join([head, *moved_picks]) + "\n")
