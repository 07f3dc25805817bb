"""What the documentation says can be run, is what is run."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from conformance.case import from_json, to_json

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def test_the_readme_has_two_commands_of_one_line() -> None:
    commands = blocks("sh")
    assert len(commands) == 2
    assert all(command.count("\n") == 1 for command in commands)


def test_ci_takes_the_test_command_from_the_readme() -> None:
    (line,) = [
        line for line in (ROOT / ".ci" / "run").read_text("utf-8").splitlines() if line.startswith("test_command=")
    ]
    script = f'{line}\nprintf "%s\\n" "$test_command"'
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)  # noqa: S607
    assert result.stdout == blocks("sh")[1]


@pytest.mark.parametrize("source", blocks("python"))
def test_the_python_examples_are_python(source: str) -> None:
    assert ast.parse(source).body


@pytest.mark.parametrize("text", blocks("json"))
def test_the_case_in_the_readme_is_one(text: str) -> None:
    case = from_json(text)
    assert from_json(to_json(case)) == case


def test_the_changelog_has_this_version() -> None:
    import conformance

    assert f"\n## {conformance.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
