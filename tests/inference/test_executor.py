"""The lowered network agrees with the reference path, on every network of cfg/ and for layers of all kinds."""

from __future__ import annotations

import math
import weakref
from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.errors import DarkpyError, WeightsError
from darkpy.inference import conv_kernels
from darkpy.inference.accelerate import InferenceConfig, accelerate
from darkpy.inference.conv_kernels import ConvFunction, ConvTask, OneDnnConv
from darkpy.inference.executor import Executor, Step, lower_layers
from darkpy.inference.lowering import Lowering
from darkpy.ops.activations import ACTIVATIONS_BY_NAME
from tests.inference.networks import distance, filled, images, outputs

ROOT = Path(__file__).resolve().parents[2]
QUICK = {"cifar", "gru", "rnn", "tiny", "yolov3-tiny", "yolov4-tiny", "yolov7-tiny"}
CFGS = [
    pytest.param(path, id=path.stem, marks=[] if path.stem in QUICK else pytest.mark.slow)
    for path in sorted((ROOT / "cfg").glob("*.cfg"))
]
NET = "[net]\nwidth=16\nheight=12\nchannels=3\n"
CONV = "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\npad=1\n"


@pytest.mark.parametrize("cfg", CFGS)
def test_every_head_of_every_cfg_agrees_with_the_reference(cfg: Path) -> None:
    net = filled(cfg)
    x = images(net)
    expected = outputs(net, x)
    actual = outputs(accelerate(net), x)
    assert distance(actual, expected) <= 1e-4
    assert all(output.std() > 1e-6 for output in actual)


def test_every_activation_behind_a_convolution_agrees_with_the_reference() -> None:
    for name, activation in ACTIVATIONS_BY_NAME.items():
        dialect = next(iter(activation.dialects))
        net = filled(f"{NET}{CONV}activation={name}\n{CONV}stride=2\nactivation={name}\n", dialect)
        x = images(net, 2) - 0.5
        expected = outputs(net, x)
        assert distance(outputs(accelerate(net), x), expected) <= 1e-4, name


ODD = {
    "strides": CONV + "stride_x=2\nactivation=leaky\n",
    "groups": CONV + "groups=4\nactivation=swish\n",
    "dilation": CONV + "dilation=2\nactivation=leaky\n",
    "xnor": CONV + "xnor=1\nactivation=leaky\n",
    "binary": CONV + "binary=1\nactivation=leaky\n",
    "blurred": CONV + "antialiasing=1\nstride=2\nactivation=leaky\n",
    "shared": CONV + "activation=leaky\n" + CONV + "share_index=1\n",
    "even": "[convolutional]\nfilters=5\nsize=2\npadding=1\nactivation=leaky\n",
    "elided": "[dropout]\n[empty]\n" + CONV + "activation=mish\n[dropout]\n",
    "routed": "[route]\nlayers=0\n[route]\nlayers=-1,0,0\ngroups=2\ngroup_id=1\n" + CONV + "[shortcut]\nfrom=0\n",
    "pooled": "[maxpool]\nsize=2\nstride=2\n" + CONV + "[maxpool]\nsize=2\nstride=1\n[maxpool]\nsize=3\nstride=2\n",
    "pooled in parts": "[route]\nlayers=-1,0\n[maxpool]\nsize=2\nstride=2\n" + CONV,
    "odd, pooled in parts": "[maxpool]\nstride=2\n" * 2 + "[route]\nlayers=-1,-1\n[maxpool]\nsize=2\nstride=2\n" + CONV,
    "pooled in parts, and whole": "[route]\nlayers=-1,0\n[maxpool]\nstride=2\n[upsample]\n[route]\nlayers=-1,-3\n"
    + CONV,
    "recurrent": "[crnn]\noutput_filters=4\nhidden_filters=4\npad=1\nsize=3\nbatch_normalize=1\n",
    "normalized in groups": CONV.replace("batch", "group") + "activation=leaky\n[l2norm]\nscale=3\n",
    "prelu": CONV + "activation=prelu\n[activation]\nactivation=prelu\n",
    "connected": "[avgpool]\n[connected]\noutput=7\nbatch_normalize=1\n[softmax]\n",
}


@pytest.mark.parametrize("section", ODD.values(), ids=ODD.keys())
def test_layers_of_all_kinds_agree_with_the_reference(section: str) -> None:
    net = filled(NET + CONV.replace("filters=8", "filters=8\nactivation=leaky") + section, "alexeyab")
    x = images(net, 3)
    expected = outputs(net, x)
    assert distance(outputs(accelerate(net), x), expected) <= 1e-4
    assert distance(outputs(accelerate(net), x[:1]), [output[:1] for output in expected]) <= 1e-4


def test_concatenation_that_only_pools_read_is_elided() -> None:
    net = filled(NET + CONV + CONV + "[route]\nlayers=-1,0\n[maxpool]\nstride=2\n" + CONV).for_inference()
    assert 2 not in lower_layers(net.plan, net.built, Lowering())


def test_parts_of_two_dtypes_are_pooled_as_their_concatenation() -> None:
    net = darkpy.load(NET + "[maxpool]\nstride=2\n", dialect="alexeyab").for_inference()
    pooled = lower_layers(net.plan, net.built, Lowering())[0]
    parts = torch.rand(1, 2, 4, 4).bfloat16(), torch.rand(1, 3, 4, 4)
    expected = torch.nn.functional.max_pool2d(torch.cat(parts, 1), 2)
    torch.testing.assert_close(pooled(*parts), expected, rtol=0, atol=0)


def test_convolutions_give_their_weights_up_and_cannot_be_saved(tmp_path: Path) -> None:
    net = accelerate(filled(NET + CONV))
    assert {name for name, _ in net.named_parameters()} == {"layers.0.biases"}
    with pytest.raises(WeightsError, match="was folded away for inference"):
        net.save_weights(tmp_path / "gone.weights")


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 0.1)])
def test_trace_still_shows_every_layer_in_float32(precision: str, tolerance: float) -> None:
    net = filled(NET + CONV + "[dropout]\n" + CONV + "[connected]\noutput=5\nactivation=leaky\n")
    x = images(net)
    expected = [output.detach() for output in net.trace(x)]
    accelerate(net, InferenceConfig(precision=precision))
    assert distance(net.trace(x), expected) <= tolerance
    assert distance(net.reference_forward(x), expected[-1:]) <= tolerance


def test_layers_in_int8_run_only_as_part_of_the_network() -> None:
    net = filled(NET + CONV + CONV)
    x = images(net)
    accelerate(net, InferenceConfig(precision="int8"), images=[x])
    for run in (net.trace, net.reference_forward):
        with pytest.raises(DarkpyError, match=r"3 -> 8, 3x3, stride 1.*: runs in int8 only as part of the network"):
            run(x)
    assert net(x)[0].shape == (1, 8, 12, 16)


@pytest.mark.parametrize("fault", ["absent", "raises", "wrong", "nan"])
def test_operation_that_is_absent_or_wrong_is_not_used(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(OneDnnConv):
        def build(self, task: ConvTask) -> ConvFunction:
            conv = super().build(task)

            def fail(x: torch.Tensor) -> torch.Tensor:
                raise RuntimeError("no such primitive")

            faults = {"raises": fail, "wrong": lambda x: conv(x) * 1.001, "nan": lambda x: conv(x) * math.nan}
            if fault == "absent":
                raise AttributeError("no such operation")
            return faults[fault]

    net = filled(NET + CONV + CONV)
    expected = outputs(net, images(net))
    monkeypatch.setattr(conv_kernels, "DEFAULT_KERNELS", (Broken(),))
    accelerate(net)
    assert all("weights" in dict(layer.named_parameters()) for layer in net.layers)
    assert distance(outputs(net, images(net)), expected) <= 1e-4


def test_torch_without_the_operation_fuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_convolution_weight", None)
    net = filled(NET + CONV)
    expected = outputs(net, images(net))
    assert distance(outputs(accelerate(net), images(net)), expected) <= 1e-4


def test_outputs_are_freed_after_their_last_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    net = accelerate(filled(NET + CONV + CONV + "[dropout]\n" + CONV + "[shortcut]\nfrom=0\n" + CONV, "alexeyab"))
    runner = Executor(net.plan, net.outputs, lower_layers(net.plan, net.built, Lowering()))
    alive: list[weakref.ref[torch.Tensor]] = []
    seen: list[list[int]] = []

    def recorded(step: Step) -> Step:
        def function(*sources: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = step.function(*sources)
            alive.append(weakref.ref(output))
            seen.append([index for index, output in enumerate(alive) if output() is not None])
            return output

        return step._replace(function=function)

    monkeypatch.setattr(runner, "_steps", [recorded(step) for step in runner._steps])
    with torch.inference_mode():
        runner(images(net))
    # the dropout is elided; the sum, 3, is written over the convolution before it, 2
    assert seen == [[0], [0, 1], [0, 1, 2], [0, 2, 3], [2, 3, 4]]


def test_halving_pool_takes_the_larger_numbers_and_nan() -> None:
    net = darkpy.load(NET + "[maxpool]\nsize=2\nstride=2\n")
    x = torch.randn(2, 3, 12, 16, generator=torch.Generator().manual_seed(0))
    x[0, 0, 0, 0] = math.nan
    (actual,) = outputs(net, x)
    torch.testing.assert_close(actual, torch.nn.functional.max_pool2d(x, 2), rtol=0, atol=0, equal_nan=True)
    equal = torch.zeros(1, 3, 12, 16, requires_grad=True)
    net(equal)[0].sum().backward()
    assert equal.grad is not None and equal.grad.amax() == 1  # the delta goes to one of several equal values
