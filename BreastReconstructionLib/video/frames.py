"""Probe a video or image folder and choose frames, decoding once and in order."""

from __future__ import annotations

import json
import os
import shutil
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..errors import VideoError
from ..progress import Progress

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SHORTEST_SECONDS = 4.0
SAMPLES_PER_WINDOW = 20
# Longer side of the small pictures that the panel shows.
THUMBNAIL_PX = 144


@dataclass(frozen=True)
class VideoInfo:
    """What a probe says of a video or image folder.

    Attributes:
        frame_count: frames that can be chosen.
        frames_per_second: 0 for an image folder.
        width, height: pixels, after rotation metadata.
    """

    frame_count: int
    frames_per_second: float
    width: int
    height: int

    @property
    def duration_s(self) -> float:
        """Length in seconds; 0 for an image folder."""
        return self.frame_count / self.frames_per_second if self.frames_per_second else 0.0


@dataclass(frozen=True)
class Frames:
    """The chosen frames.

    Attributes:
        folder: where the pictures are.
        names: file names, in order of time.
        source_names: file name of each in the image folder; empty for a video.
        video_frames: index of each in the video, or in the sorted image folder.
        times_s: time of each in the video.
        sharpness: variance of the Laplacian of each.
        soft: names of frames that miss even the lowest sharpness threshold.
        width, height: pixels.
        warnings: what the user should know, in plain words.
    """

    folder: Path
    names: tuple[str, ...]
    source_names: tuple[str, ...]
    video_frames: tuple[int, ...]
    times_s: tuple[float, ...]
    sharpness: tuple[float, ...]
    soft: tuple[str, ...]
    width: int
    height: int
    warnings: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write the description beside the pictures."""
        values = {key: value for key, value in asdict(self).items() if key != "folder"}
        path.write_text(json.dumps(values, indent=1))

    @classmethod
    def load(cls, path: Path) -> Frames:
        """Read what `save` wrote."""
        values = json.loads(path.read_text())
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return cls(folder=path.parent, **values)

    def read(self, name: str) -> np.ndarray:
        """Return the (H, W, 3) uint8 BGR picture of a frame.

        Raises:
            VideoError: the picture is gone or damaged.
        """
        import cv2

        picture = cv2.imread(str(self.folder / name))
        if picture is None:
            raise VideoError(f"The frame {name} in the case folder cannot be read; run the frames stage again.")
        return picture


def sharpness(picture: np.ndarray) -> float:
    """Variance of the Laplacian of an (H, W, 3) BGR picture at half size."""
    import cv2

    gray = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    half = cv2.resize(gray, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(half, cv2.CV_32F).var())


def probe(source: Path) -> VideoInfo:
    """Look at a video file or image folder.

    Raises:
        VideoError: missing, empty, damaged, or not a video.
    """
    import cv2

    source = Path(source)
    if source.is_dir():
        images = image_files(source)
        if not images:
            raise VideoError(f"The folder {source.name} holds no pictures; give a folder of .png or .jpg files.")
        first = cv2.imread(str(images[0]))
        if first is None:
            raise VideoError(f"The picture {images[0].name} cannot be read; replace or remove it.")
        return VideoInfo(len(images), 0.0, first.shape[1], first.shape[0])
    if not source.exists():
        raise VideoError(f"The video {source.name} does not exist; check the path.")
    if source.stat().st_size == 0:
        raise VideoError(f"The video {source.name} is empty; copy it from the phone again.")
    capture = cv2.VideoCapture(str(source))
    try:
        opened, first = capture.read() if capture.isOpened() else (False, None)
        if not opened:
            raise VideoError(
                f"{source.name} cannot be read as a video: it is damaged, cut short, or of another kind; "
                "copy it from the phone again."
            )
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        rate = float(capture.get(cv2.CAP_PROP_FPS))
    finally:
        capture.release()
    if count < 1 or not np.isfinite(rate) or rate <= 0:
        raise VideoError(f"{source.name} does not say how long it is; convert it to an ordinary .mp4.")
    return VideoInfo(count, rate, first.shape[1], first.shape[0])


def choose_windows(frame_count: int, count: int, strategy: str) -> list[np.ndarray]:
    """Return the candidate frame indices about each of `count` target times.

    Targets are equally spaced, ends excluded. `sharp` looks at 20 frames at most within duration / (3 count) about a
    target; `uniform` takes the frame nearest to it.
    """
    targets = (np.arange(count) + 1) * frame_count / (count + 1) - 0.5
    windows = []
    for target in targets:
        if strategy == "uniform":
            windows.append(np.array([round(target)]))
            continue
        half = frame_count / (6 * count)
        candidates = np.arange(int(np.ceil(target - half)), int(np.floor(target + half)) + 1)
        if len(candidates) == 0:
            candidates = np.array([round(target)])
        if len(candidates) > SAMPLES_PER_WINDOW:
            candidates = np.unique(np.linspace(candidates[0], candidates[-1], SAMPLES_PER_WINDOW).round().astype(int))
        windows.append(candidates)
    return [np.clip(window, 0, frame_count - 1) for window in windows]


def select_frames(source: Path, folder: Path, count: int, strategy: str, required: tuple[int, ...], progress: Progress) -> Frames:
    """Choose and write frames as `000.png …`; the sharpest of each window, and every required one.

    Args:
        source: video file or image folder.
        folder: empty folder to write to.
        count: number of frames.
        strategy: 'sharp' or 'uniform'.
        required: indices of frames that carry landmark picks; each replaces the window nearest to it.
        progress: reported by decoded frames.

    Raises:
        VideoError: too short, still, cut short, or without the required frames.
    """
    import cv2

    info = probe(source)
    if info.frames_per_second and info.duration_s < SHORTEST_SECONDS:
        raise VideoError(
            f"The video lasts {info.duration_s:.1f} s; film for at least {SHORTEST_SECONDS:.0f} s, "
            "walking slowly from one side of the patient to the other."
        )
    if info.frame_count < 8:
        raise VideoError(f"There are only {info.frame_count} pictures; at least 8 are needed, better 30.")
    for index in required:
        if not 0 <= index < info.frame_count:
            raise VideoError(
                f"Landmarks are picked in frame {index}, but the video has only the frames 0 to {info.frame_count - 1}."
            )
    count = min(count, info.frame_count)
    windows = _with_required(choose_windows(info.frame_count, count, strategy), sorted(set(required)))
    window_of = {}
    for i, window in enumerate(windows):
        for index in window:
            window_of.setdefault(int(index), []).append(i)
    last_of = [int(window.max()) for window in windows]

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    best: list[tuple[float, int]] = [(-1.0, -1)] * len(windows)
    all_sharpness, thumbnails = [], []
    decoded = 0
    with _Writer(folder) as writer:
        for index, picture, value in _scored(source):
            decoded = index + 1
            if picture.shape[:2] != (info.height, info.width):
                raise VideoError(f"Picture {index} has another size than the first one; all must have the same size.")
            all_sharpness.append(value)
            for window in window_of.get(index, ()):
                if value > best[window][0]:
                    best[window] = (value, index)
                    writer.hold(window, picture)
                if index == last_of[window]:
                    writer.write(window)
            if index % max(1, info.frame_count // 12) == 0:
                small = cv2.resize(picture, (48, 48), interpolation=cv2.INTER_AREA)
                thumbnails.append(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(float))
            progress(decoded / info.frame_count, f"{decoded} of {info.frame_count} frames read")
    if decoded < 0.95 * info.frame_count:
        raise VideoError(f"The video breaks off after {decoded} of {info.frame_count} frames; copy it from the phone again.")
    change = max(np.abs(a - thumbnails[0]).mean() for a in thumbnails)
    if change < 2.0:
        raise VideoError("The picture hardly changes; walk around the patient with the phone, the patient stands still.")
    originals = [path.name for path in image_files(source)] if source.is_dir() else []
    frames = _finish(folder, best, np.array(all_sharpness), np.array(thumbnails), info, originals)
    _write_strip(frames, np.array(all_sharpness))
    return frames


def _finish(
    folder: Path,
    best: list,
    all_sharpness: np.ndarray,
    thumbnails: np.ndarray,
    info: VideoInfo,
    originals: list[str],
) -> Frames:
    order = sorted((index, window) for window, (_, index) in enumerate(best) if index >= 0)
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
    lowest = np.percentile(all_sharpness, 75) * 0.7**3
    soft = [name for name, index in zip(names, indices, strict=True) if all_sharpness[index] < lowest]
    warnings = []
    if soft:
        warnings.append(f"{len(soft)} of {len(names)} frames are blurred ({', '.join(soft)}); move the phone more slowly.")
    if thumbnails.mean() < 40:
        warnings.append("The video is dark; film in a brightly lit room.")
    rate = info.frames_per_second
    return Frames(
        folder=folder,
        names=tuple(names),
        source_names=tuple(originals[index] for index in indices) if originals else (),
        video_frames=tuple(indices),
        times_s=tuple(round(index / rate, 4) if rate else 0.0 for index in indices),
        sharpness=tuple(round(float(all_sharpness[index]), 2) for index in indices),
        soft=tuple(soft),
        width=info.width,
        height=info.height,
        warnings=tuple(warnings),
    )


def thumbnail_of(picture: Path) -> Path:
    """Path of the small picture that the panel shows of a frame."""
    return picture.parent / "thumbnails" / f"{picture.stem}.jpg"


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
    write_png(frames.folder / "thumbnails" / "sharpness.png", strip)


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


def image_files(folder: Path) -> list[Path]:
    """Return the pictures of a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_ENDINGS and path.is_file())


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


def _scored(source: Path):
    """Yield (index, BGR picture, sharpness) in order; a second thread scores while this one decodes."""
    ahead: deque = deque()
    with ThreadPoolExecutor(1) as pool:
        for index, picture in enumerate(_pictures(source)):
            ahead.append((index, picture, pool.submit(sharpness, picture)))
            if len(ahead) > 2:
                first = ahead.popleft()
                yield first[0], first[1], first[2].result()
        for index, picture, value in ahead:
            yield index, picture, value.result()


def _pictures(source: Path):
    """Yield the BGR pictures in order; OpenCV turns them by the rotation metadata."""
    import cv2

    if Path(source).is_dir():
        for path in image_files(Path(source)):
            picture = cv2.imread(str(path))
            if picture is None:
                raise VideoError(f"The picture {path.name} cannot be read; replace or remove it.")
            yield picture
        return
    capture = cv2.VideoCapture(str(source))
    try:
        while True:
            read, picture = capture.read()
            if not read:
                return
            yield picture
    finally:
        capture.release()


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write a BGR picture; fast, at little compression."""
    import cv2

    encoded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    path.write_bytes(encoded.tobytes())  # unlike cv2.imwrite, this says when the disk is full
