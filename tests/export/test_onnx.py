"""Every section type as ONNX operators computes what its module computes, in ONNX Runtime."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import darkpy
from darkpy.build import make_plan
from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.export.onnx_files import dropped_by_onnx, pack_onnx
from darkpy.export.onnx_graph import OnnxOptions
from darkpy.export.state_dict import WeightsMetadata
from darkpy.network import Network
from darkpy.ops.activations import ACTIVATIONS_BY_NAME
from darkpy.ops.activations_onnx import ACTIVATION_WRITERS
from tests.layers.test_conformance import AX, NET, PAIRS, images, network

PJ = Dialect.PJREDDIE
NO_MEMORY = {"conv_lstm", "crnn", "gru", "history", "lstm", "rnn"}
GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "networks").glob("*/*.npz"))
HEAD = "[convolutional]\nfilters={}\n[{}]\nclasses=2\nnum=2\nanchors=2,3, 4,5\n"
pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")


def run(model: bytes, x_BCHW: torch.Tensor) -> dict[str, torch.Tensor]:
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, map(torch.from_numpy, session.run(None, {"x": x_BCHW.numpy()})), strict=True))


def exported(net: Network, about: WeightsMetadata | None = None, **options: Any) -> bytes:
    return b"".join(pack_onnx(net, about or WeightsMetadata(), OnnxOptions(**options)))


def operators(model: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(model).graph.node)


def made(layers: str, dialect: Dialect, net: str = NET) -> Network:
    """A network with random numbers in every array."""
    new, generator = Network(make_plan(net + layers, dialect)), torch.Generator().manual_seed(3)
    new.initialize()
    with torch.no_grad():
        for name, tensor in new.state_dict().items():
            lowest = 0.1 if name.endswith("variance") else -0.9
            tensor.uniform_(lowest, 0.9, generator=generator)
    return new


def check(net: Network, x_BCHW: torch.Tensor, index: int | None = None) -> None:
    """The layer's output, the last one's by default, is the same."""
    with torch.no_grad():
        outputs = net.trace(x_BCHW)
    net.outputs = (len(outputs) - 1 if index is None else index,)
    expected = outputs[net.outputs[0]]
    (actual,) = run(exported(net), x_BCHW).values()
    assert actual.shape == expected.shape
    assert float((actual - expected).abs().max()) <= 1e-5 * float(expected.abs().max()) + 1e-6


@pytest.mark.parametrize(("name", "dialect"), [pair for pair in PAIRS if pair[0] not in NO_MEMORY | {"cost"}])
def test_section_computes_the_same(name: str, dialect: Dialect) -> None:
    check(network(name, dialect), images())


@pytest.mark.parametrize("name", sorted(NO_MEMORY))
def test_layer_with_a_state_is_refused_by_name(name: str) -> None:
    net = network(name, AX)
    with pytest.raises(DarkpyError, match=rf"layer 0 \[{name}\].*: it keeps a state"):
        exported(net)


def test_every_activation_is_known_to_both() -> None:
    assert ACTIVATION_WRITERS.keys() == ACTIVATIONS_BY_NAME.keys()


@pytest.mark.parametrize("name", ACTIVATIONS_BY_NAME)
def test_activation_computes_the_same(name: str) -> None:
    dialect = AX if AX in ACTIVATIONS_BY_NAME[name].dialects else PJ
    check(made(f"[activation]\nactivation={name}\n", dialect), 12 * torch.rand(2, 4, 6, 8) - 6)


@pytest.mark.parametrize("case", GOLDEN, ids=[f"{case.parent.name}-{case.stem}" for case in GOLDEN])
def test_golden_network_computes_the_same(case: Path, tmp_path: Path) -> None:
    golden = np.load(case)
    cfg, weights = tmp_path / "net.cfg", tmp_path / "net.weights"
    cfg.write_bytes(golden["cfg"].tobytes())
    weights.write_bytes(golden["weights"].tobytes())
    net = darkpy.load(cfg, weights, dialect=case.parent.name)
    if {node.type for node in net.plan.nodes} & NO_MEMORY:
        return
    x = torch.from_numpy(golden["x"])
    last = max(node.index for node in net.plan.nodes if node.spec.is_output)
    check(net, x.reshape(len(x), *net.plan.input_shape), last)


@pytest.mark.parametrize(
    ("layers", "dialect"),
    [
        ("[maxpool]\nsize=3\nstride=2\npadding=7\n", AX),
        ("[maxpool]\nsize=3\nstride=2\nantialiasing=1\n", AX),
        ("[maxpool]\nmaxpool_depth=1\nout_channels=3\n", AX),
        ("[convolutional]\nfilters=3\nsize=3\npad=1\nstride=2\nantialiasing=2\n", AX),
        ("[convolutional]\nfilters=3\nsize=3\npad=1\nxnor=1\nbatch_normalize=1\n", AX),
        (
            "[convolutional]\nfilters=4\nbatch_normalize=1\n[convolutional]\nfilters=4\nbatch_normalize=1\nshare_index=0\n",
            AX,
        ),
        ("[convolutional]\n[convolutional]\nfilters=6\n[shortcut]\nfrom=0\n[convolutional]\n[shortcut]\nfrom=1\n", PJ),
        (
            "[convolutional]\nfilters=2\n[convolutional]\nfilters=6\nstride=2\n[shortcut]\nfrom=0\nalpha=2\nbeta=3\n",
            PJ,
        ),
        (
            "[convolutional]\nfilters=2\nstride=2\n[convolutional]\n[upsample]\n[upsample]\n[shortcut]\nfrom=0\nalpha=.5\n",
            PJ,
        ),
        ("[upsample]\nstride=-2\nscale=3\n", PJ),
        ("[convolutional]\nfilters=6\nsize=3\ngroup_normalize=3\nactivation=prelu\n", PJ),
        ("[connected]\noutput=6\nlayer_normalize=1\nactivation=relu\n", PJ),
        ("[deconvolutional]\nfilters=6\nsize=2\nlayer_normalize=1\nactivation=prelu\n", PJ),
        ("[activation]\nactivation=prelu\n", PJ),
        ("[l2norm]\nscale=20\n", PJ),
        ("[upsample]\nstride=1\n", PJ),
        ("[route]\nlayers=-1\n", PJ),
        ("[convolutional]\n[convolutional]\nstride=2\n[route]\nlayers=-1,-2\n", PJ),
        ("[convolutional]\nfilters=8\n[route]\nlayers=-1\ngroups=2\ngroup_id=1\n", AX),
        ("[convolutional]\nfilters=16\n[reorg]\nstride=2\nreverse=1\n", PJ),
        ("[reorg]\nflatten=1\n", PJ),
        ("[reorg]\nflatten=1\nreverse=1\n", PJ),
        ("[reorg]\nextra=5\n", PJ),
        ("[convolutional]\nfilters=16\n[reorg3d]\nstride=2\nreverse=1\n", AX),
        ("[softmax]\ngroups=4\ntemperature=.5\n", PJ),
        ("[softmax]\nspatial=1\n", PJ),
        ("[crop]\ncrop_height=3\ncrop_width=4\nnoadjust=1\n", PJ),
        ("[local]\nfilters=3\nsize=3\nstride=2\nactivation=leaky\n", PJ),
        (HEAD.format(18, "region") + "coords=6\nbackground=1\n", PJ),
        (HEAD.format(14, "region") + "background=1\nsoftmax=1\n", PJ),
        (HEAD.format(14, "yolo") + "new_coords=1\nscale_x_y=2\n", AX),
        ("[connected]\noutput=48\n[detection]\nside=2\nclasses=2\nnum=2\ncoords=4\nsoftmax=1\n", PJ),
    ],
)
def test_ways_to_use_a_section_compute_the_same(layers: str, dialect: Dialect) -> None:
    check(made(layers, dialect), images())


def test_mean_and_std_stand_before_the_first_layer() -> None:
    check(made("[convolutional]\n", PJ, NET + "mean=.1,.2,.3,.4\nstd=.5,.6,.7,.8\n"), images())


@pytest.mark.parametrize("section", ["softmax", "region"])
def test_a_class_tree_computes_the_same(tmp_path: Path, section: str) -> None:
    tree = tmp_path / "a.tree"
    tree.write_text("a -1\nb -1\nc 0\nd 0\ne 0\nf 1\ng 1\n")
    layers = f"[convolutional]\nfilters=7\n[avgpool]\n[softmax]\ntree={tree}\ntemperature=2\n"
    if section == "region":
        layers = f"[convolutional]\nfilters=24\n[region]\nclasses=7\nnum=2\nsoftmax=1\ntree={tree}\n"
    check(made(layers, PJ), images())


def test_layers_that_lead_nowhere_and_layers_that_do_nothing_leave_no_operator() -> None:
    layers = (
        "[convolutional]\n[convolutional]\n[dropout]\n[route]\nlayers=0\n[convolutional]\nactivation=linear\n[cost]\n"
    )
    assert operators(exported(made(layers, PJ))) == {"Conv": 2, "Sigmoid": 1}


def test_an_output_that_is_the_input_or_another_output_has_its_own_name() -> None:
    net = made("[dropout]\n[convolutional]\n[dropout]\n", PJ)
    net.outputs = (0, 1, 2)
    actual = run(exported(net), images())
    assert list(actual) == ["layer0", "layer1", "layer2"]
    assert torch.equal(actual["layer0"], images()) and torch.equal(actual["layer1"], actual["layer2"])


BOXED = {
    "yolo": (HEAD.format(14, "yolo"), PJ),
    "yolo-scaled": (HEAD.format(14, "yolo") + "scale_x_y=1.1\n", AX),
    "yolo-new": (HEAD.format(14, "yolo") + "new_coords=1\nscale_x_y=2\n", AX),
    "yolo-two": (
        HEAD.format(14, "yolo") + "mask=1,0\n[route]\nlayers=0\n[yolo]\nclasses=2\nnum=2\nanchors=1,2,3,4\n",
        PJ,
    ),
    "gaussian": (HEAD.format(22, "Gaussian_yolo") + "yolo_point=left_top\n", AX),
    "region": (HEAD.format(14, "region") + "softmax=1\n", PJ),
    "region-ax": (HEAD.format(14, "region") + "softmax=1\nclassfix=-1\n", AX),
    "region-background": (HEAD.format(14, "region") + "softmax=1\nbackground=1\n", PJ),
    "region-raw": (HEAD.format(14, "region"), AX),
    "detection": ("[connected]\noutput=48\n[detection]\nside=2\nclasses=2\nnum=2\ncoords=4\nsqrt=1\nsoftmax=1\n", PJ),
}


def decoded(net: Network) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Boxes and scores of all candidates of both images, head by head."""
    with torch.no_grad():
        outputs = net(images())
    actual = [head.decode(output, 8, 6, -1.0) for head, output in zip(net.heads, outputs, strict=True)]
    return [(one.boxes_M4.reshape(2, -1, 4), one.prob_MK.reshape(2, -1, 2)) for one in actual]


@pytest.mark.parametrize("name", BOXED)
def test_boxes_and_scores_are_the_heads_own(name: str) -> None:
    net = made(*BOXED[name])
    boxes, scores = (torch.cat(part, 1) for part in zip(*decoded(net), strict=True))
    actual = run(exported(net, form="boxes"), images())
    assert torch.allclose(actual["boxes"], boxes, rtol=1e-5, atol=1e-6)
    assert torch.allclose(actual["scores"], scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["yolo", "yolo-two", "region", "detection"])
def test_rows_hold_box_objectness_and_scores_image_by_image(name: str) -> None:
    net = made(*BOXED[name])
    expected = decoded(net)
    actual = run(exported(net, form="rows"), images())
    for rows, (boxes, scores) in zip(actual.values(), expected, strict=True):
        assert torch.allclose(rows[:, :4], boxes.flatten(0, 1), rtol=1e-5, atol=1e-6)
        assert torch.allclose(rows[:, 5:], scores.flatten(0, 1), rtol=1e-5, atol=1e-6)
        assert bool((rows[:, 4:5] >= rows[:, 5:] - 1e-6).all())


def test_suppression_in_the_file_is_that_of_darkpy() -> None:
    from darkpy.evaluation.nms import suppress
    from darkpy.ops.boxes import Detections

    net = made(*BOXED["yolo"])
    (head,) = net.heads
    with torch.no_grad():
        candidates: Detections = head.decode(net(images())[0], 8, 6, 0.2)
    left = suppress(candidates, 0.4)
    places, classes = torch.nonzero(left.prob_MK, as_tuple=True)
    assert 0 < len(places) < int((candidates.prob_MK > 0).sum())
    expected = torch.column_stack((left.image_M[places], classes, left.prob_MK[places, classes], left.boxes_M4[places]))
    (actual,) = run(exported(net, form="boxes", nms=0.4, thresh=0.2), images()).values()
    order = [torch.from_numpy(np.lexsort(rows[:, [2, 1, 0]].numpy().round(4).T)) for rows in (expected, actual)]
    assert torch.allclose(actual[order[1]], expected[order[0]], rtol=1e-5, atol=1e-6)


def test_suppression_of_another_kind_is_named() -> None:
    net = made(HEAD.format(14, "yolo") + "nms_kind=greedynms\n", AX)
    assert dropped_by_onnx(net, OnnxOptions("boxes")) == []
    assert "greedynms" in dropped_by_onnx(net, OnnxOptions("boxes", nms=0.4))[0]


def test_boxes_of_what_gives_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DarkpyError, match="no detection layer"):
        exported(made("[convolutional]\n", PJ), form="boxes")
    tree = tmp_path / "a.tree"
    tree.write_text("a -1\nb 0\n")
    with pytest.raises(DarkpyError, match=r"layer 1 \[region\].*class tree"):
        exported(made(HEAD.format(14, "region") + f"tree={tree}\n", PJ), form="boxes")
    with pytest.raises(DarkpyError, match="no objectness"):
        exported(made(*BOXED["region-background"]), form="rows")


def test_the_file_tells_what_it_is() -> None:
    net = made(*BOXED["yolo-scaled"])
    about = WeightsMetadata(net.header, None, "the cfg", AX, ("chat", "été"))
    model = onnx.load_from_string(exported(net, about))
    texts = {entry.key: entry.value for entry in model.metadata_props}
    assert WeightsMetadata.from_texts(Path("net.onnx"), texts) == about
    assert json.loads(texts["darkpy.anchors"])["layer1"]["anchors"] == [2, 3, 4, 5]
    assert model.opset_import[0].version == 17 and model.producer_name == "darkpy"
    (x,), (output,) = model.graph.input, model.graph.output
    assert (x.name, output.name) == ("x", "layer1")
    assert [side.dim_param or side.dim_value for side in x.type.tensor_type.shape.dim] == ["batch", 4, 6, 8]


def test_a_network_that_gave_its_weights_up_for_speed_is_refused() -> None:
    net = darkpy.accelerate(made("[convolutional]\nfilters=8\nsize=3\nactivation=leaky\n", PJ))
    if net.built[0].array(net.plan.nodes[0].arrays[1]) is not None:
        pytest.skip("nothing is faster here than the plain way")
    with pytest.raises(DarkpyError, match=r"layer 0 \[convolutional\].*discarded for speed"):
        exported(net)


def test_a_network_that_was_folded_before_is_written() -> None:
    check(network("convolutional", AX).for_inference(), images())
