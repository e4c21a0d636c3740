"""What several tests need and takes long to make, finished cases above all: made once a session, by one of its processes.

What is made is kept by the content of what it is made from. With BREAST_RECONSTRUCTION_CASES=FOLDER it is kept between
sessions, too; the library's own sources are part of the key.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

from filelock import FileLock

from BreastReconstructionLib.core.files import hash_of_file

ROOT = Path(__file__).resolve().parent.parent


def shared_folder(temporary) -> Path:
    """Return the folder that all processes of this session share, given pytest's `tmp_path_factory`."""
    kept = os.environ.get("BREAST_RECONSTRUCTION_CASES")
    if kept:
        folder = Path(kept)
    else:
        base = temporary.getbasetemp()
        folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def made_once(folder: Path, name: str, parts: list, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` filled, now or before.

    Args:
        folder: see `shared_folder`.
        name: of the result, for people.
        parts: what it is made from: texts, and files or folders, which count by their content.
        make: fills an existing empty folder.
    """
    key = hashlib.sha256("\n".join([_sources(), *map(_content, parts)]).encode()).hexdigest()[:16]
    target = folder / f"{name}-{key}"
    with FileLock(folder / f"{name}-{key}.lock"):
        if not target.exists():
            partial = folder / f"{name}-{key}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            make(partial)
            partial.rename(target)
    return target


def _content(part) -> str:
    if isinstance(part, Path) and part.is_dir():
        return "\n".join(hash_of_file(path) for path in sorted(part.rglob("*")) if path.is_file())
    return hash_of_file(part) if isinstance(part, Path) and part.is_file() else str(part)


@cache
def _sources() -> str:
    return "\n".join(hash_of_file(path) for path in sorted((ROOT / "BreastReconstructionLib").rglob("*.py")))
