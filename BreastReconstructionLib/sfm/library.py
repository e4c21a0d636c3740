"""The one door to pycolmap: quiet, and without COLMAP's own signal handlers."""

from __future__ import annotations

import signal

from ..core.errors import DependencyError


def load_pycolmap():
    """Import pycolmap.

    COLMAP's logger takes over the signals that end a process and answers them with a trace of C++ calls; Python's handlers are
    put back. It also writes to the terminal from any level that is not above all of its own.

    Raises:
        DependencyError: pycolmap is not installed, or too old.
    """
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        import pycolmap
    except ImportError as error:
        raise DependencyError("Camera reconstruction needs pycolmap; install it with 'pip install pycolmap'.") from error
    if not hasattr(pycolmap, "CancellationToken"):
        raise DependencyError(
            f"pycolmap {pycolmap.__version__} is too old; install 4.2 or later with 'pip install --upgrade pycolmap'."
        )
    pycolmap.logging.minloglevel = pycolmap.logging.Level.FATAL.value
    for number, handler in kept.items():
        try:
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        except ValueError:  # not in the main thread, where no handler was set either
            break
    return pycolmap
