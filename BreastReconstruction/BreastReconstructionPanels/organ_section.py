"""Section Shape models: the whole organ from a part of one, and a model made from segmentations."""

import shutil
import tempfile
from pathlib import Path

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from BreastReconstructionLib.capabilities.organ.stages import ORGAN
from BreastReconstructionLib.core.errors import BreastReconstructionError
from BreastReconstructionLib.core.options import options_of
from BreastReconstructionLib.core.resources import TORSO, known_models, organ_of, user_models_folder
from BreastReconstructionLib.core.run import StageState
from BreastReconstructionLib.scene import organs

from .choices import fill, select
from .form import OptionsForm
from .process import DONE, FAILED

STEPS = 4000


class OrganSection:
    """Fits a model to what the scene holds of an organ, and trains one on segmentations.

    Args:
        module: the panel.
        layout: the section is put at its end.
        make_process: see LibraryProcess.
    """

    def __init__(self, module, layout, make_process):
        self._module = module
        self.process = make_process(self._on_event, self._on_end)
        self._folder, self._then = None, None
        section = ctk.ctkCollapsibleButton()
        section.text = _("Shape models")
        section.objectName = "organSection"
        self._rows = qt.QFormLayout(section)
        self._add_words(_("The whole organ from a segmentation, a part of one, or outlines of a few slices. Not for diagnosis."))
        self.source = qt.QComboBox()
        self.source.toolTip = _("A segmentation, label map, model or curve that is loaded in Slicer; or a file, below")
        self.source.connect("currentIndexChanged(int)", lambda index: self._show_segments())
        self._rows.addRow(_("From the scene"), self.source)
        self.segments = qt.QListWidget()
        self.segments.toolTip = _("The segments that are the organ together; none chosen: all")
        self.segments.setSelectionMode(qt.QAbstractItemView.MultiSelection)
        self.segments.setMaximumHeight(90)
        self._rows.addRow(_("Segments"), self.segments)
        self.model = qt.QComboBox()
        self.model.connect("currentIndexChanged(int)", self._on_model)
        self._rows.addRow(_("Model"), self.model)
        form = qt.QWidget()
        self._form = OptionsForm(module, form, options_of(ORGAN.options))
        self._rows.addRow(form)
        self.button, self.state, self.text = self._add_button(_("Complete the organ"), "organButton", self.complete)
        self._add_words(_("A model of your own: whole organs, three at least, better fifty. It takes minutes."))
        self.organ = qt.QLineEdit()
        self.organ.toolTip = _("What it is, for example kidney; the model is named so too")
        self._rows.addRow(_("Organ"), self.organ)
        self.folder = ctk.ctkPathLineEdit()
        self.folder.filters = ctk.ctkPathLineEdit.Dirs
        self.folder.toolTip = _("Folder of NIfTI or NRRD files; empty: the segmentations in the scene")
        self._rows.addRow(_("Folder"), self.folder)
        self.make_button, self.make_state, self.make_text = self._add_button(_("Make a model"), "makeModelButton", self.make)
        self.cancel_button = qt.QPushButton(_("Stop making it"))
        self.cancel_button.clicked.connect(self.process.cancel)
        self._rows.addRow(self.cancel_button)
        layout.addWidget(section)
        section.collapsed = True
        self._section = section  # kept: the panel lets go what nobody holds

    def refresh(self, states) -> None:
        """Show what is in the scene, parameters and state."""
        node = self._node()
        named = [(n.GetID(), n.GetName()) for n in organs.sources_in_scene()]
        fill(self.source, [("", _("(the file below)")), *named])
        select(self.source, node.GetID() if node is not None else "")
        self._show_segments()
        (bundled, _lungs), *own = ((path, organ) for path in known_models() if (organ := organ_of(path)) != TORSO)
        models = [(str(path), f"{path.stem} ({organ})") for path, organ in own]
        fill(self.model, [("", _("{name} (bundled)").format(name=bundled.stem)), *models])
        select(self.model, self._module.parameters.organ_model)
        self._form.refresh()
        state = states[ORGAN.name]
        self.state.text = _("Ready.") if state is StageState.NOT_DONE else self._module.state_words(ORGAN, state)
        self.button.enabled = not self._module.running
        self.make_button.enabled, self.cancel_button.enabled = not self.process.running, self.process.running

    def stop(self) -> None:
        """End the making of a model."""
        self.process.stop()
        self._forget()

    def complete(self) -> None:
        """Fit the model to what is chosen."""
        parameters, node = self._module.parameters, self._node()
        if not parameters.case_folder:
            name = node.GetName() if node is not None else Path(parameters.organ_input).name.split(".")[0]
            self._module.choose_case(str(Path.home() / "BreastReconstruction" / (name or "organ")))
        if node is not None:
            try:
                path = organs.file_of_source(node, self._module.case_folder / "organ-input")
            except BreastReconstructionError as error:
                self._module.say(str(error))
                return
            parameters.organ_input, parameters.organ_segments = str(path), ",".join(self._chosen())
        if not parameters.organ_input:
            self._module.say(_("Choose a segmentation, model or curve of the scene, or a file."))
            return
        self._module.run(ORGAN)

    def make(self) -> None:
        """Prepare the segmentations, and train a model on them."""
        organ = self.organ.text.strip()
        if not organ:
            self._module.say(_("Say what the organ is: the model is named after it."))
            return
        self._folder = Path(tempfile.mkdtemp(prefix="BreastReconstruction"))
        source = Path(self.folder.currentPath) if self.folder.currentPath else self._folder / "segmentations"
        try:
            if not self.folder.currentPath:
                source.mkdir()
                for number, node in enumerate(organs.sources_in_scene(segmentations_only=True)):
                    organs.file_of_source(node, source, f"organ-{number:03d}")
        except BreastReconstructionError as error:
            self._module.say(str(error))
            self._forget()
            return
        name = "-".join(organ.lower().split())
        data, chosen = self._folder / "data.h5", ",".join(self._chosen())
        train = ["organ", "train", str(data), "--name", name, "--steps", str(STEPS), "--work", str(self._folder / "work")]
        self._then = [*train, "-o", str(user_models_folder())]
        segments = ["--segments", chosen] if chosen else []
        self.make_state.text = _("Preparing …")
        self.process.start(["organ", "prepare", str(source), "--organ", organ, *segments, "-o", str(data)])
        self._module.refresh()

    def stage_done(self, name: str) -> None:
        """Show the organ once it is there."""
        if name == ORGAN.name:
            self.show()

    def show(self) -> None:
        """Put the organ of the case into the scene."""
        found = self._module.result_of(ORGAN)
        if found is None:
            return
        organs.show_organ(self._module.case_folder, found.bodies)
        numbers = found.numbers
        lines = [
            _("{organ}: {volume:.0f} ± {uncertainty:.0f} ml.").format(
                organ=numbers["organ"].capitalize(),
                volume=numbers["volume_ml"],
                uncertainty=numbers["volume_uncertainty_ml"],
            ),
            _("{seen:.0f} % of the surface was given; the rest is the model's ({model}).").format(
                seen=numbers["seen_percent"], model=numbers["model"]
            ),
            *found.warnings,
        ]
        self.text.text = "\n".join(lines)

    def _add_words(self, words: str) -> None:
        label = qt.QLabel(words)
        label.wordWrap = True
        self._rows.addRow(label)

    def _add_button(self, words: str, name: str, run):
        button, state, text = qt.QPushButton(words), qt.QLabel(), qt.QLabel()
        button.objectName = name
        button.clicked.connect(run)
        text.wordWrap = True
        self._rows.addRow(button, state)
        self._rows.addRow(text)
        return button, state, text

    def _node(self):
        return slicer.mrmlScene.GetNodeByID(self.source.itemData(self.source.currentIndex) or "") if self.source.count else None

    def _show_segments(self) -> None:
        names, chosen = organs.segments_of(self._node()), self._chosen()
        self.segments.clear()
        for name in names:
            item = qt.QListWidgetItem(name)
            self.segments.addItem(item)
            item.setSelected(name in chosen)
        self.segments.visible = bool(names)

    def _chosen(self) -> list:
        return [item.text() for item in self.segments.selectedItems()]

    def _on_model(self, index) -> None:
        self._module.parameters.organ_model = self.model.itemData(index) or ""

    def _on_event(self, event) -> None:
        if event["event"] == "progress":
            self.make_state.text = f"{event.get('words', '')}"

    def _on_end(self, outcome) -> None:
        if outcome.kind == DONE and self._then is not None:
            command, self._then = self._then, None
            self.make_text.text = "\n".join(outcome.result.get("notes", []))
            self.process.start(command)
            return
        self._forget()
        self.make_state.text = ""
        if outcome.kind == FAILED:
            self._module.say(outcome.sentence)
        elif outcome.kind == DONE:
            error = outcome.result.get("metrics", {}).get("mean_mm")
            words = _("The model is in {path}.").format(path=outcome.result["model"])
            known = "" if error is None else _(" On organs that it never saw: {error:.2f} mm.").format(error=error)
            self.make_text.text = words + known
        else:
            self._module.say(_("The model was not made."))
        self._module.refresh()

    def _forget(self) -> None:
        """Remove the patients' segmentations that were written for the training."""
        self._then = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
