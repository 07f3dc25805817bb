"""Running a repro script where nothing of this process can help it: a finding is a script that reproduces by itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from conformance.finding import NOT_REPRODUCED, REPRODUCED
from conformance.reports.text import lines

SAYS = "DIVERGES"
"""What a script prints where the divergence is there; an exit code of 1 alone may be that of an import that failed."""

_KEPT = 20_000
# What TensorFlow says of itself while it is imported, whatever its log level.
_NOISE = re.compile(r"^(?:WARNING: All log messages before absl::|[IW]\d{4} [\d:. ]+ ).*\n", re.MULTILINE)


_WITH_FOLDERS = "import runpy, sys; sys.path += sys.argv[2:]; runpy.run_path(sys.argv[1], run_name='__main__')"


def verify(script: Path, timeout: float = 180, *, folders: Sequence[Path] = ()) -> tuple[str, str]:
    """Run a script in a clean process.

    The process is isolated (`python -I`: neither the working directory nor `PYTHONPATH` is searched), starts in an
    empty directory, and inherits no variable of Python's own.

    Args:
        script: the script.
        timeout: seconds after which it is killed.
        folders: where the modules of a user's own that it imports are found.

    Returns:
        `reproduced` where it exits with 1 and says DIVERGES, else `not reproduced`; and what it printed, with a last
        line saying how it ended where that was otherwise.
    """
    arguments = ["-c", _WITH_FOLDERS, str(script.resolve()), *map(str, folders)] if folders else [str(script.resolve())]
    code, output = run([sys.executable, "-I", *arguments], timeout)
    if code == 1 and SAYS in output:
        return REPRODUCED, output
    return NOT_REPRODUCED, output if code is None else output + f"[exit code {code}]\n"


def run(command: Sequence[str], timeout: float) -> tuple[int | None, str]:
    """Run a command in an empty directory, without the variables of Python's own and without input.

    Returns:
        The exit code, None where it was killed; and what was printed, with a last line saying so then.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with tempfile.TemporaryDirectory() as directory:
        try:
            done = subprocess.run(  # noqa: S603 - the script of a finding, which somebody asked to run
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return None, _text(error.stdout) + f"[killed after {timeout:g} seconds]\n"
    return done.returncode, _text(done.stdout)


def verify_text(script: str, timeout: float = 180) -> tuple[str, str]:
    """`verify` for a script that is not in a file yet."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "repro.py")
        path.write_text(script, encoding="utf-8")
        return verify(path, timeout)


def _text(output: bytes | None) -> str:
    text = _NOISE.sub("", lines((output or b"").decode("utf-8", "replace")))
    cut = len(text) - _KEPT
    text = text if cut <= 0 else f"[{cut} characters left out]\n" + text[cut:]
    return text if not text or text.endswith("\n") else text + "\n"
