"""This process among others: it ends with its parent, and by a signal at a safe point."""

from __future__ import annotations

import os
import signal
import threading
import time

from .errors import Cancelled
from .progress import CancellationToken

# A worker whose parent is gone has so long to stop at a safe point.
SECONDS_TO_STOP = 10.0


def follow_parent(token: CancellationToken, watch_input: bool) -> None:
    """Lead a process group, so that all of it can be ended, and end once the parent is gone.

    Slicer's end closes standard input, on every system; a launcher's end gives this process another parent. A command that reads
    its input hears the first by itself. What does not stop at a safe point is ended by force.

    Args:
        token: cancelled when the parent is gone.
        watch_input: False for a command that reads its input.
    """
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    parent = os.getppid()

    def end() -> None:
        token.cancel()
        time.sleep(SECONDS_TO_STOP)
        if hasattr(os, "killpg"):
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(Cancelled.exit_code)

    def wait_for_input() -> None:
        while os.read(0, 1):  # not sys.stdin: its lock, held by a thread, breaks the interpreter's end
            pass
        end()

    def wait_for_parent() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        end()

    for wait in (wait_for_parent, *([wait_for_input] if watch_input else [])):
        threading.Thread(target=wait, daemon=True).start()


def on_interrupt(token: CancellationToken, at_once: bool) -> dict:
    """Let Ctrl-C and a termination request end the run at a safe point; a second one, or where nothing is lost, at once.

    Args:
        token: cancelled by the first request.
        at_once: nothing is lost.

    Returns:
        the handlers before, by signal.
    """

    def handle(number, frame):
        if token.cancelled or at_once:
            raise KeyboardInterrupt
        token.cancel()

    numbers = [signal.SIGINT, signal.SIGTERM]
    try:
        return {number: signal.signal(number, handle) for number in numbers}
    except ValueError:  # not in the main thread: the caller cancels by the file
        return {}
