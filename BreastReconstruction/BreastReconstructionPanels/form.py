"""Rows of a panel section, made from the declared options: a widget, a range, a tooltip each."""

import ctk
import qt
from slicer.i18n import tr as _

from .choices import bind, bind_path, fill, select, show_path


class OptionsForm:
    """The options of some stages in an empty widget of the panel.

    Check boxes and numbers are bound by the parameter node itself, through their property SlicerParameterName; combo boxes and
    paths by this form. Every widget is also put among the panel's, as `option_<name>`.

    Args:
        module: the panel.
        parent: an empty widget.
        options: see Option; those that are shown by hand are left out.
    """

    def __init__(self, module, parent, options):
        self._module = module
        self._combos, self._paths = {}, {}
        shown = [option for option in options if not option.by_hand]
        rows = qt.QFormLayout(parent)
        rows.setContentsMargins(0, 0, 0, 0)
        for option in shown:
            if not option.advanced:
                self._add(rows, option)
        advanced = [option for option in shown if option.advanced]
        if advanced:
            folded = ctk.ctkCollapsibleButton()
            folded.text = _("Advanced")
            folded.collapsed = True
            inner = qt.QFormLayout(folded)
            for option in advanced:
                self._add(inner, option)
            folded.collapsed = True
            rows.addRow(folded)

    def refresh(self) -> None:
        """Show the parameters in the widgets that the parameter node does not bind."""
        for name, combo in self._combos.items():
            select(combo, getattr(self._module.parameters, name))
        for name, edit in self._paths.items():
            show_path(edit, getattr(self._module.parameters, name))

    def _add(self, rows, option) -> None:
        widget = self._widget(option)
        widget.objectName = f"option_{option.name}"
        widget.toolTip = _(option.help[0].upper() + option.help[1:])
        setattr(self._module.ui, widget.objectName, widget)
        if option.kind is bool:
            rows.addRow(widget)
        else:
            rows.addRow(_(option.label), widget)

    def _widget(self, option):
        if option.kind is bool:
            box = qt.QCheckBox(_(option.label))
            box.setProperty("SlicerParameterName", option.name)
            return box
        if option.kind in (int, float):
            return _number(option)
        if option.choices:
            combo = qt.QComboBox()
            combo.minimumContentsLength = 8
            fill(combo, [(value, _(words)) for value, words in option.choices.items()])
            bind(combo, lambda: self._module.parameters, option.name, self._module.refresh)
            self._combos[option.name] = combo
            return combo
        if option.kind is str:
            line = qt.QLineEdit()
            line.setProperty("SlicerParameterName", option.name)
            return line
        edit = ctk.ctkPathLineEdit()
        edit.filters = ctk.ctkPathLineEdit.Dirs if option.metavar == "FOLDER" else ctk.ctkPathLineEdit.Files
        bind_path(edit, lambda: self._module.parameters, option.name, self._module.refresh)
        self._paths[option.name] = edit
        return edit


def _number(option):
    low, high = option.within
    if option.kind is int:
        box = qt.QSpinBox()
    else:
        box = qt.QDoubleSpinBox()
        box.decimals = 2 if low < 0.1 else 1
        box.singleStep = 0.5
    box.minimum, box.maximum = low, high
    box.suffix = f" {option.unit}" if option.unit else ""
    box.setProperty("SlicerParameterName", option.name)
    return box
