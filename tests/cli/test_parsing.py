"""Options as darknet's users write them."""

from __future__ import annotations

from collections.abc import Sequence

import click
import pytest

from darkpy.cli.groups import Group, LazyCommand
from darkpy.cli.options import Command
from darkpy.errors import DarkpyError


@click.command(cls=Command)
@click.argument("words", nargs=-1)
@click.option("-thresh", type=float)
@click.option("--dont-show", is_flag=True)
@click.option("-i", "--device")
@click.option("-size", type=int, nargs=2)
def echo(**values: object) -> dict[str, object]:
    return values


test = LazyCommand(__name__, "echo", "Print the values.")
program = Group("darkpy", {"detector": Group("detector", {"test": test}, help="Detectors.")}, help="A program.")


def parse(*words: str) -> dict[str, object]:
    """What differs from the defaults."""
    found: dict[str, object] = program.main(["detector", "test", *words], prog_name="darkpy", standalone_mode=False)
    return {name: value for name, value in found.items() if value not in (None, False, ())}


@pytest.mark.parametrize("option", ["-thresh", "--thresh"])
@pytest.mark.parametrize("words", [("{}", ".25", "a", "b"), ("a", "{}", ".25", "b"), ("a", "b", "{}=.25")])
def test_option_may_have_one_dash_or_two_and_stand_anywhere(option: str, words: Sequence[str]) -> None:
    assert parse(*(word.format(option) for word in words)) == {"thresh": 0.25, "words": ("a", "b")}


@pytest.mark.parametrize("option", ["-dont_show", "--dont_show", "-dont-show", "--dont-show", "--dontshow"])
def test_bars_inside_an_option_do_not_count(option: str) -> None:
    assert parse(option) == {"dont_show": True}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_option_may_stand_before_the_command(place: int) -> None:
    words = ["detector", "test", "a"]
    words[place:place] = ["-i", "1", "-dont_show"]
    found = program.main(words, prog_name="darkpy", standalone_mode=False)
    assert (found["device"], found["dont_show"], found["words"]) == ("1", True, ("a",))


def test_nogpu_is_a_device() -> None:
    assert parse("-nogpu", "a") == {"device": "cpu", "words": ("a",)}


def test_value_may_look_like_an_option() -> None:
    assert parse("-i", "-thresh", "-size", "-1", "-2", "a") == {"device": "-thresh", "size": (-1, -2), "words": ("a",)}


def test_two_dashes_end_the_options() -> None:
    assert parse("-dont_show", "--", "-thresh", "-x") == {"dont_show": True, "words": ("-thresh", "-x")}


def test_one_dash_alone_is_a_word() -> None:
    assert parse("-") == {"words": ("-",)}


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("-tresh", "did you mean -thresh?"),
        ("--dont-sow=1", "did you mean --dont-show?"),
        ("-ithresh", "did you mean -thresh?"),
        ("-zzz", "darkpy detector test --help lists them"),
        ("-THRESH", "did you mean -thresh?"),
        ("-sow", "did you mean -show?"),
    ],
)
def test_unknown_option_is_an_error_with_a_hint(option: str, hint: str) -> None:
    with pytest.raises(DarkpyError) as caught:
        parse("a", option)
    assert option.partition("=")[0] in caught.value.message
    assert hint in str(caught.value.hint)


def test_unknown_command_is_not_passed_over_for_a_later_word() -> None:
    with pytest.raises(DarkpyError, match="darkpy has no command 'foo'"):
        program.main(["foo", "detector", "test"], prog_name="darkpy", standalone_mode=False)


def test_unknown_command_is_an_error_with_near_names() -> None:
    with pytest.raises(DarkpyError, match=r"darkpy has no command 'detektor'") as caught:
        program.main(["detektor"], prog_name="darkpy", standalone_mode=False)
    assert caught.value.hint == "did you mean detector?"
