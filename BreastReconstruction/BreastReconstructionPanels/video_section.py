"""Section Video: the source, which frames are taken of it, and what they look like."""

import json
from pathlib import Path
from urllib.parse import unquote, urlparse

import ctk
import qt
from slicer.i18n import tr as _

from BreastReconstructionLib.pipeline import QUALITIES

from .choices import bind, fill, select, show_path


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
        ui.videoWarnings.text = " ".join([*document["warnings"], *self._motion_warning()])

    def _motion_warning(self) -> list:
        """What the fit found of the patient's movement; known before the surface is computed."""
        folder = self._module.stage_folder("fit")
        path = None if folder is None else folder / "motion.json"
        warning = json.loads(path.read_text())["warning"] if path is not None and path.exists() else ""
        return [warning] if warning else []

    def _on_path(self, path: str) -> None:
        if path.startswith("file:"):  # a dropped file
            path = unquote(urlparse(path).path)
            self._ui.videoPathEdit.currentPath = path
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
