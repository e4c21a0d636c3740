"""Section Setup: what is installed, the device, and the one place where anything is installed."""

import importlib.util
import re
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from BreastReconstructionLib.core.environment import PACKAGES, installed_packages
from BreastReconstructionLib.core.private_python import private_interpreter, problem_here, remove_private_python

from .process import CANCELLED, DONE, python_slicer

# What Slicer brings and is loaded in it: pip must leave them as they are.
KEPT_AS_THEY_ARE = ("numpy", "scipy", "vtk", "SimpleITK")


class SetupSection:
    """Says what is missing and installs it when the user clicks."""

    def __init__(self, module, make_process):
        self._module, self._ui = module, module.ui
        self._device, self._found = "", None
        self._process = make_process(lambda event: None, self._on_environment)
        # Made by Slicer's own Python: the private one may be what is to be made anew.
        self.maker = make_process(self._on_making, self._on_made, interpreter=lambda: python_slicer())
        self._ui.installButton.clicked.connect(self._install)
        self._ui.privatePythonButton.clicked.connect(self._on_private_python)

    def refresh(self) -> None:
        """Look at the packages again; nothing is imported."""
        private = private_interpreter() is not None
        # What the private Python holds, only it can tell.
        packages = (self._found or {}) if private else installed_packages()
        missing = self._missing(packages)
        problem = "" if private else problem_here()
        self._ui.installButton.enabled = bool(missing) and not private and not problem and not self.maker.running
        self._ui.privatePythonButton.enabled = not self.maker.running
        self._ui.privatePythonButton.text = _("Remove the private Python") if private else _("Use a private Python…")
        if problem:
            self._ui.setupState.text = _("Not ready: {problem}").format(problem=problem)
        elif missing:
            self._ui.setupState.text = _("Not ready: {names} missing or too old.").format(names=", ".join(missing))
        else:
            place = _("In the private Python. ") if private else ""
            self._ui.setupState.text = _("Ready. {place}{device}").format(place=place, device=self._device)
        self._ui.packagesLabel.text = ", ".join(f"{name} {version or '–'}" for name, version in packages.items())

    def ask_for_device(self) -> None:
        """Find the device in a process of its own, since that imports torch."""
        if not self._device and not self._process.running:
            self._process.start(["environment"])

    def stop(self) -> None:
        """End the processes."""
        self._process.stop()
        self.maker.stop()

    def _on_environment(self, outcome) -> None:
        if outcome.kind == DONE:
            self._device = _("Computes on {device}.").format(device=outcome.result["device"])
            self._found = outcome.result["packages"]
        self.refresh()

    def _look_again(self) -> None:
        importlib.invalidate_caches()
        self._device, self._found = "", None
        self.refresh()
        self.ask_for_device()

    # Into Slicer's own Python ------------------------------------------------------------------------------------------

    def _install(self) -> None:
        missing = self._missing(installed_packages())
        self._module.say(_("Installing; this takes some minutes …"))
        try:
            self._module.say(self._installed(missing))
        except Exception as error:  # pip's and the network's errors are of many kinds
            self._module.say(_("The installation failed: {error}").format(error=error))
        self._look_again()

    def _installed(self, missing: list) -> str:
        """Install packages by name; returns what to say."""
        if "torch" in missing:
            if importlib.util.find_spec("PyTorchUtils") is None:
                return _("Install the extension PyTorch by Slicer's Extensions Manager, restart Slicer, and press Install again.")
            import PyTorchUtils

            if PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True) is None:
                return _("PyTorch was not installed, so nothing else was; press Install again when you want it.")
        wanted = [line for line in self.requirements() if _name_of(line) in missing]
        with tempfile.TemporaryDirectory(prefix="BreastReconstruction") as folder:
            constraints = Path(folder) / "constraints.txt"
            constraints.write_text("".join(f"{line}\n" for line in constraints_of_slicer()))
            try:
                from slicer.packaging import pip_ensure  # Slicer 5.12 and later; asks, and offers a restart where one is needed
            except ImportError:
                slicer.util.pip_install([*wanted, "-c", str(constraints)])
            else:
                try:
                    pip_ensure(wanted, constraints=constraints, requester="BreastReconstruction")
                except RuntimeError:  # declined
                    return _("Nothing was installed; press Install again when you want it.")
        # The work is done in a process of its own, which finds the packages at once: no restart is needed.
        return _("Installed.")

    def _missing(self, packages: dict) -> list:
        """Return the names of what is not there, or is older than requirements.txt asks for."""
        least = {_name_of(line): line.partition(">=")[2] for line in self.requirements()}
        return [name for name, version in packages.items() if version is None or _older(version, least.get(name, ""))]

    def requirements(self) -> list:
        """Return the lines of requirements.txt."""
        with open(self._module.resourcePath("requirements.txt")) as file:
            return [line.strip() for line in file if line.strip()]

    # A private Python --------------------------------------------------------------------------------------------------

    def _on_private_python(self) -> None:
        if private_interpreter() is not None:
            remove_private_python()
            self._module.say(_("The private Python is removed; Slicer's own is used."))
            self._look_again()
            return
        question = _(
            "This fetches a Python of its own with PyTorch and the other packages from the internet (about 1 GB, some minutes) "
            "into your home folder. Slicer's own Python is left as it is. Go on?"
        )
        if not ask(self._module.parent, _("Private Python"), question):
            self._module.say(_("Nothing was installed."))
            return
        self._module.say(_("Making the private Python; this takes some minutes …"))
        self._lines = Path(tempfile.mkdtemp(prefix="BreastReconstruction"))
        # What Slicer brings is not in the list, and is needed there.
        lines = ["torch", *KEPT_AS_THEY_ARE, *self.requirements()]
        (self._lines / "requirements.txt").write_text("\n".join(lines) + "\n")
        self.maker.start(["private-python", self._lines / "requirements.txt"])
        self.refresh()

    def _on_making(self, event) -> None:
        if event["event"] == "progress":
            self._module.say(_("Private Python: {words} …").format(words=event["words"]))

    def _on_made(self, outcome) -> None:
        shutil.rmtree(self._lines, ignore_errors=True)
        if outcome.kind == DONE:
            self._module.say(_("The private Python is ready and will be used."))
        elif outcome.kind == CANCELLED:
            self._module.say(_("Nothing was installed."))
        else:
            self._module.say(outcome.sentence)
        self._look_again()


def ask(parent, title: str, question: str) -> bool:
    """Ask the user; True for yes."""
    return qt.QMessageBox.question(parent, title, question) == qt.QMessageBox.Yes


def constraints_of_slicer() -> list:
    """Return 'name==version' of what Slicer brings, so that pip does not change it under a running Slicer."""
    lines = []
    for name in KEPT_AS_THEY_ARE:
        try:
            lines.append(f"{name}=={metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue  # Slicer builds VTK and SimpleITK without pip's knowledge; nothing that is installed here asks for them
    return lines


def _older(version: str, least: str) -> bool:
    """True if a version is known and below the least one, by their numbers."""
    numbers = [[int(number) for number in re.findall(r"\d+", text)[:3]] for text in (version, least)]
    return bool(version) and numbers[0] < numbers[1]


def _name_of(requirement: str) -> str:
    """Name of a requirement's package, as PACKAGES spells it."""
    name = requirement
    for sign in "<>=!~[ ;":
        name = name.split(sign)[0]
    return next((known for known in PACKAGES.values() if known.lower() == name.lower()), name)
