"""PySide6 behind the manners of PythonQt, so that what passes here runs in Slicer.

A `StrictObject` wraps one QObject. Properties are attributes, methods stay methods, unknown names raise AttributeError,
signals are connected by name or by signature and drop arguments that the Python function has no place for, and enums sit on
the class and compare with ints. Errors raised inside a slot are kept in `slot_errors`: Qt would only print them.
"""

from __future__ import annotations

import enum
import inspect
import sys
import time
import traceback
import weakref
from collections.abc import Callable
from typing import ClassVar

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import SIGNAL, QObject

slot_errors: list[str] = []
# Seconds that each slot of the module took, with its name: a slot that takes long freezes Slicer.
slot_seconds: list[tuple[float, str]] = []

# Objects that the module let go inside their own signal: kept, since Qt would crash here as it does in Slicer.
_let_go: list[QObject] = []

# What PythonQt does not have: PySide's own machinery, and the scoped names of enums.
_PYSIDE_ONLY = {"Signal", "Slot", "Property", "ClassInfo", "SIGNAL", "SLOT", "tr", "staticMetaObject", "exec"}


class EnumValue(int):
    """A Qt enum value: an int, as in PythonQt, that remembers what PySide calls it."""

    def __new__(cls, member: enum.Enum):
        value = super().__new__(cls, member.value)
        value.member = member
        return value

    def __or__(self, other):
        if isinstance(other, EnumValue):
            return EnumValue(self.member | other.member)
        return int(self) | int(other)


def wrap(value):
    """Return what PythonQt would hand to Python for a value of PySide."""
    if isinstance(value, QObject):
        instance = object.__new__(strict_class(type(value)))
        object.__setattr__(instance, "_qt", value)
        return instance
    if isinstance(value, enum.Enum):
        return EnumValue(value)
    if isinstance(value, (list, tuple)):
        return type(value)(wrap(item) for item in value)
    return value


def _is_wrapper(value) -> bool:
    return issubclass(type(value), StrictObject)


def unwrap(value):
    """Return what PySide takes for a value of the module under test."""
    if _is_wrapper(value):
        return value._qt
    if isinstance(value, StrictMeta):
        return value.qt_class
    if isinstance(value, EnumValue):
        return value.member
    if isinstance(value, (list, tuple)):
        return type(value)(unwrap(item) for item in value)
    return value


def accepting_fewer_arguments(function: Callable, sender: QObject | None = None) -> Callable:
    """Return a slot that drops surplus arguments, as PythonQt does for Python functions and methods.

    A default argument has a place, so an argument that the signal sends overwrites it. A sender that belongs to Python alone must
    outlive its own signal: the slot that drops the last reference to it is an error.
    """
    emitter = None if sender is None else weakref.ref(sender)
    places = None
    if inspect.isfunction(function) or inspect.ismethod(function):
        parameters = inspect.signature(function).parameters.values()
        if not any(p.kind == p.VAR_POSITIONAL for p in parameters):
            places = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)

    def slot(*arguments):
        started = time.perf_counter()
        held = None if emitter is None else emitter()
        try:
            function(*(wrap(argument) for argument in arguments[:places]))
        except Exception:
            slot_errors.append(traceback.format_exc())
            traceback.print_exc()
        _check_outlives_its_signal(held, function)
        slot_seconds.append((time.perf_counter() - started, getattr(function, "__qualname__", repr(function))))

    return slot


def _check_outlives_its_signal(held: QObject | None, function: Callable) -> None:
    """Record an error if nobody but the caller and this function still holds an object without a parent that Python owns."""
    if held is None or not shiboken6.isValid(held) or not shiboken6.ownedByPython(held) or held.parent() is not None:
        return
    # The caller's variable, this function's, and getrefcount's own.
    if sys.getrefcount(held) <= 3:
        _let_go.append(held)
        name = getattr(function, "__qualname__", repr(function))
        slot_errors.append(f"{name} drops the last reference to a {type(held).__name__} inside its own signal: Slicer crashes")


class StrictSignal:
    """A signal seen as an attribute: connect, disconnect, emit."""

    def __init__(self, owner: StrictObject, name: str):
        self._owner, self._name = owner, name

    def _signature(self) -> str:
        meta = self._owner._qt.metaObject()
        # The first declared overload, as PythonQt takes it.
        for i in range(meta.methodCount()):
            method = meta.method(i)
            if method.methodType() == QtCore.QMetaMethod.MethodType.Signal and method.name() == self._name.encode():
                return method.methodSignature().data().decode()
        raise AttributeError(self._name)

    def connect(self, function: Callable) -> bool:
        return self._owner.connect(self._signature(), function)

    def disconnect(self, function: Callable) -> bool:
        return self._owner.disconnect(self._signature(), function)

    def emit(self, *arguments) -> None:
        getattr(self._owner._qt, self._name).emit(*(unwrap(argument) for argument in arguments))


def _enum_value(qt_class: type, name: str) -> EnumValue | None:
    """The value of that name in any enum of a class or its bases: in PythonQt they all sit on the class."""
    for base in qt_class.__mro__:
        for value in vars(base).values():
            if inspect.isclass(value) and issubclass(value, enum.Enum) and name in value.__members__:
                return EnumValue(value[name])
    return None


def _normalized(signature: str) -> str:
    normalized = QtCore.QMetaObject.normalizedSignature(signature)
    return normalized.data().decode() if hasattr(normalized, "data") else normalized


class StrictMeta(type):
    """Class of the wrapper classes: enum values on the class, static methods, and nothing else of PySide."""

    def __getattr__(cls, name: str):
        qt_class = cls.__dict__.get("qt_class")
        if qt_class is None or name.startswith("_") or name in _PYSIDE_ONLY:
            raise AttributeError(f"{cls.__name__} has no attribute {name}")
        if (found := _enum_value(qt_class, name)) is not None:
            return found
        value = getattr(qt_class, name)
        if inspect.isclass(value):
            raise AttributeError(f"{cls.__name__}.{name}: the values of an enum sit on the class itself")
        return _calling(value)

    def __call__(cls, *arguments, **keywords):
        return wrap(cls.qt_class(*map(unwrap, arguments), **{key: unwrap(value) for key, value in keywords.items()}))

    def __instancecheck__(cls, instance) -> bool:
        """PythonQt's classes know no inheritance: a label is no instance of QWidget."""
        return type(instance) is cls


class StrictObject(metaclass=StrictMeta):
    """One QObject, seen through PythonQt's manners."""

    _connections: ClassVar[dict] = {}

    def __getattr__(self, name: str):
        qt_object = self.__dict__["_qt"]
        if not shiboken6.isValid(qt_object):
            raise ValueError(f"Trying to access '{name}' of a destroyed {type(self).__name__}")
        if name == "name":
            name = "objectName"
        meta = qt_object.metaObject()
        index = meta.indexOfProperty(name)
        if index >= 0:
            return wrap(meta.property(index).read(qt_object))
        if name.startswith("__") or name in _PYSIDE_ONLY or not hasattr(qt_object, name):
            raise AttributeError(f"{type(self).__name__} has no attribute {name}")
        value = getattr(qt_object, name)
        if isinstance(value, QtCore.SignalInstance):
            return StrictSignal(self, name)
        if inspect.isclass(value):
            raise AttributeError(f"{type(self).__name__}.{name}: the values of an enum sit on the class itself")
        if isinstance(value, enum.Enum):
            return EnumValue(value)
        return _calling(value)

    def __setattr__(self, name: str, value) -> None:
        if name == "name":
            name = "objectName"
        meta = self._qt.metaObject()
        index = meta.indexOfProperty(name)
        if index < 0:
            raise AttributeError(f"{type(self).__name__} has no property {name}")
        if not meta.property(index).isWritable() or not self._qt.setProperty(name, unwrap(value)):
            raise AttributeError(f"{type(self).__name__}.{name} cannot be set to {value!r}")

    def __eq__(self, other) -> bool:
        return _is_wrapper(other) and self._qt is other._qt

    def __hash__(self) -> int:
        return hash(id(self._qt))

    def __bool__(self) -> bool:
        return shiboken6.isValid(self._qt)

    def __dir__(self):
        meta = self._qt.metaObject()
        return sorted({meta.property(i).name() for i in range(meta.propertyCount())} | set(dir(type(self._qt))))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} '{self._qt.objectName()}'>"

    def connect(self, signature: str, function: Callable) -> bool:
        """Connect by signature, such as 'clicked(bool)'; one that does not exist raises."""
        normalized = _normalized(signature)
        if self._qt.metaObject().indexOfSignal(normalized) < 0:
            raise ValueError(f"{type(self).__name__} has no signal {signature}")
        slot = accepting_fewer_arguments(function, self._qt)
        StrictObject._connections[id(self._qt), normalized, function] = slot
        return bool(QObject.connect(self._qt, SIGNAL(normalized), slot))

    def disconnect(self, signature: str, function: Callable) -> bool:
        normalized = _normalized(signature)
        slot = StrictObject._connections.pop((id(self._qt), normalized, function), None)
        return slot is not None and bool(QObject.disconnect(self._qt, SIGNAL(normalized), slot))

    def className(self) -> str:
        return self._qt.metaObject().className()


def _calling(function):
    def call(*arguments, **keywords):
        return wrap(function(*_adapted(arguments), **{key: unwrap(value) for key, value in keywords.items()}))

    call.__name__ = getattr(function, "__name__", "call")
    return call if callable(function) else wrap(function)


def _adapted(arguments):
    """Arguments for PySide; Python functions among them (QTimer.singleShot) report their errors."""
    return [accepting_fewer_arguments(a) if inspect.isfunction(a) or inspect.ismethod(a) else unwrap(a) for a in arguments]


_classes: dict[type, StrictMeta] = {QObject: StrictObject}


def strict_class(qt_class: type) -> StrictMeta:
    """Return the wrapper class of a QObject class, below the wrapper class of its base."""
    if qt_class not in _classes:
        base = next(b for b in qt_class.__mro__[1:] if isinstance(b, type) and issubclass(b, QObject))
        _classes[qt_class] = StrictMeta(qt_class.__name__, (strict_class(base),), {"qt_class": qt_class})
    return _classes[qt_class]


type.__setattr__(StrictObject, "qt_class", QObject)


class _ValueNamespace:
    """A class of values (QUrl, QSize, Qt itself): made as PySide makes it, with its enums on the class."""

    def __init__(self, qt_class):
        self._class = qt_class

    def __call__(self, *arguments):
        return self._class(*map(unwrap, arguments))

    def __getattr__(self, name: str):
        if (found := _enum_value(self._class, name)) is not None:
            return found
        value = getattr(self._class, name)
        if inspect.isclass(value) and issubclass(value, enum.Enum):
            raise AttributeError(f"{self._class.__name__}.{name}: the values of an enum sit on the class itself")
        return _calling(value) if callable(value) else value

    def __instancecheck__(self, instance) -> bool:
        return isinstance(instance, self._class)

    def __mro_entries__(self, bases) -> tuple:
        """PythonQt's value classes can be derived from, as Slicer's own parameterNodeWrapper does with QColor."""
        return (self._class,)


def qt_names() -> dict[str, object]:
    """Return the content of the module `qt`: every class of QtCore, QtGui and QtWidgets, and QUiLoader."""
    from PySide6.QtUiTools import QUiLoader

    names: dict[str, object] = {}
    for module in (QtCore, QtGui, QtWidgets):
        for name in dir(module):  # not vars: PySide makes its classes when they are first asked for
            value = getattr(module, name) if name.startswith("Q") else None
            if not inspect.isclass(value):
                continue
            names[name] = strict_class(value) if issubclass(value, QObject) else _ValueNamespace(value)
    names["QUiLoader"] = strict_class(QUiLoader)
    names["QFileDialog"] = _FileDialog
    return names


class _FileDialog:
    """PythonQt's file dialogs return the path alone, not the path and the filter."""

    @staticmethod
    def getOpenFileName(*arguments) -> str:
        return QtWidgets.QFileDialog.getOpenFileName(*map(unwrap, arguments))[0]

    @staticmethod
    def getSaveFileName(*arguments) -> str:
        return QtWidgets.QFileDialog.getSaveFileName(*map(unwrap, arguments))[0]

    @staticmethod
    def getExistingDirectory(*arguments) -> str:
        return QtWidgets.QFileDialog.getExistingDirectory(*map(unwrap, arguments))
