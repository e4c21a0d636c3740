"""One run of a case in the background: what it says, how far it is, and how it ended."""

import time
from pathlib import Path

import qt
from slicer.i18n import tr as _

from BreastReconstructionLib.capabilities import STAGES, capability_of
from BreastReconstructionLib.capabilities.torso.stages import FRAMES
from BreastReconstructionLib.core.errors import BreastReconstructionError
from BreastReconstructionLib.core.run import Outcome
from BreastReconstructionLib.core.settings import write_settings

from .parameters import settings_of
from .process import DONE


class Run:
    """Starts the stages of a case up to one, and tells the panel what becomes of them.

    Args:
        module: the panel; its `stage_done(stage, skipped)` and `run_ended(finished)` are called.
        make_process: see LibraryProcess.
    """

    def __init__(self, module, make_process):
        self._module, self._ui = module, module.ui
        self.process = make_process(self._on_event, self._on_end)
        self.stage, self.percent = "", 0
        self._finished = set()

    @property
    def running(self) -> bool:
        """True while the run goes on."""
        return self.process.running

    def start(self, stages) -> None:
        """Keep the settings with the case, and run it up to the given stages; or say what is missing for that."""
        parameters = self._module.parameters
        films = any(FRAMES in (*stage.before(), stage) and stage in capability_of(FRAMES).stages for stage in stages)
        if films and not parameters.video:
            self._module.say(_("Choose a video first."))
        elif films and not Path(parameters.video).exists():
            self._module.say(_("{path} does not exist; choose the video again.").format(path=parameters.video))
        elif not parameters.case_folder:
            self._module.say(_("Choose a case folder first."))
        elif self._keep_settings():
            self.stage, self.percent, self._finished = "", 0, set()
            self._started, self._first_overall = time.monotonic(), None
            self._ui.progressBar.value = 0
            self._ui.detailsText.clear()
            self._module.say(_("Running …"))
            wanted = [word for stage in stages for word in ("--until", stage.name)]
            self.process.start(["run", str(self._module.case_folder), *wanted])

    def _keep_settings(self) -> bool:
        """Write the settings into the case; False, and a word about it, if that fails."""
        folder = self._module.case_folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_settings(folder, STAGES, settings_of(self._module.parameters, self._module.complete_landmarks()))
            return True
        except OSError:
            self._module.say(_("The case folder cannot be written; choose a folder of your own."))
        except BreastReconstructionError as error:
            self._module.say(str(error))
        return False

    def _on_event(self, event) -> None:
        if event["event"] != "progress":
            return
        overall = event["overall"]
        self.stage, self.percent = event["stage"], round(100 * event["fraction"])
        self._ui.progressBar.value = round(100 * overall)
        if self._first_overall is None:
            self._first_overall = overall
        self._module.say(f"{event['stage']}: {event['words']}. {self._remaining(overall)}")
        outcome = Outcome(event["outcome"])
        if outcome in (Outcome.DONE, Outcome.SKIPPED):
            self._finished.add(event["stage"])
            self._module.stage_done(event["stage"], outcome is Outcome.SKIPPED)

    def _remaining(self, overall: float) -> str:
        done, elapsed = overall - self._first_overall, time.monotonic() - self._started
        if done < 0.05 or elapsed < 3:
            return ""
        seconds = elapsed * (1 - overall) / done
        return _("About {minutes:.0f} min left.").format(minutes=seconds / 60) if seconds > 90 else _("Less than 2 min left.")

    def _on_end(self, outcome) -> None:
        self.stage = ""
        self._ui.detailsText.setPlainText(outcome.details)
        if outcome.kind == DONE:
            self._ui.progressBar.value = 100
            doubts = outcome.result.get("doubts", [])
            self._module.say(_("Done, but DOUBTFUL: {doubts}").format(doubts=" ".join(doubts)) if doubts else _("Done."))
        else:
            self._module.say(outcome.sentence)
        qt.QTimer.singleShot(0, self._module.refresh)
        self._module.run_ended(self._finished if outcome.kind == DONE else set())
