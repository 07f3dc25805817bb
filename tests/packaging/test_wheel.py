"""What a user installs is what is in the checkout, with its symlinks, without them, and by way of a source archive."""

from __future__ import annotations

import email
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from wheels import ROOT, build, checkout, environment, install, run

import conformance

pytestmark = pytest.mark.packaging

FOLDERS = {
    "conformance": "conformance",
    "strategies": "conformance/strategies",
    "cases": "conformance/cases",
    "reports": "conformance/reports",
}
LINKED = ("strategies", "cases", "reports")
SHIPPED = frozenset({".py", ".json", ".j2", ".typed"})


def without_symlinks(source: Path) -> Path:
    """The checkout as git makes it where there are no symlinks: each is a file that holds the link's text."""
    for name in LINKED:
        link = source / "conformance" / name
        assert link.is_symlink()
        target = os.readlink(link)  # noqa: PTH115 - the text itself
        link.unlink()
        link.write_text(target)
    return source


def on_disk() -> set[str]:
    """The files that must be in the wheel, by their name there."""
    return {
        f"{name}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, name in FOLDERS.items()
        for parent, _, files in os.walk(ROOT / folder)
        for path in (Path(parent, file) for file in files)
        if path.suffix in SHIPPED
    }


def in_wheel(wheel: Path) -> set[str]:
    """The files of the package that are in the wheel, without the distribution's metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.partition("/")[0].endswith(".dist-info")}


def metadata(wheel: Path) -> Message:
    """The wheel's METADATA."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_the_wheel_holds_every_file_and_no_other(wheel: Path) -> None:
    assert in_wheel(wheel) == on_disk()


def test_a_checkout_without_symlinks_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    source = without_symlinks(checkout(tmp_path / "checkout"))
    assert in_wheel(build(source, "wheel", tmp_path / "dist")) == in_wheel(wheel)


def test_the_source_archive_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    archive = build(checkout(tmp_path / "checkout"), "sdist", tmp_path / "sdist")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    source = tmp_path / archive.name.removesuffix(".tar.gz")
    assert in_wheel(build(source, "wheel", tmp_path / "dist")) == in_wheel(wheel)


def test_the_version_stands_in_one_place(wheel: Path) -> None:
    assert metadata(wheel)["Version"] == conformance.__version__


def test_no_tensorflow_is_required_without_an_extra(wheel: Path) -> None:
    required = metadata(wheel).get_all("Requires-Dist", [])
    always = [line for line in required if "extra ==" not in line]
    assert not [line for line in always if "tensorflow" in line or "keras" in line]
    assert [line for line in required if line.startswith("tensorflow-cpu") and "extra ==" in line]


def test_the_installed_package_tells_its_version_alone(installed: Path, tmp_path: Path) -> None:
    script = "import conformance; print(conformance.__version__, conformance.__file__)"
    version, file = run(installed, "-I", "-c", script, cwd=tmp_path).split(maxsplit=1)
    assert version == conformance.__version__
    assert ROOT not in Path(file).parents


def test_no_folder_is_installed_under_its_bare_name(installed: Path, tmp_path: Path) -> None:
    script = (
        "import importlib.util as u, json; find = lambda n: u.find_spec(n) is not None;"
        f"print(json.dumps([[find(n), find('conformance.' + n)] for n in {LINKED!r}]))"
    )
    assert json.loads(run(installed, "-I", "-c", script, cwd=tmp_path)) == [[False, True]] * len(LINKED)


@pytest.mark.parametrize("name", LINKED)
def test_a_folder_refuses_to_be_imported_under_its_bare_name(name: str) -> None:
    """In the checkout the folder lies next to the user's own code, and Python would find it."""
    command = [sys.executable, "-c", f"import {name}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert "ImportError" in result.stderr
    assert f"conformance.{name}" in result.stderr


def test_an_editable_install_works_without_symlinks(tmp_path: Path) -> None:
    source = without_symlinks(checkout(tmp_path / "checkout"))
    python = environment(tmp_path / "venv")
    # The hook that `pip install -e` calls, without the environment that pip makes for it.
    hook = "import sys, setuptools.build_meta as backend; print(backend.build_editable(sys.argv[1]))"
    out = tmp_path / "dist"
    out.mkdir()
    run(sys.executable, "-c", hook, out, cwd=source)
    install(python, "--no-deps", *out.iterdir())
    script = f"import importlib.util as u; print([u.find_spec('conformance.' + n).origin for n in {LINKED!r}])"
    found = run(python, "-I", "-c", script, cwd=tmp_path)
    assert all(str(source / name) in found for name in LINKED)
