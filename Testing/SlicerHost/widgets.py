"""The few CTK and qMRML widgets that the module's .ui names, with the properties and signals that it uses."""

from __future__ import annotations

import enum

from PySide6.QtCore import Property, QSize, Qt, Signal
from PySide6.QtWidgets import QDoubleSpinBox, QFileDialog, QHBoxLayout, QLineEdit, QSlider, QToolButton, QWidget


class qMRMLWidget(QWidget):
    """A widget that knows the scene."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None

    def setMRMLScene(self, scene) -> None:
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self):
        return self._scene


class ctkCollapsibleButton(QWidget):
    """A titled section that folds; the .ui puts its layout straight into it."""

    contentsCollapsed = Signal(bool)
    HEADER = 26

    def __init__(self, parent=None):
        super().__init__(parent)
        self._header = QToolButton(self)
        self._header.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._header.setAutoRaise(False)
        self._header.setStyleSheet("QToolButton { font-weight: bold; text-align: left; padding-left: 6px; }")
        self._header.clicked.connect(lambda: self.setCollapsed(not self._collapsed))
        self._collapsed = False
        self.setContentsMargins(0, self.HEADER, 0, 0)
        self._show_arrow()

    def resizeEvent(self, event) -> None:
        self._header.setGeometry(0, 0, self.width(), self.HEADER)
        super().resizeEvent(event)

    def _show_arrow(self) -> None:
        self._header.setArrowType(Qt.ArrowType.RightArrow if self._collapsed else Qt.ArrowType.DownArrow)

    def isCollapsed(self) -> bool:
        return self._collapsed

    def setCollapsed(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        for child in self.findChildren(QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly):
            if child is not self._header:
                child.setProperty("visibleBefore", child.isVisibleTo(self) if collapsed else child.property("visibleBefore"))
                child.setVisible(False if collapsed else child.property("visibleBefore") is not False)
        self.setMaximumHeight(self.HEADER if collapsed else 16777215)
        self._show_arrow()
        self.contentsCollapsed.emit(collapsed)

    def getText(self) -> str:
        return self._header.text()

    def setText(self, text: str) -> None:
        self._header.setText(text)

    def minimumSizeHint(self) -> QSize:
        return QSize(50, self.HEADER) if self._collapsed else super().minimumSizeHint()

    collapsed = Property(bool, isCollapsed, setCollapsed)
    text = Property(str, getText, setText)


class ctkPathLineEdit(QWidget):
    """A path with a browse button."""

    currentPathChanged = Signal(str)

    class Filter(enum.IntFlag):
        """As in ctkPathLineEdit, which takes them from QDir."""

        Dirs = 0x1
        Files = 0x2
        AllDirs = 0x400

    def __init__(self, parent=None):
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._edit = QLineEdit(self)
        button = QToolButton(self)
        button.setText("…")
        row.addWidget(self._edit)
        row.addWidget(button)
        self._filters = int(self.Filter.Files)
        self._name_filters: list[str] = []
        self._edit.textChanged.connect(self.currentPathChanged)
        button.clicked.connect(self._browse)

    def _browse(self) -> None:
        if self._filters & self.Filter.Files:
            path = QFileDialog.getOpenFileName(self, "", self.getPath(), ";;".join(self._name_filters))[0]
        else:
            path = QFileDialog.getExistingDirectory(self, "", self.getPath())
        if path:
            self.setPath(path)

    def getPath(self) -> str:
        return self._edit.text()

    def setPath(self, path: str) -> None:
        self._edit.setText(path)

    def getFilters(self) -> int:
        return self._filters

    def setFilters(self, filters: int) -> None:
        self._filters = filters

    def getNameFilters(self) -> list:
        return self._name_filters

    def setNameFilters(self, filters: list) -> None:
        self._name_filters = filters

    currentPath = Property(str, getPath, setPath, notify=currentPathChanged)
    filters = Property(int, getFilters, setFilters)
    nameFilters = Property("QStringList", getNameFilters, setNameFilters)


class ctkSliderWidget(QWidget):
    """A slider with a spin box, for floats."""

    valueChanged = Signal(float)
    STEPS = 1000

    def __init__(self, parent=None):
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._slider = QSlider(Qt.Orientation.Horizontal, self)
        self._slider.setRange(0, self.STEPS)
        self._box = QDoubleSpinBox(self)
        row.addWidget(self._slider)
        row.addWidget(self._box)
        self._slider.sliderMoved.connect(lambda step: self.setValue(self._from_step(step)))
        self._box.valueChanged.connect(self._changed)

    def _from_step(self, step: int) -> float:
        return self._box.minimum() + (self._box.maximum() - self._box.minimum()) * step / self.STEPS

    def _show_value(self, value: float) -> None:
        span = self._box.maximum() - self._box.minimum()
        self._slider.setValue(round(self.STEPS * (value - self._box.minimum()) / span) if span else 0)

    def _changed(self, value: float) -> None:
        self._show_value(value)
        self.valueChanged.emit(value)

    def getValue(self) -> float:
        return self._box.value()

    def setValue(self, value: float) -> None:
        self._box.setValue(value)

    def getMinimum(self) -> float:
        return self._box.minimum()

    def setMinimum(self, value: float) -> None:
        self._box.setMinimum(value)
        self._show_value(self._box.value())

    def getMaximum(self) -> float:
        return self._box.maximum()

    def setMaximum(self, value: float) -> None:
        self._box.setMaximum(value)
        self._show_value(self._box.value())

    def getStep(self) -> float:
        return self._box.singleStep()

    def setStep(self, value: float) -> None:
        self._box.setSingleStep(value)

    def getDecimals(self) -> int:
        return self._box.decimals()

    def setDecimals(self, value: int) -> None:
        self._box.setDecimals(value)

    value = Property(float, getValue, setValue, notify=valueChanged)
    minimum = Property(float, getMinimum, setMinimum)
    maximum = Property(float, getMaximum, setMaximum)
    singleStep = Property(float, getStep, setStep)
    decimals = Property(int, getDecimals, setDecimals)


CTK = (ctkCollapsibleButton, ctkPathLineEdit, ctkSliderWidget)
QMRML = (qMRMLWidget,)
