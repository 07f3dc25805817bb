"""The example is a project of its own: installed beside the wheel, far from the checkout, its tests pass.

The environment is a new one. What pip would fetch, TensorFlow above all, is borrowed from the environment that runs the
tests, so that nothing is downloaded; pip still finds out whether what the example asks for is there.
"""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
from pathlib import Path

import pytest
from wheels import LEFT_OUT, ROOT, environment, install, run

pytestmark = pytest.mark.packaging

CORRECT = ("compiled_step", "step_by_hand", "train")
WRONG = ("forgets_the_penalties", "sums_the_losses", "forgets_the_other_replicas")


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new virtual environment with the wheel and the example."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("the example trains, and there is no TensorFlow to borrow")
    python = environment(tmp_path_factory.mktemp("venv"))
    install(python, "--no-deps", wheel)
    # Behind its own packages, and without the links of editable installs, which only a folder of packages of its own
    # has followed.
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    borrowed = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    Path(site, "borrowed.pth").write_text("".join(f"{path}\n" for path in borrowed), "utf-8")
    project = tmp_path_factory.mktemp("example") / "my-training"
    shutil.copytree(ROOT / "examples", project, ignore=LEFT_OUT)
    install(python, "--no-build-isolation", project)
    return python


def test_the_example_passes_its_tests_with_the_wheel(python: Path, tmp_path: Path) -> None:
    script = "import conformance, my_training; print(conformance.__file__, my_training.__file__, sep='\\n')"
    files = [Path(line) for line in run(python, "-I", "-c", script, cwd=tmp_path).split()]
    assert all(python.parents[1] in file.parents for file in files), files
    shutil.copytree(ROOT / "examples" / "tests", tmp_path / "tests", ignore=LEFT_OUT)
    shutil.copy(ROOT / "examples" / "pyproject.toml", tmp_path)
    told = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
    assert f"{len(CORRECT) + len(WRONG)} passed" in told, told


def test_the_example_has_the_loops_that_its_readme_names() -> None:
    loops = (ROOT / "examples" / "src" / "my_training" / "loops.py").read_text("utf-8")
    told = (ROOT / "examples" / "README.md").read_text("utf-8")
    correct, wrong = loops.split("\n# Correct.\n")[1].split("\n# Wrong.\n")
    assert tuple(name for name in (*CORRECT, *WRONG) if f"\ndef {name}(" in correct) == CORRECT
    assert tuple(name for name in (*CORRECT, *WRONG) if f"\ndef {name}(" in wrong) == WRONG
    assert all(f"| `{name}` |" in told for name in WRONG)
