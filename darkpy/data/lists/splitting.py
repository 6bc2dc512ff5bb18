"""Reproducible splits of a data set: they depend on the names and the seed, not on machine or order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from darkpy.data.lists.image_list import LIST_SUFFIXES, ImageList, names_from_common_folder
from darkpy.data.lists.paths import require_listable
from darkpy.data.lists.text_files import DIFFICULT_KEYS, read_data
from darkpy.errors import DarkpyError


def split(names: Sequence[str], shares: Mapping[str, float], seed: int) -> dict[str, list[str]]:
    """Split names at random into parts of given shares of the whole, in their order.

    The part of a name follows from the seed, the name and the number of names: when a set grows a little, few names
    change their part.

    Returns: the parts that are not empty; all of them if there are at least as many names as parts.
    Raises:  DarkpyError when a share is not above 0 or the shares sum to more than 1.
    """
    total = sum(shares.values())
    if not shares or min(shares.values()) <= 0 or total > 1 + 1e-9:
        raise DarkpyError(
            f"{', '.join(f'{part}={share:g}' for part, share in shares.items())} are not shares of a whole",
            hint="shares are above 0 and sum to at most 1, as in train=.8,valid=.2",
        )
    # sorting by a hash shuffles reproducibly, and a new name leaves the order of the others as it is
    shuffled = sorted(
        names, key=lambda name: (sha256(f"{seed}/{name}".encode(errors="surrogateescape")).digest(), name)
    )
    ends: list[int] = []
    cumulative = 0.0
    for index, share in enumerate(shares.values()):
        cumulative += share
        # no part is empty if there are enough names
        end = min(round(cumulative * len(names)), len(names) - (len(shares) - 1 - index))
        ends.append(min(max(end, ends[-1] + 1 if ends else 1), len(names)))
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
    """Make the lines of a list file for each part, and of a `.data` file that names them if the source is one.

    Images are identified by their paths from their common folder, and written with absolute paths.

    Raises:  DarkpyError as `split`, and for a path that cannot stand in a list, or a part called like another key.
    """
    files = [listed.file(index) for index in range(len(listed.images))]
    names = names_from_common_folder(files)
    absolute = {name: str(file.absolute()) for name, file in zip(names, files, strict=True)}
    for path in absolute.values():
        require_listable(path)
    parts = split(list(absolute), shares, seed)
    texts = {folder / f"{part}.txt": [absolute[name] for name in members] for part, members in parts.items()}
    if not source.is_dir() and source.suffix.lower() not in LIST_SUFFIXES:
        lists = {part: (folder / f"{part}.txt").absolute().as_posix() for part in parts}
        data = read_data(source)
        own_keys = {*DIFFICULT_KEYS.values(), "names", "classes", "backup", *data.entries} - DIFFICULT_KEYS.keys()
        if clash := own_keys & parts.keys():
            raise DarkpyError(f"a part called {min(clash)!r} would replace {min(clash)}= of {source}", hint="rename it")
        # the difficult objects of lists that are replaced are left out
        dropped = {DIFFICULT_KEYS[part] for part in parts if part in DIFFICULT_KEYS}
        entries = {key: value for key, value in data.entries.items() if key not in dropped}
        for key in entries:
            file = data.find(key)
            if key != "classes" and file is not None and file.is_file():
                entries[key] = file.absolute().as_posix()
        entries |= lists
        texts[folder / source.name] = [f"{key}={value}" for key, value in entries.items()]
    return texts
