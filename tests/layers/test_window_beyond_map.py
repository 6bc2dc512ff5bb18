"""Windows larger than their map by less than a stride: darkpy computes the one output that both C programs compute.

Their division truncates towards 0, so that (side - size) / stride + 1 is 1, and im2col reads 0 outside of the map.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from darkpy.build import make_plan
from darkpy.errors import ConfigError
from darkpy.export.onnx_files import pack_onnx
from darkpy.export.onnx_graph import OnnxOptions
from darkpy.export.state_dict import WeightsMetadata
from darkpy.inference.accelerate import accelerate
from darkpy.network import Network

NET = "[net]\nwidth=4\nheight=2\nchannels=3\n"
CASES = {
    "convolution": "[convolutional]\nfilters=5\nsize=3\nstride=2\nactivation=leaky\n",
    "convolution with a border": "[convolutional]\nfilters=5\nsize=6\nstride=3\npadding=1\nactivation=linear\n",
    "groups": "[convolutional]\nfilters=6\ngroups=3\nsize=3\nstride=2\nbatch_normalize=1\nactivation=relu\n",
    "local": "[local]\nfilters=5\nsize=3\nstride=2\nactivation=linear\n",
}


def network(layer: str, dialect: str, net: str = NET) -> Network:
    made = Network(make_plan(net + layer, dialect))
    made.initialize(torch.Generator().manual_seed(1))
    with torch.no_grad():
        for tensor in made.state_dict().values():
            tensor.uniform_(0.1, 0.9, generator=torch.Generator().manual_seed(2))
    return made.eval()


@pytest.mark.parametrize("dialect", ["pjreddie", "alexeyab"])
@pytest.mark.parametrize("name", CASES)
def test_window_reads_zeros_below_and_right_of_its_map(name: str, dialect: str) -> None:
    layer = CASES[name]
    made = network(layer, dialect)
    x_BCHW = torch.rand(2, 3, 2, 4, generator=torch.Generator().manual_seed(3))
    # the map with enough zeros for the window: an ordinary layer with the same weights
    h, w = (3, 4) if "padding" not in layer else (4, 4)
    larger = network(layer, dialect, f"[net]\nwidth={w}\nheight={h}\nchannels=3\n")
    padded_BCHW = torch.nn.functional.pad(x_BCHW, (0, w - 4, 0, h - 2))
    with torch.no_grad():
        y_BCHW, expected = made(x_BCHW)[0], larger(padded_BCHW)[0]
        assert y_BCHW.shape[2] == 1
        torch.testing.assert_close(y_BCHW, expected)
        model = b"".join(pack_onnx(made, WeightsMetadata(), OnnxOptions()))
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        np.testing.assert_allclose(session.run(None, {"x": x_BCHW.numpy()})[0], expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(accelerate(made)(x_BCHW)[0], expected)


@pytest.mark.parametrize("layer", ["convolutional", "local"])
def test_window_larger_by_a_stride_or_more_is_refused(layer: str) -> None:
    with pytest.raises(ConfigError, match="size=4 is larger than the input, 4 x 2 x 3"):
        make_plan(f"{NET}[{layer}]\nfilters=5\nsize=4\nstride=2\n")


@pytest.mark.parametrize(("planned", "given"), [(2, 6), (6, 2)])
def test_input_of_another_size_than_planned_has_the_outputs_of_its_own(planned: int, given: int) -> None:
    layer = CASES["convolution"]
    sides = {side: f"[net]\nwidth={side}\nheight={side}\nchannels=3\n" for side in (planned, given)}
    x_BCHW = torch.rand(1, 3, given, given, generator=torch.Generator().manual_seed(3))
    actual, expected = (network(layer, "pjreddie", sides[side]).layers[0](x_BCHW) for side in (planned, given))
    torch.testing.assert_close(actual, expected)
