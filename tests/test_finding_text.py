"""Text of hostile files never reaches the terminal as it is, whichever file it stands in."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.errors import ConfigError, DarkpyError, DarkpyWarning
from darkpy.finding import Finding, Location, count_text, printable
from tests.cli.conftest import CFG, Run, run, task

__all__ = ["run", "task"]

HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202e\x9b31m\x08\x7f\u2066"
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("dog é 犬 🐕 ", "dog é 犬 🐕 "),
        (
            "ideographic\u3000space, no-break\u00a0space, می\u200cخواهم",
            "ideographic\u3000space, no-break\u00a0space, می\u200cخواهم",
        ),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202eb\u200bc", "a\\u202eb\\u200bc"),
        ("line\nbreak\ttab\r", "line\\nbreak\\ttab\\r"),
        ("lone \udc80 surrogate", "lone \\udc80 surrogate"),
    ],
)
def test_only_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(printable(text)) == shown


def test_lines_stay_lines_if_asked() -> None:
    assert printable("a\n\tb\r", lines=True) == "a\n\tb\\r"


def test_errors_warnings_and_findings_are_printable() -> None:
    location = Location(HOSTILE, 1, HOSTILE)
    texts = (
        str(DarkpyError(HOSTILE, hint=HOSTILE)),
        DarkpyError(HOSTILE).message,
        str(DarkpyWarning(HOSTILE)),
        str(ConfigError([Finding(name="x", message=HOSTILE, hints=(HOSTILE,), location=location)])),
        str(location),
    )
    assert not any(map(UNPRINTABLE.search, texts))


@pytest.mark.parametrize(
    "text",
    [
        CFG.replace("filters=7", f"filters={HOSTILE}"),
        CFG.replace("filters=7", f"{HOSTILE}=7"),
        CFG.replace("[maxpool]", f"[{HOSTILE}]"),
        CFG.replace("filters=7", f"filters=7\n{HOSTILE}"),
        CFG.replace("activation=linear", f"activation=lin{HOSTILE}ear"),
    ],
)
@pytest.mark.parametrize(
    "command", [("show", "net.cfg"), ("doctor", "net.cfg"), ("detect", "net.cfg", "net.weights", "a.png")]
)
def test_cfg(task: Path, run: Run, text: str, command: tuple[str, ...]) -> None:
    Path("net.cfg").write_text(text, encoding="utf-8")
    shown = run(*command)
    assert not UNPRINTABLE.search(shown.out + shown.err) and "\\x1b[2J" in shown.out + shown.err
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            darkpy.plan("net.cfg")
        except DarkpyError as error:
            assert not UNPRINTABLE.search(str(error))
    assert not any(UNPRINTABLE.search(str(warning.message)) for warning in caught)


def test_class_names_on_the_terminal(task: Path, run: Run) -> None:
    Path("pets.names").write_text("cat\u202e\u2066\ndog\n", encoding="utf-8")
    for command in (
        ("detect", "net.cfg", "net.weights", "a.png", "--data", "pets.data"),
        ("detector", "test", "pets.data", "net.cfg", "net.weights", "a.png", "-ext_output"),
    ):
        shown = run(*command)
        assert shown.code == 0 and not UNPRINTABLE.search(shown.out + shown.err), shown
        assert "cat\\u202e\\u2066: 95%" in shown.out


def test_names_in_state_dicts(task: Path, run: Run) -> None:
    torch.save({f"a{HOSTILE}": torch.zeros(3), "b": torch.zeros(2)}, "net.pt")
    shown = run("convert", "net.pt", "out.weights", "--cfg", "net.cfg")
    assert shown.code == 2 and "a\\x1b[2J" in shown.err and not UNPRINTABLE.search(shown.out + shown.err)


def test_names_in_coco(task: Path, run: Run) -> None:
    box = {"image_id": HOSTILE, "category_id": 1, "bbox": [0, 0, 1, 1]}
    data = {
        "images": [{"id": 1, "file_name": f"{HOSTILE}.png", "width": 4, "height": 4}],
        "categories": [{"id": 1, "name": f"cat{HOSTILE}"}],
        "annotations": [box],
    }
    Path("coco.json").write_text(json.dumps(data))
    shown = run("dataset", "from-coco", "coco.json", ".", "--out", "made")
    assert not UNPRINTABLE.search(shown.out + shown.err)


def test_file_names_and_arguments(task: Path, run: Run) -> None:
    name = f"{HOSTILE}.cfg"
    shown = run("show", name)
    assert shown.code == 2 and not UNPRINTABLE.search(shown.err) and "\\x1b[2J" in shown.err
    assert not UNPRINTABLE.search(run(HOSTILE).err + run("show", f"--{HOSTILE}").err)


def test_commands_print_through_the_console_only() -> None:
    """`console.echo` escapes; click's does not."""
    folder = Path(darkpy.__file__).parent / "cli"
    is_direct = re.compile(r"click\.echo\((?!.*err=True)").search
    direct = [path.name for path in folder.rglob("*.py") if is_direct(path.read_text(encoding="utf-8"))]
    assert direct == ["console.py"]


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(1, "class", "1 class"), (2, "class", "2 classes"), (0, "minibatch", "0 minibatches"), (3, "box", "3 boxes")],
)
def test_counted_nouns_are_english(number: int, noun: str, text: str) -> None:
    assert count_text(number, noun) == text
