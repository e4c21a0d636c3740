"""The folder that holds one reconstruction: its stages, settings and provenance.

`case.json` records each finished stage: a key made of its settings and everything it depends on, its files, versions
and time. A stage writes into `<stage>.partial` and is renamed when complete, so that killing the process at any moment
loses at most the stage that ran.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from . import __version__
from .errors import CaseError

FORMAT = 1
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG)


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


def hash_of_file(path: Path) -> str:
    """SHA-256 of a file's content; read again only if its size or time changed, since the panel asks often."""
    state = os.stat(path)
    return _hash_of_content(path, state.st_size, state.st_mtime_ns)


@lru_cache(64)
def _hash_of_content(path: Path, size: int, modified_ns: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Case:
    """A case folder.

    Args:
        folder: created if missing.

    Raises:
        CaseError: not a folder, not writable, damaged, or written by a newer version.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        with disk_errors(self.folder):
            if self.folder.exists() and not self.folder.is_dir():
                raise CaseError(f"{self.folder.name} is a file; give a folder for the case.")
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK):
                raise CaseError(f"The case folder {self.folder.name} cannot be written; choose a folder of your own.")
        self._document = read_case_file(self.folder)

    @property
    def stages(self) -> dict[str, dict]:
        """What is recorded of each finished stage, by name."""
        return self._document["stages"]

    def is_current(self, stage: str, key: str) -> bool:
        """True if the stage is finished with this key and its files are there."""
        record = self.stages.get(stage)
        if record is None or record["key"] != key:
            return False
        return all(self.path(stage, name).exists() for name in record["files"])

    def path(self, stage: str, name: str = "") -> Path:
        """Return the path of a stage's file."""
        return self.folder / stage / name if name else self.folder / stage

    def run_stage(
        self, stage: str, key: str, settings: dict, work: Callable[[Path], None], dependents: tuple[str, ...] = ()
    ) -> None:
        """Let `work` fill an empty folder, then put it in place of the stage's old one and record it.

        With the old files go the records of `dependents`: what was made from those files is out of date.
        """
        partial = self.folder / f"{stage}.partial"
        started = time.time()
        with disk_errors(self.folder):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                work(partial)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            for name in (*reversed(dependents), stage):
                self.forget(name)
            final = self.folder / stage
            shutil.rmtree(final, ignore_errors=True)
            os.replace(partial, final)
            files = sorted(path.relative_to(final).as_posix() for path in final.rglob("*") if path.is_file())
            self.stages[stage] = {
                "key": key,
                "settings": settings,
                "files": files,
                "seconds": round(time.time() - started, 2),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "version": __version__,
                "python": platform.python_version(),
            }
            self._save()

    def forget(self, stage: str) -> None:
        """Take a stage out of the record, before its files change."""
        if self.stages.pop(stage, None) is not None:
            self._save()

    def _save(self) -> None:
        temporary = self.folder / "case.json.partial"
        temporary.write_text(json.dumps(self._document, indent=1))
        os.replace(temporary, self.folder / "case.json")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second job out of the folder; the lock of a dead process is taken over.

        Raises:
            CaseError: another live process works on the case.
        """
        path = self.folder / "case.lock"
        with disk_errors(self.folder):
            while True:
                try:
                    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
                    break
                except FileExistsError:
                    if (owner := _owner(path)) is not None and _is_alive(owner):
                        raise CaseError(
                            f"Another job (process {owner}) works on {self.folder.name}; wait for it or cancel it."
                        ) from None
                    path.unlink(missing_ok=True)
            with os.fdopen(descriptor, "w") as file:
                file.write(str(os.getpid()))
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def read_case_file(folder: Path) -> dict:
    """Return the content of `case.json`, or that of an empty case.

    Raises:
        CaseError: damaged, or written by a newer version.
    """
    path = folder / "case.json"
    if not path.exists():
        return {"format": FORMAT, "stages": {}}
    try:
        document = json.loads(path.read_text())
        number = int(document["format"])
        stages = document["stages"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise CaseError(f"{folder.name}/case.json is damaged; delete that file to start the case again.") from error
    if number > FORMAT:
        raise CaseError(
            f"The case {folder.name} was written by a newer version of BreastReconstruction (format {number}, this one "
            f"knows {FORMAT}); update the program."
        )
    return {"format": FORMAT, "stages": dict(stages)}


def _owner(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (ValueError, OSError):
        return None


def _is_alive(process: int) -> bool:
    if process == os.getpid():
        return False  # left by an earlier run that had the same number
    if os.name == "nt":
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, process)
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
