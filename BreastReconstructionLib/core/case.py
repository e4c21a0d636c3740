"""The folder that holds one reconstruction: its stages, settings and provenance.

`case.json` records each finished stage: a key made of its options and everything it depends on, its files with their hashes,
versions and time. A stage whose files are no longer what it wrote is out of date.
A stage writes into `<stage>.partial` and is renamed when complete, so that killing the process at any moment loses at most the
stage that ran; what that one keeps in `work/<stage>` for going on survives.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import __version__
from .errors import BreastReconstructionError, CaseError
from .files import disk_errors, hash_of_file, replacing, settle, settle_names, unpacks_sanely, write_json, write_text
from .lock import held
from .stage import R, Stage

# 1: one key chain for eight stages. 2: keys by the graph of stages, without the program's version.
FORMAT = 2


class Case:
    """A case folder.

    Args:
        folder: the folder.
        create: make it if it is missing, and see that it can be written.

    Raises:
        CaseError: missing, not a folder, not writable, damaged, or written by a newer version.
    """

    def __init__(self, folder: Path, create: bool = False):
        self.folder = Path(folder)
        if create:
            _make(self.folder)
        elif not self.folder.is_dir():
            raise CaseError(f"The case folder {self.folder.name} does not exist; check the path.")
        self._document = read_case_file(self.folder)

    @property
    def stages(self) -> dict[str, dict]:
        """What is recorded of each finished stage, by name."""
        return self._document["stages"]

    @property
    def format(self) -> int:
        """The format of its file."""
        return self._document["format"]

    def has(self, stage: Stage[Any, Any]) -> bool:
        """True if the stage is finished, up to date or not, and its files are there."""
        record = self.stages.get(stage.name)
        return record is not None and all((self.path(stage) / name).exists() for name in record["files"])

    def is_intact(self, stage: Stage[Any, Any]) -> bool:
        """True if the files of a finished stage are what it wrote, by their hashes; older cases have none."""
        record = self.stages[stage.name]
        hashes, archives = record.get("hashes", {}), [name for name in record["files"] if name.endswith(".npz")]
        return all(hash_of_file(self.path(stage) / name) == value for name, value in hashes.items()) and all(
            unpacks_sanely(self.path(stage) / name) for name in archives
        )

    def is_current(self, stage: Stage[Any, Any], key: str) -> bool:
        """True if the stage is finished with this key, its files are what it wrote, and those that it publishes are there."""
        if not self.has(stage) or self.stages[stage.name]["key"] != key or not self.is_intact(stage):
            return False
        published = [self.folder / name for name in stage.publishes]
        return all((self.folder / path.name).exists() for path in published if path.exists())

    def recorded_key(self, stage: Stage[Any, Any]) -> str:
        """Return the key with which a stage was finished.

        Raises:
            CaseError: it is not finished.
        """
        if stage.name not in self.stages:
            raise CaseError(f"The case {self.folder.name} has no {stage.name} yet; reconstruct it first.")
        return self.stages[stage.name]["key"]

    def path(self, stage: Stage[Any, Any]) -> Path:
        """Return the folder of a stage's files."""
        return self.folder / stage.name

    def result(self, stage: Stage[Any, R]) -> R:
        """Read the result of a stage.

        Raises:
            CaseError: the stage is not finished, or its files are gone or damaged.
        """
        if stage.name not in self.stages:
            raise CaseError(f"The case {self.folder.name} has no {stage.name} yet; reconstruct it first.")
        if not self.has(stage):
            missing = next(n for n in self.stages[stage.name]["files"] if not (self.path(stage) / n).exists())
            raise CaseError(
                f"The case {self.folder.name} lacks the file {stage.name}/{missing}; run the stage {stage.name} again."
            )
        damaged = CaseError(
            f"The files of the stage {stage.name} in the case {self.folder.name} are damaged or changed; run that stage again."
        )
        if not self.is_intact(stage):
            raise damaged
        try:
            return stage.load(self.path(stage))
        except (BreastReconstructionError, ImportError):
            raise
        except Exception as error:  # numpy, zip, mesh and network readers raise many kinds for the files of older cases
            raise damaged from error

    def work_folder(self, stage: Stage[Any, Any], key: str) -> Path:
        """Return `work/<stage>`, in which a stage keeps what lets it go on after it was cancelled or killed.

        What was kept for another key is removed.
        """
        folder = self.folder / "work" / stage.name
        name = folder / "key.txt"
        if folder.exists() and not (name.is_file() and name.read_text() == key):
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(name, key)
        return folder

    def run_stage(
        self,
        stage: Stage[Any, Any],
        key: str,
        values: dict,
        work: Callable[[Path], None],
        dependents: Sequence[Stage[Any, Any]] = (),
    ) -> None:
        """Let `work` fill an empty folder, then put it in place of the stage's old one and record it.

        With the old files go the records of `dependents`: what was made from those files is out of date.

        Args:
            stage: which.
            key: of its result.
            values: what the key was made of, besides earlier keys.
            work: fills the folder.
            dependents: the stages that need this one.
        """
        partial = self.folder / f"{stage.name}.partial"
        started = time.monotonic()  # a clock may be set back
        with disk_errors(self.folder):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                work(partial)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            for other in (*reversed(dependents), stage):
                self.forget(other)
            final = self.path(stage)
            settle(partial)
            shutil.rmtree(final, ignore_errors=True)
            os.replace(partial, final)
            settle_names(self.folder)
            files = sorted(path.relative_to(final).as_posix() for path in final.rglob("*") if path.is_file())
            self.stages[stage.name] = {
                "key": key,
                "values": values,
                "files": files,
                "hashes": {name: hash_of_file(final / name) for name in files},
                "seconds": round(time.monotonic() - started, 2),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "version": __version__,
                "python": platform.python_version(),
            }
            self._publish(stage)
            self._save()
            self._forget_work(stage)

    def _publish(self, stage: Stage[Any, Any]) -> None:
        for name in stage.publishes:
            source, target = self.folder / name, self.folder / Path(name).name
            if not source.exists():
                target.unlink(missing_ok=True)
                continue
            with replacing(target) as temporary:
                shutil.copyfile(source, temporary)

    def _forget_work(self, stage: Stage[Any, Any]) -> None:
        """What a finished stage kept for going on is of no use any more."""
        folder = self.folder / "work"
        shutil.rmtree(folder / stage.name, ignore_errors=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()

    def forget(self, stage: Stage[Any, Any]) -> None:
        """Take a stage out of the record, before its files change."""
        if self.stages.pop(stage.name, None) is not None:
            self._save()

    def migrated(self, stages: dict[str, dict]) -> None:
        """Take over the record of an older format's stages, brought to the present form; written with the next stage."""
        self._document = {"format": FORMAT, "stages": stages}

    def _save(self) -> None:
        write_json(self.folder / "case.json", self._document)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second job out of the folder; see `lock.held`."""
        with disk_errors(self.folder), held(self.folder / "case.lock", self.folder.name):
            yield


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
        stages = {name: _record(record) for name, record in document["stages"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise CaseError(f"{folder.name}/case.json is damaged; delete that file to start the case again.") from error
    if number > FORMAT:
        raise CaseError(
            f"The case {folder.name} was written by a newer version of BreastReconstruction (format {number}, this one "
            f"knows {FORMAT}); update the program."
        )
    return {"format": number, "stages": stages}


def _record(record: dict[str, Any]) -> dict[str, Any]:
    """A stage's record as it was read, if it is one."""
    texts = (record["key"], record["finished"], *record["files"])
    kept = [record.get(name, {}) for name in ("values", "hashes")]
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(part, dict) for part in kept):
        raise TypeError("a record of another form")
    return {**record, "seconds": float(record["seconds"]), "files": list(record["files"])}


def _make(folder: Path) -> None:
    with disk_errors(folder):
        if folder.exists() and not folder.is_dir():
            raise CaseError(f"{folder.name} is a file; give a folder for the case.")
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise CaseError(f"The case folder {folder.name} cannot be written; choose a folder of your own.")
