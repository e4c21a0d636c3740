"""A folder of pictures as a user has it: which files count, in what order, and reading each whole."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import DependencyError, VideoError

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
# What phones and cameras also write, and Pillow does not read. pillow-heif would (5 MB, a patent-laden codec): phones export
# JPEG at a touch, so these are said, not read.
UNREAD_ENDINGS = (".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw")
NAMED_AT_MOST = 4


@dataclass(frozen=True)
class PictureFolder:
    """The pictures of a folder, in the order in which they were taken.

    Attributes:
        files: one path a picture.
        notes: what was left out and how they were ordered, in words.
    """

    files: tuple[Path, ...]
    notes: tuple[str, ...]


def picture_folder(folder: Path) -> PictureFolder:
    """Choose and order the pictures of a folder.

    Hidden files and exact copies are left out. Order: by time of capture (EXIF) where every picture has one, so that IMG_9999
    comes before IMG_0001; by name otherwise, numbers in it as numbers.

    Raises:
        VideoError: there are none.
    """
    visible = _visible(folder)
    files = every_picture(folder)
    unread = Counter(path.suffix.upper()[1:] for path in visible if path.suffix.lower() in UNREAD_ENDINGS)
    left_out = " and ".join(f"{count} {kind}" for kind, count in sorted(unread.items()))
    if not files:
        raise VideoError(_no_pictures(folder, left_out))
    files, copies = _without_copies(files)
    notes = []
    if left_out:
        notes.append(f"{left_out} pictures of the folder cannot be read and were left out; export all of them as JPEG.")
    if copies:
        notes.append(f"{len(copies)} pictures are exact copies of others and were left out ({listed(copies)}).")
    times = [_taken(path) for path in files]
    if None not in times:
        by_time = [path for _, path in sorted(zip(times, files, strict=True), key=lambda pair: pair[0])]
        if by_time != files:
            notes.append("The pictures are ordered by the time at which they were taken, which is not that of their names.")
        files = by_time
    return PictureFolder(tuple(files), tuple(notes))


def every_picture(folder: Path) -> list[Path]:
    """Return the pictures of a folder, by name, copies too; empty if there are none."""
    return sorted((path for path in _visible(folder) if path.suffix.lower() in IMAGE_ENDINGS), key=natural_key)


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]


def _no_pictures(folder: Path, left_out: str) -> str:
    if left_out:
        return f"The folder {folder.name} holds only {left_out} pictures, which cannot be read; export them as JPEG."
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if any(path.suffix.lower() in IMAGE_ENDINGS for path in inner.iterdir()):
            return f"The folder {folder.name} holds no pictures, but its folder {inner.name} does; give that one."
    return f"The folder {folder.name} holds no pictures; give a folder of .png or .jpg files."


def natural_key(path: Path) -> list:
    """Sort key of a file name with its numbers as numbers: 2.jpg before 10.jpg."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def listed(paths: list[Path]) -> str:
    """Names of the first few files, and how many more."""
    names = ", ".join(path.name for path in paths[:NAMED_AT_MOST])
    return names + (f" and {len(paths) - NAMED_AT_MOST} more" if len(paths) > NAMED_AT_MOST else "")


def _without_copies(files: list[Path]) -> tuple[list[Path], list[Path]]:
    sizes = Counter(path.stat().st_size for path in files)
    seen, kept, copies = set(), [], []
    for path in files:
        size = path.stat().st_size
        # Only files of one size can be copies.
        content = (size, hashlib.sha256(path.read_bytes()).digest() if sizes[size] > 1 and size else path.name)
        (copies if content in seen else kept).append(path)
        seen.add(content)
    return kept, copies


def _pillow():
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError as error:
        raise DependencyError("Reading pictures needs the package pillow; install it (in Slicer: section Setup).") from error
    return PIL


def _unreadable() -> tuple[type[Exception], ...]:
    """What Pillow raises for pictures that are damaged, or claim a size beyond all reason."""
    return OSError, ValueError, SyntaxError, _pillow().Image.DecompressionBombError


def _taken(path: Path) -> str | None:
    """Time of capture, as EXIF writes it, with its fraction of a second."""
    pillow = _pillow()
    try:
        with pillow.Image.open(path) as picture:
            details = picture.getexif().get_ifd(0x8769)
    except _unreadable():
        return None  # said when it is read
    return f"{details[0x9003]}.{details.get(0x9291, '')}" if 0x9003 in details else None


def read_picture(path: Path) -> np.ndarray:
    """Return the (H, W, 3) uint8 BGR picture, turned upright as its EXIF data say.

    Raises:
        VideoError: it is damaged, or only its beginning is there.
    """
    pillow = _pillow()
    try:
        with pillow.Image.open(path) as picture:
            picture.load()  # unlike OpenCV, this says when a part is missing
            upright = pillow.ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I;16"):
                return np.repeat((np.asarray(upright) >> 8).astype(np.uint8)[..., None], 3, axis=2)
            return np.ascontiguousarray(np.asarray(upright.convert("RGB"))[..., ::-1])
    except _unreadable() as error:
        raise VideoError(f"The picture {path.name} is damaged or incomplete; copy it again, or remove it.") from error


def picture_size(path: Path) -> tuple[int, int]:
    """Return the (width, height) of a picture, upright, without reading all of it.

    Raises:
        VideoError: it cannot be read.
    """
    pillow = _pillow()
    try:
        with pillow.Image.open(path) as picture:
            turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return picture.size[::-1] if turned else picture.size
    except _unreadable() as error:
        raise VideoError(f"The picture {path.name} is damaged or incomplete; copy it again, or remove it.") from error


def common_size(files: tuple[Path, ...]) -> tuple[int, int]:
    """Return the one (width, height) of all pictures.

    Raises:
        VideoError: some have another size, or lie on their side.
    """
    sizes = {path: picture_size(path) for path in files}
    usual, _ = Counter(sizes.values()).most_common(1)[0]
    others = [path for path in files if sizes[path] != usual]
    if others:
        sideways = all(sizes[path] == usual[::-1] for path in others)
        words = "lie on their side" if sideways else f"have another size than the others ({usual[0]} x {usual[1]})"
        raise VideoError(
            f"{len(others)} of {len(files)} pictures {words}: {listed(others)}; "
            + ("turn them upright, or remove them." if sideways else "remove them, or export all in one size.")
        )
    return usual
