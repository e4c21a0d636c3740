"""Section Video: the source, which frames are taken of it, and what they look like."""

import json
import re
from pathlib import Path

import ctk
import qt
from BreastReconstructionLib.choices import bind, fill, select, show_path
from BreastReconstructionLib.pipeline import QUALITIES
from slicer.i18n import tr as _

from BreastReconstructionLib.core.errors import BreastReconstructionError
from BreastReconstructionLib.video.pictures import picture_folder


class VideoSection:
    """Chooses the video and its frames."""

    def __init__(self, module):
        self._module, self._ui = module, module.ui
        ui = self._ui
        fill(ui.qualityComboBox, [("normal", _("normal")), ("draft", _("draft"))])
        fill(ui.strategyComboBox, [("sharp", _("sharpest about equal times")), ("uniform", _("equal times"))])
        bind(ui.qualityComboBox, lambda: module.parameters, "quality", self._on_quality)
        bind(ui.strategyComboBox, lambda: module.parameters, "strategy", module.refresh)
        ui.videoPathEdit.filters = ctk.ctkPathLineEdit.Files
        ui.videoPathEdit.connect("currentPathChanged(QString)", self._on_path)
        ui.pictureFolderButton.clicked.connect(self._choose_folder)
        ui.framesButton.clicked.connect(lambda: module.run("frames"))

    def refresh(self, states) -> None:
        """Show the parameters and, if the frames are chosen, the frames."""
        ui, parameters = self._ui, self._module.parameters
        select(ui.qualityComboBox, parameters.quality)
        select(ui.strategyComboBox, parameters.strategy)
        show_path(ui.videoPathEdit, parameters.videoPath)
        if not parameters.videoPath:
            ui.videoState.text = _("Needs a video or a folder of pictures.")
        else:
            ui.videoState.text = self._module.state_words("frames", states["frames"])

    def picture_files(self) -> tuple:
        """Return the pictures of a folder of pictures in their order, () for a video or if they are gone."""
        source = Path(self._module.parameters.videoPath)
        if not self._module.parameters.videoPath or not source.is_dir():
            return ()
        try:
            return picture_folder(source).files
        except BreastReconstructionError:
            return ()

    def show_frames(self) -> None:
        """Show thumbnails, sharpness and warnings of the chosen frames."""
        ui, folder = self._ui, self._module.stage_folder("frames")
        ui.frameList.clear()
        ui.sharpnessLabel.clear()
        ui.videoWarnings.text = ""
        if folder is None:
            return
        document = json.loads((folder / "frames.json").read_text())
        for name in document["names"]:
            icon = qt.QIcon(str(folder / "thumbnails" / Path(name).with_suffix(".jpg").name))
            item = qt.QListWidgetItem(icon, Path(name).stem + (" ≈" if name in document["soft"] else ""))
            ui.frameList.addItem(item)
        ui.sharpnessLabel.setPixmap(qt.QPixmap(str(folder / "thumbnails" / "sharpness.png")))
        doubts = [_("DOUBTFUL: {doubt}").format(doubt=doubt) for doubt in document.get("doubts", [])]
        ui.videoWarnings.text = " ".join([*doubts, *document["warnings"], *self._motion_warning()])

    def _motion_warning(self) -> list:
        """What the fit found of the patient's movement; known before the surface is computed."""
        folder = self._module.stage_folder("fit")
        path = None if folder is None else folder / "motion.json"
        warning = json.loads(path.read_text())["warning"] if path is not None and path.exists() else ""
        return [warning] if warning else []

    def _on_path(self, path: str) -> None:
        dropped = dropped_path(path, self._module.parameters.videoPath)
        if dropped is not None:
            self._ui.videoPathEdit.currentPath = dropped
            return
        self._module.choose_video(path)

    def _choose_folder(self) -> None:
        path = qt.QFileDialog.getExistingDirectory(
            self._module.parent, _("Folder of pictures"), self._module.parameters.videoPath
        )
        if path:
            self._ui.videoPathEdit.currentPath = path

    def _on_quality(self) -> None:
        parameters = self._module.parameters
        quality = QUALITIES[parameters.quality]
        parameters.frameCount = quality.frame_count
        parameters.detailMm = quality.detail_mm
        self._module.refresh()


def dropped_path(text: str, before: str):
    """Return the file that was dropped into a path field, or None if nothing was.

    Qt's line edit inserts a drop's address into what is there, wherever the mouse was.

    Args:
        text: what the field holds now.
        before: what it held.
    """
    start = text.find("file:")
    if start < 0:
        return None
    stop = len(text)
    tail = before[start:] if text[:start] == before[:start] else ""
    if tail and text.endswith(tail):
        stop -= len(tail)
    address = text[start:stop].split("\n")[0].strip()
    if "file:" in address[5:]:  # several files: the first
        address = address[: address.index("file:", 5)].strip()
    path = qt.QUrl(address).toLocalFile()
    # Elsewhere than on Windows, Qt leaves the slash before a drive's letter.
    return path[1:] if re.match(r"/[A-Za-z]:/", path) else path
