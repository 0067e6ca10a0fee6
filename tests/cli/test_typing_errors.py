"""What is said about words that were mistyped: choices, numbers, suffixes of outputs."""

from importlib import import_module

import pytest
import typer

from idsr_cli.cli.app import COMMANDS


@pytest.mark.parametrize(
    "command", [*([name] for name in COMMANDS if name != "models"), ["models", "convert"]], ids=" ".join
)
def test_a_mistyped_choice_is_corrected(run, command) -> None:
    """Whatever the option, and without the words of the library that checks it."""
    found = typer.main.get_command(import_module(COMMANDS[command[0]].module).app)
    for name in command[1:]:
        found = found.commands[name]
    for param in getattr(found, "params", []):
        choices = [choice for choice in param.type_descriptor.choices or () if len(choice) > 2]
        if not choices or (param.param_type_name == "argument" and param.name != "role"):
            continue
        first, last = choices[-1][-2:]
        typed = f"{choices[-1][:-2]}{last}{first}" if first != last else f"{choices[-1]}{last}"  # swapped, or once more
        option = f"{max(param.opts, key=len)}=" if param.param_type_name == "option" else ""
        result = run(*command, f"{option}{typed}")
        said = " ".join(result.stderr.replace("│", " ").split())
        assert result.exit_code == 2
        assert f"'{typed}' is not one of '{choices[0]}'" in said
        assert f"Did you mean '{choices[-1]}'?" in said
        assert "Value error" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--jobs", "99"), "'--jobs' / '-j': '99' is not at most 64."),
        (("--length", "0.5"), "'--length': '0.5' is not at least 1."),
        (("--length", "nan"), "'--length': 'nan' is not at most 1000."),
        (("--length", "long"), "'--length': 'long' is not a number."),
        (("--seed", "1.5"), "'--seed': '1.5' is not a whole number."),
    ],
)
def test_numbers_are_refused_in_plain_words(run, arguments, message) -> None:
    result = run("rain", "x", "-o", "y", *arguments)
    assert result.exit_code == 2
    assert f"Invalid value for {message}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("derain", "PHOTO", "-o", "OUT/x.jgp"), "x.jpg"),
        (("rain", "PHOTO", "-o", "OUT/x.pmg"), "x.png"),
        (("sift", "PHOTO", "-o", "OUT/x.nzp"), "x.npz"),
        (("sift", "PHOTOS", "-o", "OUT/x.h6", "--format", "hloc"), "x.h5"),
        (("sift", "PHOTOS", "-o", "OUT/x.dbb", "--format", "colmap-db"), "x.db"),
        (("match", "PHOTO", "PHOTO", "-o", "OUT/x.pgn"), ".png"),
        (("match", "PHOTO", "PHOTO", "--matches", "OUT/x.nzp"), ".npz"),
        (("evaluate", "--rainy", "PHOTOS", "--clean", "PHOTOS", "-o", "OUT/x.htlm"), "x.html"),
    ],
)
def test_an_output_with_a_mistyped_suffix_is_refused(run, halving, photos, tmp_path, arguments, meant) -> None:
    """In every command that writes a file: the name must not become a folder that surprises somebody later."""
    out = tmp_path / "out"
    places = {"PHOTOS": str(photos), "PHOTO": str(photos / "img2.png")}
    result = run(*(places.get(word, word).replace("OUT", str(out)) for word in arguments))
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "(did you mean " in result.stderr
    assert meant in result.stderr.split("did you mean ")[1].split("?")[0]
    assert not out.exists()
