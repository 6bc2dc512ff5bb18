"""[net]: sizes, defaults of each dialect, and keys that depend on each other."""

from __future__ import annotations

import pytest

import darkpy
from darkpy.config.net import NetSpec
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError, ShapeError
from darkpy.shapes import Shape

AX, PJ = Dialect.ALEXEYAB, Dialect.PJREDDIE


def net(lines: str, dialect: Dialect = PJ) -> NetSpec:
    return darkpy.plan(f"[net]\ninputs=4\n{lines}\n[connected]\n", dialect).net


def errors(lines: str, dialect: Dialect = PJ) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        darkpy.plan(f"[net]\n{lines}\n[connected]\n", dialect)
    return [finding.message for finding in caught.value.findings]


def test_defaults_are_darknets() -> None:
    spec = net("")
    assert (spec.batch, spec.subdivisions, spec.time_steps) == (1, 1, 1)
    assert (spec.learning_rate, spec.momentum, spec.decay, spec.policy) == (0.001, 0.9, 0.0001, "constant")
    assert (spec.burn_in, spec.power, spec.step, spec.scale) == (0, 4.0, 1, 1.0)
    assert (spec.saturation, spec.exposure, spec.hue, spec.angle, spec.aspect) == (1, 1, 0, 0, 1)


def test_adam_divides_by_another_number_in_each_fork() -> None:
    assert net("").eps == 1e-7
    assert net("", AX).eps == 1e-6


def test_bound_of_deltas_is_left_to_the_dialect_unless_it_is_set() -> None:
    assert net("").constrain is net("", AX).constrain is None
    assert net("constrain=0").constrain == 0


def test_minibatch_is_batch_by_subdivisions_truncated_times_time_steps() -> None:
    assert net("batch=64\nsubdivisions=16").minibatch == 4
    assert net("batch=10\nsubdivisions=4").minibatch == 2
    assert net("batch=8\nsubdivisions=2\ntime_steps=16").minibatch == 64


def test_network_is_another_name_of_the_section() -> None:
    assert darkpy.plan("[network]\ninputs=3\n[connected]\n").net.inputs == 3


def test_input_is_an_image_or_a_vector() -> None:
    assert darkpy.plan("[net]\nwidth=6\nheight=4\nchannels=3\n[dropout]\n").input_shape == Shape(3, 4, 6)
    assert net("").input_shape == Shape(4, 1, 1)


def test_input_without_a_size_is_an_error_that_says_what_is_missing() -> None:
    assert errors("width=416\nheight=416") == ["the input has no size: width=416 height=416 channels=0"]
    with pytest.raises(ShapeError):
        _ = NetSpec().input_shape


def test_input_too_large_for_an_int_is_an_error() -> None:
    assert errors("width=2147483647\nheight=2147483647\nchannels=3")[0].endswith("values, too many")
    assert darkpy.plan("[net]\ninputs=2147483647\n[dropout]\n").input_shape.outputs == 2147483647


@pytest.mark.parametrize("line", ["batch=0", "subdivisions=0", "time_steps=-1", "width=-416", "constrain=-1"])
def test_size_below_its_bound_is_an_error(line: str) -> None:
    assert any("is below" in message for message in errors(f"inputs=1\n{line}"))


def test_sgdr_is_a_policy_of_alexeyabs_fork() -> None:
    assert net("policy=sgdr", AX).policy == "sgdr"
    for dialect in (PJ, AX):
        assert net("policy=sgd", dialect).policy == "constant"
        assert net("policy=stepz", dialect).policy == "constant"
    assert net("max_batches=5000020000").max_batches == 5_000_020_000 - 2**32
    assert net("max_batches=3000000000").max_batches == 3_000_000_000 - 2**32
    assert net("burn_in=5000020000\nsteps=7,5000020000\nscales=.1,.1").steps == (7, 5_000_020_000 - 2**32)
    assert net("burn_in=5000020000").burn_in == 5_000_020_000 - 2**32
    assert len(errors(f"inputs=1\nmax_batches={2**63}")) == 1
    assert errors("inputs=1\npolicy=sgdr") == ["policy=sgdr is only known in dialect alexeyab"]


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize(("lines", "counts"), [
    ("", "0 steps and 0 scales"),
    ("steps=1,2", "2 steps and 0 scales"),
    ("steps=1,2,3\nscales=.1,.1", "3 steps and 2 scales"),
])  # fmt: skip
def test_step_without_a_scale_is_an_error(lines: str, counts: str, dialect: Dialect) -> None:
    assert errors(f"inputs=1\npolicy=steps\n{lines}", dialect) == [f"policy=steps has {counts}"]


def test_scales_left_over_are_not_an_error() -> None:
    assert net("policy=steps\nsteps=1\nscales=.1,.1").scales == (0.1, 0.1)


def test_steps_stay_signed() -> None:
    assert net("policy=steps\nsteps=-1,100\nscales=.1,10").steps == (-1, 100)


def test_missing_size_and_broken_schedule_are_reported_together() -> None:
    assert len(errors("policy=steps")) == 2
