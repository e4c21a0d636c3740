"""Time and peak memory of one call, in a process of its own."""

from __future__ import annotations

import multiprocessing
import re
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Measured:
    """What a call returned, its seconds, and the peak memory of the process that ran it."""

    value: Any
    seconds: float
    peak_gb: float


def measured(work: Callable[..., Any], *arguments: Any) -> Measured:
    """Run work(*arguments), a function of a module, in a fresh process.

    The time is that of the call alone, without the start of the process; work whose own
    preparation shall not count returns (Seconds, value).
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(theirs, work, arguments))
    process.start()
    theirs.close()
    try:
        outcome = ours.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"the measured process ended with code {process.exitcode}") from None
    process.join()
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _run(pipe: Any, work: Callable[..., Any], arguments: tuple) -> None:
    try:
        start = time.perf_counter()
        value = work(*arguments)
        seconds = time.perf_counter() - start
        if isinstance(value, tuple) and value and isinstance(value[0], Seconds):
            seconds, value = value[0], value[1]
        pipe.send(Measured(value, float(seconds), _peak_gb()))
    except BaseException as error:
        pipe.send(error)


def _peak_gb() -> float:
    """Peak memory of this process; Linux's ru_maxrss counts what its parent held when it started it as well."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1e6
    return peak_gb_of(resource.getrusage(resource.RUSAGE_SELF))


def peak_gb_of(usage: resource.struct_rusage) -> float:
    """Peak memory that the system says of a process."""
    return usage.ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


class Seconds(float):
    """Returned first by work that timed itself."""
