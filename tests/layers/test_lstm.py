"""[lstm] beyond the goldens: equal to torch.nn.LSTM, and the file order of each dialect."""

from __future__ import annotations

import torch

from darkpy.build import make_plan
from darkpy.dialect import Dialect
from darkpy.network import Network

CFG = "[net]\ninputs=6\ntime_steps=5\n[lstm]\noutput=4\n"


def order(dialect: Dialect) -> list[str]:
    (node,) = make_plan(CFG, dialect).nodes
    return [
        array_spec.name.removesuffix(".weights") for array_spec in node.arrays if array_spec.name.endswith("weights")
    ]


def test_each_dialect_writes_the_gates_in_its_own_order() -> None:
    assert order(Dialect.PJREDDIE) == ["wi", "wf", "wo", "wg", "ui", "uf", "uo", "ug"]
    assert order(Dialect.ALEXEYAB) == ["wf", "wi", "wg", "wo", "uf", "ui", "ug", "uo"]


def test_it_computes_and_learns_what_torchs_lstm_does() -> None:
    network = Network(make_plan(CFG, "alexeyab"))
    network.initialize(torch.Generator().manual_seed(1))
    for _, array in network.named_parameters():
        array.data.uniform_(-1, 1)
    theirs = torch.nn.LSTM(6, 4)

    def stacked(part: str, array: str) -> torch.Tensor:
        return torch.cat([network.get_parameter(f"layers.0.{part}{gate}.{array}") for gate in "ifgo"])

    with torch.no_grad():
        for name, expected in (("ih", "u"), ("hh", "w")):
            getattr(theirs, f"weight_{name}_l0").copy_(stacked(expected, "weights"))
            getattr(theirs, f"bias_{name}_l0").copy_(stacked(expected, "biases"))
    x = torch.randn(10, 6)
    actual, expected = network.train()(x)[0].flatten(1), theirs(x.reshape(5, 2, 6))[0].flatten(0, 1)
    torch.testing.assert_close(actual, expected)
    actual.square().sum().backward()
    expected.square().sum().backward()
    learned = theirs.get_parameter("weight_hh_l0").grad
    assert learned is not None
    for gate, gradient in zip("ifgo", learned.chunk(4), strict=True):
        torch.testing.assert_close(network.get_parameter(f"layers.0.w{gate}.weights").grad, gradient)
