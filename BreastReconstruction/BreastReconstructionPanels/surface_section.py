"""Section Surface: the shape model, how it is fitted, and the run to the end."""

from pathlib import Path

import qt
from BreastReconstructionLib.choices import bind, fill, select
from BreastReconstructionLib.process import DONE, LibraryProcess
from slicer.i18n import tr as _

from BreastReconstructionLib.core.resources import default_model_path, known_models, user_models_folder


class SurfaceSection:
    """Chooses the model and starts the reconstruction."""

    def __init__(self, module):
        self._module, self._ui = module, module.ui
        self._import = LibraryProcess(lambda event: None, self._on_imported)
        ui = self._ui
        bind(ui.modelComboBox, lambda: module.parameters, "modelPath", module.refresh)
        fill(
            ui.initialColouringComboBox,
            [("texture", _("texture")), ("residual_mm", _("distance to the points")), ("views", _("number of views"))],
        )
        bind(ui.initialColouringComboBox, lambda: module.parameters, "colouring", module.refresh)
        ui.importModelButton.clicked.connect(self._choose_official)
        ui.reconstructButton.clicked.connect(module.run_to_the_end)

    def refresh(self, states) -> None:
        """Show the models, the parameters and the state."""
        ui, parameters = self._ui, self._module.parameters
        bundled, *own = known_models()
        default = _("{name} (default)").format(name=default_model_path().stem)
        names = [(str(bundled), _("{name} (bundled, synthetic bodies)").format(name=bundled.stem))]
        fill(ui.modelComboBox, [("", default), *names, *((str(path), path.stem) for path in own)])
        select(ui.modelComboBox, parameters.modelPath)
        select(ui.initialColouringComboBox, parameters.colouring)
        ui.modelText.text = (
            _("The bundled model knows only synthetic bodies; it is not for diagnosis.")
            if Path(parameters.modelPath or default_model_path()) == bundled
            else ""
        )
        missing = self._module.landmarks.missing()
        if states["report"] == "done":
            ui.surfaceState.text = self._module.state_words("surface", "done")
        elif missing:
            ui.surfaceState.text = _("Needs landmarks: {names}.").format(names=", ".join(missing))
        else:
            ui.surfaceState.text = self._module.state_words("surface", states["surface"])

    def stop(self) -> None:
        """End an import that runs."""
        self._import.stop()

    def _choose_official(self) -> None:
        parent = self._module.parent
        checkpoint = qt.QFileDialog.getOpenFileName(parent, _("Official checkpoint"), "", _("Checkpoint (*.pth *.pt)"))
        anchors = checkpoint and qt.QFileDialog.getOpenFileName(
            parent, _("Average anchors"), str(Path(checkpoint).parent), _("Anchors (*.pt)")
        )
        if anchors:
            self.import_official(Path(checkpoint), Path(anchors))

    def import_official(self, checkpoint: Path, anchors: Path) -> None:
        """Convert the official checkpoint in a process, and choose the result."""
        if self._import.running:
            return
        self._ui.surfaceState.text = _("Importing {name} …").format(name=checkpoint.name)
        self._import.start(["model", "import", checkpoint, "--anchors", anchors, "-o", user_models_folder()])

    def _on_imported(self, outcome) -> None:
        if outcome.kind == DONE:
            self._module.parameters.modelPath = outcome.result["model"]
            self._module.say(_("The official model is imported; its licence allows non-commercial research only."))
        else:
            self._module.say(outcome.sentence)
        self._module.refresh()
