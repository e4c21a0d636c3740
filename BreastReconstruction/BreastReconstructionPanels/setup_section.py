"""Section Setup: what is installed, the device, and the one place where anything is installed."""

import importlib.util

import slicer
from slicer.i18n import tr as _

from BreastReconstructionLib.environment import installed_packages

from .process import DONE, LibraryProcess


class SetupSection:
    """Says what is missing and installs it when the user clicks."""

    def __init__(self, module):
        self._module, self._ui = module, module.ui
        self._device = ""
        self._process = LibraryProcess(lambda event: None, self._on_environment)
        self._ui.installButton.clicked.connect(self._install)

    def refresh(self) -> None:
        """Look at the packages again; nothing is imported."""
        packages = installed_packages()
        missing = [name for name, version in packages.items() if version is None]
        self._ui.installButton.enabled = bool(missing)
        if missing:
            self._ui.setupState.text = _("Not ready: {names} missing.").format(names=", ".join(missing))
        else:
            self._ui.setupState.text = _("Ready. {device}").format(device=self._device)
        self._ui.packagesLabel.text = ", ".join(f"{name} {version or '–'}" for name, version in packages.items())

    def ask_for_device(self) -> None:
        """Find the device in a process of its own, since that imports torch."""
        if not self._device and not self._process.running:
            self._process.start(["environment"])

    def stop(self) -> None:
        """End the process."""
        self._process.stop()

    def _on_environment(self, outcome) -> None:
        if outcome.kind == DONE:
            self._device = _("Computes on {device}.").format(device=outcome.result["device"])
        self.refresh()

    def _install(self) -> None:
        missing = [name for name, version in installed_packages().items() if version is None]
        self._module.say(_("Installing; this takes some minutes …"))
        try:
            if "torch" in missing and not self._install_torch():
                return
            self._install_requirements()
            # The work is done in a process of its own, which finds the packages at once: no restart is needed.
            self._module.say(_("Installed."))
        except Exception as error:  # pip's and the network's errors are of many kinds
            self._module.say(_("The installation failed: {error}").format(error=error))
        importlib.invalidate_caches()
        self._device = ""
        self.refresh()
        self.ask_for_device()

    def _install_torch(self) -> bool:
        if importlib.util.find_spec("PyTorchUtils") is None:
            self._module.say(
                _("Install the extension PyTorch by Slicer's Extensions Manager, restart Slicer, and press Install again.")
            )
            return False
        import PyTorchUtils

        return PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True) is not None

    def _install_requirements(self) -> None:
        path = self._module.resourcePath("requirements.txt")
        if not hasattr(slicer, "packaging"):  # Slicer before 5.12
            slicer.util.pip_install(["-r", path])
            return
        from packaging.requirements import Requirement

        with open(path) as file:
            lines = [line.strip() for line in file]
        slicer.packaging.pip_ensure([Requirement(line) for line in lines if line], requester="BreastReconstruction")
