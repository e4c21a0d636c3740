"""Removing a case for good: overwritten, then deleted; and what that cannot reach."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .case import Case
from .errors import CaseError
from .files import disk_errors, settle_names
from .progress import Progress

CASE_FILES = ("case.json", "settings.json")
BLOCK = 1 << 20


@dataclass(frozen=True)
class Contents:
    """What a case folder holds.

    Attributes:
        files: all of them, links too.
        size: in bytes, of all that is no link.
        shared: files that have a second name somewhere else (hard links): they are deleted here, and stay there.
        links: to somewhere else: they are deleted, what they lead to stays.
    """

    files: tuple[Path, ...]
    size: int
    shared: tuple[Path, ...]
    links: tuple[Path, ...]


def contents_of(folder: Path) -> Contents:
    """Look at what a case folder holds.

    Raises:
        CaseError: it is no case, or a link to one.
    """
    if folder.is_symlink():
        raise CaseError(f"{folder.name} is a link; name the case folder that it leads to.")
    Case(folder)  # one that is not there, damaged or newer is refused here
    if not any((folder / name).is_file() for name in CASE_FILES):
        raise CaseError(f"{folder.name} is not a case folder (it has no {' or '.join(CASE_FILES)}); nothing was removed.")
    files = sorted(Path(root) / name for root, folders, names in os.walk(folder) for name in (*names, *_linked(root, folders)))
    links = tuple(path for path in files if path.is_symlink())
    real = [path for path in files if not path.is_symlink()]
    shared = tuple(path for path in real if path.stat().st_nlink > 1)
    return Contents(tuple(files), sum(path.stat().st_size for path in real), shared, links)


def _linked(root: str, folders: list[str]) -> list[str]:
    return [name for name in folders if (Path(root) / name).is_symlink()]


def remove_case(folder: Path, progress: Progress) -> Contents:
    """Overwrite every file of a case with noise, delete it, and delete the folder.

    What makes it a case goes last: a removal that was interrupted is begun again by the same call. A file with a second name
    elsewhere, and what a link leads to, are not overwritten.

    Returns:
        what it held.

    Raises:
        CaseError: no case, a job works on it, or a file cannot be written.
        Cancelled: some files are gone, others are not.
    """
    found = contents_of(folder)
    kept = {*found.shared, *found.links}
    ordered = sorted(found.files, key=lambda path: path.parent == folder and path.name in CASE_FILES)
    with disk_errors(folder):
        with Case(folder).lock():
            done = 0
            for path in ordered:
                progress(done / max(found.size, 1), f"{len(ordered)} files")
                if path.name == "case.lock" and path.parent == folder:
                    continue
                if path not in kept:
                    done += path.stat().st_size
                    _overwrite(path)
                path.unlink()
        shutil.rmtree(folder)
        settle_names(folder.parent)
    return found


def _overwrite(path: Path) -> None:
    """Write noise over a file's content, down to the disk, and give it no length."""
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        left = path.stat().st_size
        while left > 0:
            block = min(left, BLOCK)
            file.write(os.urandom(block))
            left -= block
        file.flush()
        os.fsync(file.fileno())
        file.truncate(0)
