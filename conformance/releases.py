"""The versions of Keras and TensorFlow that can be had here, and what each has to be installed with.

Which those are says pip, in the way that the user has set it up: nothing here knows where packages come from. A
package and what goes with it is an entry in a table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from conformance.errors import ConformanceError, UsageError
from conformance.history import by_age
from conformance.versions import Range, parse_range, release


@dataclass(frozen=True)
class Package:
    """A package that a finding can be traced through.

    Attributes:
        holds: what it is a distribution of.
        first: its first release that concerns us.
        pure: whether it is Python alone and is put in front of an installation that is there, for a few megabytes in
            the place of a gigabyte.
        beside: what is installed with it, by its versions: the first entry that holds a version counts. `{tensorflow}`
            is the build of TensorFlow that is installed here, `{keras}` the Keras. Nothing means the installation that
            this process runs in.
    """

    holds: str
    first: str
    pure: bool
    beside: tuple[tuple[Range, tuple[str, ...]], ...]


_TENSORFLOW = Package("tensorflow", "2.16", pure=False, beside=((parse_range("tensorflow>=2.16"), ("{keras}",)),))

PACKAGES: dict[str, Package] = {
    "keras": Package(
        "keras",
        "3.0",
        pure=True,
        beside=(
            # The first releases of Keras 3 were made for these, and fail with what is newer; dm-tree they import.
            (parse_range("keras<3.5"), ("{tensorflow}>=2.16,<2.17", "numpy<2", "dm-tree")),
            (parse_range("keras>=3.5"), ()),
        ),
    ),
    "tensorflow": _TENSORFLOW,
    "tensorflow-cpu": _TENSORFLOW,
}
"""By the name that pip knows it by."""

_VERSION = re.compile(r"\d+(?:\.\d+)*(?:\.?(?:a|b|rc|dev|post)\d+)*", re.ASCII)
_STABLE = re.compile(r"\d+(?:\.\d+)*(?:\.post\d+)?", re.ASCII)
_REQUIREMENT = re.compile(r"\w[\w.-]*(?:\[[\w,-]+\])?(?:(?:==|>=|<=|~=|!=|<|>)[\w.*+]+,?)*", re.ASCII)
_LISTED = re.compile(r"^Available versions:(.*)$", re.MULTILINE)


def offered(printed: str) -> tuple[str, ...]:
    """The versions that `pip index versions` has printed, as JSON or in its own words.

    Raises:
        ConformanceError: when it printed neither.
    """
    try:
        data = json.loads(printed)
    except ValueError:
        match = _LISTED.search(printed)
        names: object = None if match is None else [name.strip() for name in match[1].split(",")]
    else:
        names = data.get("versions") if isinstance(data, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConformanceError("pip index names no versions; name them with --versions")
    return tuple(name for name in names if _VERSION.fullmatch(name))


def concerning(package: str, versions: Iterable[str], *, pre: bool = False) -> tuple[str, ...]:
    """Those that concern us, oldest first: from the package's first on, stable ones unless `pre`."""
    first = release(PACKAGES[package].first)
    kept = {name for name in versions if release(name) >= first and (pre or _STABLE.fullmatch(name))}
    return tuple(sorted(kept, key=by_age))


def given(text: str) -> tuple[str, ...]:
    """The versions of `--versions`, oldest first.

    Raises:
        UsageError: when one is none, or there is none.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if not _VERSION.fullmatch(name):
            raise UsageError(f"--versions: {name!r} is no version; write 3.5.0,3.6.0")
    if not names:
        raise UsageError(f"--versions {text!r} names nothing")
    return tuple(sorted(set(names), key=by_age))


def requirement(text: str) -> str:
    """A requirement of `--with`, without spaces.

    Raises:
        UsageError: when it is none: a name and bounds of its version.
    """
    word = "".join(text.split())
    if not _REQUIREMENT.fullmatch(word):
        raise UsageError(f"--with {text!r} is no requirement; write tensorflow==2.18.1 or 'numpy<2'")
    return word


def beside(package: str, version: str, *, tensorflow: str | None, keras: str | None) -> tuple[str, ...]:
    """What a version is installed with, as requirements; nothing where what is installed here is what it runs with.

    Args:
        package: a name of `PACKAGES`.
        version: the version.
        tensorflow: the distribution that is TensorFlow here; None where there is none.
        keras: the version of Keras that is installed here; None where there is none.
    """
    names = {"tensorflow": tensorflow or "tensorflow", "keras": f"keras=={keras}" if keras else "keras"}
    for concerned, requirements in PACKAGES[package].beside:
        if concerned.holds(version):
            if not requirements and tensorflow is None:
                return (names["tensorflow"],)
            return tuple(text.format(**names) for text in requirements)
    return ()
