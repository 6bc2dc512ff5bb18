"""TorchScript and torch.export files run without darkpy and compute the same, for any number of images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from darkpy.errors import DarkpyError
from darkpy.export.torch_graphs import pack_pt2, pack_torchscript, run_pt2, run_torchscript, write_coreml
from darkpy.files import write_atomic
from tests.inference.networks import distance, filled, images, outputs

CFG = Path(__file__).resolve().parents[2] / "cfg"
DETECTOR = (
    "[net]\nwidth=32\nheight=32\nchannels=3\nmean=.1\n[convolutional]\nfilters=4\nbatch_normalize=1\nstride=2\n"
    "activation=mish\n[convolutional]\nfilters=14\n[yolo]\nclasses=2\nnum=2\nanchors=2,3, 4,5\n"
)
FORMATS = {"torchscript": (pack_torchscript, run_torchscript), "pt2": (pack_pt2, run_pt2)}
pytestmark = pytest.mark.filterwarnings("ignore::darkpy.DarkpyWarning", "ignore::DeprecationWarning")


@pytest.mark.parametrize("name", FORMATS)
def test_file_gives_the_same_heads_for_any_number_of_images(name: str, tmp_path: Path) -> None:
    net = filled(DETECTOR)
    x_BCHW = images(net, 3)
    expected = outputs(net, x_BCHW)
    pack, run = FORMATS[name]
    write_atomic(tmp_path / f"net.{name}", pack(net))
    actual = run(tmp_path / f"net.{name}", x_BCHW)
    assert list(actual) == [f"layer{index}" for index in net.outputs]
    assert distance(list(actual.values()), expected) <= 1e-5


@pytest.mark.parametrize("name", FORMATS)
def test_networks_with_a_memory_are_refused(name: str) -> None:
    with pytest.raises(DarkpyError, match=r"layer 0 \[gru\].*: it keeps a state"):
        b"".join(FORMATS[name][0](filled(CFG / "gru.cfg")))


def test_torchscript_runs_by_torch_alone(tmp_path: Path) -> None:
    net = filled(DETECTOR)
    x_BCHW = images(net)
    expected = outputs(net, x_BCHW)
    write_atomic(tmp_path / "net.pt", pack_torchscript(net))
    (actual,) = torch.jit.load(str(tmp_path / "net.pt"))(x_BCHW)  # type: ignore[no-untyped-call]
    assert distance([actual], expected) <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_core_ml_takes_an_image_and_gives_the_heads(precision: str, tmp_path: Path) -> None:
    """The conversion alone: Core ML runs on macOS."""
    coremltools = pytest.importorskip("coremltools")
    write_coreml(filled(DETECTOR), tmp_path / "net.mlpackage", precision)
    spec = coremltools.utils.load_spec(str(tmp_path / "net.mlpackage"))
    (source,), (output,) = spec.description.input, spec.description.output
    assert (source.name, source.type.imageType.width, output.name) == ("x", 32, "layer2")
    with pytest.raises(DarkpyError, match="already exists"):
        write_coreml(filled(DETECTOR), tmp_path / "net.mlpackage", precision)
