"""Weight files with arrays that no darknet has: they are read back, are marked, and can start from darknet's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.dialect import EXTENSION_REVISION
from darkpy.errors import WeightsError
from darkpy.network import Network
from darkpy.weightfile import read_header

NET = "[net]\nwidth=6\nheight=6\nchannels=3\n"
CONV = "[convolutional]\nfilters=4\nsize=3\n{}\n"
PLAIN = NET + CONV.format("") + CONV.format("")
OWN = {
    "group_normalize": NET + CONV.format("group_normalize=2") + CONV.format(""),
    "prelu": NET + CONV.format("") + CONV.format("activation=prelu"),
    "l2norm": NET + CONV.format("") + "[l2norm]\nscale=10\n" + CONV.format(""),
}
of_every_kind = pytest.mark.parametrize("cfg", OWN.values(), ids=OWN)


def saved(cfg: str, folder: Path, name: str = "some.weights") -> tuple[Network, Path]:
    torch.manual_seed(1)
    network = darkpy.load(cfg)
    path = folder / name
    network.save_weights(path)
    return network, path


@of_every_kind
def test_file_with_such_arrays_is_marked_and_reads_back(cfg: str, tmp_path: Path) -> None:
    network, path = saved(cfg, tmp_path)
    assert read_header(path)[0].revision & EXTENSION_REVISION
    again = darkpy.load(cfg, path)
    assert all(torch.equal(array, again.state_dict()[name]) for name, array in network.state_dict().items())
    again.save_weights(tmp_path / "copy.weights")
    assert (tmp_path / "copy.weights").read_bytes() == path.read_bytes()


def test_files_of_darknets_arrays_are_not_marked(tmp_path: Path) -> None:
    assert not read_header(saved(PLAIN, tmp_path)[1])[0].revision & EXTENSION_REVISION


@of_every_kind
def test_cfg_without_them_gets_an_error_with_what_the_file_has(cfg: str, tmp_path: Path) -> None:
    _, path = saved(cfg, tmp_path)
    with pytest.raises(
        WeightsError, match=r"it has arrays that darknet does not know; (.|\n)*use the cfg it was trained with"
    ):
        darkpy.load(PLAIN, path)


@of_every_kind
def test_darknets_file_is_refused_unless_a_training_may_start_from_it(cfg: str, tmp_path: Path) -> None:
    plain, path = saved(PLAIN, tmp_path)
    with pytest.raises(WeightsError, match=r"is darknet's own and lacks '(scales|slopes)' of layer"):
        darkpy.load(cfg, path)
    with pytest.warns(darkpy.DarkpyWarning, match="lacks '(scales|slopes)' of layer .*; they are initialized"):
        network = darkpy.load(cfg, path, allow_partial=True)
    wanted = [plain.layers[0].get_parameter("weights"), plain.layers[1].get_parameter("weights")]
    found = [param for name, param in network.named_parameters() if name.endswith("weights")]
    assert all(torch.equal(*pair) for pair in zip(found, wanted, strict=True))
    fresh = [param for name, param in network.named_parameters() if name.endswith(("scales", "slopes"))]
    assert len(fresh) == 1 and bool((fresh[0] == fresh[0][0]).all())


@of_every_kind
def test_file_of_another_length_is_refused_as_ever(cfg: str, tmp_path: Path) -> None:
    _, path = saved(PLAIN, tmp_path)
    path.write_bytes(path.read_bytes() + bytes(4))
    with pytest.raises(WeightsError, match="are this cfg and these weights a pair"):
        darkpy.load(cfg, path, allow_partial=True)
