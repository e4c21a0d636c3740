"""Every stage that is listed: command line, panel, parameter node, settings, key and reference page say the same of it."""

import dataclasses
import inspect
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from BreastReconstructionLib.capabilities import CAPABILITIES, STAGES, capability_of
from BreastReconstructionLib.cli.parser import build_parser
from BreastReconstructionLib.core.arguments import settings_of
from BreastReconstructionLib.core.case import Case
from BreastReconstructionLib.core.errors import OptionError
from BreastReconstructionLib.core.options import options_of
from BreastReconstructionLib.core.run import Job
from BreastReconstructionLib.core.settings import Settings, quality_values, read_settings, write_settings
from BreastReconstructionLib.core.stage import resolve
from Testing.option_reference import PAGE, reference

pytestmark = pytest.mark.fast
OPTIONS = [(stage, option) for stage in STAGES for option in options_of(stage.options)]
every_stage = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
every_option = pytest.mark.parametrize(("stage", "option"), OPTIONS, ids=[option.name for _, option in OPTIONS])


def another_value(option):
    """A value that is allowed and not the default."""
    if option.kind is bool:
        return not option.default
    if option.kind is tuple:
        return ("left-nipple:right-nipple=210",) if option.name == "distance" else ("DICT_4X4_50:80",)
    if option.kind is Path:
        return Path("/some/where")
    if option.choices:
        return next(value for value in option.choices if value != option.default)
    if option.kind is str:
        return "vggsfm" if option.name == "cameras" else option.default + " and another"
    return next(value for value in map(option.kind, option.within) if value != option.default)


# What Slicer's parameterNodeWrapper puts into a class, and its base has.
RESERVED = {
    "allParameters", "default", "isCached", "dataType", "getValue", "setValue", "connectGui", "connectParametersToGui",
    "disconnectGui", "StartModify", "EndModify", "AddObserver", "RemoveObserver", "Modified", "parameterNode",
}  # fmt: skip


def test_names_are_unique_everywhere():
    names = [stage.name for stage in STAGES]
    assert len(set(names)) == len(names)
    options = [option.name for _, option in OPTIONS]
    assert len(set(options)) == len(options)
    assert not set(options) & RESERVED
    flags = [option.flag for _, option in OPTIONS]
    assert len(set(flags)) == len(flags)


@every_stage
def test_what_a_stage_names_is_there(stage):
    capability = capability_of(stage)
    earlier = capability.stages[: capability.stages.index(stage)]
    before = [other for other in CAPABILITIES[: CAPABILITIES.index(capability)] for other in other.stages]
    assert set(stage.needs) <= {*before, *earlier}, "a stage comes after what it needs"
    assert list(inspect.signature(resolve(stage.work)).parameters) == ["options", "inputs", "folder", "progress"]
    assert hasattr(resolve(stage.result), "load")
    assert stage.options.__doc__.strip()
    assert dataclasses.fields(stage.options) is not None
    if stage.sources:
        assert list(inspect.signature(resolve(stage.sources)).parameters) == ["settings", "case"]
    if stage.check:
        assert list(inspect.signature(resolve(stage.check)).parameters) == ["settings"]
    assert 0 < stage.share <= 1


def test_shares_are_a_whole():
    for capability in CAPABILITIES:
        assert sum(stage.share for stage in capability.stages) == pytest.approx(1.0)


@every_option
def test_an_option_is_an_argument_with_its_help(stage, option):
    words = {True: [option.flag]}.get(option.kind is bool)
    value = another_value(option)
    if option.flag.startswith("-"):
        texts = [value[0]] if option.kind is tuple else [str(value)]
        switch = option.flag if value is True else option.flag.replace("--", "--no-", 1)
        words = [switch] if option.kind is bool else [option.flag, *texts]
        words = ["video.mp4", *words] if capability_of(stage) is CAPABILITIES[0] else words
    else:
        words = [str(value)]
    required = ["--landmarks", "l.csv"] if option.name != "landmarks" and capability_of(stage) is CAPABILITIES[0] else []
    options = build_parser().parse_args([*stage.command_words, *words, *required, "-o", "case"])
    assert settings_of(options, STAGES).value(stage, option) == value


@every_stage
def test_each_stage_is_a_command_whose_help_names_every_option(stage, capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args([*stage.command_words, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for option in options_of(stage.options):
        assert option.flag in told
        assert option.help.split(",")[0].split("-")[0] in told


def test_quality_is_a_set_of_values():
    draft, normal = (quality_values(STAGES, quality) for quality in ("draft", "normal"))
    assert draft.keys() == normal.keys()
    assert {"frame_count", "feature_pixels", "flow_pixels", "detail_mm"} <= draft.keys()
    options = build_parser().parse_args(["frames", "v.mp4", "--quality", "draft", "--frames", "33", "-o", "case"])
    values = settings_of(options, STAGES).of(STAGES[0])
    assert values.frame_count == 33, "what is given wins over the quality"
    with pytest.raises(OptionError, match="normal or draft"):
        quality_values(STAGES, "best")


def values_of(option):
    """A strategy of values that an option may have."""
    if option.kind is bool:
        return st.booleans()
    if option.kind is tuple:
        return st.lists(st.text(max_size=20), max_size=3).map(tuple)
    if option.kind is Path:
        return st.one_of(st.none(), st.sampled_from([Path("/a/ü b.mp4"), Path("/x")]))
    if option.choices:
        return st.sampled_from(list(option.choices))
    if option.kind is str:
        return st.text(max_size=20)
    low, high = option.within
    return st.integers(int(low), int(high)) if option.kind is int else st.floats(low, high)


@limits(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({}, optional={option.name: values_of(option) for _, option in OPTIONS}))
def test_settings_are_written_and_read_back(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("case")
    settings = Settings().with_values(STAGES, values)
    write_settings(folder, STAGES, settings)
    read = read_settings(folder, STAGES)
    for stage, option in OPTIONS:
        assert read.value(stage, option) == settings.value(stage, option)
    assert json.loads((folder / "settings.json").read_text())["format"] == 1


def test_a_path_within_the_case_moves_with_it(tmp_path):
    settings = Settings().with_values(STAGES, {"landmarks": tmp_path / "case" / "landmarks.csv"})
    (tmp_path / "case").mkdir()
    write_settings(tmp_path / "case", STAGES, settings)
    assert str(tmp_path) not in (tmp_path / "case" / "settings.json").read_text()
    (tmp_path / "case").rename(tmp_path / "moved")
    landmarks = next(stage for stage in STAGES if stage.name == "landmarks")
    assert read_settings(tmp_path / "moved", STAGES).of(landmarks).landmarks == tmp_path / "moved" / "landmarks.csv"


# What is given by content decides by its content; see the tests of the command line.
BY_VALUE = [pair for pair in OPTIONS if pair[1].kind is not Path and pair[1].name not in ("cameras", "marker", "distance")]


@pytest.mark.parametrize(("stage", "option"), BY_VALUE, ids=[option.name for _, option in BY_VALUE])
def test_only_what_decides_the_result_is_in_the_key(stage, option, tmp_path, sample):
    given = {"video": sample / "video.mp4", "landmarks": sample / "picks.csv"}
    changed = given | {option.name: another_value(option)}

    def keys(values):
        case = Case(tmp_path, create=True)
        if capability_of(stage) is not CAPABILITIES[0]:  # of other capabilities, what the case records counts
            case.migrated({other.name: {"key": "known", "files": []} for other in CAPABILITIES[0].stages})
        job = Job(case, capability_of(stage), Settings().with_values(STAGES, values))
        return {each.name: job.key(each) for each in capability_of(stage).stages}

    before, after = keys(given), keys(changed)
    touched = {name for name in before if before[name] != after[name]}
    followers = {each.name for each in capability_of(stage).stages if stage in each.before()} | {stage.name}
    assert touched == (followers if option.in_key else set())


def test_the_reference_page_is_the_declarations():
    assert PAGE.read_text() == reference(), "run: python -m Testing.option_reference"


# The panel -------------------------------------------------------------------------------------------------------------


@every_option
def test_an_option_is_a_parameter_with_its_default_and_range(panel, stage, option):
    from BreastReconstructionPanels.parameters import BY_HAND, BreastReconstructionParameterNode

    hints = BreastReconstructionParameterNode.allParameters
    if option.name in BY_HAND:
        assert option.by_hand
        return
    hint = hints[option.name]
    kind = hint.__origin__ if hasattr(hint, "__metadata__") else hint
    assert kind is (str if option.kind is Path else option.kind)
    if option.within:
        (limit,) = hint.__metadata__
        assert (limit.minimum, limit.maximum) == option.within


@every_option
def test_an_option_is_a_row_of_the_form_with_its_range_and_tooltip(panel, stage, option):
    widget = getattr(panel.ui, f"option_{option.name}", None)
    if option.by_hand:
        assert widget is None
        return
    assert option.help[1:] in widget.toolTip
    if option.within:
        assert (widget.minimum, widget.maximum) == option.within
        assert widget.suffix.strip() == option.unit
    if option.choices:
        assert [widget.itemData(i) for i in range(widget.count)] == list(option.choices)


def test_the_form_changes_the_parameters_and_back(panel):
    from BreastReconstructionPanels.parameters import set_parameters
    from BreastReconstructionPanels.parameters import settings_of as settings_of_panel

    ui = panel.ui
    ui.option_frame_count.value, ui.option_first_order_fit.checked = 44, True
    ui.option_strategy.setCurrentIndex(ui.option_strategy.findData("uniform"))
    ui.option_truth.currentPath = "/phantom/truth"
    settings = settings_of_panel(panel.parameters, None)
    values = {option.name: settings.value(stage, option) for stage, option in OPTIONS}
    assert (values["frame_count"], values["first_order_fit"], values["strategy"]) == (44, True, "uniform")
    assert values["truth"] == Path("/phantom/truth")
    set_parameters(panel.parameters, Settings())
    panel.refresh()
    assert ui.option_frame_count.value == 30
    assert not ui.option_first_order_fit.checked
    assert ui.option_strategy.itemData(ui.option_strategy.currentIndex) == "sharp"
    assert ui.option_truth.currentPath == ""


@limits(max_examples=30, deadline=None)
@given(st.data())
def test_any_settings_come_through_the_panel_unchanged(panel, data):
    """What one made must not be called out of date by the other."""
    from BreastReconstructionPanels.parameters import set_parameters
    from BreastReconstructionPanels.parameters import settings_of as settings_of_panel

    plain = {
        o.name: values_of(o) for _, o in OPTIONS if o.kind in (bool, int) or o.choices or o.name in ("truth", "video", "model")
    }
    values = data.draw(st.fixed_dictionaries({}, optional=plain))
    values["approximate_scale"] = False
    values["distance"] = data.draw(st.sampled_from([(), ("left-nipple:right-nipple=210",), DISTANCES]))
    values["marker"] = data.draw(st.sampled_from([(), ("DICT_4X4_50:80",), ("DICT_4X4_50:7:80", "DICT_5X5_50:40")]))
    values["detail_mm"] = data.draw(st.sampled_from([0.4, 1.0, 2.5]))
    values["cameras"] = data.draw(st.sampled_from(["colmap", "vggsfm", "/a/model"]))
    settings = Settings().with_values(STAGES, values)
    set_parameters(panel.parameters, settings)
    again = settings_of_panel(panel.parameters, settings.of(next(s for s in STAGES if s.name == "landmarks")).landmarks)
    for stage, option in OPTIONS:
        assert again.value(stage, option) == settings.value(stage, option), option.name
    set_parameters(panel.parameters, Settings())


DISTANCES = ("left-nipple:right-nipple=210", "sternal-notch:navel=360")
