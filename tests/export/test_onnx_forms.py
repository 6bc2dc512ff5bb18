"""ONNX files with other outputs, sizes and precisions compute the same, as far as the precision goes."""

from __future__ import annotations

import copy
from pathlib import Path

import onnx
import pytest
import torch

import darkpy
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.export.onnx_graph import raw_outputs
from darkpy.inference.calibration import calibrate_for_export
from tests.export.test_onnx import BOXED, exported, made, operators, run
from tests.inference.networks import distance, filled, images, outputs
from tests.layers.test_conformance import images as two_images

AX, PJ = Dialect.ALEXEYAB, Dialect.PJREDDIE
CFG = Path(__file__).resolve().parents[2] / "cfg"
CONV = "[convolutional]\nfilters={}\nsize=3\npad=1\nactivation=leaky\n"
DETECTOR = (
    "[net]\nwidth=64\nheight=32\nchannels=3\n"
    + (CONV.format(8) + "[maxpool]\nsize=2\nstride=2\n" + CONV.format(8)) * 2
    + "[shortcut]\nfrom=-4\n[convolutional]\nfilters=14\n[yolo]\nclasses=2\nnum=2\nanchors=2,3, 4,5\n"
    + "[route]\nlayers=-3\n[upsample]\n[convolutional]\nfilters=14\n[yolo]\nclasses=2\nnum=2\nanchors=9,9, 6,6\n"
)
ANY_SIZE = (
    *("yolov2", "yolov2-voc", "yolov3", "yolov3-spp", "yolov4", "yolov4-csp", "yolov7-tiny", "resnet50", "densenet201"),
)
ONE_SIZE = ("alexnet", "yolov1-tiny")
INT8_DISTANCE = 0.2
pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")


def test_no_operator_chooses_and_no_constant_is_boolean() -> None:
    for layers, dialect in BOXED.values():
        model = exported(made(layers, dialect))
        assert not operators(model).keys() & {"Where", "Less", "Equal"}
        kinds = {constant.data_type for constant in onnx.load_from_string(model).graph.initializer}
        assert kinds <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}


@pytest.mark.parametrize("name", ["yolo-two", "region", "detection"])
def test_raw_outputs_are_what_the_heads_read(name: str) -> None:
    net = made(*BOXED[name])
    with torch.no_grad():
        expected = {f"layer{index}": net.trace(two_images())[index] for index in raw_outputs(net)}
    actual = run(exported(net, form="raw"), two_images())
    assert actual.keys() == expected.keys()
    assert all(torch.allclose(actual[layer], expected[layer], atol=1e-6) for layer in expected)


def test_raw_output_of_a_classifier_is_before_its_softmax() -> None:
    net = made("[convolutional]\nfilters=5\n[avgpool]\n[softmax]\n", PJ)
    model = exported(net, form="raw")
    assert "Softmax" not in operators(model) and list(run(model, two_images())) == ["layer1"]


@pytest.mark.parametrize("name", ["yolo-two", "yolo-scaled", "region", "detection"])
def test_corners_are_those_of_the_boxes_in_pixels_with_the_best_class(name: str) -> None:
    net = made(*BOXED[name])
    boxes = run(exported(copy.deepcopy(net), form="boxes"), two_images())
    (rows,) = run(exported(net, form="corners"), two_images()).values()
    center, size = boxes["boxes"][..., :2], boxes["boxes"][..., 2:]
    net_size = torch.tensor((8.0, 6.0))
    expected = torch.cat(((center - size / 2) * net_size, (center + size / 2) * net_size), dim=2)
    score, class_number = boxes["scores"].max(2)
    assert torch.allclose(rows[..., :4], expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(rows[..., 4], score) and torch.equal(rows[..., 5], class_number.float())


@pytest.mark.parametrize("form", ["heads", "raw"])
def test_one_file_takes_any_size(form: str) -> None:
    net = filled(DETECTOR)
    model = exported(copy.deepcopy(net), form=form, dynamic_size=True)
    for width, height in ((64, 32), (32, 64), (128, 96)):
        net.resize(width, height)
        x_BCHW = images(net, 2)
        expected = outputs(net, x_BCHW)
        if form == "raw":
            with torch.no_grad():
                expected = [net.trace(x_BCHW)[index] for index in raw_outputs(net)]
        assert distance(list(run(model, x_BCHW).values()), expected) <= 1e-5


def test_layer_that_depends_on_the_size_is_named() -> None:
    with pytest.raises(DarkpyError, match=r"layer 1 \[connected\].*weights fit one input size"):
        exported(made("[convolutional]\n[connected]\noutput=5\n", PJ), dynamic_size=True)
    with pytest.raises(DarkpyError, match=r"layer 0 \[reorg\].*: its Reshape depends on the input's size"):
        exported(made("[reorg]\nextra=1\n", PJ), dynamic_size=True)
    with pytest.raises(DarkpyError, match="boxes depend on the input's size"):
        exported(made(*BOXED["yolo"]), form="boxes", dynamic_size=True)


@pytest.mark.parametrize("keys", ["", "flatten=1\n", "reverse=1\n", "flatten=1\nreverse=1\n"])
def test_reorganized_maps_take_any_size(keys: str) -> None:
    net = filled("[net]\nwidth=16\nheight=8\nchannels=3\n" + CONV.format(8) + f"[reorg]\nstride=2\n{keys}", PJ)
    models = [exported(copy.deepcopy(net), dynamic_size=True, precision=precision) for precision in ("fp32", "fp16")]
    for width, height in ((16, 8), (8, 16), (32, 24)):
        net.resize(width, height)
        x_BCHW = images(net, 2)
        for model, tolerance in zip(models, (1e-5, 1e-2), strict=True):
            assert distance(list(run(model, x_BCHW).values()), outputs(net, x_BCHW)) <= tolerance


@pytest.mark.slow
@pytest.mark.parametrize("name", ANY_SIZE)
def test_published_network_takes_any_size(name: str) -> None:
    net = filled(CFG / f"{name}.cfg")
    model = exported(copy.deepcopy(net), dynamic_size=True)
    net.resize(net.plan.net.width + 64, net.plan.net.height - 64)
    x_BCHW = images(net)
    assert distance(list(run(model, x_BCHW).values()), outputs(net, x_BCHW)) <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_SIZE)
def test_published_network_of_one_size_is_refused(name: str) -> None:
    with pytest.raises(DarkpyError, match=r"layer \d+ \["):
        exported(filled(CFG / f"{name}.cfg"), dynamic_size=True)


def test_half_precision_takes_half_of_the_bytes_and_has_three_digits() -> None:
    net = filled(DETECTOR)
    x_BCHW = images(net, 2)
    expected = outputs(net, x_BCHW)
    full, half = exported(copy.deepcopy(net)), exported(net, precision="fp16")
    actual = list(run(half, x_BCHW).values())
    assert 0 < distance(actual, expected) < 1e-2
    sizes = [sum(len(one.raw_data) for one in onnx.load_from_string(model).graph.initializer) for model in (full, half)]
    assert sizes[1] < 0.55 * sizes[0]


@pytest.mark.parametrize("activation", ["plse", "gelu", "normalize_channels", "selu"])
def test_half_precision_keeps_constants_finite_and_divisors_above_zero(activation: str) -> None:
    net = made(f"[maxpool]\nsize=3\nstride=2\npadding=7\n[activation]\nactivation={activation}\n[l2norm]\n", AX)
    (output,) = run(exported(net, precision="fp16"), torch.zeros_like(two_images())).values()
    assert bool(output.isfinite().all())


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_weights_that_lower_precision_cannot_hold_are_refused(precision: str, value: float) -> None:
    net = filled(DETECTOR)
    quantization = calibrate_for_export(net, [images(net)]) if precision == "int8" else None
    with torch.no_grad():
        net.get_parameter("layers.2.weights")[0, 0, 0, 0] = value
    with pytest.raises(DarkpyError, match="layer2: has weights that are NaN or above 65504"):
        exported(net, precision=precision, quantization=quantization)


def test_suppression_needs_single_precision() -> None:
    with pytest.raises(DarkpyError, match="NonMaxSuppression needs float32"):
        exported(made(*BOXED["yolo"]), form="boxes", nms=0.4, precision="fp16")


def test_int8_holds_a_quarter_of_the_bytes_and_leaves_the_heads_convolutions_alone() -> None:
    net = filled(DETECTOR)
    x_BCHW = images(net, 2)
    expected = outputs(net, x_BCHW)
    quantization = calibrate_for_export(net, [x_BCHW])
    model = exported(net, precision="int8", quantization=quantization)
    assert 0 < distance(list(run(model, x_BCHW).values()), expected) < INT8_DISTANCE
    weights = [one for one in onnx.load_from_string(model).graph.initializer if len(one.dims) == 4]
    assert {one.data_type: one.dims[0] for one in weights} == {onnx.TensorProto.INT8: 8, onnx.TensorProto.FLOAT: 14}
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators(model).keys()


def test_int8_without_images_is_refused() -> None:
    with pytest.raises(DarkpyError, match="int8 needs images"):
        calibrate_for_export(filled(DETECTOR), [])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo-fastest", "yolov3-tiny"])
def test_int8_finds_the_dog(shared: Path, name: str, tmp_path: Path) -> None:
    """Calibrated on the images themselves; the average precision of int8 is measured elsewhere."""
    from darkpy.evaluation.detect import read_input

    folder, photographs = shared / "data" / "weights" / name, shared / "data" / "images"
    (cfg,), (weights,) = folder.glob("*.cfg"), folder.glob("*.weights")
    net = darkpy.load(cfg, weights)
    x = [read_input(net, photographs / f"{stem}.jpg", letterbox=False)[1] for stem in ("dog", "person", "eagle")]
    found = [head.decode(outputs(net, x[0])[index], 1, 1, 0.4) for index, head in enumerate(net.heads)]
    model = exported(copy.deepcopy(net), quantization=calibrate_for_export(net, x), precision="int8")
    actual = list(run(model, x[0]).values())
    again = [head.decode(actual[index], 1, 1, 0.25) for index, head in enumerate(net.heads)]
    classes = [{int(k) for one in heads for k in one.prob_MK.argmax(1)} for heads in (found, again)]
    assert 16 in classes[0] and classes[0] <= classes[1]
