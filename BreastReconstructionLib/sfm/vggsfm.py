"""Cameras by VGGSfM, which the user installed: run in its own environment as a separate process.

VGGSfM needs a GPU and is licensed for non-commercial use only, so none of it is bundled or imported here.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

from ..core.errors import CameraError
from ..core.progress import Progress
from .imported import read_vggsfm_predictions
from .reconstruction import CameraReconstruction

RUNNER = Path(__file__).with_name("vggsfm_runner.py")


def reconstruct_with_vggsfm(
    image_folder: Path,
    names: tuple[str, ...],
    work_folder: Path,
    size: tuple[int, int],
    python: Path,
    checkout: Path,
    progress: Progress,
) -> CameraReconstruction:
    """Run `vggsfm_runner.py` with the user's Python and read its predictions.

    Args:
        image_folder, names: the frames.
        work_folder: emptied and used.
        size: width and height of the frames.
        python: the interpreter of the environment that VGGSfM is installed in.
        checkout: VGGSfM's source folder, which holds `cfgs/demo.yaml`.
        progress: reported from the runner's lines; cancelling kills the process and its children.

    Raises:
        CameraError: the environment is missing, or VGGSfM failed.
    """
    if not python.is_file():
        raise CameraError(
            f"VGGSfM's Python ({python.name}) was not found; give the interpreter of the environment it is installed in with "
            "--vggsfm-python, or use --cameras colmap."
        )
    if not (checkout / "cfgs" / "demo.yaml").is_file():
        raise CameraError(
            f"VGGSfM's checkout ({checkout.name}) holds no cfgs/demo.yaml; give its source folder with --vggsfm-checkout, "
            "or use --cameras colmap."
        )
    shutil.rmtree(work_folder, ignore_errors=True)
    (work_folder / "images").mkdir(parents=True)
    for name in names:
        shutil.copyfile(image_folder / name, work_folder / "images" / name)
    predictions = work_folder / "vggsfm_predictions.pt"
    # An own session, so that the process and all its children can be ended together.
    process = subprocess.Popen(
        [str(python), str(RUNNER), str(checkout.resolve()), str(work_folder.resolve()), str(predictions.resolve())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=checkout,
        start_new_session=True,
    )
    errors: list[str] = []
    lines: list[dict] = []
    readers = [
        threading.Thread(target=lambda: errors.extend(process.stderr), daemon=True),
        threading.Thread(target=lambda: lines.extend(map(_event, process.stdout)), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        while process.poll() is None:
            latest = next((line for line in reversed(lines) if line), {"fraction": 0.0, "words": "starting VGGSfM"})
            progress(float(latest["fraction"]), str(latest["words"]))
            try:
                process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue
    finally:
        if process.poll() is None:
            _kill_tree(process)
    for reader in readers:
        reader.join(5)
    shutil.rmtree(work_folder / "images", ignore_errors=True)
    if process.returncode != 0 or not predictions.is_file():
        last = next((line.strip() for line in reversed(errors) if line.strip()), "no message")
        raise CameraError(f"VGGSfM ended with an error ({last}); mend its environment, or use --cameras colmap.")
    return read_vggsfm_predictions(predictions, names, {}, *size)


def _event(line: str) -> dict:
    """One progress line of the runner; anything else that VGGSfM prints is no event."""
    try:
        event = json.loads(line)
        return {"fraction": float(event["fraction"]), "words": str(event["words"])}
    except (ValueError, KeyError, TypeError):
        return {}


def _kill_tree(process: subprocess.Popen) -> None:
    if os.name == "nt":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
