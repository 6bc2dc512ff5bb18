"""Networks as ncnn's files compute what darkpy computes, in ncnn's Python package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.export.ncnn_files import NcnnFiles, NcnnRunner, pack_ncnn
from darkpy.export.onnx_graph import OnnxOptions
from darkpy.inference.accelerate import InferenceConfig
from darkpy.network import Network
from darkpy.ops.activations import ACTIVATIONS_BY_NAME
from tests.export.runtimes import CFG, WITH_MEMORY
from tests.export.test_onnx import BOXED, HEAD, NO_MEMORY, decoded, made
from tests.inference.networks import filled
from tests.layers.test_conformance import AX, PAIRS, network
from tests.layers.test_conformance import images as two_images
from tests.test_real_networks import THRESH, Seen, without_twins
from tests.test_real_networks import expected as darknets_objects

pytest.importorskip("ncnn")
PJ = Dialect.PJREDDIE
REFUSED = {"cost"}
pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")


def run(files: NcnnFiles, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
    return NcnnRunner(files.param, b"".join(files.arrays), files.outputs)(x_BCHW)


def check(net: Network, x_BCHW: torch.Tensor) -> None:
    """The last layer's output is the same."""
    with torch.no_grad():
        expected = net.trace(x_BCHW)[-1]
    net.outputs = (len(net.plan.nodes) - 1,)
    (actual,) = run(pack_ncnn(net, OnnxOptions()), x_BCHW)
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max()) <= 1e-4 * float(expected.abs().max()) + 1e-6


@pytest.mark.parametrize(("name", "dialect"), [pair for pair in PAIRS if pair[0] not in NO_MEMORY | REFUSED])
def test_section_computes_the_same(name: str, dialect: Dialect) -> None:
    check(network(name, dialect), two_images())


@pytest.mark.parametrize("name", ACTIVATIONS_BY_NAME)
def test_activation_computes_the_same(name: str) -> None:
    dialect = AX if AX in ACTIVATIONS_BY_NAME[name].dialects else PJ
    check(made(f"[activation]\nactivation={name}\n", dialect), 12 * torch.rand(1, 4, 6, 8) - 6)


@pytest.mark.parametrize(
    ("layers", "dialect"),
    [
        ("[convolutional]\nfilters=6\nsize=3\nstride=2\nactivation=mish\n[convolutional]\ngroups=3\nfilters=9\n", AX),
        ("[maxpool]\nsize=3\nstride=2\npadding=7\n", AX),
        ("[maxpool]\nsize=2\nstride=1\n", PJ),
        ("[maxpool]\nmaxpool_depth=1\nout_channels=3\n", AX),
        ("[convolutional]\n[convolutional]\nfilters=6\n[shortcut]\nfrom=0\n[convolutional]\n[shortcut]\nfrom=1\n", PJ),
        ("[convolutional]\nstride=2\n[convolutional]\n[upsample]\n[upsample]\n[shortcut]\nfrom=0\nalpha=.5\n", PJ),
        ("[convolutional]\nfilters=2\n[convolutional]\nfilters=6\nstride=2\n[shortcut]\nfrom=0\nalpha=2\nbeta=3\n", PJ),
        ("[convolutional]\nfilters=6\nsize=3\ngroup_normalize=3\nactivation=prelu\n", PJ),
        ("[connected]\noutput=6\nactivation=leaky\n[connected]\noutput=5\n", PJ),
        ("[convolutional]\nfilters=16\n[reorg]\nstride=2\nreverse=1\n", PJ),
        ("[reorg]\nflatten=1\n", PJ),
        ("[reorg]\nextra=5\n", PJ),
        ("[local]\nfilters=3\nsize=3\nstride=2\npad=1\nactivation=leaky\n", PJ),
        ("[softmax]\ngroups=4\ntemperature=.5\n", PJ),
        (HEAD.format(18, "region") + "coords=6\nbackground=1\n", PJ),
        (HEAD.format(14, "region") + "softmax=1\n", AX),
        (HEAD.format(14, "yolo") + "new_coords=1\nscale_x_y=2\n", AX),
        ("[convolutional]\nfilters=4\n[avgpool]\n[convolutional]\nfilters=4\n[scale_channels]\nfrom=-3\n", AX),
        ("[convolutional]\nfilters=4\n[route]\nlayers=-1,-1\n[route]\nlayers=-1\ngroups=2\ngroup_id=1\n", AX),
    ],
)  # fmt: skip
def test_ways_to_use_a_section_compute_the_same(layers: str, dialect: Dialect) -> None:
    check(made(layers, dialect), two_images())


@pytest.mark.parametrize("name", ["yolo", "yolo-scaled", "yolo-new", "yolo-two", "region", "region-raw", "detection"])
def test_boxes_are_the_heads_own(name: str) -> None:
    net = made(*BOXED[name])
    boxes, scores = (torch.cat(part, 1) for part in zip(*decoded(net), strict=True))
    actual = run(pack_ncnn(net, OnnxOptions("boxes")), two_images())
    assert torch.allclose(actual[0], boxes, rtol=1e-4, atol=1e-5)
    assert torch.allclose(actual[1], scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_networks_with_a_memory_are_refused(name: str) -> None:
    with pytest.raises(DarkpyError, match=r"layer 0 \[(gru|rnn)\]"):
        pack_ncnn(filled(CFG / f"{name}.cfg"), OnnxOptions())


def test_half_of_the_bytes_hold_the_weights_with_three_digits() -> None:
    layers = "[convolutional]\nfilters=32\nsize=3\nactivation=leaky\n[convolutional]\nfilters=32\nsize=3\n"
    full, half = (pack_ncnn(made(layers, PJ), OnnxOptions(precision=name)) for name in ("fp32", "fp16"))
    assert sum(map(len, half.arrays)) < 0.6 * sum(map(len, full.arrays)) and half.param == full.param
    (exact,), (rounded,) = run(full, two_images()), run(half, two_images())
    assert 0 < float((exact - rounded).abs().max() / exact.abs().max()) < 1e-2


def test_a_layer_that_ncnn_lacks_is_named() -> None:
    xnor = made("[convolutional]\n[convolutional]\nfilters=3\nxnor=1\nbatch_normalize=1\n", AX)
    with pytest.raises(
        DarkpyError, match=r"layer 1 \[convolutional\].*: ncnn has no layer that computes ONNX's Greater"
    ):
        pack_ncnn(xnor, OnnxOptions())
    with pytest.raises(DarkpyError, match="suppression"):
        pack_ncnn(made(*BOXED["yolo"]), OnnxOptions("boxes", nms=0.4))


def test_layers_and_blobs_are_counted_each_blob_has_one_reader_and_all_weights_are_held() -> None:
    layers = "[convolutional]\nfilters=4\n[convolutional]\nfilters=4\nsize=3\npad=1\n[route]\nlayers=-1,-2\n"
    net = made(layers + HEAD.format(14, "yolo"), PJ)
    count = sum(array.numel() for array in net.parameters())
    files = pack_ncnn(net, OnnxOptions())
    magic, header, *lines = files.param.splitlines()
    written: list[str] = []
    read: list[str] = []
    for line in lines:
        _, _, inputs, targets, *names = line.split()
        read += names[: int(inputs)]
        written += names[int(inputs) : int(inputs) + int(targets)]
    assert (magic, *map(int, header.split())) == ("7767517", len(lines), len(written))
    assert len(set(written)) == len(written) and len(set(read)) == len(read)
    assert set(read) | set(files.outputs) <= set(written)
    convolutions = sum(line.startswith("Convolution") for line in lines)
    assert sum(map(len, files.arrays)) == 4 * (count + convolutions)


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("yolo-fastest", "ncnn"),
        *(
            pytest.param(name, engine, marks=pytest.mark.slow)
            for engine in ("onnxruntime", "ncnn", "mnn")
            for name in ("yolov3-tiny", "yoloface-50k", "mobilenetv2-yolov3-nano-coco")
        ),
    ],
)
def test_engine_sees_what_darknet_sees(shared: Path, name: str, engine: str) -> None:
    folder = shared / "data" / "weights" / name
    (cfg,), (weights,) = folder.glob("*.cfg"), folder.glob("*.weights")
    net = darkpy.accelerate(darkpy.load(cfg, weights, dialect="alexeyab"), InferenceConfig(engine=engine))
    names = [str(number) for number in range(net.heads[0].class_count)]
    expected = darknets_objects(folder / "expected.alexeyab.json")
    images_seen = [shared / "data" / image for image in expected]
    for result, objects in zip(darkpy.detect(net, images_seen, names, thresh=THRESH), expected.values(), strict=True):
        seen = [Seen(one.class_id, one.confidence, one.box_frac) for one in result.objects]
        assert without_twins(objects, seen) == [] == without_twins(seen, objects)
