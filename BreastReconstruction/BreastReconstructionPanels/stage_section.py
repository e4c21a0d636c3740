"""The section of a stage that has none written by hand: its options, its state, and a button that runs it."""

import ctk
import qt
from slicer.i18n import tr as _

from BreastReconstructionLib.core.options import options_of

from .form import OptionsForm


class StageSection:
    """A collapsible section, made from the stage's declaration alone."""

    def __init__(self, module, stage, layout):
        self._module, self._stage = module, stage
        section = ctk.ctkCollapsibleButton()
        section.text = _(stage.title)
        section.objectName = f"section_{stage.name}"
        inner = qt.QVBoxLayout(section)
        self.state, form = qt.QLabel(), qt.QWidget()
        self.button = qt.QPushButton(_("Run"))
        for widget in (self.state, form, self.button):
            inner.addWidget(widget)
        self.form = OptionsForm(module, form, options_of(stage.options))
        self.button.clicked.connect(lambda: module.run(stage))
        layout.addWidget(section)
        self._section = section  # kept: the panel lets go what nobody holds

    def refresh(self, states) -> None:
        """Show the parameters and the state."""
        self.form.refresh()
        self.state.text = self._module.state_words(self._stage, states[self._stage.name])
        self.button.enabled = not self._module.running
