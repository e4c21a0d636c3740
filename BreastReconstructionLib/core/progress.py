"""Progress and cancellation, passed down to every stage."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from .errors import Cancelled

Result = TypeVar("Result")


class CancellationToken:
    """Says whether the user asked to stop; set by `cancel`, or by the appearance of a cancel file."""

    def __init__(self, cancel_file: Path | None = None):
        self._event = threading.Event()
        self._cancel_file = cancel_file

    def cancel(self) -> None:
        """Ask the running stage to stop at its next safe point."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """True once somebody asked to stop."""
        if self._cancel_file is not None and self._cancel_file.exists():
            self._event.set()
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Raise Cancelled once somebody asked to stop."""
        if self.cancelled:
            raise Cancelled("Cancelled; run the same command again to go on where it stopped.")


@dataclass(frozen=True)
class Progress:
    """What a stage reports through.

    Attributes:
        report: called with the fraction done (0 to 1) and a few words.
        token: checked at every report.
    """

    report: Callable[[float, str], None] = lambda fraction, words: None
    token: CancellationToken = field(default_factory=CancellationToken)

    def __call__(self, fraction: float, words: str = "") -> None:
        """Report, or raise Cancelled if somebody asked to stop."""
        self.token.raise_if_cancelled()
        self.report(min(max(fraction, 0.0), 1.0), words)

    def part(self, start: float, stop: float) -> Progress:
        """Return progress that fills only the given part of this one."""
        return Progress(lambda fraction, words: self.report(start + (stop - start) * fraction, words), self.token)


def run_cancellable(
    work: Callable[[], Result],
    token: CancellationToken,
    stop: Callable[[], None],
    poll: Callable[[], None] = lambda: None,
) -> Result:
    """Run blocking foreign code in a thread, so that this one can still hear Ctrl-C and a cancel file.

    Args:
        work: the blocking call.
        token: checked five times a second.
        stop: asks the foreign code to end; called once.
        poll: called five times a second, to report progress.
    """
    outcome: list = []

    def target() -> None:
        try:
            outcome.append((True, work()))
        except BaseException as error:  # handed to the caller below, whatever it is
            outcome.append((False, error))

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    stopped = False
    while thread.is_alive():
        thread.join(0.2)
        if token.cancelled and not stopped:
            stop()
            stopped = True
        elif not stopped:
            poll()
    token.raise_if_cancelled()
    succeeded, value = outcome[0]
    if not succeeded:
        raise value
    return value
