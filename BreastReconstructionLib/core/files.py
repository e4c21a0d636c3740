"""Files: replaced in one step or not at all, told apart by content, and errors of the disk in words."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from .errors import CaseError

MOST_UNPACKED_BYTES = 2 << 30
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the name of a file to write beside `path`; it takes its place once it is complete, and goes if it is not."""
    temporary = path.with_name(path.name + ".partial")
    try:
        yield temporary
        settle(temporary)
        os.replace(temporary, path)
        settle_names(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def settle(path: Path) -> None:
    """Return once a file, or every file of a folder, is on the disk: a power cut after that loses none of it."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with open(file, "r+b") as opened:
                os.fsync(opened.fileno())
    if path.is_dir():
        for folder in (*(f for f in path.rglob("*") if f.is_dir()), path):
            settle_names(folder)


def settle_names(folder: Path) -> None:
    """Return once the names in a folder are on the disk; Windows does that by itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, document: Any) -> None:
    """Replace a JSON file in one step."""
    write_text(path, json.dumps(document, indent=1))


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Replace a CSV file in one step; its columns are the keys of the rows, in the order in which they first appear."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, restval="")
        table.writeheader()
        table.writerows(rows)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk or a read-only folder into one clear sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise CaseError(
                f"The disk that holds {folder.name} is full; free some space and run the same command again."
            ) from error
        if error.errno in _NOT_WRITABLE:
            raise CaseError(f"The case folder {folder.name} cannot be written; choose a folder of your own.") from error
        raise


def unpacks_sanely(path: Path) -> bool:
    """False if a zip archive of arrays (NumPy's npz, torch's pt) would unpack to far more than it is: a bomb, or damage."""
    if not zipfile.is_zipfile(path):
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(part.file_size for part in archive.infolist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):  # of whatever is written where names and sizes are
        return False
    return unpacked <= max(MOST_UNPACKED_BYTES, 2 * path.stat().st_size)


def hash_of_file(path: Path) -> str:
    """SHA-256 of a file's content; read again only if its size or time changed, since the panel asks often."""
    state = os.stat(path)
    return _hash_of_content(path, state.st_size, state.st_mtime_ns)


def hash_of_files(paths: tuple[Path, ...]) -> str:
    """Hash of the content of several files, in their order."""
    return hashlib.sha256("".join(hash_of_file(path) for path in paths).encode()).hexdigest()


@lru_cache(4096)
def _hash_of_content(path: Path, size: int, modified_ns: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
