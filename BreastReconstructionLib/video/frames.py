"""A video or image folder before anything is taken from it, and the frames that were."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..core.errors import VideoError
from ..core.files import write_json
from .pictures import common_size, picture_folder
from .reading import inspect_video

# Longer side of the small pictures that the panel shows.
THUMBNAIL_PX = 144
FRAMES_FILE = "frames.json"


@dataclass(frozen=True)
class VideoInfo:
    """What a probe says of a video or image folder.

    Attributes:
        width, height: pixels, of upright pictures with square pixels.
        times_s: (N,) time of each frame; 0, 1, … for an image folder.
        files: the pictures of an image folder, in order; empty for a video.
        breaks_off: the video ends before the length that it announces.
        notes: what the user should know of the source.
    """

    width: int
    height: int
    times_s: np.ndarray
    files: tuple[Path, ...]
    breaks_off: bool
    notes: tuple[str, ...]

    @property
    def frame_count(self) -> int:
        """Frames that can be chosen."""
        return len(self.times_s)

    @property
    def is_folder(self) -> bool:
        """True for an image folder."""
        return bool(self.files)


@dataclass(frozen=True)
class Frames:
    """The chosen frames.

    Attributes:
        folder: where the pictures are.
        names: file names, in order of time.
        source_names: file name of each in the image folder; empty for a video.
        video_frames: index of each in the video, or in the ordered image folder.
        times_s: time of each in the video, by its time stamp.
        sharpness: variance of the Laplacian of each.
        soft: names of frames that miss even the lowest sharpness threshold.
        width, height: pixels.
        warnings: what the user should know, in plain words.
        mirrored: the pictures were flipped, because the user says that the video is mirrored.
        still_share: of the picture that stays where it is while the phone should go around; see stillness.
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
    mirrored: bool = False
    still_share: float = 0.0

    @property
    def handedness(self) -> str:
        """Which side is taken to be the patient's left, in words."""
        how = "were flipped, since the video is said to be mirrored" if self.mirrored else "are taken as not mirrored"
        return f"pictures {how}, the patient's left is on their right"

    def save(self, folder: Path) -> None:
        """Write the description beside the pictures."""
        write_json(folder / FRAMES_FILE, {key: value for key, value in asdict(self).items() if key != "folder"})

    @classmethod
    def load(cls, folder: Path) -> Frames:
        """Read what `save` wrote."""
        values = json.loads((folder / FRAMES_FILE).read_text())
        values.pop("doubts", None)  # of versions up to 0.3; the markers' stage has them now
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return cls(folder=folder, **values)

    def thumbnail(self, name: str) -> Path:
        """Return the path of a frame's small picture."""
        return thumbnail_of(self.folder / name)

    @property
    def sharpness_picture(self) -> Path:
        """Path of the picture that shows the sharpness over the video, and which frames were chosen."""
        return self.folder / "thumbnails" / "sharpness.png"

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
    source = Path(source)
    if source.is_dir():
        pictures = picture_folder(source)
        width, height = common_size(pictures.files)
        times = np.arange(len(pictures.files), dtype=float)
        return VideoInfo(width, height, times, pictures.files, False, pictures.notes)
    video = inspect_video(source)
    notes = []
    if video.notes:
        notes.append(f"Of the video, {' and '.join(video.notes)}.")
    if video.mirrored:
        notes.append("The video's file asks to be shown mirrored, and is; if that mirrors the patient, say that it is mirrored.")
    elif video.front_camera:
        notes.append("A phone's front camera filmed this, and many store what a mirror shows: is it mirrored? Then say so.")
    return VideoInfo(video.width, video.height, video.times_s, (), video.breaks_off, tuple(notes))


def thumbnail_of(picture: Path) -> Path:
    """Path of the small picture that the panel shows of a frame."""
    return picture.parent / "thumbnails" / f"{picture.stem}.jpg"


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write a BGR picture; fast, at little compression."""
    import cv2

    encoded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    path.write_bytes(encoded.tobytes())  # unlike cv2.imwrite, this says when the disk is full
