"""`darkpy rnn`: train, generate, valid, vec."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from darkpy.__main__ import main

CFG = """[net]
batch=4
time_steps=8
inputs=256
learning_rate=.01
adam=1
max_batches={updates}
[gru]
output=16
tanh=1
[connected]
output=256
activation=linear
[softmax]
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    Path("net.cfg").write_text(CFG.format(updates=60))
    Path("text.txt").write_text("über " * 30)

    def run(*words: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main(words)
        return code, *capsys.readouterr()

    return run


def test_a_network_learns_a_text_and_writes_it(run: Run) -> None:
    code, _, err = run("rnn", "train", "net.cfg", "-file", "text.txt", "-srand", "1")
    assert code == 0, err
    assert "backup/net_final.weights written after update 60" in err
    weights = "backup/net_final.weights"
    _, text, _ = run("rnn", "generate", "net.cfg", weights, "-seed", "ü", "-len", "16", "-temp", ".01", "-srand", "1")
    assert text == "über über über \n"
    _, scores, _ = run("rnn", "valid", "net.cfg", weights, "-seed", "über ", stdin="über über".encode())
    *_, last = scores.splitlines()
    assert last.startswith("10 BPC: ")
    assert float(last.split()[2]) < 3  # 8 without training
    _, vectors, _ = run("rnn", "vec", "net.cfg", weights, stdin=b"ein wort\nzwei\n")
    assert [line.split(",")[0] for line in vectors.splitlines()] == ["einwort", "zwei"]
    assert [line.count(",") for line in vectors.splitlines()] == [16, 16]


def test_incomplete_characters_are_replaced_and_control_characters_escaped(run: Run) -> None:
    code, text, _ = run("rnn", "generate", "net.cfg", "-len", "40", "-srand", "1", "-seed", "a\x1b")
    assert code == 0
    assert text.startswith("a\\x1b")
    assert "�" in text


def test_tokens_are_printed_for_symbols(run: Run) -> None:
    Path("tokens.txt").write_text("<NEWLINE>\n" + "\n".join(f"t{number}" for number in range(1, 256)))
    _, text, _ = run("rnn", "generate", "net.cfg", "-len", "1", "-srand", "1", "-seed", "A", "-tokens", "tokens.txt")
    assert text.startswith("t65 t")


def test_options_of_other_subcommands_are_accepted_as_in_darknet(run: Run) -> None:
    code, _, err = run("rnn", "generate", "net.cfg", "-len", "1", "-file", "absent.txt", "-clear")
    assert code == 0
    assert "-file" in err


def test_proofs_are_answered_with_the_command_for_text(run: Run) -> None:
    code, _, err = run("rnn", "validtactic", "net.cfg")
    assert code == 2
    assert "darkpy rnn valid" in err
