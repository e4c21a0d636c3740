"""`python -m Testing.SlicerHost --module BreastReconstruction [--screenshot out.png]`: the module in the host."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m Testing.SlicerHost", description="Run a scripted module without Slicer.")
    parser.add_argument("--module", default="BreastReconstruction", help="folder of the module in this repository")
    parser.add_argument("--screenshot", type=Path, metavar="PNG", help="write a picture of the window and end")
    options = parser.parse_args()
    if options.screenshot is None and sys.platform == "linux" and not os.environ.get("DISPLAY"):
        print("There is no display; give --screenshot out.png to get a picture instead.", file=sys.stderr)
        return 2
    if options.screenshot is None:
        os.environ.setdefault("QT_QPA_PLATFORM", "xcb" if sys.platform == "linux" else "")
    from .application import load_module, start
    from .window import HostWindow

    application = start()
    widget = load_module(ROOT / options.module / f"{options.module}.py")
    window = HostWindow(widget, application.layoutManager())
    window.show()
    widget.enter()
    if options.screenshot is None:
        window.live()
        return application.exec()
    window.draw()
    application.processEvents()
    window.grab().save(str(options.screenshot))
    widget.cleanup()
    return 0


sys.exit(main())
