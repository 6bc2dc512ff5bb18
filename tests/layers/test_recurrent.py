"""Contract of recurrent layers: time-major rows, and a state kept between calls in inference."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import darkpy
from darkpy.build import make_plan
from darkpy.network import Network

VECTOR = "[net]\ninputs=6\ntime_steps={steps}\n"
IMAGE = "[net]\nwidth=5\nheight=4\nchannels=3\ntime_steps={steps}\n"
CASES = {
    "rnn": ("pjreddie", VECTOR + "[rnn]\noutput=4\nshortcut=1\nactivation=tanh\n"),
    "rnn hidden": ("alexeyab", VECTOR + "[rnn]\noutput=4\nhidden=3\nlogistic=2\nactivation=tanh\n"),
    "gru": ("pjreddie", VECTOR + "[gru]\noutput=4\ntanh=1\n"),
    "gru ab": ("alexeyab", VECTOR + "[gru]\noutput=4\n"),
    "lstm": ("pjreddie", VECTOR + "[lstm]\noutput=4\n"),
    "crnn": ("pjreddie", IMAGE + "[crnn]\noutput_filters=4\nhidden_filters=2\nactivation=tanh\n"),
    "crnn ab": ("alexeyab", IMAGE + "[crnn]\noutput=4\nhidden=2\npad=1\nactivation=tanh\nshortcut=1\n"),
    "conv_lstm": ("alexeyab", IMAGE + "[conv_lstm]\noutput=4\npad=1\npeephole=1\n"),
    "bottleneck": ("alexeyab", IMAGE + "[conv_lstm]\noutput=3\npad=1\nbottleneck=1\nshortcut=1\n"),
    "history": ("alexeyab", IMAGE + "[history]\nhistory_size=3\n"),
}
STEPS, SEQUENCES = 4, 2


def network(case: str, steps: int = STEPS) -> Network:
    dialect, cfg = CASES[case]
    made = Network(make_plan(cfg.format(steps=steps), dialect))
    made.initialize(torch.Generator().manual_seed(1))
    return made


def rows(case: str, count: int = STEPS * SEQUENCES) -> torch.Tensor:
    return torch.randn(count, *network(case).plan.input_shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("case", CASES)
def test_the_output_has_the_planned_shape(case: str) -> None:
    made = network(case)
    assert made(rows(case))[0].shape == (STEPS * SEQUENCES, *made.plan.nodes[0].shape)


@pytest.mark.parametrize("case", CASES)
def test_steps_fed_one_by_one_give_what_one_call_gives(case: str) -> None:
    x = rows(case)
    at_once = network(case)(x)[0]
    one_by_one = network(case, steps=1)
    actual = torch.cat([one_by_one(step)[0] for step in x.chunk(STEPS)])
    torch.testing.assert_close(actual, at_once)


@pytest.mark.parametrize("case", CASES)
def test_sequences_do_not_see_each_other(case: str) -> None:
    x = rows(case)
    together = network(case)(x)[0]
    for k in range(SEQUENCES):
        alone = network(case)(x[k::SEQUENCES])[0]
        torch.testing.assert_close(together[k::SEQUENCES], alone)


@pytest.mark.parametrize("case", CASES)
def test_the_state_is_kept_until_it_is_reset(case: str) -> None:
    made, x = network(case), rows(case)
    first = made(x)[0]
    assert not torch.equal(made(x)[0], first)
    made.reset_state()
    assert torch.equal(made(x)[0], first)


@pytest.mark.parametrize("case", CASES)
def test_another_number_of_sequences_starts_from_zeros(case: str) -> None:
    made, x = network(case), rows(case)
    first = made(x)[0]
    made(rows(case, STEPS))
    assert torch.equal(made(x)[0], first)


@pytest.mark.parametrize("case", CASES)
def test_training_starts_from_zeros_and_leaves_nothing_behind(case: str) -> None:
    made, x = network(case), rows(case)
    made(rows(case) + 1)
    made.train()
    trained = made(x)[0]
    assert torch.equal(made(x)[0], trained)
    assert torch.equal(made.eval()(x)[0], trained)


@pytest.mark.parametrize("case", CASES)
def test_a_carried_state_continues_in_training_and_can_be_reset_for_one_sequence(case: str) -> None:
    made, x = network(case).train(), rows(case)
    made.carry_state()
    first = made(x)[0]
    second = made(x)[0]
    assert not torch.equal(second, first)
    if second.requires_grad:
        second.sum().backward()  # gradients stay within the call: the first one's graph is not needed
    made.reset_state()
    assert torch.equal(made(x)[0], first)
    made.reset_state(1)
    again = made(x)[0]
    torch.testing.assert_close(again[1::SEQUENCES], first[1::SEQUENCES])
    assert not torch.equal(again[::SEQUENCES], first[::SEQUENCES])


@pytest.mark.parametrize("case", CASES)
def test_a_state_of_inference_mode_can_be_used_outside_it(case: str) -> None:
    made, x = network(case), rows(case)
    with torch.inference_mode():
        made(x)
    made(x.requires_grad_())[0].sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("case", CASES)
def test_the_state_is_no_part_of_a_saved_model(case: str) -> None:
    made = network(case)
    names = set(made.state_dict())
    made(rows(case))
    assert set(made.state_dict()) == names


@pytest.mark.parametrize("case", CASES)
def test_gradients_reach_the_first_step_from_the_last(case: str) -> None:
    made, x = network(case).train(), rows(case).requires_grad_()
    made(x)[0][-SEQUENCES:].sum().backward()
    assert x.grad is not None
    if case == "history":  # three frames: the oldest of four is dropped
        assert not x.grad[:SEQUENCES].any()
    assert x.grad[SEQUENCES : 2 * SEQUENCES].any()


@pytest.mark.parametrize("case", [case for case in CASES if case != "history"])
def test_every_part_is_written_and_read_again(case: str, tmp_path: Path) -> None:
    made = network(case)
    path = tmp_path / "a.weights"
    made.save_weights(path)
    dialect, cfg = CASES[case]
    again = darkpy.load(cfg.format(steps=STEPS), path, dialect=dialect)
    assert {name for name, _ in again.named_parameters()} == {
        f"layers.0.{array_spec.name}" for array_spec in made.plan.nodes[0].arrays
    }
    for name, array in made.named_parameters():
        assert torch.equal(again.get_parameter(name), array), name


def test_rows_that_are_not_a_multiple_of_time_steps_are_refused() -> None:
    with pytest.raises(darkpy.ShapeError, match=r"7 rows.*time_steps=4\n.*hint: with \[net\] time_steps=1"):
        network("lstm")(rows("lstm", 7))


def test_folded_parts_give_the_same_output() -> None:
    for case in ("rnn", "gru", "lstm", "crnn", "conv_lstm"):
        dialect, cfg = CASES[case]
        made = Network(make_plan(cfg.format(steps=STEPS) + "batch_normalize=1\n", dialect))
        made.initialize(torch.Generator().manual_seed(1))
        for name, array in made.state_dict().items():
            if name.endswith(("scales", "biases", "rolling_mean", "rolling_variance")):
                array.uniform_(0.5, 2, generator=torch.Generator().manual_seed(len(name)))
        x = rows(case)
        with torch.no_grad():
            expected = made(x)[0]
        made.reset_state()
        torch.testing.assert_close(made.for_inference()(x)[0], expected, rtol=1e-4, atol=1e-5)
        assert not any(name.endswith("scales") for name in made.state_dict())


def test_batch_norm_counts_every_step_as_a_minibatch() -> None:
    made = Network(make_plan(VECTOR.format(steps=STEPS) + "[rnn]\noutput=4\nbatch_normalize=1\n", "pjreddie"))
    made.initialize(torch.Generator().manual_seed(1))
    x = rows("rnn")
    made.train()(x)
    raw = x.reshape(STEPS, SEQUENCES, -1) @ made.get_parameter("layers.0.input_layer.weights").T
    expected = torch.zeros(4)
    for step in raw:
        expected = 0.99 * expected + 0.01 * step.mean(0)
    torch.testing.assert_close(made.get_buffer("layers.0.input_layer.rolling_mean"), expected)


def test_dontloadscales_does_not_reach_the_parts(tmp_path: Path) -> None:
    cfg = VECTOR.format(steps=1) + "[rnn]\noutput=4\nbatch_normalize=1\n"
    made = Network(make_plan(cfg, "pjreddie"))
    made.initialize()
    made.get_buffer("layers.0.self_layer.rolling_mean").fill_(3)
    made.save_weights(tmp_path / "a.weights")
    again = darkpy.load(cfg + "dontloadscales=1\n", tmp_path / "a.weights", dialect="pjreddie")
    assert (again.get_buffer("layers.0.self_layer.rolling_mean") == 3).all()
