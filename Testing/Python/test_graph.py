"""The graph of stages on small stages that write text: keys, branches, checkpoints, damage; no video, no network."""

import json
import sys
import types
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import BreastReconstructionLib as br
from BreastReconstructionLib.core.case import Case
from BreastReconstructionLib.core.errors import CaseError, FitError, OptionError
from BreastReconstructionLib.core.options import option
from BreastReconstructionLib.core.progress import CancellationToken
from BreastReconstructionLib.core.run import Job, Outcome, StageState, run, states
from BreastReconstructionLib.core.settings import Settings, read_settings, write_settings
from BreastReconstructionLib.core.stage import Capability, Stage, dependents, stage_named
from Testing.conftest import assert_one_sentence, run_cli

pytestmark = pytest.mark.fast


@dataclass(frozen=True)
class Words:
    """Options of the small stages."""

    word: str = option("a", help="a word")
    times: int = option(1, within=(1, 9), help="how often")


@dataclass(frozen=True)
class OtherWords:
    """The same under other names."""

    other_word: str = option("b", help="a word")


@dataclass(frozen=True)
class Text:
    """Their result."""

    text: str

    @classmethod
    def load(cls, folder: Path):
        return cls((folder / "text.txt").read_text())


def write(options, inputs, folder, progress):
    (folder / "text.txt").write_text(options.word * options.times)
    progress(0.5, "half")


def join(options, inputs, folder, progress):
    (folder / "text.txt").write_text(inputs.result(FIRST).text + options.other_word)


def count(options, inputs, folder, progress):
    """Counts to three with a checkpoint each; what lies there is not done again."""
    kept = inputs.work_folder() / "count.txt"
    start = int(kept.read_text()) if kept.exists() else 0
    STEPS.append(start)
    for i in range(start, 3):
        kept.write_text(str(i + 1))
        progress(i / 3, "counting")
    (folder / "text.txt").write_text(inputs.result(FIRST).text)


def fail(options, inputs, folder, progress):
    raise FitError("It does not fit.")


def beyond(options, inputs, folder, progress):
    inputs.result(JOINED)


STEPS: list[int] = []
module = types.ModuleType("BreastReconstructionLib.small_stages")
for function in (write, join, count, fail, beyond, Text):
    setattr(module, function.__name__, function)


def small(name, options, work, needs=(), **more):
    return Stage(name=name, title=name, options=options, result="small_stages:Text", work=f"small_stages:{work}", needs=needs,
                 revision=1, share=0.25, **more)  # fmt: skip


@dataclass(frozen=True)
class None1:
    """No options."""


FIRST = small("first", Words, "write")
JOINED = small("joined", OtherWords, "join", (FIRST,), publishes=("joined/text.txt",))
COUNTED = small("counted", None1, "count", (FIRST,))
SMALL = Capability("small", (FIRST, JOINED, COUNTED), "")


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "BreastReconstructionLib.small_stages", module)
    STEPS.clear()


def outcomes(folder, settings=None, goals=SMALL.stages, capability=SMALL, token=None):
    events = []
    run(folder, capability, settings or Settings(), goals, events.append, token)
    return {event.stage: event.outcome for event in events if event.finished}


def with_values(**values):
    return Settings().with_values(SMALL.stages, values)


def test_a_second_run_skips_everything_and_says_so_by_a_value(tmp_path):
    assert set(outcomes(tmp_path).values()) == {Outcome.DONE}
    assert set(outcomes(tmp_path).values()) == {Outcome.SKIPPED}
    assert Case(tmp_path).result(JOINED).text == "ab"
    assert (tmp_path / "text.txt").read_text() == "ab"  # published


def test_invalidation_follows_the_graph_not_the_position(tmp_path):
    outcomes(tmp_path)
    changed = outcomes(tmp_path, with_values(other_word="c"))
    assert changed == {"first": Outcome.SKIPPED, "joined": Outcome.DONE, "counted": Outcome.SKIPPED}
    changed = outcomes(tmp_path, with_values(other_word="c", word="z"))
    assert set(changed.values()) == {Outcome.DONE}


def test_only_what_is_wanted_runs(tmp_path):
    assert outcomes(tmp_path, goals=(COUNTED,)) == {"first": Outcome.DONE, "counted": Outcome.DONE}
    found = states(Case(tmp_path), SMALL, Settings())
    assert found == {"first": StageState.DONE, "joined": StageState.NOT_DONE, "counted": StageState.DONE}


def test_an_option_that_is_added_later_leaves_old_cases_up_to_date(tmp_path):
    outcomes(tmp_path)

    @dataclass(frozen=True)
    class More(Words):
        """With one more."""

        loud: bool = option(False, help="in capitals")

    later = replace(FIRST, options=More)
    case = Case(tmp_path)
    capability = Capability("small", (later,), "")
    assert Job(case, capability, Settings()).state(later) is StageState.DONE
    loud = Settings().with_values((later,), {"loud": True})
    assert Job(case, capability, loud).state(later) is StageState.OUT_OF_DATE


def test_a_revision_makes_old_results_out_of_date_and_a_version_does_not(tmp_path, monkeypatch):
    outcomes(tmp_path)
    monkeypatch.setattr("BreastReconstructionLib.core.case.__version__", "99.0")
    assert set(outcomes(tmp_path).values()) == {Outcome.SKIPPED}
    newer = replace(FIRST, revision=2)
    assert Job(Case(tmp_path), Capability("small", (newer,), ""), Settings()).state(newer) is StageState.OUT_OF_DATE


def test_a_checkpoint_survives_cancelling_and_goes_with_the_end(tmp_path):
    class AfterTwo(CancellationToken):
        asked = 0

        @property
        def cancelled(self):
            self.asked += 1
            return (tmp_path / "work" / "counted" / "count.txt").exists()

    events = []
    with pytest.raises(Exception, match="Cancelled"):
        run(tmp_path, SMALL, Settings(), (COUNTED,), events.append, AfterTwo())
    assert events[-1].outcome is Outcome.CANCELLED
    assert (tmp_path / "work" / "counted" / "count.txt").read_text() == "1"
    assert not (tmp_path / "counted.partial").exists()
    outcomes(tmp_path, goals=(COUNTED,))
    assert STEPS == [0, 1]
    assert not (tmp_path / "work").exists()


def test_a_checkpoint_of_other_inputs_is_not_used(tmp_path):
    case = Case(tmp_path, create=True)
    (case.work_folder(COUNTED, "old key") / "count.txt").write_text("2")
    outcomes(tmp_path, goals=(COUNTED,))
    assert STEPS == [0]


def test_a_failed_stage_says_so_and_loses_nothing(tmp_path):
    outcomes(tmp_path)
    broken = small("broken", None1, "fail", (FIRST,))
    events = []
    with pytest.raises(FitError):
        run(tmp_path, Capability("small", (*SMALL.stages, broken), ""), Settings(), (broken,), events.append)
    assert events[-1].outcome is Outcome.FAILED
    assert set(outcomes(tmp_path).values()) == {Outcome.SKIPPED}


def test_a_stage_may_use_only_what_it_says_it_needs(tmp_path):
    nosy = small("nosy", None1, "beyond", (FIRST,))
    with pytest.raises(ValueError, match="nosy does not say that it needs joined"):
        run(tmp_path, Capability("small", (*SMALL.stages, nosy), ""), Settings(), (nosy,))


def test_a_result_file_that_is_missing_is_said_and_made_again(tmp_path):
    outcomes(tmp_path)
    (tmp_path / "first" / "text.txt").unlink()
    with pytest.raises(CaseError, match=r"lacks the file first/text\.txt; run the stage first again"):
        Case(tmp_path).result(FIRST)
    assert set(outcomes(tmp_path).values()) == {Outcome.DONE}, "and all that was made from it"


def test_a_published_file_that_was_removed_comes_back(tmp_path):
    outcomes(tmp_path)
    (tmp_path / "text.txt").unlink()
    assert outcomes(tmp_path)["joined"] is Outcome.DONE
    assert (tmp_path / "text.txt").exists()


def test_results_of_no_stage_and_of_no_case(tmp_path):
    with pytest.raises(CaseError, match="does not exist"):
        Case(tmp_path / "nowhere")
    with pytest.raises(CaseError, match="has no first yet"):
        Case(tmp_path).result(FIRST)


def test_who_depends_on_whom():
    assert dependents(FIRST, SMALL.stages) == (JOINED, COUNTED)
    assert JOINED.before() == (FIRST,)
    with pytest.raises(OptionError, match="There is no stage 'frist'; the stages are first, joined, counted"):
        stage_named("frist", SMALL.stages)


@pytest.mark.parametrize(
    ("document", "error", "words"),
    [
        ({"format": 1, "first": {"wrod": "x"}}, OptionError, "no option 'wrod'; its options are word, times"),
        ({"format": 1, "first": {"times": "three"}}, OptionError, "times must be a whole number, not 'three'"),
        ({"format": 1, "first": {"times": True}}, OptionError, "times must be a whole number, not True"),
        ({"format": 1, "first": {"times": 12}}, OptionError, "times must be from 1 to 9, not 12"),
        ({"format": 1, "frist": {}}, OptionError, "unknown stage 'frist'"),
        ({"format": 9}, CaseError, "newer version"),
        ({}, CaseError, "is damaged"),
        ([], CaseError, "is damaged"),
        ({"format": 1, "first": 7}, CaseError, "is damaged"),
    ],
)
def test_bad_settings_are_one_sentence_and_stay(tmp_path, document, error, words):
    text = json.dumps(document)
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(error, match=words.replace("(", r"\(")):
        read_settings(tmp_path, SMALL.stages)
    assert (tmp_path / "settings.json").read_text() == text


def test_settings_of_other_capabilities_are_kept(tmp_path):
    write_settings(tmp_path, (FIRST,), Settings().with_options(FIRST, word="x"))
    write_settings(tmp_path, (JOINED,), Settings().with_options(JOINED, other_word="y"))
    read = read_settings(tmp_path, SMALL.stages)
    assert (read.of(FIRST).word, read.of(JOINED).other_word) == ("x", "y")
    with pytest.raises(OptionError, match="There is no option 'colour'"):
        Settings().with_values(SMALL.stages, {"colour": 1})


# At the door -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "code", "words"),
    [
        ({"format": 1, "surface": {"detial_mm": 1.0}}, 2, "no option 'detial_mm'; its options are detail_mm"),
        ({"format": 1, "surface": {"detail_mm": "fine"}}, 2, "detail_mm must be a number, not 'fine'"),
        (
            {"format": 1, "surface": {"detail_mm": 0.1}},
            2,
            "detail_mm must be preview, normal, fine, or a number from 0.4 to 10 mm",
        ),
        ({"format": 1, "frames": {"strategy": "best"}}, 2, "strategy must be one of sharp, uniform, not 'best'"),
        ({"format": 7}, 9, "newer version"),
        (None, 9, "holds no settings.json"),
    ],
)
def test_a_case_whose_settings_are_wrong_is_one_sentence(tmp_path, document, code, words):
    if document is not None:
        (tmp_path / "settings.json").write_text(json.dumps(document))
    before = sorted(path.name for path in tmp_path.iterdir())
    assert_one_sentence(run_cli("run", tmp_path), code, words)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_stage_that_is_misspelt_and_a_case_that_is_not_there(tmp_path):
    assert_one_sentence(run_cli("run", tmp_path, "--until", "surfaec"), 2, "There is no stage 'surfaec'", "surface, report")
    assert_one_sentence(run_cli("run", tmp_path / "nowhere"), 9, "does not exist")


def test_from_python_too(tmp_path):
    with pytest.raises(br.BreastReconstructionError, match="There is no option 'colour'"):
        br.reconstruct(tmp_path, video="video.mp4", colour="red")
    with pytest.raises(br.BreastReconstructionError, match="frame_count must be from 8 to 1000, not 3"):
        br.reconstruct(tmp_path, video="video.mp4", frame_count=3)
    with pytest.raises(br.BreastReconstructionError, match="has no surface yet"):
        _ = br.open_case(tmp_path).surface
    assert list(tmp_path.iterdir()) == []
