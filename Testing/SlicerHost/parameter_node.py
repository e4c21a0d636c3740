"""Stand-in for `slicer.parameterNodeWrapper`: typed parameters in a vtkMRMLScriptedModuleNode, and their widgets.

Covers int, float, bool, str, `WithinRange` and the widgets QCheckBox, QSpinBox, QDoubleSpinBox and QLineEdit, which is what
the module uses; anything else raises, as it would in Slicer.
"""

from __future__ import annotations

import dataclasses
import types
import typing

import slicer
import vtk

PROPERTY = "SlicerParameterName"


@dataclasses.dataclass
class WithinRange:
    """Annotation: smallest and largest value."""

    minimum: float
    maximum: float

    def check(self, value) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"{value} must be within {self.minimum} to {self.maximum}")


_PARSE = {int: int, float: float, str: str, bool: lambda text: text == "True"}
_WIDGETS = {
    "QCheckBox": (bool, "checked", "toggled"),
    "QSpinBox": (int, "value", "valueChanged"),
    "QDoubleSpinBox": (float, "value", "valueChanged"),
    "QLineEdit": (str, "text", "textChanged"),
}


def parameterNodeWrapper(cls):
    """Class decorator: annotated members become properties kept in the parameter node."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for name, hint in hints.items():
        kind, annotations = _parts(hint)
        if kind not in _PARSE:
            raise TypeError(f"Unable to create serializer for {cls} member {name}")
        setattr(cls, name, _property(name, kind, getattr(cls, name, kind()), annotations))
    cls.allParameters = hints
    cls.__init__ = _initialize
    cls.connectGui = _connect_gui
    cls.disconnectGui = _disconnect_gui
    for method in ("StartModify", "EndModify", "AddObserver", "RemoveObserver", "Modified"):
        setattr(cls, method, _forward(method))
    return cls


def _parts(hint) -> tuple[type, tuple]:
    """The type of a hint, and what `Annotated` adds to it."""
    return (typing.get_args(hint)[0], hint.__metadata__) if hasattr(hint, "__metadata__") else (hint, ())


def _forward(method):
    return lambda self, *arguments: getattr(self.parameterNode, method)(*arguments)


def _property(name, kind, default, annotations):
    def read(self):
        if name not in self.parameterNode.GetParameterNames():  # as in Slicer: a cleared node holds the defaults again
            write(self, default)
        return _PARSE[kind](self.parameterNode.GetParameter(name))

    def write(self, value):
        if type(value) is not kind and not (kind is float and isinstance(value, int)):
            raise TypeError(f"{name} must be {kind.__name__}, not {type(value).__name__}")
        for annotation in annotations:
            annotation.check(value)
        self.parameterNode.SetParameter(name, str(kind(value)))

    made = property(read, write)
    _DEFAULTS[made] = default
    return made


_DEFAULTS: dict[property, object] = {}


def _initialize(self, parameter_node):
    self.parameterNode = parameter_node
    self._connected = {}
    self._updating = False
    for name in self.allParameters:
        if name not in parameter_node.GetParameterNames():
            setattr(self, name, _DEFAULTS[getattr(type(self), name)])


def _connect_gui(self, gui) -> int:
    widgets = [w for w in gui.__dict__.values() if hasattr(w, "property") and w.property(PROPERTY)]
    mapping = {}
    for widget in widgets:
        name = widget.property(PROPERTY)
        if name not in self.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}")
        hint = self.allParameters[name]
        kind, annotations = _parts(hint)
        expected = _WIDGETS.get(type(widget).__name__)
        if expected is None or expected[0] is not kind:
            raise RuntimeError(f"Unable to create GUI connector from datatype '{hint}' to widget type '{type(widget)}'")
        if type(widget).__name__ in ("QSpinBox", "QDoubleSpinBox"):
            # As Slicer does: without a range in the annotation, the widget's own range is lost.
            limits = next((a for a in annotations if isinstance(a, WithinRange)), None)
            widget.minimum = limits.minimum if limits else -(2**31)
            widget.maximum = limits.maximum if limits else 2**31 - 1
        mapping[name] = (widget, expected[1], expected[2])

    def to_widgets(*_):
        if self._updating:
            return
        self._updating = True
        try:
            for name, (widget, attribute, _signal) in mapping.items():
                setattr(widget, attribute, getattr(self, name))
        finally:
            self._updating = False

    def from_widget(name, widget, attribute):
        def changed():
            if not self._updating:
                setattr(self, name, getattr(widget, attribute))

        return changed

    to_widgets()
    slots = []
    for name, (widget, attribute, signal) in mapping.items():
        slot = from_widget(name, widget, attribute)
        getattr(widget, signal).connect(slot)
        slots.append((getattr(widget, signal), slot))
    tag = len(self._connected)
    observer = self.parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, to_widgets)
    self._connected[tag] = (slots, observer)
    return tag


def _disconnect_gui(self, tag: int) -> None:
    slots, observer = self._connected.pop(tag)
    for signal, slot in slots:
        signal.disconnect(slot)
    self.parameterNode.RemoveObserver(observer)


def module() -> types.ModuleType:
    """Return the module `slicer.parameterNodeWrapper`."""
    made = types.ModuleType("slicer.parameterNodeWrapper")
    made.parameterNodeWrapper, made.WithinRange = parameterNodeWrapper, WithinRange
    slicer.parameterNodeWrapper = made
    return made
