"""Other config to run a network give what the plain path gives, as nearly as their precision lets them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.errors import DarkpyError
from darkpy.inference import accelerate as module
from darkpy.inference.accelerate import InferenceConfig, accelerate
from darkpy.network import Network
from tests.inference.networks import distance, filled, images, outputs

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "cfg/yolov3-tiny.cfg"
NET = "[net]\nwidth=16\nheight=12\nchannels=3\n"
CONV = "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\npad=1\n"
LAYERS = (
    CONV
    + "activation=leaky\n[maxpool]\nsize=2\nstride=2\n"
    + CONV
    + "activation=mish\n"
    + CONV
    + "activation=relu\n[shortcut]\nfrom=-2\n"
    + CONV
    + "activation=linear\n[dropout]\n[upsample]\n[route]\nlayers=-1,0\n[route]\nlayers=-1\ngroups=2\ngroup_id=1\n"
    + "[maxpool]\nsize=3\nstride=1\n"
    + CONV
    + "activation=swish\n[avgpool]\n[connected]\noutput=5\nactivation=linear\n"
)
needs_onnx = pytest.mark.skipif(not (find_spec("onnx") and find_spec("onnxruntime")), reason="needs ONNX Runtime")
needs_ncnn = pytest.mark.skipif(not find_spec("ncnn"), reason="needs ncnn")
needs_openvino = pytest.mark.skipif(not (find_spec("onnx") and find_spec("openvino")), reason="needs OpenVINO")


def several(net: Network) -> list[torch.Tensor]:
    x = torch.rand((8, *net.plan.input_shape), generator=torch.Generator().manual_seed(2))
    return [x_CHW[None] for x_CHW in x]


@pytest.mark.parametrize(
    ("config", "tolerance"),
    [
        (InferenceConfig(precision="bf16"), 0.05),
        (InferenceConfig(precision="int8"), 0.2),
        pytest.param(InferenceConfig(engine="onnxruntime"), 1e-4, marks=needs_onnx),
        pytest.param(InferenceConfig(engine="openvino"), 1e-4, marks=needs_openvino),
        pytest.param(InferenceConfig(engine="ncnn"), 1e-4, marks=needs_ncnn),
        pytest.param(InferenceConfig(engine="openvino", precision="bf16"), 0.1, marks=needs_openvino),
    ],
    ids=["bf16", "int8", "ONNX Runtime", "OpenVINO", "ncnn", "OpenVINO bf16"],
)
@pytest.mark.parametrize("cfg", [NET + LAYERS, TINY], ids=["layers", "yolov3-tiny"])
def test_every_engine_and_precision_agrees_with_the_reference(
    cfg: str | Path, config: InferenceConfig, tolerance: float
) -> None:
    net = filled(cfg, "alexeyab")
    x = images(net, 2)
    expected = outputs(net, x)
    actual = outputs(accelerate(net, config, images=several(net)), x)
    assert distance(actual, expected) <= tolerance
    assert all(output.std() > 1e-6 for output in actual)
    assert distance(outputs(net, x[:1]), [output[:1] for output in expected]) <= tolerance  # of another batch size


def test_only_torch_prefers_channels_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "onnx_runtime", lambda net: net.reference_forward)
    assert accelerate(filled(NET + CONV)).prefers_channels_last
    assert not accelerate(filled(NET + CONV), InferenceConfig(engine="onnxruntime")).prefers_channels_last


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (InferenceConfig(engine="tensorrt"), "unknown engine 'tensorrt'"),
        (InferenceConfig(precision="fp8"), "unknown precision 'fp8'"),
        (InferenceConfig(engine="onnxruntime", precision="int8"), "onnxruntime supports fp32, not int8"),
        (InferenceConfig(precision="int8", compiled=True), "--compile needs --engine torch and fp32 or bf16"),
        (InferenceConfig(precision="int8"), "int8 needs images"),
    ],
)
def test_unsupported_configurations_are_refused(config: InferenceConfig, message: str) -> None:
    with pytest.raises(DarkpyError, match=message):
        accelerate(filled(NET + CONV), config)


@pytest.mark.parametrize("package", ["onnxruntime", "openvino"])
def test_absent_engine_is_one_clear_error(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(DarkpyError, match=f"--engine {package} needs the package {package}"):
        accelerate(filled(NET + CONV), InferenceConfig(engine=package))


def test_network_with_nan_outputs_is_an_error() -> None:
    net = filled(NET + CONV)
    net.get_buffer("layers.0.rolling_mean").fill_(torch.nan)
    with pytest.raises(DarkpyError, match="output 0 is NaN or infinite, with any engine and precision"):
        accelerate(net, InferenceConfig(precision="bf16"))


def test_engine_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "onnx_runtime", lambda net: lambda x: [output * 1.01 for output in net.reference_forward(x)]
    )
    with pytest.raises(DarkpyError, match=r"onnxruntime, fp32: output 0 is off by 1\.0%"):
        accelerate(filled(NET + CONV), InferenceConfig(engine="onnxruntime"))


def test_all_layers_that_only_move_values_run_in_int8() -> None:
    net = filled(NET + LAYERS, "alexeyab")
    darkpy.accelerate(net, InferenceConfig(precision="int8"), images=several(net))
    assert [name for name, _ in net.named_parameters() if name.endswith("weights")] == ["layers.13.weights"]


def test_names_of_an_earlier_release_work_and_warn() -> None:
    with pytest.warns(DeprecationWarning, match="Ways is now InferenceConfig"):
        config = module.Ways(precision="bf16", is_compiled=True)  # type: ignore[operator]
    assert config == InferenceConfig(precision="bf16", compiled=True)
    with pytest.warns(DeprecationWarning, match=r"accelerate\(config=...\)"):
        accelerate(filled(NET + CONV), ways=InferenceConfig())  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match=r"accelerate\(images=...\)"):
        accelerate(filled(NET + CONV), pictures=[])  # type: ignore[call-arg]
