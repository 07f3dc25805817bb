"""What `--import` takes, what it says of what it cannot take, and what a process has imported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from conformance import cli, imports
from conformance.case import Case, Loss
from conformance.cases import load
from conformance.errors import UsageError
from conformance.imports import folders_of, import_modules, imported, own_parts
from conformance.losses import LOSSES
from conformance.strategies.register_loss import REGISTERED_LOSSES

REGISTERS = """
from conformance.strategies import register_loss

def {name}(y_true, y_pred):
    return y_pred

register_loss({name}, returns="per_sample")
"""

Put = Callable[[str, str], None]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Put]:
    """Puts modules into the current directory; what they register is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setattr(imports, "_imported", {})
    tables, modules = (LOSSES, REGISTERED_LOSSES), set(sys.modules)
    before = [dict(table) for table in tables]

    def write(name: str, text: str) -> None:
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    yield write
    for table, kept in zip(tables, before, strict=True):
        table.clear()
        table.update(kept)
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def named(name: str) -> Case:
    return replace(load("clipnorm"), losses=(Loss(name=name),))


def test_a_module_of_the_current_directory_registers_its_parts(put: Put, tmp_path: Path) -> None:
    put("own_losses", REGISTERS.format(name="first"))
    put("deep.losses", REGISTERS.format(name="second"))
    import_modules(["own_losses", "deep.losses"])
    assert imported() == ("own_losses", "deep.losses")
    assert own_parts(named("first")) == {"first": LOSSES["first"].make}
    assert own_parts(load("clipnorm")) == {}
    # Where a script finds them is the folder that the name begins in.
    assert folders_of(named("first")) == folders_of(named("second")) == (tmp_path,)


def test_a_module_that_was_imported_before_is_taken_again(put: Put) -> None:
    put("own_losses", REGISTERS.format(name="first"))
    put("imports_it", "import own_losses")
    import_modules(["imports_it", "own_losses"])
    import_modules(["own_losses"])
    assert imported() == ("imports_it", "own_losses")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("own", "", "--import 'own' registers nothing; it should call register_layer, register_loss or"),
        ("own", "1 / 0", "--import 'own' cannot be imported: ZeroDivisionError: division by zero"),
        ("own", "raise SystemExit('a\\n b')", "--import 'own' cannot be imported: SystemExit: a b"),
        ("missing", "", "--import 'missing' cannot be imported: ModuleNotFoundError: No module named 'missing'"),
        ("own.py", "", "--import 'own.py' is a file; name the module, as in 'own'"),
        ("my-layers", "", "--import 'my-layers' is no name of a module, as my_package.my_layers is"),
        ("", "", "--import '' is no name of a module"),
    ],
)
def test_what_cannot_be_imported_is_said_in_a_line(put: Put, name: str, text: str, said: str) -> None:
    put("own", text)
    with pytest.raises(UsageError) as caught:
        import_modules([name])
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    assert imported() == ()


@pytest.mark.parametrize(
    "command",
    [
        ("run", "--examples", "1", "--report", "out"),
        ("check", "."),
        ("replay", "."),
        ("accept", ".", "--baseline", "known.json"),
        ("report", "."),
        ("bisect", "."),
        ("info", "--calibration", "--report", "out"),
    ],
    ids=lambda command: command[0],
)
def test_every_command_refuses_it_before_anything_else(
    put: Put, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    put("own", "raise ValueError('\u202ered')")
    (tmp_path / "one.case.json").write_text("{}")
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--import", "own"])
    assert ended.value.code == cli.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "conformance: --import 'own' cannot be imported: ValueError: \N{REPLACEMENT CHARACTER}red\n"
    assert not (tmp_path / "out").exists()
