"""What `convert --check` does: source and result side by side on an image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from darkpy.cli.load import class_names
from darkpy.data.lists.names import read_names
from darkpy.errors import DarkpyError
from darkpy.evaluation import formats

if TYPE_CHECKING:
    from darkpy.build import Plan
    from darkpy.export.verify import SourceRun, VerifyResult
    from darkpy.network import Network

DEPARTED = 1


def show_check(seen: SourceRun, target: Path, plan: Plan, is_onnx: bool, *, is_json: bool) -> int:
    """Run the written file and print how far it is from its source. Returns: the exit code."""
    from darkpy.export.verify import verify

    checked = verify(seen, target, plan, is_onnx=is_onnx)
    click.echo(_as_json(seen, checked, target) if is_json else _table(seen, checked))
    return DEPARTED if any(row.departs for row in checked.rows) else 0


def names_of(network: Network, file: Path | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """What the classes are called: by the file, by what SRC holds, or by their number."""
    if file is None and known:
        return known
    if network.heads:
        return class_names(network, file)
    return () if file is None else read_names(file)


def look(network: Network, cutoff: int | None, image: Path, names: tuple[str, ...], thresh: float | None) -> SourceRun:
    """What the source sees on an image. Raises: DarkpyError for a partial file, ImageError."""
    from darkpy.export.verify import run_source

    if cutoff is not None:
        place = network.plan.place(cutoff)
        raise DarkpyError(f"--check runs the network, but {place} and later layers have no weights")
    return run_source(network, image, names, thresh)


def _as_json(seen: SourceRun, checked: VerifyResult, target: Path) -> str:
    """Objects as `darkpy detect --json` has them, the surest first."""
    outputs = [
        {"name": row.name, "difference": row.difference, "largest": row.largest, "departs": row.departs}
        for row in checked.rows
    ]
    source, result = (
        formats.image_record(str(target), seen.size, formats.by_confidence(formats.visible(found)))["objects"]
        for found in (seen.objects, checked.objects)
    )
    return json.dumps({"outputs": outputs, "source": source, "result": result})


def _table(seen: SourceRun, checked: VerifyResult) -> str:
    lines = [f"{'output':24} {'largest |a-b|':>14} {'of largest |a|':>15}"]
    for row in checked.rows:
        end = "  departs" if row.departs else ""
        lines.append(f"{row.name:24} {row.difference:14.3g} {row.relative:15.3g}{end}")
    shown = lines if checked.rows else []
    if not seen.network.heads:
        return "\n".join(shown)
    for who, found in (("source", seen.objects), ("result", checked.objects)):
        sure = formats.by_confidence(formats.visible(found))
        shown += [f"{who}: {len(sure)} object{'' if len(sure) == 1 else 's'}", *formats.object_lines(sure, seen.size)]
    return "\n".join(shown)
