"""A cfg is inspected without torch, with the same result as with torch."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import darkpy
from darkpy.errors import DarkpyError
from darkpy.summary import as_record, table
from darkpy.torchless import run_without_torch

ROOT = Path(__file__).resolve().parents[1]
CFGS = sorted((ROOT / "cfg").glob("*.cfg"))
START = """
import json, sys, warnings
import darkpy
from darkpy.errors import DarkpyError
from darkpy.torchless import run_without_torch
warnings.simplefilter("ignore")

def seen(cfg):
    from darkpy.summary import as_record, table
    try:
        plan = darkpy.plan(cfg)
    except DarkpyError as error:
        return str(error)
    return [table(plan), json.loads(json.dumps(as_record(plan)))]
"""


def python(code: str, *words: str) -> str:
    done = subprocess.run([sys.executable, "-c", START + code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def seen(cfg: Path) -> object:
    try:
        plan = darkpy.plan(cfg)
    except DarkpyError as error:
        return str(error)
    return [table(plan), json.loads(json.dumps(as_record(plan)))]


def agree(cfgs: list[Path]) -> None:
    code = "print(json.dumps(run_without_torch(lambda: [seen(cfg) for cfg in sys.argv[1:]])))\n"
    code += "assert 'torch' not in sys.modules"
    found = json.loads(python(code, *map(str, cfgs)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found == [seen(cfg) for cfg in cfgs]


def test_every_cfg_of_the_folder_is_seen_alike() -> None:
    agree(CFGS)


def test_every_cfg_of_the_zoo_is_seen_alike(shared: Path) -> None:
    agree(sorted((shared / "zoo").rglob("*.cfg")))


def test_network_can_be_made_afterwards() -> None:
    code = """
run_without_torch(lambda: seen(sys.argv[1]))
network = darkpy.load(sys.argv[1])
import torch
from darkpy import build
assert isinstance(network, torch.nn.Module) and network.plan == build.make_plan(sys.argv[1])
print(len(network(torch.zeros(1, *network.plan.input_shape))))
"""
    assert python(code, str(ROOT / "cfg/yolov3-tiny.cfg")) == "2\n"


@pytest.mark.parametrize("wish", ["torch.nn.Linear(2, 3).weight.sum()", "torch.ones(2) + 1"])
def test_who_computes_all_the_same_gets_torch(wish: str) -> None:
    code = f"def f():\n    import torch\n    return {wish}\nfound = run_without_torch(f)\n"
    code += "import torch\nassert isinstance(found, torch.Tensor)"
    python(code)


def test_where_torch_is_imported_already_nothing_is_hidden() -> None:
    before = sys.modules["torch"], sys.modules["darkpy.build"]
    assert run_without_torch(lambda: seen(CFGS[0])) == seen(CFGS[0])
    assert (sys.modules["torch"], sys.modules["darkpy.build"]) == before


def test_mistakes_are_reported_as_usual(tmp_path: Path) -> None:
    cfg = tmp_path / "wrong.cfg"
    cfg.write_text("[net]\nwidth=8\nheight=8\n[convolutionel]\n")
    agree([cfg])
