"""Stages and capabilities: what the program can do, declared once each."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .errors import OptionError

O = TypeVar("O")  # noqa: E741  (options)
R = TypeVar("R")  # result
_PACKAGE = __name__.split(".")[0]


def resolve(reference: str) -> Any:
    """Return what 'module:name' names, the module below this package; it is imported here and not before."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(f"{_PACKAGE}.{module}"), name)


@dataclass(frozen=True, eq=False)
class Stage(Generic[O, R]):
    """One step from inputs to files; everything else about it is made from this.

    Attributes:
        name: its command, its folder in a case, and its part of the settings.
        title: for people.
        options: frozen dataclass of its options; see core.options.
        result: 'module:Class' of its result, with a class method `load(folder)`.
        work: 'module:function' that does it: work(options, inputs, folder, progress) writes the result's files into the folder.
            Imported only when it runs.
        revision: raised when the same inputs and options give another result, or when a default changes; part of the key.
        share: of the time of a whole run, roughly.
        needs: the stages whose results it uses.
        welcomes: stages whose results it uses where they are up to date; they are not run for it.
        sources: 'module:function' that says what it takes from outside the case: sources(settings, case) -> dict of plain
            values, which are part of the key, such as the hash of a file.
        check: 'module:function' that looks at its inputs before anything runs, and raises what is wrong: check(settings).
        section: name of the panel's section that shows its options; its own if that is ''.
        publishes: files of the case, 'stage/name', that are copied to the top of its folder once this stage is done.
        command: words of the command that runs it; its name if they are ''.
    """

    name: str
    title: str
    options: type[O]
    result: str
    work: str
    revision: int
    share: float
    needs: tuple[Stage[Any, Any], ...] = ()
    welcomes: tuple[Stage[Any, Any], ...] = ()
    sources: str = ""
    check: str = ""
    section: str = ""
    publishes: tuple[str, ...] = ()
    command: str = ""

    @property
    def command_words(self) -> list[str]:
        """The words of its command."""
        return (self.command or self.name).split()

    def load(self, folder: Any) -> R:
        """Read its result from its folder."""
        return resolve(self.result).load(folder)

    def before(self) -> tuple[Stage[Any, Any], ...]:
        """All stages that it needs, those of its needs included; each once, what is needed first."""
        found: dict[str, Stage[Any, Any]] = {}
        for need in self.needs:
            for stage in (*need.before(), need):
                found[stage.name] = stage
        return tuple(found.values())


@dataclass(frozen=True)
class Capability:
    """A room of the program.

    Attributes:
        name: of its folder below `capabilities`.
        stages: in the order in which they run.
        commands: 'module:function' that adds its commands to the command line: commands(adder).
        say: 'module:function' that tells what a stage made: say(case, stage, console).
        migrate: 'module:function' that brings the record of an older case's stages to the present form, '' if there are none.
    """

    name: str
    stages: tuple[Stage[Any, Any], ...]
    commands: str
    say: str = ""
    migrate: str = ""


def stage_named(name: str, stages: Iterable[Stage[Any, Any]]) -> Stage[Any, Any]:
    """Return the stage of a name.

    Raises:
        OptionError: there is none.
    """
    known = {stage.name: stage for stage in stages}
    if name not in known:
        raise OptionError(f"There is no stage '{name}'; the stages are {', '.join(known)}.")
    return known[name]


def dependents(stage: Stage[Any, Any], stages: Iterable[Stage[Any, Any]]) -> tuple[Stage[Any, Any], ...]:
    """Return the stages that need this one, directly or by way of others."""
    return tuple(other for other in stages if stage in other.before())
