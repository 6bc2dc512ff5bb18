"""Splits that can be made again: the same names and the same seed, on any machine and in any order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from darkpy.data.lists.data_file import DIFFICULT_KEYS, DataFile, read_data
from darkpy.data.lists.image_list import LIST_SUFFIXES, ImageList, names_from_common_folder
from darkpy.errors import DarkpyError


def split(names: Sequence[str], shares: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """Deal names at random into parts of given shares of the whole; within a part they keep their order.

    Where a name goes follows from the seed, itself, and how many there are: of a set that has grown a little, few
    names change their part.

    Returns: the parts that hold a name; each of them does where there are as many names as parts.
    Raises:  DarkpyError when the shares are not above 0 or more than 1 together.
    """
    total = sum(shares.values())
    if not shares or min(shares.values()) <= 0 or total > 1 + 1e-9:
        raise DarkpyError(
            f"{', '.join(f'{part}={share:g}' for part, share in shares.items())} are no shares of a whole",
            hint="shares are above 0, and 1 together or less, as in train=.8,valid=.2",
        )
    shuffled = sorted(names, key=lambda name: (_number(seed, name), name))
    ends = _ends(len(names), list(shares.values()))
    part_of = {
        name: part for part, first, end in zip(shares, [0, *ends], ends, strict=False) for name in shuffled[first:end]
    }
    parts: dict[str, list[str]] = {part: [] for part in shares}
    for name in names:
        if name in part_of:
            parts[part_of[name]].append(name)
    return {part: members for part, members in parts.items() if members}


def split_files(
    source: Path, listed: ImageList, folder: Path, shares: Mapping[str, float], seed: int
) -> dict[Path, list[str]]:
    """The lines of a list file for each part; with a `.data` file as the source, of another one that names them, too.

    Images are known by their names from the folder that all of them lie in, and written from the root.

    Raises:  DarkpyError as `split`.
    """
    files = [listed.file(number) for number in range(len(listed.images))]
    names = names_from_common_folder(files)
    absolute = {name: str(file.absolute()) for name, file in zip(names, files, strict=True)}
    parts = split(list(absolute), shares, seed)
    made = {folder / f"{part}.txt": [absolute[name] for name in members] for part, members in parts.items()}
    if not source.is_dir() and source.suffix.lower() not in LIST_SUFFIXES:
        lists = {part: (folder / f"{part}.txt").absolute().as_posix() for part in parts}
        entries = {**_kept(read_data(source), lists), **lists}
        made[folder / source.name] = [f"{key}={value}" for key, value in entries.items()]
    return made


def _kept(data: DataFile, parts: Iterable[str]) -> dict[str, str]:
    """What a `.data` file in another folder says still: not what need not be found of lists that are others now."""
    gone = {DIFFICULT_KEYS[part] for part in parts if part in DIFFICULT_KEYS}
    kept = {key: value for key, value in data.entries.items() if key not in gone}
    for key in kept:
        file = data.find(key)
        if key != "classes" and file is not None and file.is_file():
            kept[key] = file.absolute().as_posix()
    return kept


def _number(seed: int, name: str) -> bytes:
    return sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest()


def _ends(count: int, shares: Sequence[float]) -> list[int]:
    """Where each part ends, none of them empty if that can be."""
    ends: list[int] = []
    done = 0.0
    for place, share in enumerate(shares):
        done += share
        left = len(shares) - 1 - place
        end = min(round(done * count), count - left)
        ends.append(min(max(end, ends[-1] + 1 if ends else 1), count))
    return ends
