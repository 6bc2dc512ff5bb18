"""Recommendation of anchors for a cfg and a data set, compared with the cfg's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from darkpy.anchors.cfg_heads import (
    CfgHead,
    HeadAnchors,
    assign_anchors,
    current_anchors,
    find_heads,
    rewrite,
    round_anchors,
    values_of,
)
from darkpy.anchors.kmeans import AnchorMatch, Floats, measure_fit
from darkpy.anchors.search import SearchConfig, SearchResult, find_anchors
from darkpy.build import Plan, make_plan
from darkpy.files import write_atomic


@dataclass(frozen=True, eq=False, slots=True)
class Recommendation:
    """Recommended anchors for a cfg.

    anchors_K2: as they will be written. now, new: fit of the cfg's own anchors and of these.
    too_small: number of boxes smaller than a cell of the finest map.
    Units: anchors_K2 in pixels of the input.
    """

    plan: Plan
    found: SearchResult
    anchors_K2: Floats
    head_anchors: tuple[HeadAnchors, ...]
    now: AnchorMatch
    new: AnchorMatch
    too_small: int

    @property
    def is_better(self) -> bool:
        return self.new.average_iou > self.now.average_iou


def default_count(heads: Sequence[CfgHead]) -> int:
    """Return the number of anchors in a cfg's list; if the heads have different lists, the number they use in total."""
    lists = {entry and entry.value for entry in (head.node.section.entries.get("anchors") for head in heads)}
    return max(head.keys.num for head in heads) if len(lists) == 1 else len(current_anchors(heads))


def recommend(
    plan: Plan, sizes_N2: Floats, search: SearchConfig, progress: Callable[[Sequence[int]], Iterable[int]] = iter
) -> Recommendation:
    """Search anchors for the heads of a network.

    sizes_N2: w, h of boxes as fractions of the image.
    Raises: DarkpyError when no layer has anchors, or there are fewer anchors than heads, or boxes than anchors.
    """
    heads = find_heads(plan)
    head_anchors = assign_anchors(search.count, heads)
    sizes_px_N2 = sizes_N2 * (plan.net.width, plan.net.height)
    found = find_anchors(sizes_px_N2, search, progress)
    anchors_K2 = round_anchors(found.anchors_K2, heads)
    finest = min(head.stride for head in heads)
    return Recommendation(
        plan,
        found,
        anchors_K2,
        head_anchors,
        now=measure_fit(sizes_px_N2, current_anchors(heads)),
        new=measure_fit(sizes_px_N2, anchors_K2),
        too_small=int((sizes_px_N2 < finest).all(1).sum()),
    )


def write_recommendation(recommendation: Recommendation, cfg: Path) -> bool:
    """Write the anchors into the cfg that the plan was made from. Returns: True if the file has changed.

    Raises: ConfigError when the changed cfg would not be valid, and DarkpyError when the file cannot be written; in
        both cases it is unchanged.
    """
    text = cfg.read_bytes()
    written = rewrite(text, recommendation.anchors_K2, recommendation.head_anchors)
    if written == text:
        return False
    make_plan(f"{written.decode('utf-8-sig', errors='replace')}\n", recommendation.plan.dialect)
    mode = cfg.stat().st_mode
    write_atomic(cfg, [written], replace_input=True)
    cfg.chmod(mode)
    return True


def as_record(recommendation: Recommendation) -> dict[str, Any]:
    """Convert to a JSON record."""
    return {
        "cfg": recommendation.plan.file,
        "now": recommendation.now._asdict(),
        "new": recommendation.new._asdict(),
        "boxes_below_a_cell": recommendation.too_small,
        "heads": [
            {
                "layer": assignment.head.node.index,
                "type": assignment.head.node.type,
                "line": assignment.head.node.section.line,
                "stride": list(assignment.head.stride),
                **values_of(recommendation.anchors_K2, assignment),
                "filters": assignment.filters,
                "filters_line": assignment.head.source.section.entries["filters"].line
                if assignment.head.source
                else None,
            }
            for assignment in recommendation.head_anchors
        ],
    }
