"""The weight tools on other people's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkpy.build import make_plan
from darkpy.export.batch_norm import denormalize, normalize, reset
from darkpy.export.weight_tools import keep_first, load_weights_file, swap_red_and_blue
from darkpy.files import write_atomic
from tests.test_real_networks import NETWORKS

pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")


def test_the_first_layers_of_a_published_file_are_the_published_partial_file(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "weights" / "yolo-fastest-rockcarry"
    opened = load_weights_file(make_plan(folder / "yolo-fastest.cfg"), folder / "yolo-fastest.weights")
    write_atomic(tmp_path / "out", keep_first(opened, 109).pack())
    assert (tmp_path / "out").read_bytes() == (folder / "yolo-fastest.conv.109").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_tool_writes_numbers_that_are_some(name: str, shared: Path, tmp_path: Path) -> None:
    """Real files hold variances below 0 and denormal ones."""
    folder = shared / "data" / "weights" / name
    (cfg,), (weights,) = folder.glob("*.cfg"), folder.glob("*.weights")
    plan = make_plan(cfg)
    for tool in (denormalize, normalize):
        write_atomic(tmp_path / "out", tool(load_weights_file(plan, weights)).pack())
    opened = load_weights_file(plan, weights)
    reset(opened)
    swap_red_and_blue(opened)
    write_atomic(tmp_path / "out", opened.pack())
