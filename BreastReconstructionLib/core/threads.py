"""How many cores this process may use, how its libraries wait, and what it gives back: others work on the same machine."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# More hardly helps here, and each thread holds pictures.
MOST_THREADS = 8
# Libraries read these once, as they load. Threads that spin while they wait take the cores from the threads that they wait for,
# as soon as another program runs.
RESTING = {
    # OpenMP, so torch and COLMAP: some microseconds, which networks of many small steps gain by; the usual is milliseconds.
    "GOMP_SPINCOUNT": "20000",
    "KMP_BLOCKTIME": "0",
    "OPENBLAS_THREAD_TIMEOUT": "4",  # numpy: the least, in powers of two of cycles
    "OPENCV_THREAD_POOL_ACTIVE_WAIT_WORKER": "0",
    "OPENCV_THREAD_POOL_ACTIVE_WAIT_MAIN": "0",
}
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores() -> int:
    """Return how many cores this process may use: those that it is bound to, what its container grants, what it was told."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(bound, _granted(), _told()))


def _granted() -> int:
    """Cores that the control group of a container grants on Linux; very many where it sets no limit."""
    try:
        quota, period = _QUOTA.read_text().split()
        return round(int(quota) / int(period))
    except (OSError, ValueError):  # no control groups here, or 'max'
        return 1 << 10


def _told() -> int:
    """Threads that the environment allows, as OpenMP's libraries read it; very many where it says nothing."""
    try:
        return int(os.environ["OMP_NUM_THREADS"])
    except (KeyError, ValueError):  # not set, or a list by levels
        return 1 << 10


def pool() -> ThreadPoolExecutor:
    """Return a pool of a thread a core, for work that releases the interpreter."""
    return ThreadPoolExecutor(min(cores(), MOST_THREADS))


def read_ahead(read: Callable[[T], R], names: list[T]) -> Iterator[R]:
    """Read one after the other, the next always while the last is worked on."""
    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(read, names[0]) if names else None
        for following in names[1:]:
            assert upcoming is not None
            present, upcoming = upcoming, thread.submit(read, following)
            yield present.result()
        if upcoming is not None:
            yield upcoming.result()


def rest_while_waiting() -> None:
    """Let the libraries that are loaded after this wait without spinning, on as many threads as there are cores to use.

    What the user set in the environment stays.
    """
    for name, value in {**RESTING, "OMP_NUM_THREADS": str(cores())}.items():
        os.environ.setdefault(name, value)


def give_way() -> None:
    """Let other programs go first in small things, so that Slicer stays usable; this one's share of a busy machine stays.

    On Linux it displaces nobody when it wakes up; elsewhere its priority is the next lower one.
    """
    with suppress(OSError):  # not allowed here: the run is as good without it
        if hasattr(os, "SCHED_BATCH"):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        elif hasattr(os, "nice"):
            os.nice(1)
        else:
            _below_normal()


def give_back_memory() -> None:
    """Return to the system what a finished piece of work has freed: on Linux, glibc keeps hundreds of megabytes of it."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have none
        if trim is not None:
            trim(0)


def _below_normal() -> None:
    import psutil

    psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
