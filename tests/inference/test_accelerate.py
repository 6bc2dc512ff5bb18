"""Other configurations give the results of the plain path, within their precision."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from time import sleep

import pytest
import torch

import darkpy
from darkpy.errors import DarkpyError, DarkpyNote
from darkpy.inference import accelerate as module
from darkpy.inference.accelerate import InferenceConfig, accelerate
from darkpy.inference.backends import ENGINES_BY_NAME, Engine
from darkpy.network import Network, Runner
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
needs_mnn = pytest.mark.skipif(not (find_spec("onnx") and find_spec("MNN")), reason="needs MNN")
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
        pytest.param(InferenceConfig(engine="openvino", precision="bf16"), 0.1, marks=needs_openvino),
    ],
    ids=["bf16", "int8", "ONNX Runtime", "OpenVINO", "OpenVINO bf16"],
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


@pytest.mark.parametrize("engine", [pytest.param("ncnn", marks=needs_ncnn), pytest.param("mnn", marks=needs_mnn)])
@pytest.mark.parametrize(
    "cfg", [NET + LAYERS, pytest.param(TINY, marks=pytest.mark.slow)], ids=["layers", "yolov3-tiny"]
)
def test_mobile_engine_agrees_with_the_reference(cfg: str | Path, engine: str) -> None:
    test_every_engine_and_precision_agrees_with_the_reference(cfg, InferenceConfig(engine=engine), 1e-4)


def test_only_torch_prefers_channels_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        ENGINES_BY_NAME, "onnxruntime", Engine((), ("fp32",), lambda net, precision: net.reference_forward)
    )
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


def test_infinite_values_inside_a_network_are_an_error_of_int8() -> None:
    net = filled(NET + CONV * 2 + "[activation]\nactivation=logistic\n")
    with torch.no_grad():
        for array in net.parameters():
            array.mul_(1e25)
    with pytest.raises(DarkpyError, match="int8: layer 0 has values that are NaN or infinite"):
        accelerate(net, InferenceConfig(precision="int8"), images=[images(net)])


def test_engine_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def scaled(net: Network, precision: str) -> Runner:
        return lambda x: [output * 1.01 for output in net.reference_forward(x)]

    monkeypatch.setitem(ENGINES_BY_NAME, "onnxruntime", Engine((), ("fp32",), scaled))
    with pytest.raises(DarkpyError, match=r"onnxruntime, fp32: output 0 is off by 1\.0%"):
        accelerate(filled(NET + CONV), InferenceConfig(engine="onnxruntime"))


def test_all_layers_that_only_move_values_run_in_int8() -> None:
    net = filled(NET + LAYERS, "alexeyab")
    darkpy.accelerate(net, InferenceConfig(precision="int8"), images=several(net))
    assert [name for name, _ in net.named_parameters() if name.endswith("weights")] == ["layers.13.weights"]


POOLED = (
    CONV
    + "activation=leaky\n[maxpool]\nsize=2\nstride={stride}\n"
    + CONV
    + "[convolutional]\nfilters=5\nactivation=linear\n"
)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("filters", ["8", "64"])
def test_activation_of_fewer_values_behind_a_pool_changes_no_byte(
    stride: int, filters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = NET + POOLED.format(stride=stride).replace("filters=8", f"filters={filters}")
    config = InferenceConfig(precision="int8")
    deferred, plain = filled(cfg), filled(cfg)
    darkpy.accelerate(deferred, config, images=several(deferred))
    monkeypatch.setattr("darkpy.inference.calibration.commutes_with_maximum", lambda activation: False)
    darkpy.accelerate(plain, config, images=several(plain))
    x = images(plain, 2)
    assert all(map(torch.equal, outputs(deferred, x), outputs(plain, x)))


def test_names_of_an_earlier_release_work_and_warn() -> None:
    with pytest.warns(DeprecationWarning, match="Ways is now InferenceConfig"):
        config = module.Ways(precision="bf16", is_compiled=True)  # type: ignore[operator]
    assert config == InferenceConfig(precision="bf16", compiled=True)
    with pytest.warns(DeprecationWarning, match=r"accelerate\(config=...\)"):
        accelerate(filled(NET + CONV), ways=InferenceConfig())  # type: ignore[call-arg]
    with pytest.warns(DeprecationWarning, match=r"accelerate\(images=...\)"):
        accelerate(filled(NET + CONV), pictures=[])  # type: ignore[call-arg]


def test_auto_takes_the_fastest_within_tolerance_and_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    def sleeper(net: Network) -> Runner:
        def run(x_BCHW: torch.Tensor) -> list[torch.Tensor]:
            sleep(0.2)
            return net.reference_forward(x_BCHW)

        return run

    def refuse(net: Network, precision: str) -> Runner:
        raise DarkpyError("has no such layer")

    net = filled(NET + CONV, "alexeyab")
    x = images(net, 2)
    expected = outputs(net, x)
    engines = {
        "slow": Engine((), ("fp32",), lambda net, precision: sleeper(net)),
        "wrong": Engine(
            (), ("fp32",), lambda net, precision: lambda x: [1.001 * output for output in net.reference_forward(x)]
        ),
        "lacking": Engine((), ("fp32",), refuse),
        "absent": Engine(("no_such_package",), ("fp32",), refuse),
    }
    monkeypatch.setattr(module, "ENGINES_BY_NAME", engines)
    with pytest.warns(DarkpyNote, match=r"engine torch: slow .* ms an image, wrong is off by .*lacking cannot"):
        fastest = accelerate(net, InferenceConfig(engine="auto", tune="off"))
    assert distance(outputs(fastest, x), expected) <= 1e-5 and fastest.prefers_channels_last


def test_auto_can_be_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    constant: dict[str, list[torch.Tensor]] = {}

    def remember(net: Network, precision: str) -> Runner:
        def run(x_BCHW: torch.Tensor) -> list[torch.Tensor]:
            if "outputs" not in constant:
                constant["outputs"] = net.reference_forward(x_BCHW)
            return constant["outputs"]

        return run

    monkeypatch.setattr(module, "ENGINES_BY_NAME", {"memory": Engine((), ("fp32",), remember)})
    net = filled(NET + CONV, "alexeyab")
    with pytest.warns(DarkpyNote, match="engine memory: "):
        fastest = accelerate(net, InferenceConfig(engine="auto", tune="off"))
    assert outputs(fastest, images(net)) == constant["outputs"] and not fastest.prefers_channels_last


@needs_mnn
def test_engines_leave_standard_output_to_the_results_and_no_file(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    accelerate(filled(NET + CONV), InferenceConfig(engine="mnn"))
    assert capfd.readouterr().out == "" and list(tmp_path.iterdir()) == []
