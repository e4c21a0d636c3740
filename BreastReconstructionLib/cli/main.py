"""Entry of the command line: reads it, runs one command, and turns what goes wrong into a sentence and an exit code."""

from __future__ import annotations

import os
import signal
import traceback

from ..core.console import Console
from ..core.errors import BreastReconstructionError, Cancelled, DependencyError
from ..core.process import follow_parent, on_interrupt
from ..core.progress import CancellationToken
from ..core.threads import give_way
from .parser import build_parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = build_parser().parse_args(arguments)
    options.check(options)
    give_way()
    token = CancellationToken(options.cancel_file)
    console = Console(options.json_progress, token)
    if options.follow_parent:
        follow_parent(token, watch_input=not options.reads_input)
        console.tell("started", process=os.getpid())
    previous = on_interrupt(token, at_once=options.reads_input)
    try:
        options.command(options, console)
        return 0
    except BreastReconstructionError as error:
        console.error(str(error), error.exit_code)
        return error.exit_code
    except KeyboardInterrupt:
        console.error("Cancelled; run the same command again to go on where it stopped.", Cancelled.exit_code)
        return Cancelled.exit_code
    except ModuleNotFoundError as error:
        if options.verbose:
            traceback.print_exc()
        console.error(f"The package {error.name} is missing; install it (in Slicer: section Setup).", DependencyError.exit_code)
        return DependencyError.exit_code
    except Exception as error:  # the last door: a user gets a sentence, a developer the trace by --verbose
        if options.verbose:
            traceback.print_exc()
        console.error(
            f"Unexpected error ({type(error).__name__}); this is a fault of the program, please report it with what "
            "--verbose prints.",
            1,
        )
        return 1
    finally:
        console.close()
        for number, handler in previous.items():
            signal.signal(number, handler)
