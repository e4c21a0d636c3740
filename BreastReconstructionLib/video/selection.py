"""Choosing frames, decoding once and in order."""

from __future__ import annotations

import os
import shutil
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.errors import VideoError
from ..core.progress import Progress
from .frames import THUMBNAIL_PX, Frames, VideoInfo, probe, sharpness, thumbnail_of, write_png
from .pictures import read_picture
from .reading import WHOLE_SHARE, read_video
from .stillness import still_share

FEWEST_FRAMES = 8
SAMPLES_PER_WINDOW = 20
# For the look at the whole video: how many samples of it, and their longer side.
SAMPLES, SAMPLE_PX = 13, 160


def choose_windows(times_s: np.ndarray, count: int, strategy: str) -> list[np.ndarray]:
    """Return the candidate frame indices about each of `count` target times.

    Targets are equally spaced in time, ends excluded. `sharp` looks at 20 frames at most within duration / (3 count) about a
    target; `uniform` takes the frame nearest to it.

    Args:
        times_s: (N,) time of each frame, ascending; frames need not follow each other evenly.
        count: number of windows.
        strategy: 'sharp' or 'uniform'.
    """
    frame_count = len(times_s)
    # Times in units of the mean distance of two frames: the index, where they are even.
    position = (times_s - times_s[0]) * (frame_count - 1) / max(times_s[-1] - times_s[0], 1e-9)
    targets = (np.arange(count) + 1) * frame_count / (count + 1) - 0.5
    half = frame_count / (6 * count)
    windows = []
    for target in targets:
        nearest = np.array([np.abs(position - target).argmin()])
        candidates = np.flatnonzero(np.abs(position - target) <= half) if strategy == "sharp" else nearest
        if len(candidates) == 0:
            candidates = nearest
        if len(candidates) > SAMPLES_PER_WINDOW:
            candidates = np.unique(np.linspace(candidates[0], candidates[-1], SAMPLES_PER_WINDOW).round().astype(int))
        windows.append(candidates)
    return windows


def select_frames(
    source: Path,
    folder: Path,
    count: int,
    strategy: str,
    required: tuple[int, ...],
    progress: Progress,
    mirrored: bool = False,
) -> Frames:
    """Choose and write frames as `000.png …`; the sharpest of each window, and every required one.

    Args:
        source: video file or image folder.
        folder: empty folder to write to.
        count: number of frames.
        strategy: 'sharp' or 'uniform'.
        required: indices of frames that carry landmark picks; each replaces the window nearest to it.
        progress: reported by decoded frames.
        mirrored: the video shows what a mirror shows; its pictures are flipped.

    Raises:
        VideoError: too few frames, still, cut short, or without the required frames.
    """
    info = probe(source)
    if info.breaks_off:
        raise VideoError(f"The video breaks off after {info.times_s[-1]:.1f} s; copy it from the phone again.")
    taken = _take(source, info, folder, count, strategy, required, progress, mirrored)
    if taken.decoded != info.frame_count:  # its index counts frames that do not decode
        if taken.decoded < WHOLE_SHARE * info.frame_count:
            raise VideoError(
                f"The video breaks off after {taken.decoded} of {info.frame_count} frames; copy it from the phone again."
            )
        info = replace(info, times_s=np.array(taken.times_s))
        taken = _take(source, info, folder, count, strategy, required, progress, mirrored)
    if max(np.abs(sample - taken.samples[0]).mean() for sample in taken.samples) < 2.0:
        raise VideoError("The picture hardly changes; walk around the patient with the phone, the patient stands still.")
    frames = replace(_finish(folder, taken, info, mirrored), still_share=round(still_share(taken.samples), 3))
    _write_strip(frames, taken.sharpness)
    return frames


@dataclass(frozen=True)
class _Taken:
    """One pass over the source: the best (sharpness, index) of each window, and what was seen on the way."""

    best: list[tuple[float, int]]
    times_s: list[float]
    sharpness: np.ndarray
    samples: list[np.ndarray]

    @property
    def decoded(self) -> int:
        return len(self.times_s)


def _take(
    source: Path,
    info: VideoInfo,
    folder: Path,
    count: int,
    strategy: str,
    required: tuple[int, ...],
    progress: Progress,
    mirrored: bool,
) -> _Taken:
    import cv2

    total = info.frame_count
    if total < FEWEST_FRAMES:
        what = "pictures" if info.is_folder else "frames"
        raise VideoError(
            f"There {'is only 1' if total == 1 else f'are only {total}'} {what[: None if total > 1 else -1]}; at least "
            f"{FEWEST_FRAMES} are needed, better 30, all around the front of the patient."
        )
    for index in required:
        if not 0 <= index < total:
            raise VideoError(f"Landmarks are picked in frame {index}, but the video has only the frames 0 to {total - 1}.")
    windows = _with_required(choose_windows(info.times_s, min(count, total), strategy), sorted(set(required)))
    window_of: dict[int, list[int]] = {}
    for i, window in enumerate(windows):
        for index in window:
            window_of.setdefault(int(index), []).append(i)
    last_of = [int(window.max()) for window in windows]

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    best: list[tuple[float, int]] = [(-1.0, -1)] * len(windows)
    times, all_sharpness, samples = [], [], []
    small = SAMPLE_PX / max(info.width, info.height)
    with _Writer(folder) as writer:
        for index, (time_s, picture, value) in enumerate(_scored(source, info, mirrored)):
            times.append(time_s)
            all_sharpness.append(value)
            for window in window_of.get(index, ()):
                if value > best[window][0]:
                    best[window] = (value, index)
                    writer.hold(window, picture)
                if index == last_of[window]:
                    writer.write(window)
            if index % max(1, total // (SAMPLES - 1)) == 0:
                reduced = cv2.resize(picture, None, fx=small, fy=small, interpolation=cv2.INTER_AREA)
                samples.append(cv2.cvtColor(reduced, cv2.COLOR_BGR2GRAY).astype(np.float32))
            progress(min((index + 1) / total, 1.0), f"{index + 1} of {total} frames read")
    if not times:
        raise VideoError("The video shows no frame; copy it from the phone again.")
    return _Taken(best, times, np.array(all_sharpness), samples)


def _finish(folder: Path, taken: _Taken, info: VideoInfo, mirrored: bool) -> Frames:
    order = sorted((index, window) for window, (_, index) in enumerate(taken.best) if index >= 0)
    names, indices = [], []
    for index, window in order:
        part = folder / window_name(window)
        if indices and indices[-1] == index:
            part.unlink()
            thumbnail_of(part).unlink()
            continue
        name = f"{len(names):03d}.png"
        os.replace(part, folder / name)
        os.replace(thumbnail_of(part), thumbnail_of(folder / name))
        names.append(name)
        indices.append(index)
    # The published rule: the 75th percentile, lowered three times by 0.7. What misses even that is called soft.
    lowest = np.percentile(taken.sharpness, 75) * 0.7**3
    soft = [name for name, index in zip(names, indices, strict=True) if taken.sharpness[index] < lowest]
    warnings = list(info.notes)
    if soft:
        warnings.append(f"{len(soft)} of {len(names)} frames are blurred ({', '.join(soft)}); move the phone more slowly.")
    if np.mean(taken.samples) < 40:
        warnings.append("The video is dark; film in a brightly lit room.")
    return Frames(
        folder=folder,
        names=tuple(names),
        source_names=tuple(info.files[index].name for index in indices) if info.is_folder else (),
        video_frames=tuple(indices),
        times_s=tuple(0.0 if info.is_folder else round(taken.times_s[index], 4) for index in indices),
        sharpness=tuple(round(float(taken.sharpness[index]), 2) for index in indices),
        soft=tuple(soft),
        width=info.width,
        height=info.height,
        warnings=tuple(warnings),
        mirrored=mirrored,
    )


def _write_strip(frames: Frames, all_sharpness: np.ndarray) -> None:
    """Write a strip of the video's sharpness with the frames marked, for the panel."""
    import cv2

    width, height = 420, 60
    strip = np.full((height, width, 3), 255, np.uint8)
    column = (np.arange(len(all_sharpness)) + 0.5) / len(all_sharpness) * width
    row = height - 3 - (height - 10) * all_sharpness / max(all_sharpness.max(), 1e-9)
    cv2.polylines(strip, [np.column_stack([column, row]).astype(np.int32)], False, (120, 120, 120), 1, cv2.LINE_AA)
    for name, frame in zip(frames.names, frames.video_frames, strict=True):
        color = (40, 40, 220) if name in frames.soft else (60, 140, 40)
        cv2.circle(strip, (int(column[frame]), int(row[frame])), 3, color, -1, cv2.LINE_AA)
    write_png(frames.sharpness_picture, strip)


def _with_required(windows: list[np.ndarray], required: list[int]) -> list[np.ndarray]:
    """Give each required frame the window nearest to it, one each; add windows if there are more required frames."""
    windows, taken = list(windows), set()
    for index in required:
        free = [i for i in range(len(windows)) if i not in taken]
        if not free:
            windows.append(np.array([index]))
            continue
        nearest = min(free, key=lambda i: abs(float(np.mean(windows[i])) - index))
        windows[nearest] = np.array([index])
        taken.add(nearest)
    return windows


class _Writer:
    """Holds the best picture of each window and writes it, large and small, once the window is past, beside the decoding."""

    def __init__(self, folder: Path):
        self._folder = folder
        (folder / "thumbnails").mkdir()
        self._held: dict[int, np.ndarray] = {}
        self._pool = ThreadPoolExecutor(1)
        self._written: list[Future] = []

    def hold(self, window: int, picture: np.ndarray) -> None:
        self._held[window] = picture

    def write(self, window: int) -> None:
        self._written.append(self._pool.submit(_write_frame, self._folder / window_name(window), self._held.pop(window)))

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            for window in list(self._held):  # a video that ends early
                self.write(window)
        self._pool.shutdown(cancel_futures=kind is not None)
        if kind is None:
            for done in self._written:
                done.result()  # a full disk is said here


def _write_frame(path: Path, picture: np.ndarray) -> None:
    import cv2

    write_png(path, picture)
    factor = THUMBNAIL_PX / max(picture.shape[:2])
    small = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(thumbnail_of(path)), small)


def window_name(window: int) -> str:
    """File name of a window's best picture, before the pictures are numbered in time."""
    return f"window{window:03d}.png"


def _scored(source: Path, info: VideoInfo, mirrored: bool):
    """Yield (time, BGR picture, sharpness) in order; a second thread scores while this one decodes."""
    ahead: deque = deque()
    with ThreadPoolExecutor(1) as pool:
        for time_s, picture in _pictures(source, info):
            if mirrored:
                picture = np.ascontiguousarray(picture[:, ::-1])
            ahead.append((time_s, picture, pool.submit(sharpness, picture)))
            if len(ahead) > 2:
                time_s, picture, value = ahead.popleft()
                yield time_s, picture, value.result()
        for time_s, picture, value in ahead:
            yield time_s, picture, value.result()


def _pictures(source: Path, info: VideoInfo):
    """Yield (time, BGR picture) in order."""
    if info.is_folder:
        yield from ((time_s, read_picture(path)) for time_s, path in zip(info.times_s, info.files, strict=True))
    else:
        yield from read_video(source)
