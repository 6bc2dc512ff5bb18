"""[cost] beyond the goldens: the formula of each type, and differences between darknet's GPU and CPU code."""

from __future__ import annotations

import pytest
import torch

from darkpy.build import make_plan
from darkpy.layers.cost import CostSpec
from darkpy.layers.loss import MASKED_TRUTH, Loss, TrainingState

X = [0.5, -2.0, 0.0, 3.0, 1.0, -0.25]
TRUTH = [0.0, 1.0, 0.0, -1.0, 1.0, 0.0]


def learn(keys: str, x: list[float], truth: list[float], dialect: str = "pjreddie") -> Loss:
    plan = make_plan(f"[net]\ninputs={len(x)}\n[cost]\n{keys}", dialect)
    (node,) = plan.nodes
    assert isinstance(node.spec, CostSpec)
    x_BCHW = torch.tensor(x)[None, :, None, None]
    output_BCHW = node.spec.build(node.inputs, plan.net)(x_BCHW)
    return node.spec.loss(x_BCHW, output_BCHW, torch.tensor([truth]), TrainingState(plan.net, 1))


def assert_learns(keys: str, expected: list[float], cost: float) -> None:
    loss = learn(keys, X, TRUTH)
    assert loss.delta.flatten().tolist() == pytest.approx(expected)
    assert float(loss.cost) == pytest.approx(cost)


def test_the_golden_of_pjreddies_smooth_has_the_sign_turned_beyond_one() -> None:
    """x, truth, delta and error of the C program's first step; its CPU code has the bug, its GPU code does not."""
    x = [-0.81357831, -0.075488426, -0.60523361, -0.55856019, -0.11708172, -0.15103957, -0.37519205, 0.054552682]
    truth = [-0.24424934, -1.3263561, 0.42026788, 1.4701699, -0.53431785, 0.99083585, 1.7826364, 0.70694995]
    golden = [0.56932896, 1.0, -1.0, -1.0, -0.41723612, -1.0, -1.0, 0.65239727]
    error = [0.32413548, 1.5017352, 1.051003, 3.0574603, 0.17408597, 1.2837508, 3.3156567, 0.4256222]
    loss = learn("type=smooth\n", x, truth)
    turned = [-delta if abs(delta) == 1 else delta for delta in golden]
    assert turned != golden and loss.delta.flatten().tolist() == pytest.approx(turned, rel=1e-5)
    assert float(loss.cost) == pytest.approx(sum(error), rel=1e-6)


def test_sse_is_the_default_and_costs_whole_squares() -> None:
    assert_learns("", [-0.5, 3, 0, -4, 0, 0.25], 0.25 + 9 + 16 + 0.0625)


def test_l1_pulls_with_one_whatever_the_distance() -> None:
    assert_learns("type=L1\n", [-1, 1, 0, -1, 0, 1], 0.5 + 3 + 4 + 0.25)


def test_seg_weighs_delta_and_error_where_the_truth_is_zero() -> None:
    assert_learns("type=seg\nnoobj=.1\n", [-0.05, 3, 0, -4, 0, 0.025], 0.025 + 9 + 16 + 0.00625)


def test_wgan_pushes_up_what_is_true_and_down_the_rest() -> None:
    assert_learns("type=wgan\n", [-1, 1, -1, -1, 1, -1], 0.5 + 2 + 0 - 3 - 1 - 0.25)


@pytest.mark.parametrize("dialect", ["pjreddie", "alexeyab"])
def test_masked_leaves_out_what_the_truth_does_not_know(dialect: str) -> None:
    loss = learn("type=masked\n", [0.5, 2.0, 1.0], [MASKED_TRUTH, 1.0, MASKED_TRUTH], dialect)
    assert loss.delta.flatten().tolist() == [0, -1, 0] and float(loss.cost) == 1


def test_smooth_labels_share_some_of_the_truth_and_masked_ones_stay_masked() -> None:
    loss = learn("smooth=.2\n", [0.0, 0.0], [1.0, 0.0])
    assert loss.delta.flatten().tolist() == pytest.approx([0.9, 0.1])
    loss = learn("type=masked\nsmooth=.2\n", [0.0, 0.0], [1.0, MASKED_TRUTH])
    assert loss.delta.flatten().tolist() == pytest.approx([0.9, 0.0])


def test_scale_counts_in_the_backward_pass_alone() -> None:
    loss, plain = learn("scale=3\n", X, TRUTH), learn("", X, TRUTH)
    assert torch.equal(loss.delta, plain.delta) and torch.equal(loss.cost, plain.cost)
    assert torch.equal(loss.input_delta, 3 * plain.delta)


def test_thresh_drops_deltas_that_are_smaller_than_its_share_of_the_inputs() -> None:
    assert_learns("thresh=3\n", [-0.5, 3, 0, -4, 0, 0], 0.25 + 9 + 16 + 0.0625)


def test_alexeyab_takes_an_unknown_type_for_sse() -> None:
    for word in ("L1", "typo"):
        assert torch.equal(learn(f"type={word}\n", X, TRUTH, "alexeyab").delta, learn("", X, TRUTH).delta)
