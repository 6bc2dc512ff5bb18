"""Character-level networks: darknet's `rnn train`, `rnn generate`, `rnn valid` and `rnn vec`."""

from __future__ import annotations

import codecs
import os
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

import darkpy
from darkpy.cli import console
from darkpy.cli.load import open_network
from darkpy.cli.options import FILE_PATH, OUTPUT_PATH, Command, LoadOptions, compose, force_option, network_options
from darkpy.errors import DarkpyError

if TYPE_CHECKING:
    from darkpy.network import Network
    from darkpy.sequences.text_training import TextRun
    from darkpy.training.reports import CheckpointReport, UpdateReport

DEFAULT_TEXT = Path("data/shakespeare.txt")
DEFAULT_SEED = "\n\n"
BYTE_VALUES = 256

TRAIN_HELP = """darknet's `rnn train`: train a character-level network on a text.

\b
  darkpy rnn train gru.train.cfg -file text.txt
  darkpy rnn train gru.train.cfg backup/gru.backup -file text.txt

The network reads the bytes of the text and learns to predict the next one. A minibatch reads batch / subdivisions parts
of the text in parallel, `time_steps` bytes of each; the next one continues there with the states kept. The other
commands read byte by byte, whatever batch= and time_steps= are, so that they work with the same cfg.

Checkpoints, in --backup: BASE.backup every 100 updates, BASE_N.weights every 10000, BASE_final.weights at the end, BASE
being the name of the cfg. Ctrl-C also saves one. A file BASE_N.resume beside them has the optimizer's state, with which
a run goes on from WEIGHTS.
"""
GENERATE_HELP = """darknet's `rnn generate`: generate text.

\b
  darkpy rnn generate gru.cfg gru.weights -seed "To be" -len 500 -temp .5
  darkpy rnn generate gru.cfg gru.weights -srand 1

The text starts with the seed. Bytes that are not UTF-8 are printed as the replacement character, control characters as
escapes. With -srand the text is that of pjreddie's program on Linux, up to rounding.
"""
VALID_HELP = """darknet's `rnn valid`: measure how well a network predicts the text on standard input.

\b
  darkpy rnn valid gru.cfg gru.weights < text.txt | tail -n 1

Each line covers the bytes so far: their number, bits per byte, and 2 to the power of the bits per byte and per word.
"""
VEC_HELP = """darknet's `rnn vec`: turn each line of standard input into a vector.

\b
  darkpy rnn vec gru.cfg gru.weights < words.txt > vectors.csv

The vector is the output of layer 0 after the line and a space. The network reads the line, and the CSV shows it,
without its blanks and tabs, as in darknet.
"""

_network_arguments = compose(
    click.argument("cfg", type=FILE_PATH),
    click.argument("weights", type=FILE_PATH, required=False),
)
_seed_text_option = click.option(
    "-seed", "seed_text", default=DEFAULT_SEED, metavar="TEXT", help="Text to start with.  [default: two line breaks]"
)


@click.command(cls=Command, help=TRAIN_HELP)
@_network_arguments
@click.option("-file", "text", type=FILE_PATH, default=DEFAULT_TEXT, show_default=True, help="Text to learn.")
@click.option("-clear", is_flag=True, help="Restart the schedule, as if WEIGHTS had seen no text.")
@click.option("-tokenized", is_flag=True, help="The file contains symbol indices instead of text.")
@click.option(
    "-srand",
    "seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    metavar="N",
    show_default=True,
    help="Random seed of the initial weights and of the positions in the text.",
)
@click.option(
    "--backup",
    "folder",
    type=OUTPUT_PATH,
    default=Path("backup"),
    metavar="DIR",
    show_default=True,
    help="Folder for the checkpoints.",
)
@force_option
@network_options
def train(
    cfg: Path,
    weights: Path | None,
    text: Path,
    clear: bool,
    tokenized: bool,
    seed: int,
    folder: Path,
    overwrite: bool,
    load: LoadOptions,
) -> int:
    import torch

    from darkpy.cli.processes import StopRequest
    from darkpy.ops.device import find_device
    from darkpy.sequences.symbols import count_symbols, read_symbols
    from darkpy.sequences.text_training import train_text

    torch.manual_seed(seed)
    network = darkpy.load(
        cfg,
        weights,
        dialect=load.dialect,
        device=find_device(load.device),
        strict=load.strict,
        allow_partial=load.allow_partial,
    )
    symbols = read_symbols(text, count_symbols(network), tokenized=tokenized)
    output = _TextOutput()
    with StopRequest() as stop_request:
        run = train_text(
            network,
            symbols,
            folder=folder,
            weights=weights,
            seed=seed,
            clear=clear,
            overwrite=overwrite,
            callbacks=(output, stop_request),
        )
    return run.stop_code


@click.command(cls=Command, help=GENERATE_HELP)
@_network_arguments
@_seed_text_option
@click.option(
    "-len",
    "length",
    type=click.IntRange(0),
    default=1000,
    metavar="N",
    show_default=True,
    help="Number of bytes after the seed.",
)
@click.option(
    "-temp",
    "temperature",
    type=click.FloatRange(0, min_open=True),
    default=0.7,
    metavar="T",
    show_default=True,
    help="Temperature: below 1 the text is more predictable, above it more varied.",
)
@click.option(
    "-srand",
    type=click.IntRange(0, 2**32 - 1),
    metavar="N",
    help="Random seed; the same seed gives the same text.  [default: the time]",
)
@click.option(
    "-tokens",
    type=FILE_PATH,
    metavar="FILE",
    help="Text of each symbol, one per line, for a network trained with -tokenized.",
)
@network_options
def generate(
    cfg: Path,
    weights: Path | None,
    seed_text: str,
    length: int,
    temperature: float,
    srand: int | None,
    tokens: Path | None,
    load: LoadOptions,
) -> None:
    from darkpy.ops.c_random import CRandom
    from darkpy.sequences.generation import generate as generate_symbols
    from darkpy.sequences.symbols import count_symbols, read_tokens

    network = _open(cfg, weights, load)
    count = count_symbols(network)
    if tokens is None and count > BYTE_VALUES:
        raise DarkpyError(f"{cfg} has {count} symbols, more than there are bytes", hint="-tokens FILE has their text")
    words = None if tokens is None else read_tokens(tokens, count)
    random = CRandom(int(time.time()) if srand is None else srand)
    symbols = generate_symbols(network, os.fsencode(seed_text), length, temperature=temperature, random=random)
    for part in _decode(symbols) if words is None else (f"{words[symbol]} " for symbol in symbols):
        console.echo(part, nl=False)
    console.echo()


@click.command(cls=Command, help=VALID_HELP)
@_network_arguments
@_seed_text_option
@network_options
def valid(cfg: Path, weights: Path | None, seed_text: str, load: LoadOptions) -> None:
    from darkpy.sequences.generation import score_text

    text = chain.from_iterable(_input_lines())
    for score in score_text(_open(cfg, weights, load), text, os.fsencode(seed_text)):
        console.echo(
            f"{score.symbols} BPC: {score.bits_per_symbol:4.4f}   Perplexity: {score.perplexity:4.4f}"
            f"    Word Perplexity: {score.word_perplexity:4.4f}"
        )


@click.command(cls=Command, help=VEC_HELP)
@_network_arguments
@_seed_text_option
@network_options
def vec(cfg: Path, weights: Path | None, seed_text: str, load: LoadOptions) -> None:
    from darkpy.sequences.generation import text_vector

    network = _open(cfg, weights, load)
    for line in _input_lines():
        text = b"".join(line.split())
        numbers = text_vector(network, os.fsencode(seed_text), text).tolist()
        console.echo(",".join([text.decode("utf-8", "replace"), *(f"{number:g}" for number in numbers)]))


class _TextOutput:
    """Progress of a training on a text, and the files that it writes."""

    def on_start(self, run: TextRun) -> None:
        from darkpy.cli.commands.train import ProgressLine

        if run.is_resumed:
            console.info(f"the run continues after update {run.trainer.batch_num}, from new positions in the text")
        self.run = run
        self.progress = ProgressLine(run.trainer.net.max_batches, unit="characters")

    def on_update(self, report: UpdateReport) -> None:
        self.progress.show(report)

    def on_checkpoint(self, report: CheckpointReport) -> None:
        if report.is_last:
            self.progress.clear()
            epochs = f"{self.run.epochs:.3g} times the text"
            console.info(f"{report.paths[0]} written after update {report.batch_num}, {epochs}")


def _open(cfg: Path, weights: Path | None, load: LoadOptions) -> Network:
    """Load a network for one sequence, with batch norm folded into its weights."""
    return open_network(cfg, weights, load, accelerated=False).for_inference()


def _decode(symbols: Iterable[int]) -> Iterator[str]:
    """Yield the text of bytes as soon as its characters are complete."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for symbol in symbols:
        yield decoder.decode(bytes([symbol]))
    yield decoder.decode(b"", final=True)


def _input_lines() -> Iterator[bytes]:
    """Yield the lines of standard input, as bytes with their ends. Raises: DarkpyError when it is closed."""
    if sys.stdin is None:
        raise DarkpyError("standard input is closed", hint="give a text: darkpy rnn valid CFG WEIGHTS < TEXT")
    yield from sys.stdin.buffer
