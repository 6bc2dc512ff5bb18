"""A compiled network agrees with the reference path, on every network of cfg/; unsupported networks are refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._inductor.exc import CppCompileError

from darkpy.errors import DarkpyError
from darkpy.inference import compile as module
from darkpy.inference.accelerate import InferenceConfig, accelerate
from darkpy.inference.conv_kernels import NnpackConv
from darkpy.inference.executor import conv_tasks
from darkpy.inference.fixed_shapes import Program
from darkpy.inference.lowering import Lowering
from tests.inference.networks import distance, filled, images, outputs
from tests.inference.test_accelerate import CONV, LAYERS, NET, ROOT
from tests.inference.test_kernel_selection import force

WITH_MEMORY = {"gru", "rnn"}
QUICK = {"yolov3-tiny"}
compiler_that_fails = pytest.mark.xfail(
    torch.__version__ >= "2.14", raises=DarkpyError, reason="torch 2.14's inductor ends with an internal error"
)
CFGS = [
    pytest.param(path, id=path.stem, marks=compiler_that_fails if path.stem in QUICK else pytest.mark.slow)
    for path in sorted((ROOT / "cfg").glob("*.cfg"))
    if path.stem not in WITH_MEMORY
]
COMPILED = InferenceConfig(compiled=True)
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@needs_compiler
@pytest.mark.parametrize("cfg", CFGS)
def test_every_head_of_every_cfg_compiled_agrees_with_the_reference(cfg: Path) -> None:
    net = filled(cfg)
    x = images(net)
    expected = outputs(net, x)
    actual = outputs(accelerate(net, COMPILED), x)
    assert distance(actual, expected) <= 1e-4
    assert all(output.std() > 1e-6 for output in actual)


@pytest.mark.slow
@needs_compiler
def test_compiled_convolutions_are_those_of_the_fastest_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    net = filled(ROOT / "cfg/yolov3-tiny.cfg").for_inference()
    x = images(net)
    expected = outputs(net, x)
    force("Winograd 4", net)
    traced: list[str] = []
    compile_ = torch._inductor.compile

    def recorded(operations: Any, *arguments: Any, **options: Any) -> Any:
        traced.append(operations.code)
        return compile_(operations, *arguments, **options)

    monkeypatch.setattr(torch._inductor, "compile", recorded)
    assert distance(outputs(accelerate(net, InferenceConfig(compiled=True, tune="on")), x), expected) <= 1e-4
    assert traced[0].count("bmm") >= 6  # two for each convolution by Winograd's algorithm


def test_kernels_that_the_compiler_refuses_are_not_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    net = filled(NET + LAYERS, "alexeyab").for_inference()
    force("NNPACK", net)
    tasks = conv_tasks(net.plan, net.built, Lowering())
    for config in (InferenceConfig(), InferenceConfig(compiled=True)):
        kernels = [config.selector(net).choose(task, net.built[index].forward) for index, task in tasks.items()]
        assert any(isinstance(kernel, NnpackConv) for kernel in kernels) != config.compiled


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.05)])
def test_batches_of_any_size_run_in_pieces_and_agree_with_the_reference(
    precision: str, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    compile_ = module._compile

    def recorded(net: Any, x: torch.Tensor, precision: str) -> Program:
        sizes.append(len(x))
        return compile_(net, x, precision)

    monkeypatch.setattr(module, "_compile", recorded)
    net = filled(NET + LAYERS, "alexeyab")
    x = images(net, 5)
    expected = {count: outputs(net, x[:count]) for count in (1, 3, 2, 5, 4)}
    accelerate(net, InferenceConfig(precision=precision, compiled=True))
    for count, plain in expected.items():
        assert distance(outputs(net, x[:count]), plain) <= tolerance, count
    assert sizes == [1, 3, 5]  # two are one and one, four are three and one
    net.resize(24, 20)
    x = images(net, 2)
    with torch.inference_mode():
        plain = net.reference_forward(x)
    assert distance(outputs(net, x), plain) <= tolerance


def test_without_a_compiler_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(DarkpyError, match="needs a C\\+\\+ compiler, and no-such-compiler was not found") as caught:
        accelerate(filled(NET + CONV), COMPILED)
    assert "g++" in str(caught.value.hint)


@needs_compiler
def test_failed_compilation_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise CppCompileError(["g++", "x.cpp"], "x.cpp: In function f\nx.cpp:1:2: fatal error: no omp.h")

    monkeypatch.setattr(torch._inductor, "compile", fail)
    with pytest.raises(
        DarkpyError, match=r"--compile: torch cannot compile this: x\.cpp:1:2: fatal error: no omp\.h\n  hint"
    ):
        accelerate(filled(NET + CONV), COMPILED)


@needs_compiler
def test_layers_with_a_memory_are_not_compiled() -> None:
    with pytest.raises(DarkpyError, match="--compile: recurrent layers cannot be compiled"):
        accelerate(filled(ROOT / "cfg/rnn.cfg"), COMPILED)
