"""Changes of annotated data sets: classes renamed, merged and dropped; several data sets made one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from darkpy.data.formats.annotations import (
    AnnotatedDataset,
    AnnotatedImage,
    AnnotatedObject,
    ImportReport,
    join_images,
)
from darkpy.data.lists.paths import printable
from darkpy.data.lists.text_files import MAX_LISTED_LINES
from darkpy.errors import DarkpyError

DROP_WORD, ALL_CLASSES = "drop", "*"
SAME_BOX_DECIMALS_PX = 3
_MAP_HINT = (
    "--map OLD=NEW renames a class or merges it with NEW, drop=OLD drops it, drop=* all others; numbers are names, too"
)
_EMPTIED_IMAGES = "images have no object any more"


def parse_class_map(texts: Sequence[str], names: Sequence[str]) -> dict[str, str | None]:
    """Parse `old=new,drop=old`: the new name of each class, in order; None for one that is dropped.

    names: classes, by number. Raises: DarkpyError with everything that is wrong.
    """
    report = ImportReport()
    new_names: dict[str, str | None] = {}
    is_rest_dropped = False
    for entry in (entry.strip() for text in texts for entry in text.split(",")):
        left, equals, right = (word.strip() for word in entry.partition("="))
        if not equals or not left or not right or not right.isprintable():
            report.faults.append(f"--map: {printable(entry)!r} is not OLD=NEW or {DROP_WORD}=OLD")
            continue
        if left == DROP_WORD and right == ALL_CLASSES:
            is_rest_dropped = True
            continue
        is_drop = left == DROP_WORD and left not in names
        old = _find_class(right if is_drop else left, names, report)
        new = None if is_drop else right
        if old is not None and new_names.setdefault(old, new) != new:
            report.faults.append(f"--map: {old} is mapped twice")
    report.check(_MAP_HINT)
    others = {name: None if is_rest_dropped else name for name in names if name not in new_names}
    mapped = {**new_names, **others}
    if not any(mapped.values()):
        raise DarkpyError("--map: every class is dropped", hint=_MAP_HINT)
    return {name: mapped[name] for name in names}


def _find_class(text: str, names: Sequence[str], report: ImportReport) -> str | None:
    """Return the name of a class from its name or number; None, with a fault, for an unknown one."""
    if text in names:
        return text
    if text.isdecimal() and len(text) < 7 and int(text) < len(names):
        return names[int(text)]
    near = get_close_matches(text, names, n=2) or get_close_matches(text.lower(), [name.lower() for name in names], n=1)
    shown = ", ".join(names[:MAX_LISTED_LINES]) + (", ..." if len(names) > MAX_LISTED_LINES else "")
    suggestion = f"did you mean {' or '.join(near)}?" if near else f"the classes are {shown}"
    report.faults.append(f"--map: no class is called {printable(text)!r}; {suggestion}")
    return None


def remap_classes(dataset: AnnotatedDataset, new_names: Mapping[str, str | None]) -> AnnotatedDataset:
    """Rename the classes of a data set; objects of classes without a new name are dropped.

    Images that lose all of their objects stay, as images without objects, and are a loss.
    """
    emptied: list[str] = []
    images: dict[str, AnnotatedImage] = {}
    for key, image in dataset.images.items():
        renamed = ((item, new_names[item.name]) for item in image.objects)
        objects = tuple(item._replace(name=name) for item, name in renamed if name is not None)
        images[key] = replace(image, objects=objects)
        emptied += [key] if image.objects and not objects else []
    names = tuple(dict.fromkeys(filter(None, new_names.values())))
    losses = {**dataset.losses, **({_EMPTIED_IMAGES: emptied} if emptied else {})}
    return replace(dataset, images=images, names=names, losses=losses)


def merge_datasets(datasets: Mapping[Path, AnnotatedDataset]) -> AnnotatedDataset:
    """Join data sets, by their sources: splits and classes with the same name become one.

    A source other than a `.data` file has one list, which is joined to `train`. An image of several data sets has the
    objects of all, and stays in the split that it is in first.
    """
    report = ImportReport()
    images: dict[Path, AnnotatedImage] = {}
    splits: defaultdict[str, list[Path]] = defaultdict(list)
    for source, dataset in datasets.items():
        for text, places in dataset.losses.items():
            report.losses[text] += places
        paths = {key: Path(str(image.file)).resolve() for key, image in dataset.images.items()}
        shared = images.keys() & set(paths.values())
        for key, image in dataset.images.items():
            path = paths[key]
            earlier = images[path].objects if path in shared else ()
            images[path] = replace(image, objects=_distinct((*earlier, *image.objects)))
        listed: list[Sequence[str]] = []
        for list_key, keys in dataset.splits.items():
            if keys in listed:  # valid=train.txt stands for no list of its own
                continue
            listed.append(keys)
            split = list_key if source.suffix == ".data" else "train"
            moved = [paths[key] for key in keys if paths[key] in shared and paths[key] not in splits[split]]
            report.losses["images are in different splits, and stay in the first"] += map(str, moved)
            splits[split] += [paths[key] for key in keys if paths[key] not in shared]
        report.losses["images are in several data sets, and have the objects of all"] += map(str, sorted(shared))
    names = tuple(dict.fromkeys(name for dataset in datasets.values() for name in dataset.class_names()))
    folded: dict[str, str] = {}
    for name in names:
        if (first := folded.setdefault(name.casefold(), name)) != name:
            report.losses["classes differ from others in case only, and stay apart"].append(f"{first} and {name}")
    members = {split: {path: images[path] for path in paths} for split, paths in splits.items()}
    return join_images(members, (), report, names)


def _distinct(objects: Sequence[AnnotatedObject]) -> tuple[AnnotatedObject, ...]:
    """Leave out objects that are the same but for rounding."""
    by_value = {
        (item.name, item.is_difficult, *(round(edge, SAME_BOX_DECIMALS_PX) for edge in item.box)): item
        for item in reversed(objects)
    }
    return tuple(reversed(by_value.values()))
