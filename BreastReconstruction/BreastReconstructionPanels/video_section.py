"""Section Video: the source, which frames are taken of it, and what they look like."""

import re
from pathlib import Path

import ctk
import qt
from slicer.i18n import tr as _

from BreastReconstructionLib.capabilities import STAGES
from BreastReconstructionLib.capabilities.torso.motion import read_motion_warning
from BreastReconstructionLib.capabilities.torso.stages import FIT, FRAMES, GUIDANCE, MARKERS
from BreastReconstructionLib.core.errors import BreastReconstructionError
from BreastReconstructionLib.core.options import options_of
from BreastReconstructionLib.core.settings import quality_values
from BreastReconstructionLib.video.pictures import picture_folder

from .choices import fill, select, show_path
from .form import OptionsForm

# The parameters are those of no quality.
OWN = "own"


class VideoSection:
    """Chooses the video and its frames."""

    def __init__(self, module):
        self._module, self._ui = module, module.ui
        ui = self._ui
        fill(ui.qualityComboBox, [("normal", _("normal")), ("draft", _("draft")), (OWN, _("as set below"))])
        ui.qualityComboBox.connect("currentIndexChanged(int)", self._on_quality)
        self._form = OptionsForm(module, ui.videoForm, options_of(FRAMES.options))
        ui.videoPathEdit.filters = ctk.ctkPathLineEdit.Files
        ui.videoPathEdit.connect("currentPathChanged(QString)", self._on_path)
        ui.pictureFolderButton.clicked.connect(self._choose_folder)
        ui.framesButton.clicked.connect(lambda: module.run(FRAMES))
        ui.checkVideoButton.clicked.connect(lambda: module.run(GUIDANCE))

    def refresh(self, states) -> None:
        """Show the parameters and, if the frames are chosen, the frames."""
        ui, parameters = self._ui, self._module.parameters
        self._form.refresh()
        select(ui.qualityComboBox, self._quality())
        show_path(ui.videoPathEdit, parameters.video)
        if not parameters.video:
            ui.videoState.text = _("Needs a video or a folder of pictures.")
        else:
            ui.videoState.text = self._module.state_words(FRAMES, states[FRAMES.name])

    def stage_done(self, name: str) -> None:
        """Show what was found of the video."""
        if name == GUIDANCE.name:
            self._show_guidance()

    def next_words(self, finished: set) -> str:
        """Return what to say after the video was checked, '' if it was not."""
        if GUIDANCE.name not in finished or (guidance := self._module.result_of(GUIDANCE)) is None:
            return ""
        bad = [finding.words for finding in guidance.findings if not finding.fine]
        return _("Film again: {words}").format(words=" ".join(bad)) if bad else _("The video will do.")

    def _show_guidance(self) -> None:
        ui, guidance = self._ui, self._module.result_of(GUIDANCE)
        ui.guidanceText.text, picture = "", None
        if guidance is not None:
            marks = [("✓" if finding.fine else "✗") + " " + finding.words for finding in guidance.findings]
            ui.guidanceText.text, picture = "\n".join(marks), guidance.arc_picture
        ui.arcLabel.setPixmap(qt.QPixmap(str(picture)) if picture else qt.QPixmap())

    def picture_files(self) -> tuple:
        """Return the pictures of a folder of pictures in their order, () for a video or if they are gone."""
        source = Path(self._module.parameters.video)
        if not self._module.parameters.video or not source.is_dir():
            return ()
        try:
            return picture_folder(source).files
        except BreastReconstructionError:
            return ()

    def show_frames(self) -> None:
        """Show thumbnails, sharpness and warnings of the chosen frames."""
        ui, frames = self._ui, self._module.result_of(FRAMES)
        ui.frameList.clear()
        ui.sharpnessLabel.clear()
        ui.videoWarnings.text = ""
        self._show_guidance()
        if frames is None:
            return
        for name in frames.names:
            icon = qt.QIcon(str(frames.thumbnail(name)))
            item = qt.QListWidgetItem(icon, Path(name).stem + (" ≈" if name in frames.soft else ""))
            ui.frameList.addItem(item)
        ui.sharpnessLabel.setPixmap(qt.QPixmap(str(frames.sharpness_picture)))
        markers = self._module.result_of(MARKERS)
        doubts = [_("DOUBTFUL: {doubt}").format(doubt=doubt) for doubt in ([] if markers is None else markers.doubts)]
        # What the fit found of the patient's movement; known before the surface is computed.
        motion = read_motion_warning(self._module.case_folder / FIT.name) if self._module.has(FIT) else ""
        ui.videoWarnings.text = " ".join([*doubts, *frames.warnings, *([motion] if motion else [])])

    def _on_path(self, path: str) -> None:
        dropped = dropped_path(path, self._module.parameters.video)
        if dropped is not None:
            self._ui.videoPathEdit.currentPath = dropped
            return
        self._module.choose_video(path)

    def _choose_folder(self) -> None:
        path = qt.QFileDialog.getExistingDirectory(self._module.parent, _("Folder of pictures"), self._module.parameters.video)
        if path:
            self._ui.videoPathEdit.currentPath = path

    def _quality(self) -> str:
        """The quality that the parameters are those of, or OWN."""
        for quality in ("normal", "draft"):
            values = quality_values(STAGES, quality)
            if all(getattr(self._module.parameters, name) == value for name, value in values.items()):
                return quality
        return OWN

    def _on_quality(self, index: int) -> None:
        quality = self._ui.qualityComboBox.itemData(index)
        if quality != OWN:
            for name, value in quality_values(STAGES, quality).items():
                setattr(self._module.parameters, name, value)
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
