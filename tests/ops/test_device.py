"""Copies to a device have the values of their sources."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from darkpy.ops.device import tensor_async, to_device


@dataclass(frozen=True)
class Pair:
    numbers: torch.Tensor
    name: str


def test_constant_is_torchs_tensor_of_the_numbers() -> None:
    assert tensor_async((3, 4), torch.device("cpu")).dtype == torch.int64
    assert tensor_async((3, 4), None, torch.float32).tolist() == [3.0, 4.0]


def test_moved_record_has_its_tensors_there_and_all_else_as_it_was() -> None:
    record = to_device(Pair(torch.zeros(2), "one"), torch.device("meta"))
    assert (record.numbers.device.type, record.numbers.shape, record.name) == ("meta", (2,), "one")
