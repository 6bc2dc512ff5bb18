"""Training on a text and generating it, against what pjreddie's program did (tests/golden/README.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import darkpy
from darkpy.errors import DarkpyError
from darkpy.network import Network
from darkpy.ops.c_random import CRandom
from darkpy.sequences.generation import generate, score_text, text_vector
from darkpy.sequences.symbols import TextStreams, read_symbols
from darkpy.sequences.text_training import train_text
from darkpy.training.reports import UpdateReport
from darkpy.training.trainer import Trainer

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "rnn-training.npz"))
CASES = ("rnn", "gru", "lstm")
TEXT = torch.from_numpy(GOLDEN["text"])
SMALL = "[net]\nbatch={batch}\ntime_steps=4\ninputs=128\nlearning_rate=.1\nmax_batches=3\n[gru]\noutput=6\n" + (
    "[connected]\noutput=128\nactivation=linear\n[softmax]\n"
)


def golden(case: str, name: str) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = GOLDEN[f"{case}/{name}"]
    return array


def load(case: str, weights: str, tmp_path: Path, time_steps: int | None = None) -> Network:
    path = tmp_path / f"{weights}.weights"
    path.write_bytes(golden(case, weights).tobytes())
    cfg = golden(case, "cfg").tobytes().decode()
    return darkpy.load(cfg, path, dialect="pjreddie", time_steps=time_steps)


@pytest.mark.parametrize("case", CASES)
def test_losses_and_weights_are_those_of_the_c_program(case: str, tmp_path: Path) -> None:
    network = load(case, "init", tmp_path)
    trainer = Trainer(network)
    network.carry_state()
    streams = TextStreams(TEXT, 128, streams=3, time_steps=5, seed=0)
    losses = []
    for step, offsets in enumerate(golden(case, "offsets").tolist(), start=1):
        streams.offsets = offsets
        report = trainer.train_minibatch(*streams.next_minibatch())
        losses.append(report.cost / trainer.net.minibatch)
        for _, stream in (reset for reset in golden(case, "resets").tolist() if reset[0] == step):
            network.reset_state(stream)
    np.testing.assert_allclose(losses, golden(case, "losses"), rtol=2e-5)
    network.save_weights(tmp_path / "trained.weights")
    header = 20
    written, expected = (
        np.frombuffer(data[header:], np.float32)
        for data in ((tmp_path / "trained.weights").read_bytes(), golden(case, "final").tobytes())
    )
    np.testing.assert_allclose(written, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", CASES)
def test_generated_text_is_that_of_the_c_program(case: str, tmp_path: Path) -> None:
    network = load(case, "final", tmp_path, time_steps=1)
    symbols = generate(network, b"the c", 80, temperature=0.9, random=CRandom(7))
    assert bytes(symbols) + b"\n" == golden(case, "generated").tobytes()


@pytest.mark.parametrize("case", CASES)
def test_scores_and_vectors_are_those_of_the_c_program(case: str, tmp_path: Path) -> None:
    network = load(case, "final", tmp_path, time_steps=1)
    *_, score = score_text(network, b"the mat\nthe dog.", b"a")
    bpc = golden(case, "valid").tobytes().decode().splitlines()[-1].split()
    assert bpc[0] == str(score.symbols)
    assert score.bits_per_symbol == pytest.approx(float(bpc[2]), abs=1e-4)
    assert score.word_perplexity == pytest.approx(float(bpc[7]), rel=1e-4)
    vector = [float(number) for number in golden(case, "vec").tobytes().decode().splitlines()[0].split(",")[1:]]
    torch.testing.assert_close(text_vector(network, b"a", b"themat"), torch.tensor(vector), rtol=1e-4, atol=1e-5)


def test_streams_read_on_around_the_end_of_the_text() -> None:
    streams = TextStreams(torch.tensor([1, 2, 3], dtype=torch.uint8), 4, streams=2, time_steps=2, seed=0)
    streams.offsets = [2, 0]
    x, truth = streams.next_minibatch()
    assert x.argmax(1).tolist() == [3, 1, 1, 2]
    assert truth.argmax(1).tolist() == [1, 2, 2, 3]
    assert streams.offsets == [1, 2]


def test_a_run_writes_its_checkpoints_and_goes_on_from_them(tmp_path: Path) -> None:
    def run(seed: int, max_batches: int, weights: Path | None = None) -> tuple[list[int], Path]:
        cfg = tmp_path / "small.cfg"
        cfg.write_text(SMALL.format(batch=2).replace("max_batches=3", f"max_batches={max_batches}"))
        reports: list[UpdateReport] = []
        network = darkpy.load(cfg, weights, dialect="pjreddie")
        train_text(network, TEXT, folder=tmp_path, weights=weights, seed=seed, callbacks=[_Collector(reports)])
        return [report.batch_num for report in reports], tmp_path / "small_final.weights"

    updates, final = run(0, 3)
    assert updates == [1, 2, 3]
    with pytest.raises(DarkpyError, match=r"already exists\n.*--force"):
        run(0, 4)
    updates, _ = run(0, 5, final)
    assert updates == [4, 5]


class _Collector:
    def __init__(self, reports: list[UpdateReport]) -> None:
        self.reports = reports

    def on_update(self, report: UpdateReport) -> None:
        self.reports.append(report)


@pytest.mark.parametrize(
    ("data", "tokenized", "message"),
    [
        (b"a\nb\xe9", False, r":2: byte 233 of the 128 symbols.*\n.*inputs=234"),
        (b"a\0b", False, r":1: byte 0: the file is binary"),
        (b"a", False, "has 1 symbols"),
        (b"", False, "has 0 symbols"),
        (b"1 2 x", True, r"word 3, 'x', is not an integer\n.*-tokenized"),
        (b"1 300", True, r"number 2 is 300 of the 128 symbols"),
        (b"1 -3", True, r"number 2 is -3 of the 128"),
    ],
)
def test_texts_that_a_network_cannot_read_are_refused(
    data: bytes, tokenized: bool, message: str, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(DarkpyError, match=message):
        read_symbols(tmp_path / "a.txt", 128, tokenized=tokenized)


def test_a_network_without_a_distribution_of_symbols_is_refused() -> None:
    network = darkpy.load("[net]\ninputs=8\n[gru]\noutput=4\n", dialect="pjreddie")
    with pytest.raises(DarkpyError, match="not a character-level network"):
        next(generate(network, b"a", 1, temperature=1, random=CRandom(1)))


def test_a_nan_loss_ends_the_run(tmp_path: Path) -> None:
    network = darkpy.load(SMALL.format(batch=2), dialect="pjreddie")
    with torch.no_grad():
        network.get_parameter("layers.1.weights").fill_(torch.nan)
    with pytest.raises(DarkpyError, match="update 1: the loss is nan"):
        train_text(network, TEXT, folder=tmp_path)


def symbols_after_reset(network: Network, seed: Sequence[int]) -> bytes:
    return bytes(generate(network, seed, 20, temperature=1, random=CRandom(3)))


def test_generation_starts_from_a_fresh_state(tmp_path: Path) -> None:
    network = load("gru", "final", tmp_path, time_steps=1)
    assert symbols_after_reset(network, b"the") == symbols_after_reset(network, b"the")
