"""Writer of ultralytics' data sets: data.yaml, and images and labels in folders of the splits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from darkpy.data.formats.annotations import AnnotatedDataset
from darkpy.data.formats.darknet_writer import LabelTexts, link_or_copy
from darkpy.files import make_output_folder, write_atomic

YOLO_SPLITS = {"valid": "val"}
"""Ultralytics' name of a split, where it is not darknet's."""


def write_yolo(
    dataset: AnnotatedDataset,
    labels: Mapping[str, LabelTexts],
    folder: Path,
    *,
    copy: bool = False,
    overwrite: bool = False,
) -> Iterator[Path]:
    """Write images and labels, and data.yaml last.

    labels: texts by image. copy: copy the images instead of linking to them.
    Yields: the path of each image after it and its labels are written.
    Raises: DarkpyError when the folder cannot be written or is not empty (without `overwrite`).
    """
    splits = {YOLO_SPLITS.get(split, split): members for split, members in dataset.splits.items()}
    if len(splits) == 1:
        splits = {"train": next(iter(splits.values()))}
    subfolders = [f"{kind}/{split}" for kind in ("images", "labels") for split in splits]
    make_output_folder(folder, subfolders, overwrite=overwrite)
    for split, members in splits.items():
        for key in members:
            target = folder / "images" / split / f"{key}{dataset.images[key].file.suffix}"
            link_or_copy(dataset.images[key].file, target, copy)
            write_atomic(folder / "labels" / split / f"{key}.txt", [labels[key].plain.encode()], durable=False)
            yield target
    # without `path`, ultralytics takes paths relative to the file; it demands `val`
    paths = {split: f"images/{split}" for split in splits}
    paths.setdefault("val", next(iter(paths.values())))
    lines = [f"{split}: {path}" for split, path in paths.items()]
    names = [f"  {class_id}: {json.dumps(name)}" for class_id, name in enumerate(dataset.class_names())]
    write_atomic(folder / "data.yaml", ["\n".join([*lines, "names:", *names, ""]).encode()])
