"""The last layer of a cfg, one with a loss, against what the C programs did with the same numbers.

These are the keys that the goldens of test_golden_training.py lack. Where truths are boxes, several lie at one
prediction. pjreddie's [region] was run as on the GPU: fed with what it puts out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darkpy.build import Plan, make_plan
from darkpy.layers.loss import Loss, LossSpec, TrainingState

CASES = sorted((Path(__file__).parent / "golden" / "heads").glob("*/*.npz"))
TREE = "beast -1\nthing -1\nrock -1\ncat 0\ndog 0\ncar 1\npug 4\npoodle 4\n"
MAP = "3\n7\n1\n4\n"
NUMBER = re.compile(r"-?\d+\.\d+")


class Case:
    def __init__(self, path: Path, folder: Path) -> None:
        self.golden: dict[str, np.ndarray[Any, Any]] = dict(np.load(path))
        (folder / "some.tree").write_text(TREE)
        (folder / "some.map").write_text(MAP)
        cfg = self.text("cfg").replace("@tree", f"{folder}/some.tree").replace("@map", f"{folder}/some.map")
        self.plan: Plan = make_plan(cfg, path.parent.name)
        self.node = self.plan.nodes[-1]
        assert isinstance(self.node.spec, LossSpec)
        self.spec: LossSpec = self.node.spec

    def text(self, name: str) -> str:
        return self.golden[name].tobytes().decode()

    def loss(self, images: slice = slice(None), *, is_channels_last: bool = False) -> Loss:
        x_BCHW, truth = (torch.from_numpy(self.golden[name][images]) for name in ("x", "truth"))
        if is_channels_last:
            x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        output_BCHW = self.spec.build(self.node.inputs, self.plan.net)(x_BCHW)
        return self.spec.loss(x_BCHW, output_BCHW, truth, TrainingState(self.plan.net, int(self.golden["seen"])))


def cases(paths: Sequence[Path]) -> pytest.MarkDecorator:
    names = [f"{path.parent.name}-{path.stem}" for path in paths]
    return pytest.mark.parametrize("path", paths, ids=names)


@cases(CASES)
def test_delta_cost_and_line_are_darknets(path: Path, tmp_path: Path) -> None:
    case = Case(path, tmp_path)
    loss = case.loss()
    wanted_BCHW = torch.from_numpy(case.golden["delta"])
    torch.testing.assert_close(loss.delta, wanted_BCHW, rtol=1e-5, atol=1e-6 * float(wanted_BCHW.abs().max()))
    torch.testing.assert_close(loss.cost, torch.tensor(float(case.golden["cost"])), rtol=1e-5, atol=0)

    found, wanted = case.spec.log_line(0, loss), case.text("line")
    assert NUMBER.sub("#", found) == NUMBER.sub("#", wanted)
    numbers = [[float(number) for number in NUMBER.findall(line)] for line in (found, wanted)]
    np.testing.assert_allclose(numbers[0], numbers[1], rtol=1e-6, atol=2e-6)


@cases([path for path in CASES if not path.stem.startswith("contrastive")])
def test_images_do_not_mix_and_memory_layout_does_not_matter(path: Path, tmp_path: Path) -> None:
    case = Case(path, tmp_path)
    whole = case.loss(is_channels_last=True)
    parts = [case.loss(slice(image, image + 1)) for image in range(len(case.golden["x"]))]
    torch.testing.assert_close(whole.delta, torch.cat([part.delta for part in parts]))
    torch.testing.assert_close(whole.input_delta, torch.cat([part.input_delta for part in parts]))
    torch.testing.assert_close(whole.cost, torch.stack([part.cost for part in parts]).sum())
