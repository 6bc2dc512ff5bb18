"""[gru] beyond the goldens: file order of each dialect and the activation of the new state."""

from __future__ import annotations

import torch

from darkpy.build import make_plan
from darkpy.dialect import Dialect
from darkpy.network import Network

CFG = "[net]\ninputs=6\ntime_steps=3\n[gru]\noutput=4\n"


def order(dialect: Dialect) -> list[str]:
    (node,) = make_plan(CFG, dialect).nodes
    return [
        array_spec.name.removesuffix(".weights") for array_spec in node.arrays if array_spec.name.endswith("weights")
    ]


def initialized(cfg: str, dialect: Dialect) -> Network:
    network = Network(make_plan(cfg, dialect))
    network.initialize(torch.Generator().manual_seed(1))
    return network


def test_pjreddie_writes_the_state_first_and_alexeyab_the_input() -> None:
    assert order(Dialect.PJREDDIE) == ["wz", "wr", "wh", "uz", "ur", "uh"]
    assert order(Dialect.ALEXEYAB) == ["uz", "ur", "uh", "wz", "wr", "wh"]


def test_both_dialects_compute_the_same_from_the_same_parts() -> None:
    mine, other = initialized(CFG, Dialect.PJREDDIE), initialized(CFG, Dialect.ALEXEYAB)
    other.load_state_dict(mine.state_dict())
    x = torch.randn(6, 6)
    torch.testing.assert_close(other(x)[0], mine(x)[0])


def test_the_new_state_is_tanh_only_where_the_key_says_so() -> None:
    x = torch.randn(3, 6)
    for tail, activation in (("", torch.sigmoid), ("tanh=1\n", torch.tanh)):
        network = initialized(CFG + tail, Dialect.PJREDDIE)
        uz, ur, uh = (network.get_parameter(f"layers.0.{name}.weights") for name in ("uz", "ur", "uh"))
        wz, wr, wh = (network.get_parameter(f"layers.0.{name}.weights") for name in ("wz", "wr", "wh"))
        s, expected = torch.zeros(4), []
        for row in x:
            z, r = torch.sigmoid(uz @ row + wz @ s), torch.sigmoid(ur @ row + wr @ s)
            s = z * s + (1 - z) * activation(uh @ row + wh @ (r * s))
            expected.append(s)
        torch.testing.assert_close(network(x)[0].flatten(1), torch.stack(expected))
