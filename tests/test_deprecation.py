"""Old public names keep working for one release, with a warning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import darkpy
from darkpy.network import Network
from tests.weightfiles import CONV, NET, TWO, written


def test_load_accepts_the_old_names_of_its_keywords(tmp_path: Path) -> None:
    path = written(tmp_path, 66)  # a partial file: the first of two layers
    old: dict[str, Any] = {"is_partial_allowed": True, "is_mapped": True}
    with pytest.warns(DeprecationWarning) as caught:
        network = darkpy.load(NET + TWO, path, **old)
    assert network.layers[0].get_parameter("biases").tolist() == [1, 2, 3]
    renamed = [warning for warning in caught if warning.category is DeprecationWarning]
    assert {str(warning.message) for warning in renamed} == {
        "load(is_partial_allowed=...) is now load(allow_partial=...)",
        "load(is_mapped=...) is now load(mapped=...)",
    }
    assert {warning.filename for warning in renamed} == {__file__}, "the caller's line is named"


def test_load_weights_accepts_the_old_names_of_its_keywords(tmp_path: Path) -> None:
    network = Network(darkpy.plan(NET + TWO))
    old: dict[str, Any] = {"is_partial_allowed": True, "is_mapped": False}
    with pytest.warns(DeprecationWarning, match=r"Network\.load_weights\(is_partial_allowed=\.\.\.\) is now"):
        assert network.load_weights(written(tmp_path, 66), **old).first_missing == 2


def test_network_keeps_its_old_method_names() -> None:
    network = Network(darkpy.plan(NET + CONV))
    with pytest.warns(DeprecationWarning, match="Network.initialise is now Network.initialize"):
        network.initialise(torch.Generator().manual_seed(1))
    assert not network.layers[0].get_parameter("weights").is_meta


def test_unknown_keywords_are_still_refused(tmp_path: Path) -> None:
    wrong: dict[str, Any] = {"is_mappd": True}
    with pytest.raises(TypeError, match="is_mappd"):
        darkpy.load(NET + CONV, **wrong)


@pytest.mark.parametrize("call", [darkpy.plan, darkpy.load])
def test_warnings_of_a_cfg_name_the_callers_line(call: Any) -> None:
    with pytest.warns(darkpy.DarkpyWarning, match="unknown key 'filtres'") as caught:
        call(NET + CONV + "filtres=3\n")
    assert {warning.filename for warning in caught} == {__file__}
