"""Text from a character-level network: generated, scored, or turned into a vector.

Source: pjreddie/darknet examples/rnn.c test_char_rnn, valid_char_rnn, vec_char_rnn
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from darkpy.errors import DarkpyError
from darkpy.network import Network
from darkpy.ops.c_random import CRandom
from darkpy.sequences.symbols import count_symbols

MIN_PROBABILITY = 0.0001
"""Less probable symbols are never generated."""
_WORD_ENDS = frozenset(b" \n\t")


class TextScore(NamedTuple):
    """Fit of a network to the symbols of a text so far. bits: the sum of -log2 of the probability of each."""

    symbols: int
    words: int
    bits: float

    @property
    def bits_per_symbol(self) -> float:
        return float(np.float32(self.bits) / np.float32(self.symbols))

    @property
    def perplexity(self) -> float:
        return float(np.exp2(self.bits_per_symbol))

    @property
    def word_perplexity(self) -> float:
        with np.errstate(over="ignore"):
            return float(np.exp2(float(np.float32(self.bits) / np.float32(self.words))))


class SymbolReader:
    """A network that is fed symbol by symbol, from the start of a sequence. count: of its symbols.

    Raises: DarkpyError for a network that is not character-level, or was opened for sequences.
    """

    def __init__(self, network: Network) -> None:
        self.network, self.count = network, count_symbols(network)
        if network.plan.net.time_steps > 1:
            raise DarkpyError(
                f"{network.plan.file} takes sequences of {network.plan.net.time_steps} symbols (time_steps)",
                hint="darkpy.load(..., time_steps=1) takes them one by one",
            )
        network.reset_state()

    def feed(self, symbols: Iterable[int]) -> None:
        for symbol in symbols:
            self.next_probabilities(symbol)

    def next_probabilities(self, symbol: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """Feed a symbol. Returns: the probability of each to follow it."""
        with torch.inference_mode():
            probs: np.ndarray[tuple[int], np.dtype[np.float32]] = self.network(self._one_hot(symbol))[0].cpu().numpy()
        return probs.reshape(-1)

    def first_layer_output(self, symbol: int) -> Tensor:
        """Feed a symbol. Returns: the output of layer 0, which is its state in an [rnn], [gru] or [lstm]."""
        with torch.inference_mode():
            return self.network.trace(self._one_hot(symbol))[0].flatten()

    def check(self, symbol: int) -> None:
        """Raises: DarkpyError for a symbol that the network does not know."""
        if not 0 <= symbol < self.count:
            raise DarkpyError(
                f"byte {symbol}: {self.network.plan.file} knows the symbols 0 to {self.count - 1}",
                hint="inputs=256 in [net] takes every byte",
            )

    def _one_hot(self, symbol: int) -> Tensor:
        self.check(symbol)
        x = torch.zeros(1, self.count, device=self.network.device)
        x[0, symbol] = 1
        return x


def generate(
    network: Network, seed: Sequence[int], length: int, *, temperature: float, random: CRandom
) -> Iterator[int]:
    """Yield the symbols of `seed`, then `length` symbols that the network draws.

    temperature: divides the logits; below 1 the probable symbols become more probable.
    random: seeded as darknet's; the numbers that fill its initial weights are skipped.
    Differs: darknet's characters are signed, and it reads beyond its arrays for a seed that is not ASCII.
    """
    reader = SymbolReader(network)
    network.set_temperature(temperature)
    random.skip(network.initial_draws)
    yield from seed
    *before, symbol = seed or (0,)
    reader.feed(before)
    for _ in range(length):
        symbol = _draw(reader.next_probabilities(symbol), random)
        yield symbol


def score_text(network: Network, text: Iterable[int], seed: Sequence[int]) -> Iterator[TextScore]:
    """Yield the score after each symbol of `text` but the first, having fed `seed`."""
    reader = SymbolReader(network)
    reader.feed(seed)
    symbols = iter(text)
    symbol = next(symbols, None)
    if symbol is None:
        return
    total, log_2, words = np.float32(0), float(np.float32(math.log(2))), 1
    for count, following in enumerate(symbols, start=1):
        words += following in _WORD_ENDS
        reader.check(following)
        prob = float(reader.next_probabilities(symbol)[following])
        total = np.float32(float(total) - (math.log(prob) if prob else -math.inf) / log_2)
        yield TextScore(count, words, float(total))
        symbol = following


def text_vector(network: Network, seed: Sequence[int], text: Sequence[int]) -> Tensor:
    """Return the output of layer 0 after `seed`, `text` and a space."""
    reader = SymbolReader(network)
    reader.feed([*seed, *text])
    return reader.first_layer_output(ord(" "))


def _draw(probs: np.ndarray[tuple[int], np.dtype[np.float32]], random: CRandom) -> int:
    """Draw a symbol, in float32 and in the order of darknet's sum. Raises: DarkpyError for NaN.

    Source: pjreddie/darknet src/utils.c sample_array
    """
    probs = np.where(probs.astype(np.float64) < MIN_PROBABILITY, np.float32(0), probs)
    total = float(np.cumsum(probs)[-1])
    if not (math.isfinite(total) and total > 0):
        raise DarkpyError(
            f"the probabilities of the next symbol add up to {total}", hint="are these the weights of the cfg?"
        )
    steps = np.concatenate(([random.uniform()], probs * np.float32(1 / total)), dtype=np.float32)
    reached = np.flatnonzero(np.subtract.accumulate(steps)[1:] <= 0)
    return int(reached[0]) if len(reached) else len(probs) - 1
