"""The licences of everything that is installed for this program: each package that it needs, and each that those need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata

from .environment import PACKAGES

# What the program itself asks for, as in pyproject.toml.
NEEDED = tuple(PACKAGES.values())
# Terms that ask something of what is shipped together with the package; LGPL asks only that it can be exchanged.
_STRICT = re.compile(r"\bA?GPL|General Public License|Non-?Commercial", re.IGNORECASE)
_LESSER = re.compile(r"LGPL|Lesser General Public", re.IGNORECASE)
# Lists of other packages that say nothing themselves; torch's wheels with CUDA need them, nothing here ships them.
_SILENT = {"cuda-toolkit": "NVIDIA CUDA EULA"}
_CLASSIFIER = "License :: "
_LONGEST = 60


@dataclass(frozen=True)
class Licence:
    """One installed package.

    Attributes:
        package: name.
        version: installed.
        licence: as it says itself; '' if it says nothing.
    """

    package: str
    version: str
    licence: str

    @property
    def strict(self) -> bool:
        """Whether its terms reach what is shipped with it."""
        return bool(_STRICT.search(_LESSER.sub("", self.licence)))


def installed_licences(roots: Iterable[str] = NEEDED) -> tuple[Licence, ...]:
    """Return the packages of a list and all that they need, by name; those that are not installed are left out."""
    found: dict[str, Licence] = {}
    waiting = list(roots)
    while waiting:
        name = _canonical(waiting.pop())
        if name in found:
            continue
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # optional here, or of another system
            continue
        found[name] = Licence(package.metadata["Name"], package.version, _licence_of(package.metadata))
        waiting += _needs(package.requires or ())
    return tuple(found[name] for name in sorted(found))


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _needs(requirements: Iterable[str]) -> Iterator[str]:
    """Names of what a package needs, without what only its extras need."""
    for text in requirements:
        name, _, marker = text.partition(";")
        if "extra" not in marker:
            yield re.split(r"[\s<>=!~\[(]", name.strip(), maxsplit=1)[0]


def _licence_of(about: metadata.PackageMetadata) -> str:
    """What a package says of its licence: the expression, its classifiers, or the first line of its text; or is known of it."""
    if expression := about.get_all("License-Expression"):
        return expression[0]
    classifiers = [text for text in about.get_all("Classifier") or () if text.startswith(_CLASSIFIER)]
    names = sorted({text.split(" :: ")[-1] for text in classifiers} - {"OSI Approved"})
    if names:
        return ", ".join(names)
    lines = [line.strip() for text in about.get_all("License") or () for line in text.splitlines() if line.strip()]
    return lines[0][:_LONGEST] if lines else _SILENT.get(_canonical(about["Name"]), "")
