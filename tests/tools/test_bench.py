"""Every benchmark runs and reports what it measured; the speed itself is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.layers.convolutional import Convolutional

ROOT = Path(__file__).resolve().parents[2]
CFG = """[net]
width=32
height=32
channels=3
[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky
[convolutional]
filters=18
activation=linear
[yolo]
mask=0,1,2
anchors=3,4, 5,6, 7,8
classes=1
num=3
"""


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # benchmarks measure kernels


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tools/bench.py", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.cfg"
    path.write_text(CFG)
    return path


def test_quick_forward_bench_prints_a_table_and_writes_json(cfg: Path, tmp_path: Path) -> None:
    done = bench("forward", "--quick", "--cfg", str(cfg), "--threads", "1", "--json", str(tmp_path / "bench.json"))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "bench.json").read_text())
    assert (result["batch"], result["threads"], result["rounds"]) == (1, 1, 3)
    assert result["machine"]["cores"] >= 1 and result["machine"]["cpu"]
    runners = result["runners"]
    is_base_onnx = find_spec("onnx") is not None and find_spec("onnxruntime") is not None
    assert ("ms" in runners["ONNX Runtime"]) == is_base_onnx
    base = "ONNX Runtime" if is_base_onnx else "darkpy"
    assert f"ratio to {base}" in done.stdout
    assert runners[base]["ratio"] == {"low": 1, "middle": 1, "high": 1}
    assert 0 < runners["darkpy"]["ms"]["low"] <= runners["darkpy"]["ms"]["middle"] <= runners["darkpy"]["ms"]["high"]
    for name, runner in runners.items():
        assert name in done.stdout
        assert ("ratio" in runner) != bool(runner.get("absent"))


@pytest.mark.slow
def test_forward_bench_measures_more_configurations_of_darkpy(cfg: Path, tmp_path: Path) -> None:
    words = ("--configs", "bf16", "int8", "--size", "64", "--busy", "1", "--json", str(tmp_path / "bench.json"))
    done = bench("forward", "--quick", "--cfg", str(cfg), "--threads", "1", *words)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "bench.json").read_text())
    assert {"darkpy bf16", "darkpy int8"} <= result["runners"].keys()
    assert "at 64 x 64" in done.stdout and "beside 1 busy process" in done.stdout
    assert result["ratios"]["darkpy bf16 over darkpy"]["middle"] > 0


@pytest.mark.slow
def test_loading_and_memory_are_measured_against_installed_peers(cfg: Path, tmp_path: Path) -> None:
    for command, unit, base in (("load", "ms", "numpy"), ("memory", "MB", None)):
        done = bench(command, "--quick", "--cfg", str(cfg), "--threads", "1", "--json", str(tmp_path / "bench.json"))
        assert done.returncode == 0, done.stderr
        runners = json.loads((tmp_path / "bench.json").read_text())["runners"]
        assert runners["darkpy"][unit]["middle"] > 0
        assert base is None or runners[base]["ratio"]["middle"] == 1


@pytest.mark.slow
def test_quick_training_bench_reports_the_cost_of_the_constraint_and_the_ratio_to_the_floor(
    cfg: Path, tmp_path: Path
) -> None:
    absent = str(tmp_path / "darknet")
    words = ("--quick", "--cfg", str(cfg), "--threads", "1", "--batch", "2", "--alexeyab", absent)
    done = bench("train", *words, "--json", str(tmp_path / "bench.json"))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "bench.json").read_text())
    assert absent in result["runners"]["AlexeyAB"]["absent"]
    for precision, suffix in (("fp32", ""), ("bf16", " bf16")):
        for name in (f"darkpy{suffix}", f"darkpy{suffix}, constrain=0", f"plain torch{suffix}"):
            assert result["runners"][name]["ms"]["middle"] > 0 and name in done.stdout
        cost = result["ratios"][f"{precision}: the constraint, with over without"]
        assert 0 < cost["low"] <= cost["middle"] <= cost["high"]
        assert result["ratios"][f"{precision}: darkpy over the floor"]["low"] > 1
        assert 0 < result["floor"][precision]["ms"] < result["runners"][f"darkpy{suffix}"]["ms"]["middle"]


def test_quick_loader_bench_reports_samples_a_second_and_the_share_of_waiting(cfg: Path, tmp_path: Path) -> None:
    words = ("--quick", "--cfg", str(cfg), "--threads", "1", "--batch", "2", "--workers", "0")
    done = bench("loader", *words, "--json", str(tmp_path / "bench.json"))
    assert done.returncode == 0, done.stderr
    ratios = json.loads((tmp_path / "bench.json").read_text())["ratios"]
    assert ratios["samples a second on one core"]["low"] > 1
    assert 0 < ratios["% of an update spent waiting for data"]["middle"] <= 100  # all of it waits for itself
    assert "samples a second" in done.stdout and "synthetic images" in done.stdout


def test_quick_end_to_end_bench_reports_the_rate_relative_to_forward(cfg: Path, tmp_path: Path) -> None:
    words = ("--quick", "--cfg", str(cfg), "--threads", "1", "--count", "5", "--json", str(tmp_path / "bench.json"))
    done = bench("end", *words)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "bench.json").read_text())
    assert result["images"] == 5 and "5 images" in done.stdout
    assert result["ratios"]["darkpy detect's rate over that of forward alone"]["middle"] > 0
    assert set(result["runners"]) == {"forward alone", "darkpy detect", "OpenCV"}


@pytest.mark.slow
def test_quick_video_bench_reports_the_rate_relative_to_forward_and_the_cpu_time_of_each_stage(
    cfg: Path, tmp_path: Path
) -> None:
    words = ("--quick", "--cfg", str(cfg), "--threads", "1", "--frames", "6", "--size", "64x48")
    done = bench("video", *words, "--json", str(tmp_path / "bench.json"))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "bench.json").read_text())
    assert result["frames"] == 6 and "6 frames of 64 x 48, h264" in done.stdout
    forward_batches = "forward alone, 8 frames a call"
    assert set(result["runners"]) == {"forward alone", forward_batches, "darkpy detect", "detector demo -out_filename"}
    assert result["batch"] == 8
    assert result["ratios"]["CPU ms a frame: decode"]["middle"] > 0


def test_quick_anchors_bench_reports_the_ratio_to_a_loop(tmp_path: Path) -> None:
    done = bench("anchors", "--quick", "--threads", "1", "--clusters", "3", "--json", str(tmp_path / "bench.json"))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "bench.json").read_text())
    assert set(result["runners"]) == {"darkpy"} and "3 clusters, 2000 boxes in 200 files" in done.stdout
    assert result["ratios"]["a loop over the boxes, medians, over darkpy"]["low"] > 1


@pytest.mark.slow
def test_quick_monitor_bench_reports_the_cost_of_the_monitor(cfg: Path, tmp_path: Path) -> None:
    words = ("--quick", "--cfg", str(cfg), "--threads", "1", "--batch", "2")
    done = bench("monitor", *words, "--json", str(tmp_path / "bench.json"))
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "bench.json").read_text())
    assert set(result["runners"]) == {"without monitor", "with monitor", "with probes of the layers"}
    (text,) = result["ratios"]
    assert text in done.stdout and result["ratios"][text]["low"] > 0


def test_plain_torch_modules_compute_what_darkpy_computes(cfg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from tools.benchmark.plain import PlainNet

    torch.manual_seed(0)
    network = darkpy.load(cfg)
    plain = PlainNet(network.plan).train()
    for layer, plain_layer in zip(network.layers, plain.layers, strict=True):
        if isinstance(layer, Convolutional):
            norm = [layer.scales] if layer.is_normalized else []
            arrays = [layer.weights, *norm, layer.biases]
            for array, parameter in zip(arrays, plain_layer.parameters(), strict=True):
                parameter.data = array.detach()
    x_BCHW = torch.rand(2, *network.plan.input_shape)
    expected_BCHW = network.train().trace(x_BCHW)[-2]
    torch.testing.assert_close(plain(x_BCHW), [expected_BCHW])


def test_user_error_is_one_message(tmp_path: Path) -> None:
    done = bench("forward", "--quick", "--cfg", str(tmp_path / "absent.cfg"))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "absent.cfg" in done.stderr and "Traceback" not in done.stderr
    assert "at least 2" in bench("forward", "--rounds", "1").stderr
