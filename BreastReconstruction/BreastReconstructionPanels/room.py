"""What sections of one stage have in common: words, the form of its options, a button with a state, and the result in words."""

import ctk
import qt

from .form import OptionsForm


class Room:
    """The widgets of such a section, put at the end of the panel, folded.

    Args:
        module: the panel.
        layout: the section is put at its end.
        name: of the widgets: `<name>Section`, `<name>Button`.
        title, words: of the section, for people.
        options: of its stages.
        button: what it says.
        run: called when it is pressed.
    """

    def __init__(self, module, layout, name, title, words, options, button, run):
        section = ctk.ctkCollapsibleButton()
        section.text = title
        section.objectName = f"{name}Section"
        self.rows = qt.QFormLayout(section)
        label = qt.QLabel(words)
        label.wordWrap = True
        self.rows.addRow(label)
        form = qt.QWidget()
        self.form = OptionsForm(module, form, options)
        self.rows.addRow(form)
        self.button, self.state, self.text = qt.QPushButton(button), qt.QLabel(), qt.QLabel()
        self.button.objectName = f"{name}Button"
        self.button.clicked.connect(run)
        self.text.wordWrap = True
        self.rows.addRow(self.button, self.state)
        self.rows.addRow(self.text)
        layout.addWidget(section)
        section.collapsed = True
        self._section = section  # kept: the panel lets go what nobody holds
