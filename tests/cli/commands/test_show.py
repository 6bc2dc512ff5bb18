"""`darkpy show`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run


def test_table_is_darknets_with_the_sums_and_the_dialect_below(task: Path, run: Run) -> None:
    code, out, err = run("show", "net.cfg")
    assert (code, err) == (0, "")
    heading, *layers, sums, training, dialect, constraint = out.splitlines()
    assert heading.split() == ["layer", "type", "filters", "size/stride", "input", "output", "BF", "weights"]
    assert [layer.split()[:2] for layer in layers] == [["0", "maxpool"], ["1", "convolutional"], ["2", "yolo"]]
    assert sums.startswith("net.cfg: 3 layers, 28 weights, ")
    assert training == "training: every layer learns"
    assert dialect == "dialect: pjreddie (the default)"
    assert constraint == "delta constraint: [-1, 1]"


@pytest.mark.parametrize(
    ("key", "constraint"),
    [("", "off"), ("constrain=2.5\n", "[-2.5, 2.5]"), ("constrain=0\n", "off"), ("try_fix_nan=1\n", "[-1, 1]")],
)
def test_bound_of_the_delta_constraint_is_printed(task: Path, run: Run, key: str, constraint: str) -> None:
    (task / "net.cfg").write_text((task / "net.cfg").read_text().replace("width=32\n", f"width=32\n{key}"))
    words = ("show", "net.cfg", "--dialect", "alexeyab")
    assert f"\ndelta constraint: {constraint}\n" in run(*words).out
    layers = json.loads(run(*words, "--json").out)["layers"]
    bound = {"off": 0, "[-2.5, 2.5]": 2.5, "[-1, 1]": 1}[constraint]
    assert [layer["delta_bound"] for layer in layers] == [None, bound, None]


def test_bounds_that_differ_are_printed_with_their_layers(task: Path, run: Run) -> None:
    layers = "[convolutional]\n" * 3 + "[maxpool]\n[connected]\n[convolutional]\n"
    (task / "net.cfg").write_text("[net]\nwidth=8\nheight=8\nchannels=3\n" + layers)
    out = run("show", "net.cfg", "--dialect", "alexeyab").out
    assert out.endswith("\ndelta constraint: off in layers 0-2, 5; [-1, 1] in layer 4\n")


@pytest.mark.parametrize(
    ("words", "keys", "told"),
    [
        (("--dialect", "alexeyab"), "", "alexeyab (from --dialect)"),
        ((), "letter_box=1\n", "alexeyab (it has sections or keys that only this dialect has)"),
    ],
)
def test_dialect_has_its_reason(task: Path, run: Run, words: tuple[str, ...], keys: str, told: str) -> None:
    (task / "net.cfg").write_text((task / "net.cfg").read_text().replace("width=32\n", f"width=32\n{keys}"))
    assert run("show", "net.cfg", *words).out.splitlines()[-2] == f"dialect: {told}"


def test_what_no_darknet_computes_is_said(task: Path, run: Run) -> None:
    cfg = task / "net.cfg"
    cfg.write_text(cfg.read_text().replace("width=32\n", "width=32\nmean=.5\n").replace("=linear", "=prelu"))
    told = ["[net] net.cfg: mean=0.5", "layer 1 [convolutional] net.cfg:11: activation=prelu"]
    assert run("show", "net.cfg").out.splitlines()[-2:] == [
        f"extension of darkpy, in no darknet: {entry}" for entry in told
    ]
    assert json.loads(run("show", "net.cfg", "--json").out)["foreign"] == told


def test_json_has_every_layer_with_its_numbers(task: Path, run: Run) -> None:
    document = json.loads(run("show", "net.cfg", "--json").out)
    layers = document.pop("layers")
    assert document == {
        "file": "net.cfg",
        "dialect": "pjreddie",
        "input": [3, 32, 32],
        "parameter_count": 28,
        "bflops": pytest.approx(3.114e-06),
        "foreign": [],
    }
    keys = layers[1].pop("keys")
    assert (keys["filters"], keys["activation"]) == (7, "linear")
    assert layers[1] == {
        "index": 1,
        "type": "convolutional",
        "line": 10,
        "sources": [0],
        "shape": [7, 1, 1],
        "parameter_count": 28,
        "bflops": 4.2e-08,
        "frozen": "",
        "delta_bound": 1,
    }


@pytest.mark.parametrize(
    ("words", "keys", "told"),
    [
        ((), ("", "stopbackward=1"), "layer 0 frozen, batch norm statistics too; layer 1 frozen, batch norm statistics "
         "roll on; layers 2-3 learn (12 of 48 weights)"),
        (("--dialect", "pjreddie"), ("", "stopbackward=1"), "layers 0-1 frozen, batch norm statistics roll on; layers "
         "2-3 learn (12 of 48 weights)"),
        ((), ("", "stopbackward=50"), "layers 0-1 frozen until update 50; layers 2-3 learn (12 of 48 weights)"),
        ((), ("dont_update=9",), "layer 0 frozen until update 10; layers 1-3 learn (28 of 48 weights)"),
        ((), ("burnin_update=2",), "layer 0 frozen until update 2000; layers 1-3 learn (28 of 48 weights)"),
        ((), ("", "onlyforward=1"), "layers 0-1 frozen: no gradient reaches them (onlyforward); layers 2-3 learn "
         "(12 of 48 weights)"),
        ((), ("learning_rate=0",), "layer 0 frozen, batch norm statistics roll on; layers 1-3 learn (28 of 48 "
         "weights)"),
        (("--freeze", "2"), (), "layers 0-1 frozen, batch norm statistics too; layers 2-3 learn (12 of 48 weights)"),
        ((), (), "every layer learns"),
    ],
)  # fmt: skip
def test_layers_that_learn_are_reported(
    task: Path, run: Run, words: tuple[str, ...], keys: tuple[str, ...], told: str
) -> None:
    convolution = "[convolutional]\nfilters={}\nsize=1\nbatch_normalize=1\n{}\n"
    layers = [convolution.format(filters, key) for filters, key in zip((4, 2, 2), (*keys, "", "", ""), strict=False)]
    net = "[net]\nwidth=8\nheight=8\nchannels=1\nburn_in=1000\n"
    (task / "net.cfg").write_text(f"{net}{''.join(layers)}[cost]\n")
    out = run("show", "net.cfg", *(words or ("--dialect", "alexeyab"))).out
    assert f"\ntraining: {told}\n" in out
