"""Splits that can be made again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkpy.data.lists.image_list import ImageList
from darkpy.data.lists.splitting import split, split_files
from darkpy.errors import DarkpyError

NAMES = [str(number) for number in range(100)]


def test_parts_follow_from_the_seed_and_not_from_the_order() -> None:
    parts = split(NAMES, {"train": 0.8, "valid": 0.2}, 3)
    assert {part: len(members) for part, members in parts.items()} == {"train": 80, "valid": 20}
    assert parts["valid"] == sorted(parts["valid"], key=int)
    again = split(NAMES[::-1], {"train": 0.8, "valid": 0.2}, 3)
    assert again["valid"] == parts["valid"][::-1]
    assert split(NAMES, {"train": 0.8, "valid": 0.2}, 4)["valid"] != parts["valid"]


@pytest.mark.parametrize("part", ["difficult", "names", "backup", "eval"])
def test_part_called_like_another_key_of_the_data_file_is_refused(tmp_path: Path, part: str) -> None:
    source = tmp_path / "my.data"
    source.write_text("names=x.names\neval=coco\ntrain=train.txt\n")
    listed = ImageList(("a.jpg", "b.jpg"), tmp_path)
    with pytest.raises(DarkpyError, match=f"a part called '{part}' would replace {part}= of"):
        split_files(source, listed, tmp_path, {"train": 0.5, part: 0.5}, 0)


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\rb.jpg", " a.jpg", "a.jpg\n"])
def test_name_that_would_not_come_back_from_a_list_is_refused(tmp_path: Path, name: str) -> None:
    listed = ImageList((f"{tmp_path}/{name}", f"{tmp_path}/b.jpg"), tmp_path)
    if name != name.lstrip():  # in a folder, whose path has no blank at its start
        assert split_files(tmp_path, listed, tmp_path, {"train": 1.0}, 0)
        return
    with pytest.raises(DarkpyError, match="cannot stand in a list"):
        split_files(tmp_path, listed, tmp_path, {"train": 1.0}, 0)


def test_few_names_change_their_part_when_some_are_added() -> None:
    shares = {"train": 0.8, "valid": 0.2}
    before = set(split(NAMES, shares, 0)["valid"])
    after = set(split([*NAMES, *(f"new {number}" for number in range(10))], shares, 0)["valid"])
    assert len(before - after) <= 4


def test_these_names_are_where_they_always_were() -> None:
    assert split(NAMES[:10], {"a": 0.5, "b": 0.3}, 0) == {"a": ["0", "4", "6", "7", "9"], "b": ["1", "2", "5"]}


@given(st.integers(0, 12), st.lists(st.floats(0.01, 1), min_size=1, max_size=4), st.integers(0, 99))
def test_every_name_is_in_one_part_and_no_part_empty_without_need(count: int, weights: list[float], seed: int) -> None:
    shares = {str(number): weight / sum(weights) for number, weight in enumerate(weights)}
    parts = split(NAMES[:count], shares, seed)
    members = [name for part in parts.values() for name in part]
    assert sorted(members) == sorted(NAMES[:count])
    if count >= len(shares):
        assert parts.keys() == shares.keys()


@pytest.mark.parametrize("shares", [{}, {"a": 0.0}, {"a": 0.7, "b": 0.4}, {"a": -1, "b": 2}])
def test_shares_are_parts_of_a_whole(shares: dict[str, float]) -> None:
    with pytest.raises(DarkpyError, match="are not shares of a whole"):
        split(NAMES, shares, 0)
