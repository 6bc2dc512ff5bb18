"""Contract of every layer, checked for every registered section in each of its dialects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from darkpy.build import Plan, make_plan
from darkpy.config.schema import keys_of, read_spec
from darkpy.config.text import FindingCollector, parse
from darkpy.dialect import Dialect
from darkpy.layers.base import SECTION_SPECS, LayerSpec
from darkpy.network import Network
from darkpy.weightfile import read_header

NET = "[net]\nwidth=8\nheight=6\nchannels=4\n"
AX = Dialect.ALEXEYAB

# smallest cfg for each section, per dialect where they differ; the section is the last one
CASES: dict[str, str | dict[Dialect, str]] = {
    "Gaussian_yolo": "[convolutional]\nfilters=22\n[Gaussian_yolo]\nclasses=2\nnum=2\n",
    "activation": "[activation]\nactivation=leaky\n",
    "avgpool": "[avgpool]\n",
    "batchnorm": "[batchnorm]\n",
    "connected": "[connected]\noutput=3\nbatch_normalize=1\n",
    "contrastive": "[convolutional]\nfilters=7\n[yolo]\nclasses=2\n[route]\nlayers=0\n[contrastive]\nyolo_layer=1\n",
    "conv_lstm": "[conv_lstm]\noutput=3\npad=1\npeephole=1\n",
    "convolutional": "[convolutional]\nfilters=6\nsize=3\nstride=2\npad=1\ngroups=2\nbatch_normalize=1\n",
    "cost": "[cost]\n",
    "crnn": {
        Dialect.PJREDDIE: "[crnn]\noutput_filters=3\nhidden_filters=2\n",
        AX: "[crnn]\noutput=3\nhidden=2\npad=1\n",
    },
    "crop": "[crop]\ncrop_height=4\ncrop_width=5\n",
    "deconvolutional": "[deconvolutional]\nfilters=3\nsize=2\nstride=2\nbatch_normalize=1\n",
    "detection": "[connected]\noutput=48\n[detection]\nside=2\nclasses=2\nnum=2\ncoords=4\n",
    "dropout": "[dropout]\n",
    "empty": "[empty]\n",
    "gru": "[gru]\noutput=3\nbatch_normalize=1\n",
    "history": "[history]\n",
    "implicit": "[implicit]\nfilters=3\natoms=2\n",
    "iseg": "[iseg]\nclasses=3\nids=1\n",
    "l2norm": "[l2norm]\n",
    "local": "[local]\nfilters=3\nsize=3\npad=1\n",
    "local_avgpool": "[local_avgpool]\nsize=3\nstride=2\n",
    "logistic": "[logistic]\n",
    "lstm": "[lstm]\noutput=3\n",
    "maxpool": "[maxpool]\nsize=2\nstride=2\n",
    "normalization": "[normalization]\n",
    "region": "[convolutional]\nfilters=14\n[region]\nclasses=2\nnum=2\nsoftmax=1\n",
    "reorg": "[reorg]\nstride=2\n",
    "reorg3d": "[reorg3d]\nstride=2\n",
    "rnn": "[rnn]\noutput=3\nhidden=2\n",
    "route_lhalf": "[convolutional]\nfilters=4\n[route_lhalf]\nlayers=-1\n",
    "route": "[convolutional]\n[route]\nlayers=-1,0\n",
    "sam": "[convolutional]\nfilters=4\n[sam]\nfrom=0\n",
    "scale_channels": "[convolutional]\nfilters=3\n[avgpool]\n[scale_channels]\nfrom=0\n",
    "shortcut": {
        Dialect.PJREDDIE: "[convolutional]\nfilters=2\nstride=2\n[upsample]\n[shortcut]\nfrom=0\nalpha=.5\n",
        AX: "[convolutional]\nfilters=4\n[convolutional]\nfilters=4\n[shortcut]\nfrom=0\nweights_type=per_channel\n"
        "weights_normalization=softmax\n",
    },
    "softmax": "[softmax]\n",
    "upsample": "[upsample]\n",
    "yolo": "[convolutional]\nfilters=14\n[yolo]\nclasses=2\nnum=2\n",
}
# sections with darkpy's own keys, for both dialects; the name starts with the section
OWN: dict[str, str] = {
    "activation prelu": "[activation]\nactivation=prelu\n",
    "batchnorm bn_freeze": "[batchnorm]\nbn_freeze=all\n",
    "connected layer_normalize prelu": "[connected]\noutput=3\nlayer_normalize=1\nactivation=prelu\n",
    "convolutional bn_freeze": "[convolutional]\nfilters=6\nbatch_normalize=1\nbn_freeze=affine\n",
    "convolutional group_normalize prelu": "[convolutional]\nfilters=6\nsize=3\ngroup_normalize=3\nactivation=prelu\n",
    "convolutional batch_normalize prelu": "[convolutional]\nfilters=6\nbatch_normalize=1\nactivation=prelu\n",
    "l2norm scale": "[l2norm]\nscale=20\n",
    "maxpool mean std": "[maxpool]\nsize=2\n",
}
OWN_OF_A_FORK = {
    "deconvolutional layer_normalize prelu": (
        Dialect.PJREDDIE,
        "[deconvolutional]\nfilters=3\nsize=2\nlayer_normalize=1\nactivation=prelu\n",
    ),
}
SPECS = {spec.type: spec for spec in SECTION_SPECS.values()}
PAIRS = [(name, dialect) for name, spec in sorted(SPECS.items()) for dialect in Dialect if dialect in spec.dialects]
for_every_section = pytest.mark.parametrize(
    ("name", "dialect"), PAIRS, ids=[f"{name}-{dialect}" for name, dialect in PAIRS]
)
OWN_PAIRS = [(name, dialect) for name in OWN for dialect in Dialect]
OWN_PAIRS += [(name, dialect) for name, (dialect, _) in OWN_OF_A_FORK.items()]
for_every_case = pytest.mark.parametrize(
    ("name", "dialect"), PAIRS + OWN_PAIRS, ids=[f"{name}-{dialect}" for name, dialect in PAIRS + OWN_PAIRS]
)
pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning")


def plan(name: str, dialect: Dialect) -> Plan:
    net = NET + ("mean=.4,.5,.3,.6\nstd=.2\n" if name.endswith("mean std") else "")
    if name in OWN_OF_A_FORK:
        return make_plan(net + OWN_OF_A_FORK[name][1], dialect)
    case = CASES.get(name) or OWN[name]
    return make_plan(net + (case if isinstance(case, str) else case[dialect]), dialect)


def network(name: str, dialect: Dialect) -> Network:
    """A network with random values in every array, positive for variances."""
    net = Network(plan(name, dialect))
    net.initialize()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.uniform_(0.1, 0.9, generator=generator)
    return net


def images() -> torch.Tensor:
    return torch.rand(2, 4, 6, 8, generator=torch.Generator().manual_seed(11))


def default_spec(spec: type[LayerSpec], dialect: Dialect) -> tuple[LayerSpec | None, list[str]]:
    """Spec of a section without keys, and the messages about it."""
    config = parse(f"[net]\n[{spec.type}]\n")
    findings = FindingCollector(config.file)
    return read_spec(spec, config.sections[1], dialect, findings), [finding.message for finding in findings.findings]


def test_every_registered_section_has_a_case_here() -> None:
    assert CASES.keys() == SPECS.keys()


@for_every_case
def test_case_ends_in_the_section_it_is_for(name: str, dialect: Dialect) -> None:
    assert plan(name, dialect).nodes[-1].type == name.partition(" ")[0]
    assert all(finding.location.section in ("rnn", "route_lhalf") for finding in plan(name, dialect).warnings)


@for_every_section
def test_section_line_alone_gives_the_dialects_defaults(name: str, dialect: Dialect) -> None:
    spec, messages = default_spec(SPECS[name], dialect)
    keys = keys_of(SPECS[name])
    needed = [expected.name for expected in keys.values() if expected.is_required]
    assert messages == [f"has no {key}=, which is required" for key in needed]
    if not needed:
        assert spec is not None and spec.dialect is dialect
        assert {key.field: getattr(spec, key.field) for key in keys.values()} == {
            key.field: key.defaults[dialect] for key in keys.values()
        }


def as_text(value: Any) -> str:
    """Format a key's value as in a cfg."""
    if isinstance(value, tuple):
        return ",".join(as_text(item) for item in value)
    return str(int(value)) if isinstance(value, bool) else str(value)


@for_every_section
def test_default_written_out_means_the_same(name: str, dialect: Dialect) -> None:
    spec = SPECS[name]
    given = {
        expected.name: as_text(expected.defaults[dialect])
        for expected in keys_of(spec).values()
        if not expected.is_required
        and expected.dialect in (None, dialect)
        and expected.defaults[dialect] not in (None, (), "")
    }
    needed = {expected.name: "0" for expected in keys_of(spec).values() if expected.is_required}
    lines = "".join(f"{key}={text}\n" for key, text in (given | needed).items())
    config = parse(f"[net]\n[{name}]\n{lines}")
    findings = FindingCollector(config.file)
    read = read_spec(spec, config.sections[1], dialect, findings)
    assert findings.findings == ()
    for key in keys_of(spec).values():
        if key.name in given:
            assert getattr(read, key.field) == key.defaults[dialect]


@for_every_case
@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_shape_is_that_of_the_tensor(name: str, dialect: Dialect, training: bool) -> None:
    net = network(name, dialect).train(training)
    with torch.no_grad():
        outputs = net.trace(images())
    assert [tuple(output.shape) for output in outputs] == [(2, *node.shape) for node in net.plan.nodes]
    assert all(output.dtype == torch.float32 for output in outputs)


@for_every_case
def test_input_is_left_as_it_was(name: str, dialect: Dialect) -> None:
    x = images()
    with torch.no_grad():
        network(name, dialect).trace(x)
    assert torch.equal(x, images())


@for_every_case
def test_slots_are_the_arrays_of_the_module(name: str, dialect: Dialect) -> None:
    net = Network(plan(name, dialect))
    for node, layer in zip(net.plan.nodes, net.layers, strict=True):
        arrays = dict(layer.state_dict(keep_vars=True))
        assert {array: tuple(tensor.shape) for array, tensor in arrays.items()} == {
            array_spec.name: array_spec.shape for array_spec in node.arrays
        }
        for array_spec in node.arrays:
            assert isinstance(arrays[array_spec.name], nn.Parameter) is not array_spec.is_statistic
        assert node.parameter_count == sum(tensor.numel() for tensor in arrays.values())


@for_every_case
def test_reading_what_was_written_is_the_identity(name: str, dialect: Dialect, tmp_path: Path) -> None:
    net, again = network(name, dialect), Network(plan(name, dialect))
    first, second = tmp_path / "first.weights", tmp_path / "second.weights"
    net.save_weights(first)
    report = again.load_weights(first)
    again.save_weights(second)
    assert first.read_bytes() == second.read_bytes()
    assert read_header(first)[1] == net.plan.parameter_count
    assert report.first_missing is None
    expected = net.state_dict()
    assert expected.keys() == again.state_dict().keys()
    assert all(torch.equal(tensor, expected[array]) for array, tensor in again.state_dict().items())


@for_every_case
def test_new_network_starts_without_nan(name: str, dialect: Dialect) -> None:
    net = Network(plan(name, dialect))
    net.initialize(torch.Generator().manual_seed(1))
    assert all(tensor.isfinite().all() for tensor in net.state_dict().values())


@for_every_case
def test_images_of_a_batch_do_not_meet_in_inference(name: str, dialect: Dialect) -> None:
    net = network(name, dialect)
    with torch.no_grad():
        both = net.trace(images())[-1]
        net.reset_state()
        second = net.trace(images()[1:])[-1]
    assert torch.allclose(both[1:], second, rtol=1e-5, atol=1e-6)


@for_every_case
def test_folded_layer_computes_the_same(name: str, dialect: Dialect) -> None:
    net = network(name, dialect)
    with torch.no_grad():
        expected = net.trace(images())[-1]
        net.reset_state()
        actual = net.for_inference().trace(images())[-1]
    assert torch.allclose(actual, expected, rtol=1e-4, atol=1e-5)
