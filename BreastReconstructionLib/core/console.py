"""What the command line says: to people in a terminal, or to a program as JSON lines."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

from .progress import CancellationToken, Progress
from .run import Outcome, StageEvent


class Console:
    """Progress as a bar in a terminal or as JSON lines on standard output, results, and errors.

    Args:
        as_json: speak to a program.
        token: asks to stop.
    """

    def __init__(self, as_json: bool, token: CancellationToken):
        self.token = token
        self._as_json = as_json
        self._bar: Any = None
        self._last = ""

    def event(self, event: StageEvent) -> None:
        """Show how far a stage is."""
        if self._as_json:
            values = {"event": "progress", **asdict(event), "finished": event.finished, "outcome": event.outcome.value}
            values["fraction"], values["overall"] = round(event.fraction, 4), round(event.overall, 4)
            print(json.dumps(values), flush=True)
            return
        if event.outcome in (Outcome.FAILED, Outcome.CANCELLED):
            return  # the error says it
        if sys.stderr.isatty():
            if self._bar is None:
                from tqdm import tqdm

                self._bar = tqdm(total=1000, bar_format="{l_bar}{bar}| {elapsed} {postfix}", leave=False)
            self._bar.n = int(1000 * event.overall)
            self._bar.set_postfix_str(f"{event.stage}: {event.words}")
        elif event.fraction >= 1.0 and self._last != event.stage:
            self._last = event.stage
            print(f"{event.stage}: {event.words}", file=sys.stderr, flush=True)

    def progress(self, name: str) -> Progress:
        """Return the progress of something that is no stage of a case."""
        return Progress(lambda fraction, words: self.event(StageEvent(name, fraction, fraction, words)), self.token)

    def tell(self, event: str, **values: Any) -> None:
        """Print an event for a program that listens; people are told nothing."""
        if self._as_json:
            print(json.dumps({"event": event, **values}), flush=True)

    def say(self, text: str, **values: Any) -> None:
        """Print a result for people, or its values as one JSON line."""
        if self._as_json:
            self.tell("result", **values)
        else:
            self.close()
            print(text, flush=True)

    def error(self, sentence: str, code: int) -> None:
        """Print what went wrong."""
        self.close()
        self.tell("error", message=sentence, code=code)
        print(f"Error: {sentence}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
