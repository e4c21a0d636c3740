"""The parser of the whole command line."""

from __future__ import annotations

import argparse

from .. import __version__
from ..capabilities import CAPABILITIES
from ..core.commands import EXIT_CODES, Commands
from ..core.stage import resolve

# Modules with a function `add(commands)`, in the order of the help.
COMMANDS = ("case", "batch", "environment", "phantom", "model", "shapes", "evaluate", "train")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="breast-reconstruction",
        description="From a phone video of a standing patient to a metric 3D surface of the torso. Nothing leaves this computer.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"BreastReconstruction {__version__}")
    commands = Commands(parser, "commands", "COMMAND")
    for capability in CAPABILITIES:
        resolve(capability.commands)(commands)
    for name in COMMANDS:
        resolve(f"cli.commands.{name}:add")(commands)
    return parser
