"""Who works on a case: a lock that outlives its owner is told from one that is held, on this machine and others."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import CaseError

# An empty lock that is younger may be one that its owner is just writing.
BEING_WRITTEN_S = 2.0


@dataclass(frozen=True)
class Owner:
    """A process.

    Attributes:
        process: its number, which is used again after it ended, and after the machine was started again.
        started: when it began, in a form that no other process of that number has; '' if it is not known.
        machine: name of its machine; '' if it is not known.
    """

    process: int
    started: str
    machine: str

    @classmethod
    def this(cls) -> Owner:
        """This process."""
        return cls(os.getpid(), _start_of(os.getpid()), platform.node())

    def is_dead(self) -> bool:
        """Whether it has ended; of another machine's process nobody here can tell, so it has not."""
        if self.machine not in ("", platform.node()):
            return False
        if not self.started:
            return self.process == os.getpid() or not _exists(self.process)
        return _start_of(self.process) != self.started


@contextmanager
def held(path: Path, name: str) -> Iterator[None]:
    """Hold a lock file; one whose owner has ended is taken over.

    Args:
        path: of the lock.
        name: of what it locks, for the message.

    Raises:
        CaseError: another process, or another machine, holds it.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            break
        except FileExistsError:
            owner = _read(path)
            if owner is not None and not owner.is_dead():
                raise CaseError(_refusal(owner, name)) from None
            if owner is None and _age_s(path) < BEING_WRITTEN_S:
                time.sleep(0.05)
                continue
            path.unlink(missing_ok=True)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(Owner.this()), file)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _age_s(path: Path) -> float:
    """How long ago a lock was made; one that is gone is old."""
    try:
        return abs(time.time() - path.stat().st_mtime)
    except OSError:
        return BEING_WRITTEN_S


def _refusal(owner: Owner, name: str) -> str:
    if owner.machine in ("", platform.node()):
        return f"Another job (process {owner.process}) works on {name}; wait for it or cancel it."
    return (
        f"Another job on the machine {owner.machine} works on {name}; wait for it. If that machine was switched off meanwhile, "
        "delete the file case.lock in the case folder."
    )


def _read(path: Path) -> Owner | None:
    """Who holds a lock; None if it does not say, as one that was being written when the power failed."""
    try:
        values = json.loads(path.read_text())
        return Owner(values, "", "") if isinstance(values, int) else Owner(**values)
    except (ValueError, TypeError, OSError):
        return None


def _exists(process: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(process))


def _start_of(process: int) -> str:
    """When a process began; '' if there is none of that number.

    On Linux in ticks since the machine was started, with what tells that start from others: setting the clock changes neither.
    """
    stat = Path(f"/proc/{process}/stat")
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.is_file():
        try:
            ticks = stat.read_text().rpartition(")")[2].split()[19]
        except (OSError, IndexError):
            return ""
        return f"{boot.read_text().strip()} {ticks}"
    import psutil

    try:
        return f"{psutil.Process(process).create_time():.1f}"
    except psutil.Error:
        return ""
