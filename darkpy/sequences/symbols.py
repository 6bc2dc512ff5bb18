"""Texts as symbols (bytes, or the numbers that a tokenizer wrote), and minibatches of their one-hot vectors.

Legend: T time steps, S streams, N symbols of the network.
"""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from darkpy.errors import DarkpyError
from darkpy.files import ENCODING_HINT, open_regular
from darkpy.network import Network
from darkpy.ops.c_random import CRandom

MAX_TEXT_BYTES = 1 << 31
MEAN_MINIBATCHES_PER_RESTART = 64
"""Minibatches that a stream reads in a row, on average."""
NEWLINE_TOKEN = "<NEWLINE>"


def count_symbols(network: Network) -> int:
    """Return the number of symbols that a network reads as one-hot vectors and predicts.

    Raises: DarkpyError for a network with other inputs or outputs.
    """
    plan = network.plan
    inputs, outputs = plan.input_shape.outputs, plan.nodes[network.outputs[0]].shape.outputs
    if network.heads or plan.net.width or inputs != outputs:
        raise DarkpyError(
            f"{plan.file} reads {inputs} values and gives {outputs}: it is not a character-level network",
            hint="such a network has inputs=256 in [net], and ends in [connected] output=256 and [softmax]",
        )
    return inputs


def read_symbols(path: str | os.PathLike[str], count: int, *, tokenized: bool = False) -> Tensor:
    """Read the bytes of a text, or with `tokenized` its numbers.

    count: of the network's symbols. Raises: DarkpyError for a file that has others, or fewer than two.
    """
    try:
        with open_regular(path) as stream:
            data = stream.read(MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise DarkpyError(f"{os.fspath(path)}: cannot be read: {error.strerror or error}") from error
    if len(data) > MAX_TEXT_BYTES:
        raise DarkpyError(f"{os.fspath(path)}: is larger than 2 GiB", hint="train on parts of it, one after the other")
    if tokenized:
        symbols = torch.from_numpy(_parse_numbers(data, os.fspath(path)))
    else:
        symbols = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
    if len(symbols) < 2:
        raise DarkpyError(f"{os.fspath(path)}: has {len(symbols)} symbols, and training needs at least 2")
    smallest = 0 if tokenized else 1  # the byte 0 ends a text in C
    if int(symbols.min()) < smallest or int(symbols.max()) >= count:
        position = int(((symbols.long() < smallest) | (symbols.long() >= count)).nonzero()[0])
        symbol = int(symbols[position])
        line = data.count(b"\n", 0, position) + 1
        place = f"{os.fspath(path)}: number {position + 1}" if tokenized else f"{os.fspath(path)}:{line}: byte"
        if symbol < smallest and not tokenized:
            raise DarkpyError(f"{place} 0: the file is binary or UTF-16", hint=ENCODING_HINT)
        raise DarkpyError(
            f"{place} {f'is {symbol}' if tokenized else symbol} of the {count} symbols 0 to {count - 1}",
            hint=f"inputs={max(symbol, int(symbols.max())) + 1} or more in [net], and as many outputs",
        )
    return symbols


def read_tokens(path: str | os.PathLike[str], count: int) -> list[str]:
    """Read the text of each symbol, one per line. Raises: DarkpyError when there are fewer than `count`."""
    from darkpy.files import read_text

    text = read_text(path, max_bytes=1 << 26, hint="a text file with a token per line")
    tokens = ["\n" if line == NEWLINE_TOKEN else line for line in text.removesuffix("\n").split("\n")]
    if len(tokens) < count:
        raise DarkpyError(f"{os.fspath(path)}: has {len(tokens)} tokens for a network of {count} symbols")
    return tokens


class TextStreams:
    """Streams that read a text in parallel, each from its own offset on and around its end.

    offsets: of the next symbol of each stream.
    Source: pjreddie/darknet examples/rnn.c train_char_rnn, get_rnn_data
    """

    def __init__(self, symbols: Tensor, count: int, *, streams: int, time_steps: int, seed: int) -> None:
        self.symbols, self.count, self.time_steps = symbols, count, time_steps
        self.random = CRandom(seed)
        self.offsets = [self.random.rand_size() % len(symbols) for _ in range(streams)]

    def next_minibatch(self) -> tuple[Tensor, Tensor]:
        """Return the next `time_steps` symbols of each stream, and the symbol that follows each of them.

        Shapes: both (T * S, N), one-hot, step after step.
        """
        offsets_S = torch.tensor(self.offsets)
        positions_TS = (torch.arange(self.time_steps + 1)[:, None] + offsets_S) % len(self.symbols)
        one_hot_TSN = functional.one_hot(self.symbols[positions_TS].long(), self.count).float()
        self.offsets = positions_TS[-1].tolist()
        return one_hot_TSN[:-1].flatten(0, 1), one_hot_TSN[1:].flatten(0, 1)

    def restart(self) -> list[int]:
        """Move each stream to a random offset, with a small chance. Returns: the streams that have moved."""
        moved = []
        for stream in range(len(self.offsets)):
            if self.random.rand() % MEAN_MINIBATCHES_PER_RESTART == 0:
                self.offsets[stream] = self.random.rand_size() % len(self.symbols)
                moved.append(stream)
        return moved


def _parse_numbers(data: bytes, file: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    words = data.split()
    try:
        return np.array(words, dtype="S20").astype(np.int64)
    except (ValueError, OverflowError):
        position = next((number for number, word in enumerate(words) if not word.isdigit()), 0)
        shown = words[position][:20].decode("utf-8", "replace")
        raise DarkpyError(
            f"{file}: word {position + 1}, {shown!r}, is not an integer", hint="leave out -tokenized to train on text"
        ) from None
