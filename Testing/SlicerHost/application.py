"""The application: scene, views, `slicer.app`, `slicer.modules`, and the import of a scripted module.

Real: Qt, MRML and its displayable managers, slice and 3D views (off screen, by trame-slicer), `slicer.util`, QProcess.
Stand-ins: `qt` and `ctk` (strict.py, widgets.py), `ScriptedLoadableModule`, `parameterNodeWrapper`, `SampleData`.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import types
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.request import urlretrieve

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import slicer
import slicer.util
import vtk
from PySide6.QtCore import Property, QObject, QSettings, Qt, Signal
from PySide6.QtUiTools import QUiLoader
from PySide6.QtWidgets import QApplication, QVBoxLayout

from . import parameter_node, scripted_module
from .strict import qt_names, strict_class, wrap
from .widgets import CTK, QMRML, qMRMLWidget


class HostApplication(QApplication):
    """What `slicer.app` is: the application with Slicer's own methods."""

    startupCompleted = Signal()

    def __init__(self, home: Path):
        QApplication.setAttribute(Qt.ApplicationAttribute.AA_ShareOpenGLContexts)
        super().__init__(["SlicerHost"])
        self.setApplicationName("SlicerHost")
        self._home = str(home)
        self._temporary = tempfile.TemporaryDirectory(prefix="SlicerHost")
        self._module_manager = ModuleManager(self)
        self._settings = QSettings(f"{self._temporary.name}/settings.ini", QSettings.Format.IniFormat)

    @cached_property
    def core(self):
        """Scene and logics, by trame-slicer."""
        from trame_slicer.core.slicer_app import SlicerApp

        vtk.vtkObject.GlobalWarningDisplayOff()
        return SlicerApp()

    @cached_property
    def _layout_manager(self) -> LayoutManager:
        return LayoutManager(self.core)

    slicerHome = Property(str, lambda self: self._home)
    temporaryPath = Property(str, lambda self: self._temporary.name)
    majorVersion = Property(int, lambda self: 5)
    minorVersion = Property(int, lambda self: 11)
    applicationVersion = Property(str, lambda self: "5.11.0")

    def applicationLogic(self):
        return self.core.app_logic

    def mrmlScene(self):
        return self.core.scene

    def layoutManager(self):
        return self._layout_manager

    def moduleManager(self) -> ModuleManager:
        return self._module_manager

    def userSettings(self) -> QSettings:
        return self._settings

    def testingEnabled(self) -> bool:
        return True


class ModuleManager(QObject):
    """The part of qSlicerModuleManager that Slicer's own ScriptedLoadableModuleWidget connects to."""

    moduleAboutToBeUnloaded = Signal(str)


class DrawnByWindow:
    """Views are drawn when a window or a test asks for it, never inside a slot of the module: Slicer, too, draws later."""

    def set_abstract_view(self, view) -> None:
        """No view is needed."""

    def schedule_render(self) -> None:
        """Left to the window."""

    def did_render(self) -> None:
        """Nothing waits."""


class LayoutManager:
    """The part of qMRMLLayoutManager that the module uses."""

    def __init__(self, core):
        self._core = core
        self._slices: dict[str, SliceWidget] = {}
        self.layout = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView

    def setLayout(self, layout: int) -> None:
        self.layout = layout

    def _shows(self, what: str) -> bool:
        """False for a view that the layout does not have: it is None then, as in Slicer."""
        node = slicer.vtkMRMLLayoutNode
        without = {
            "Red": (node.SlicerLayoutOneUp3DView, node.SlicerLayoutOneUpYellowSliceView, node.SlicerLayoutOneUpGreenSliceView),
            "3D": (
                node.SlicerLayoutOneUpRedSliceView,
                node.SlicerLayoutOneUpYellowSliceView,
                node.SlicerLayoutOneUpGreenSliceView,
            ),
        }
        return self.layout not in without[what]

    def sliceViewNames(self) -> tuple[str, ...]:
        return ("Red",)

    def sliceWidget(self, name: str) -> SliceWidget | None:
        if name != "Red" or not self._shows("Red"):
            return None
        if name not in self._slices:
            from trame_slicer.views.slice_view import SliceView

            view = SliceView(self._core.scene, self._core.app_logic, name, scheduled_render_strategy=DrawnByWindow())
            view.render_window().SetSize(500, 700)
            view._logic.ResizeSliceNode(500, 700)
            self._slices[name] = SliceWidget(view)
        return self._slices[name]

    @property
    def threeDViewCount(self) -> int:
        return int(self._shows("3D"))

    @cached_property
    def _three_d(self) -> ThreeDWidget:
        from trame_slicer.views.threed_view import ThreeDView

        view = ThreeDView(self._core.scene, self._core.app_logic, "View1", scheduled_render_strategy=DrawnByWindow())
        view.render_window().SetSize(700, 700)
        return ThreeDWidget(view)

    def threeDWidget(self, index: int) -> ThreeDWidget | None:
        return self._three_d if index < self.threeDViewCount else None

    def resetThreeDViews(self) -> None:
        self._three_d.threeDView().resetFocalPoint()

    def resetSliceViews(self) -> None:
        for widget in self._slices.values():
            widget.fitSliceToBackground()


class SliceWidget:
    """The part of qMRMLSliceWidget that the module uses; `view` is the host's own door for pictures and clicks."""

    def __init__(self, view):
        self.view = view

    def sliceLogic(self):
        return self.view._logic

    def mrmlSliceNode(self):
        return self.view.get_view_node()

    def fitSliceToBackground(self) -> None:
        self.view.fit_view_to_content()


class ThreeDWidget:
    """The part of qMRMLThreeDWidget that the module uses."""

    def __init__(self, view):
        self.view = view

    def threeDView(self) -> ThreeDWidget:
        return self

    def resetFocalPoint(self) -> None:
        self.view.reset_focal_point()

    def resetCamera(self) -> None:
        self.view.reset_camera()

    def rotateToViewAxis(self, axis: int) -> None:
        camera = slicer.vtkMRMLCameraNode
        axes = (camera.Right, camera.Left, camera.Posterior, camera.Anterior, camera.Inferior, camera.Superior)
        self.view.get_camera_node().RotateTo(axes[axis])

    def mrmlViewNode(self):
        return self.view.get_view_node()


@dataclass
class SampleSource:
    """What a module registers with the Sample Data module."""

    category: str
    sampleName: str
    customDownloader: object
    thumbnailFileName: str | None = None
    uris: object = None
    fileNames: object = None
    nodeNames: object = None
    loadFileType: object = None


class SampleDataLogic:
    """Keeps what modules register; `slicer.modules.sampleDataSources` in Slicer."""

    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom", sampleName=None, uris=None, fileNames=None, nodeNames=None, customDownloader=None,
        thumbnailFileName=None, loadFileType="VolumeFile", loadFiles=None, loadFileProperties=None, checksums=None,
    ) -> None:  # fmt: skip
        source = SampleSource(category, sampleName, customDownloader, thumbnailFileName, uris, fileNames, nodeNames)
        slicer.modules.sampleDataSources.setdefault(category, []).append(source)

    def downloadSamples(self, sampleName) -> list:
        """From Python, Slicer passes the custom downloader over; without node names, paths of the files are returned."""
        sources = [s for of_category in slicer.modules.sampleDataSources.values() for s in of_category]
        found = next(source for source in sources if source.sampleName == sampleName)
        folder, paths = tempfile.mkdtemp(prefix="SlicerCache"), []
        for uri, name in zip(found.uris, found.fileNames, strict=True):
            paths.append(os.path.join(folder, name))
            urlretrieve(uri, paths[-1])
        return paths

    def downloadSample(self, sampleName):
        return self.downloadSamples(sampleName)[0]


@dataclass
class ModuleEntry:
    """What `parent` is for a ScriptedLoadableModule: qSlicerScriptedLoadableModule."""

    path: str
    title: str = ""
    categories: list = field(default_factory=list)
    dependencies: list = field(default_factory=list)
    contributors: list = field(default_factory=list)
    helpText: str = ""
    acknowledgementText: str = ""
    icon: object = None


_application: HostApplication | None = None


def start() -> HostApplication:
    """Make the application once, and the modules `qt`, `ctk` and what `slicer` lacks; returns Qt's own object."""
    global _application
    if _application is not None:
        return _application
    home = Path(tempfile.mkdtemp(prefix="SlicerHome"))
    _write_python_slicer(home)
    _application = HostApplication(home)
    qt = types.ModuleType("qt")
    vars(qt).update(qt_names())
    qt.QUiLoader = _ui_loader
    ctk = types.ModuleType("ctk")
    for widget in CTK:
        setattr(ctk, widget.__name__, strict_class(widget))
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr, i18n.translate = lambda text: text, lambda context, text: text
    scripted = types.ModuleType("slicer.ScriptedLoadableModule")
    vars(scripted).update({name: value for name, value in vars(scripted_module).items() if name.startswith("Scripted")})
    sample_data = types.ModuleType("SampleData")
    sample_data.SampleDataLogic = SampleDataLogic
    sys.modules.update(
        {
            "qt": qt,
            "ctk": ctk,
            "slicer.i18n": i18n,
            "slicer.ScriptedLoadableModule": scripted,
            "slicer.parameterNodeWrapper": parameter_node.module(),
            "SampleData": sample_data,
        }
    )
    for widget in QMRML:
        setattr(slicer, widget.__name__, strict_class(widget))
    slicer.app = wrap(_application)
    slicer.mrmlScene = _application.core.scene
    _application.layoutManager().sliceWidget("Red")
    _application.layoutManager().threeDWidget(0)
    slicer.modules = types.SimpleNamespace(sampleDataSources={})
    slicer.modules.markups = types.SimpleNamespace(logic=lambda: _application.core.app_logic.GetModuleLogic("Markups"))
    use_sources_of_slicer(os.environ.get("SLICER_PYTHON_SOURCES"))
    return _application


def use_sources_of_slicer(folder: str | None) -> None:
    """Take `parameterNodeWrapper` and `ScriptedLoadableModule` from Slicer's own sources (its Base/Python), where given."""
    if not folder:
        return
    package = Path(folder) / "slicer"
    if not (package / "parameterNodeWrapper").is_dir():
        raise FileNotFoundError(f"{folder} is not Slicer's Base/Python: it holds no slicer/parameterNodeWrapper")
    slicer.__path__.append(str(package))
    # They name many widgets in annotations that this host has no need of.
    sys.modules["ctk"].__getattr__ = slicer.__getattr__ = _placeholder
    trees = types.ModuleType("qSlicerSubjectHierarchyModuleWidgetsPythonQt")
    trees.qMRMLSubjectHierarchyTreeView = _placeholder("qMRMLSubjectHierarchyTreeView")
    sys.modules[trees.__name__] = trees
    for name in ("slicer.parameterNodeWrapper", "slicer.ScriptedLoadableModule"):
        sys.modules.pop(name, None)
        importlib.import_module(name)


def _placeholder(name: str) -> type:
    """A class of that name that nothing is an instance of."""
    if not name.startswith(("ctk", "qMRML", "qSlicer")):
        raise AttributeError(name)
    return type(name, (), {})


def _ui_loader():
    loader = QUiLoader()
    for widget in (*CTK, *QMRML):
        loader.registerCustomWidget(widget)
    return wrap(loader)


def _write_python_slicer(home: Path) -> None:
    """`bin/PythonSlicer`, the interpreter that the module starts: here the one that runs the host."""
    script = home / "bin" / "PythonSlicer"
    script.parent.mkdir()
    # A launcher, as in Slicer: Python is its child, not itself; input, output and exit code are passed on.
    script.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\ncode=$?\nexit $code\n')
    script.chmod(0o755)


def load_module(path: Path):
    """Import a scripted module as Slicer does, make its entry and its panel; returns the panel (the module's Widget)."""
    start()
    name = path.stem
    sys.path.insert(0, str(path.parent))
    source = importlib.import_module(name)
    entry = ModuleEntry(str(path))
    entry.module = getattr(source, name)(entry)
    setattr(slicer.modules, name.lower(), entry)
    _application.startupCompleted.emit()
    parent = qMRMLWidget()
    parent.setLayout(QVBoxLayout())
    parent.resize(480, 1400)
    widget = getattr(source, f"{name}Widget")(wrap(parent))
    setattr(slicer.modules, f"{name}Widget", widget)
    widget.setup()
    return widget
