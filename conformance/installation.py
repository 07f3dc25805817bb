"""Installations of other versions, kept in a folder and made once.

A package that is Python alone is unpacked into a folder of its own, which is searched before an installation that has
all the rest; of anything else a whole virtual environment is made. Both are made beside their place, marked at the
end and renamed, so that what was broken off is never taken for one, nor what two processes make at once for half of
one. pip makes them, as the user has set it up.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from conformance.environment import TENSORFLOWS, version
from conformance.errors import ConformanceError, UsageError
from conformance.reports.text import plain, shortened

_MARK = "complete.json"
_LONGEST = 300
_NAMES = ("tensorflow", "keras", "numpy")
"""What is told of an installation; the build of TensorFlow goes by the name of all of them."""

_RUN = (
    "import runpy, sys; sys.path[:0] = sys.argv[2:]; sys.argv[:] = sys.argv[1:2]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)
ASK = (
    "import importlib.metadata as m, json; "
    "print(json.dumps({d.metadata['Name'].lower().replace('_', '-'): d.version for d in m.distributions()}))"
)


class InstallError(ConformanceError):
    """A version that cannot be installed; the message is what pip said last."""


@dataclass(frozen=True)
class Installation:
    """An interpreter, and what it searches first.

    Attributes:
        python: the interpreter.
        first: folders that are searched before what is installed.
        versions: what is installed that a finding depends on, without those folders.
    """

    python: Path
    first: tuple[Path, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)

    def command(self, script: Path) -> list[str]:
        """What runs a script in it, as isolated as the script of a finding is when it is verified."""
        return [str(self.python), "-I", "-c", _RUN, str(script.resolve()), *map(str, self.first)]


def cache() -> Path:
    """Where installations are kept by default: the user's folder for what can be made again."""
    local = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else os.environ.get("XDG_CACHE_HOME")
    return Path(local or Path.home() / ".cache") / "conformance"


def called(command: Sequence[str]) -> str:
    """What a command prints.

    Raises:
        InstallError: when it fails, with the last line of what it says is wrong.
    """
    try:
        done = subprocess.run(  # noqa: S603 - pip, or an interpreter, with arguments of ours
            command, capture_output=True, check=False, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise InstallError(f"{command[0]}: {error.strerror or error}") from error
    if done.returncode:
        told = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        wrong = [line for line in told if line.startswith("ERROR")]
        last = (wrong or told or [f"exit code {done.returncode}"])[-1]
        raise InstallError(shortened(last, _LONGEST))
    return done.stdout.decode("utf-8", "replace")


class Installations:
    """Those in a folder.

    Args:
        folder: the folder; what is made for another Python or processor is kept apart in it.
        call: runs a command and gives what it prints.
    """

    def __init__(self, folder: Path, call: Callable[[Sequence[str]], str] = called) -> None:
        self._folder = folder.absolute() / f"{sys.implementation.cache_tag}-{platform.machine()}"
        self._call = call
        self._failed: dict[tuple[str, ...], str] = {}

    def offered(self, package: str, *, pre: bool = False) -> str:
        """What `pip index versions` prints of a package: JSON where pip can."""
        command = [*self._pip(), "index", "versions", package, *(["--pre"] if pre else [])]
        try:
            return self._call([*command, "--json"])
        except InstallError:
            return self._call(command)

    def overlay(self, requirement: str, beside: Sequence[str]) -> Installation:
        """A package that is Python alone, in front of what has all the rest.

        Args:
            requirement: the package with its version, `keras==3.5.0`.
            beside: what else is needed; where there is nothing, what this process runs with.

        Raises:
            InstallError: when it cannot be had.
        """
        base = self.whole(beside) if beside else _here()

        def make(place: Path) -> None:
            self._call([*self._pip(), *_INSTALL, "--no-deps", "--target", str(place), requirement])

        return Installation(base.python, (self._made((requirement,), make),), base.versions)

    def whole(self, requirements: Sequence[str]) -> Installation:
        """A virtual environment with these.

        Raises:
            InstallError: when it cannot be made.
        """

        def make(place: Path) -> None:
            self._call([sys.executable, "-m", "venv", str(place)])
            if requirements:
                self._call([str(_python(place)), "-m", "pip", *_INSTALL, *requirements])

        place = self._made(tuple(requirements), make)
        versions = json.loads((place / _MARK).read_bytes())["versions"]
        return Installation(_python(place), (), versions)

    def _made(self, requirements: tuple[str, ...], make: Callable[[Path], None]) -> Path:
        """The place of an installation, made where it is not there."""
        place = self._folder / _name(requirements)
        if _complete(place):
            return place
        if requirements in self._failed:
            # What an installation needs that many versions share is not tried once for each.
            raise InstallError(self._failed[requirements])
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self._folder}: {error.strerror or error}; name another folder with --envs") from error
        with tempfile.TemporaryDirectory(prefix=".making-", dir=self._folder, ignore_cleanup_errors=True) as partial:
            new = Path(partial, place.name)
            try:
                make(new)
            except InstallError as error:
                self._failed[requirements] = str(error)
                raise
            versions = self._versions(new)
            (new / _MARK).write_text(json.dumps({"requirements": requirements, "versions": versions}), "utf-8")
            if place.exists() and not _complete(place):
                place.rename(Path(partial, "old"))
            try:
                new.rename(place)
            except OSError:
                # Another process has made it meanwhile.
                if not _complete(place):
                    raise
        return place

    def _versions(self, place: Path) -> dict[str, str]:
        if not _python(place).exists():
            return {}
        there = json.loads(self._call([str(_python(place)), "-I", "-c", ASK]))
        found = {"tensorflow": next((there[name] for name in TENSORFLOWS if name in there), None)}
        found |= {name: there.get(name) for name in _NAMES[1:]}
        return {**{name: version for name, version in found.items() if version}, "python": platform.python_version()}

    def _pip(self) -> list[str]:
        """The pip of this installation, or, where it has none, one of our own."""
        python = Path(sys.executable)
        try:
            self._call([str(python), "-m", "pip", "--version"])
        except InstallError:
            python = self.whole(()).python
        return [str(python), "-m", "pip"]


_INSTALL = ("install", "--quiet", "--disable-pip-version-check", "--no-input")


def _here() -> Installation:
    found = {"tensorflow": version(*TENSORFLOWS), "keras": version("keras"), "numpy": version("numpy")}
    return Installation(Path(sys.executable), (), {**found, "python": platform.python_version()})


def _name(requirements: Sequence[str]) -> str:
    """A name that a person can read and that no other requirements have."""
    words = re.sub(r"[^a-z0-9.]+", "-", plain(" ".join(requirements)).lower()).strip("-.")
    return f"{words[:60] or 'pip'}-{hashlib.sha256(repr(tuple(requirements)).encode()).hexdigest()[:8]}"


def _python(place: Path) -> Path:
    return place / "Scripts" / "python.exe" if sys.platform == "win32" else place / "bin" / "python"


def _complete(place: Path) -> bool:
    """Whether it was made to its end, and its interpreter is still there."""
    if not (place / _MARK).exists():
        return False
    return not (place / "pyvenv.cfg").exists() or _python(place).exists()
