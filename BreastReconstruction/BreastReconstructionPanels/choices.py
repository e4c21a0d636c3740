"""Combo boxes whose items carry a value, and path fields, written without telling their listeners."""


def fill(combo, choices) -> None:
    """Replace a combo box's items by (value, label) pairs, without telling its listeners."""
    blocked = combo.blockSignals(True)
    combo.clear()
    for value, label in choices:
        combo.addItem(label, value)
    combo.blockSignals(blocked)


def select(combo, value) -> None:
    """Choose the item of a value, without telling the combo box's listeners; an unknown value leaves it as it is."""
    index = combo.findData(value)
    if index >= 0 and index != combo.currentIndex:
        blocked = combo.blockSignals(True)
        combo.setCurrentIndex(index)
        combo.blockSignals(blocked)


def bind(combo, parameters, name: str, changed) -> None:
    """Keep the chosen value in a parameter; `changed` is called after the user chose another one."""

    def chosen(index):
        setattr(parameters(), name, combo.itemData(index))
        changed()

    combo.connect("currentIndexChanged(int)", chosen)


def bind_path(edit, parameters, name: str, changed) -> None:
    """Keep the path of a ctkPathLineEdit in a parameter; `changed` is called after the user chose another one."""

    def chosen(path):
        setattr(parameters(), name, path)
        changed()

    edit.connect("currentPathChanged(QString)", chosen)


def show_path(edit, path: str) -> None:
    """Write a path into a ctkPathLineEdit, without telling its listeners: nobody chose it just now."""
    if edit.currentPath != path:
        blocked = edit.blockSignals(True)
        edit.currentPath = path
        edit.blockSignals(blocked)
