"""Networks: their outputs, the tensors they keep alive, and the memory they take."""

from __future__ import annotations

import copy
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.build import make_plan
from darkpy.errors import ConfigError, DarkpyError, ShapeError
from darkpy.network import MAX_WEIGHTS, Network

ROOT = Path(__file__).resolve().parents[1]
NET = "[net]\nwidth=8\nheight=8\nchannels=2\n"
CONV = "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=leaky\n"
NORMED = CONV + "batch_normalize=1\n"


def network(layers: str, dialect: str | None = None) -> Network:
    net = Network(make_plan(NET + layers, dialect))
    net.initialize(torch.Generator().manual_seed(3))
    for name, buffer in net.named_buffers():
        if "variance" in name:
            buffer.fill_(0.5)
    return net


def image(batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 2, 8, 8, generator=torch.Generator().manual_seed(5))


# what comes out


def test_package_is_imported_without_torch() -> None:
    code = "import sys, darkpy; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_load_gives_a_network_in_inference_mode_with_every_array_filled() -> None:
    net = darkpy.load(NET + NORMED)
    assert not net.training
    assert not any(tensor.is_meta for tensor in net.state_dict().values())


def test_output_is_that_of_the_last_layer_that_is_not_cost() -> None:
    net = network(CONV + "[avgpool]\n[softmax]\n[cost]\n")
    (output,) = net(image(3))
    assert output.shape == (3, 4, 1, 1)
    assert torch.allclose(output.sum(1), torch.ones(3, 1, 1))


def test_network_of_nothing_but_cost_returns_that() -> None:
    (output,) = network("[cost]\n", "pjreddie")(image())
    assert torch.allclose(output, image() ** 2)


def test_outputs_are_those_of_the_heads_in_cfg_order() -> None:
    head = "[convolutional]\nfilters=7\n[yolo]\nclasses=2\n"
    net = network(head + "[route]\nlayers=0\n[maxpool]\nstride=2\n" + head)
    first, second = net(image())
    assert (first.shape, second.shape) == ((1, 7, 8, 8), (1, 7, 4, 4))
    assert net.outputs == (1, 5)
    assert [head.type for head in net.heads] == ["yolo", "yolo"]


def test_trace_gives_every_layers_output() -> None:
    net = network(CONV + "[maxpool]\nstride=2\n[upsample]\n[shortcut]\nfrom=0\n")
    outputs = net.trace(image(2))
    assert [tuple(output.shape[1:]) for output in outputs] == [node.shape for node in net.plan.nodes]
    assert torch.equal(outputs[-1], net(image(2))[0])


def test_vector_input_may_be_flat() -> None:
    net = Network(make_plan("[net]\ninputs=6\n[connected]\noutput=2\n"))
    net.initialize()
    assert net(torch.zeros(5, 6))[0].shape == (5, 2, 1, 1)


def test_runner_gets_an_image_with_its_own_strides() -> None:
    net, x_BCHW = network(CONV).for_inference(), image().contiguous(memory_format=torch.channels_last)
    net.set_backend(lambda x_BCHW: [x_BCHW])
    assert net(x_BCHW)[0].stride() == x_BCHW.stride()


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 2, 8, 9), (1, 8, 8, 2), (128,), (1, 127), (0, 2, 8, 8)])
def test_input_of_another_size_is_refused_with_both_sizes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError) as caught:
        network(CONV)(torch.zeros(shape))
    assert str(caught.value) == f"the input is {shape}, <cfg> needs (batch, 2, 8, 8)"


def test_network_beyond_the_limit_is_refused_before_memory_is_taken() -> None:
    made = make_plan("[net]\ninputs=65536\n[connected]\noutput=32000\n")
    assert made.parameter_count > MAX_WEIGHTS
    with pytest.raises(DarkpyError, match=r"<cfg> has 2097184000 weights, 7\.8 GiB"):
        Network(made)


def test_building_takes_no_memory_for_the_arrays() -> None:
    net = Network(make_plan("[net]\ninputs=32768\n[connected]\noutput=32000\n"))
    assert all(tensor.is_meta for tensor in net.state_dict().values())


# shared arrays, folding


def test_layer_with_share_index_computes_with_the_others_arrays() -> None:
    square = "[convolutional]\nfilters=2\nsize=3\npad=1\nbatch_normalize=1\nactivation=leaky\n"
    shared = network(square + square + "share_index=0\n" + square + "share_index=-1\n")
    apart = network(square * 3)
    own = shared.layers[0].state_dict()
    for layer in apart.layers:
        layer.load_state_dict(own)
    assert set(shared.state_dict()) == {f"layers.0.{name}" for name in own}
    (wanted,) = apart(image())
    assert torch.equal(shared(image())[0], wanted)
    assert torch.equal(copy.deepcopy(shared)(image())[0], wanted)
    assert torch.allclose(shared.for_inference()(image())[0], wanted, rtol=1e-4, atol=1e-5)


def test_network_folded_for_inference_computes_the_same() -> None:
    net = network(NORMED + "[maxpool]\nstride=2\n" + NORMED + "[connected]\noutput=3\nbatch_normalize=1\n")
    (wanted,) = net(image(2))
    (found,) = net.for_inference()(image(2))
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert not any("rolling" in name for name in net.state_dict())
    assert not any(parameter.requires_grad for parameter in net.parameters())


# what stays alive


LADDER = (
    CONV  # 0: read by 1 and 4
    + CONV  # 1: read by 2
    + CONV  # 2: read by 3, and by 6
    + CONV  # 3: read by 4
    + "[shortcut]\nfrom=0\nactivation=linear\n"  # 4
    + CONV  # 5: read by 6
    + "[route]\nlayers=-1,2\n"  # 6
    + "[convolutional]\nfilters=7\n[yolo]\nclasses=2\n"  # 7, 8: the first head
    + "[route]\nlayers=-3,4\n"  # 9
    + "[convolutional]\nfilters=7\n[yolo]\nclasses=2\n"  # 10, 11: the second
)
LIVE = {  # while each layer hands out its output
    0: {0},
    1: {0, 1},
    2: {0, 1, 2},
    3: {0, 2, 3},
    4: {0, 2, 3, 4},
    5: {2, 4, 5},
    6: {2, 4, 5, 6},
    7: {4, 6, 7},
    8: {4, 6, 7, 8},
    9: {4, 6, 8, 9},
    10: {8, 9, 10},
    11: {8, 10, 11},
}


def live_outputs(net: Network) -> dict[int, set[int]]:
    """For each layer, whose outputs are in memory when it has run."""
    alive: dict[int, weakref.ref[torch.Tensor]] = {}
    seen: dict[int, set[int]] = {}

    def watch(index: int) -> None:
        def look(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            alive[index] = weakref.ref(output)
            seen[index] = {number for number, output_of in alive.items() if output_of() is not None}

        net.layers[index].register_forward_hook(look)

    for node in net.plan.nodes:
        watch(node.index)
    with torch.no_grad():
        net(image())
    return seen


def test_outputs_are_freed_after_their_last_reader() -> None:
    assert live_outputs(network(LADDER)) == LIVE


def test_output_that_nobody_reads_is_freed_at_once() -> None:
    seen = live_outputs(network(CONV + "[route]\nlayers=0\n" + CONV + "[sam]\nfrom=0\n" + CONV, "alexeyab"))
    assert seen[4] == {3, 4}
    unread = live_outputs(network("[implicit]\nfilters=2\n[implicit]\nfilters=2\n[implicit]\nfilters=3\n"))
    assert unread[2] == {1, 2}


MEASURE = """
import sys
import torch
import darkpy, darkpy.network

def kib(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field))

torch.nn.functional.conv2d(torch.zeros(1, 8, 32, 32), torch.zeros(8, 8, 3, 3))
before = kib("VmRSS")
network = darkpy.load(sys.argv[1], sys.argv[2])
with torch.no_grad():
    network(torch.rand(1, *network.plan.input_shape))
print(1024 * (kib("VmHWM") - before))  # ru_maxrss would hold the peak of the process that started this one
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process its peak")
def test_peak_memory_of_yolov3_is_near_that_of_its_weights(tmp_path: Path) -> None:
    cfg, weights = ROOT / "cfg/yolov3.cfg", tmp_path / "yolov3.weights"
    plan = make_plan(cfg)
    assert (plan.input_shape.h, plan.input_shape.w) == (608, 608)
    with weights.open("wb") as stream:
        stream.write(bytes([0, 0, 0, 0, 2]))
        stream.truncate(20 + 4 * plan.parameter_count)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(cfg), str(weights)], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) > 4 * plan.parameter_count, "the weights must have been read"
    live = sorted(4 * node.shape.outputs for node in plan.nodes)[-2:]
    assert int(run.stdout) < 1.5 * 4 * plan.parameter_count + sum(live)


def test_config_fault_reaches_the_caller_of_load() -> None:
    with pytest.raises(ConfigError, match="not a darknet section"):
        darkpy.load(NET + "[what]\n")


# other sizes


def test_resized_network_computes_what_one_made_for_that_size_does() -> None:
    cfg = NORMED + "[maxpool]\nsize=2\nstride=2\n" + NORMED + "[upsample]\nstride=2\n[route]\nlayers=-1,0\n" + CONV
    resized, made = network(cfg), Network(make_plan((NET + cfg).replace("=8", "=16", 2)))
    made.load_state_dict(resized.state_dict(), assign=True)
    resized.resize(16, 16)
    x = torch.rand(2, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    assert torch.equal(resized(x)[0], made(x)[0])
    assert [(node.inputs, node.shape, node.bflops) for node in resized.plan.nodes] == [
        (node.inputs, node.shape, node.bflops) for node in made.plan.nodes
    ]
    assert (resized.plan.net.width, resized.plan.net.height) == (16, 16)
    with pytest.raises(ShapeError, match=r"needs \(batch, 2, 16, 16\)"):
        resized(image())


def test_layer_whose_weights_depend_on_the_size_refuses_another_one_by_name_and_nothing_changes() -> None:
    net = network(CONV + "[connected]\noutput=3\n")
    with pytest.raises(ShapeError, match=r"layer 1 \[connected\].*at 16 x 24, its weights fit one input size only"):
        net.resize(16, 24)
    assert net(image())[0].shape == (1, 3, 1, 1)


def test_size_that_leaves_nothing_is_refused() -> None:
    net = network(CONV + "[maxpool]\nsize=8\nstride=4\npadding=0\n")
    with pytest.raises(ShapeError, match=r"layer 1 \[maxpool\].*at 2 x 2"):
        net.resize(2, 2)
