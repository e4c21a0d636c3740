"""Section Surface: the shape model, how it is fitted, and the run to the end."""

from pathlib import Path

import qt
from slicer.i18n import tr as _

from BreastReconstructionLib.capabilities.torso.stages import ALIGN, FIT, REFINE, REPORT, SURFACE
from BreastReconstructionLib.core.resources import TORSO, default_model_path, known_models, organ_of, user_models_folder
from BreastReconstructionLib.core.run import StageState
from BreastReconstructionLib.core.settings import every_option

from .choices import bind, fill, select
from .form import OptionsForm
from .process import DONE


class SurfaceSection:
    """Chooses the model and starts the reconstruction."""

    def __init__(self, module, make_process):
        self._module, self._ui = module, module.ui
        self.importer = make_process(lambda event: None, self._on_imported)
        ui = self._ui
        bind(ui.modelComboBox, lambda: module.parameters, "model", module.refresh)
        fill(
            ui.initialColouringComboBox,
            [
                ("texture", _("texture")),
                ("residual_mm", _("distance to the points")),
                ("views", _("number of views")),
                ("detail_mm", _("refinement")),
            ],
        )
        bind(ui.initialColouringComboBox, lambda: module.parameters, "colouring", module.refresh)
        self._form = OptionsForm(module, ui.surfaceForm, every_option((ALIGN, FIT, REFINE, SURFACE, REPORT)))
        ui.importModelButton.clicked.connect(self._choose_official)
        ui.reconstructButton.clicked.connect(module.run_to_the_end)

    def refresh(self, states) -> None:
        """Show the models, the parameters and the state."""
        ui, parameters = self._ui, self._module.parameters
        self._form.refresh()
        bundled, *own = (path for path in known_models() if organ_of(path) == TORSO)
        default = _("{name} (default)").format(name=default_model_path().stem)
        names = [(str(bundled), _("{name} (bundled, synthetic bodies)").format(name=bundled.stem))]
        fill(ui.modelComboBox, [("", default), *names, *((str(path), path.stem) for path in own)])
        select(ui.modelComboBox, parameters.model)
        select(ui.initialColouringComboBox, parameters.colouring)
        ui.modelText.text = (
            _("The bundled model knows only synthetic bodies; it is not for diagnosis.")
            if Path(parameters.model or default_model_path()) == bundled
            else ""
        )
        wanted = self._module.landmarks.wanted()
        if states[REPORT.name] is StageState.DONE:
            ui.surfaceState.text = self._module.state_words(SURFACE, StageState.DONE)
        elif wanted:
            ui.surfaceState.text = wanted
        else:
            ui.surfaceState.text = self._module.state_words(SURFACE, states[SURFACE.name])

    def stop(self) -> None:
        """End an import that runs."""
        self.importer.stop()

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
        if self.importer.running:
            return
        self._ui.surfaceState.text = _("Importing {name} …").format(name=checkpoint.name)
        self.importer.start(["model", "import", checkpoint, "--anchors", anchors, "-o", user_models_folder()])

    def _on_imported(self, outcome) -> None:
        if outcome.kind == DONE:
            self._module.parameters.model = outcome.result["model"]
            self._module.say(_("The official model is imported; its licence allows non-commercial research only."))
        else:
            self._module.say(outcome.sentence)
        self._module.refresh()
