"""Commands of the command line, alike in form; capabilities and the rest of the program add theirs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .arguments import add_options, settings_of
from .console import Console
from .settings import Stages

EXIT_CODES = """\
exit codes:
  0 done                          5 landmarks             10 a package is missing
  1 unexpected error              6 scale                130 cancelled (Ctrl-C): run the same
  2 wrong command line, setting   7 shape model              command again to go on
  3 video or pictures             8 fit
  4 cameras                       9 case folder or disk
 11 CT or MRI volume             12 registration          13 measurement
 14 some rows of a list failed

landmarks (left and right are the patient's):
  sternal-notch, navel, left-nipple, right-nipple, left-coracoid, right-coracoid
"""
Command = Callable[[argparse.Namespace, Console], None]


class Commands:
    """The commands below the program, or below one of its words such as `model`."""

    def __init__(self, parser: argparse.ArgumentParser, title: str, metavar: str):
        self._commands: Any = parser.add_subparsers(title=title, required=True, metavar=metavar)

    def group(self, name: str, words: str, title: str = "what") -> Commands:
        """Return the commands below a word."""
        return Commands(self._commands.add_parser(name, help=words), title, "WHAT")

    def add(
        self, name: str, words: str, command: Command, stages: Stages = (), reads_input: bool = False
    ) -> argparse.ArgumentParser:
        """Add a command, with what every command has.

        Args:
            name: of the command.
            words: what it does, without a stop at the end.
            command: called with its options and the console.
            stages: whose options it takes; `options.settings_of(options)` gives the settings that they mean.
            reads_input: it answers lines of standard input, and nothing is lost when it ends.
        """
        sub = self._commands.add_parser(
            name, help=words, description=words, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        sub.set_defaults(command=command, reads_input=reads_input, check=lambda options: None)
        sub.add_argument("--json-progress", action="store_true", help="progress as JSON lines on standard output")
        sub.add_argument("--cancel-file", type=Path, metavar="FILE", help="stop as soon as this file exists")
        sub.add_argument("--follow-parent", action="store_true", help="stop when standard input closes")
        sub.add_argument("--verbose", action="store_true", help="print technical details of an unexpected error")
        if stages := tuple(stages):
            add_options(sub, stages)
            sub.set_defaults(settings_of=lambda options: settings_of(options, stages))
        return sub


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number of a range."""

    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be from {low} to {high}")
        return value

    return parse
