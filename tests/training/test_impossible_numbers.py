"""Numbers with which no training is possible end it with one error, never a traceback."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from darkpy.__main__ import main
from tests.diagnostics.conftest import Case, case, healthy

__all__ = ["case", "healthy"]  # fixtures


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("batch=1\nsubdivisions=16", "batch=1 / subdivisions=16 leaves no images for a forward pass"),
        ("momentum=-0.9", "momentum=-0.9 is below 0"),
        ("learning_rate=-0.1", "learning_rate=-0.1 is below 0"),
        ("decay=-1", "decay=-1 is below 0"),
        ("adam=1\nB1=1", "B1=1 is above 0.99999"),
        ("adam=1\nB1=-.1", "B1=-.1 is below 0"),
        ("adam=1\nB2=1.5", "B2=1.5 is above 0.99999"),
        ("adam=1\neps=-1e-8", "eps=-1e-8 is below 0"),
        ("resize_step=0", "resize_step=0 is below 1"),
        ("policy=step\nstep=0", "policy=step gives no learning rate"),
        ("policy=poly\nmax_batches=0", "policy=poly gives no learning rate"),
    ],
)
def test_training_ends_with_an_error(lines: str, message: str, case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    keys = {line.partition("=")[0] for line in lines.split("\n")}
    kept = [line for line in case.cfg.read_text().split("\n") if line.partition("=")[0] not in keys]
    net = kept.index("[net]")
    case.cfg.write_text("\n".join([*kept[: net + 1], lines, *kept[net + 1 :]]))
    assert main(["train", str(case.cfg), str(case.data), "--dialect", "alexeyab"]) == 2
    err = capsys.readouterr().err
    assert f"{message}" in err
    assert "Traceback" not in err


def test_network_without_weights_is_an_error(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    case.cfg.write_text(
        "[net]\nwidth=32\nheight=32\nchannels=9\nbatch=8\nmax_batches=9\nlearning_rate=.001\n"
        "[yolo]\nclasses=4\nnum=1\nanchors=9,9\n"
    )
    assert main(["train", str(case.cfg), str(case.data)]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_doctor_finds_them_before(case: Case, tmp_path: Path) -> None:
    case.edit("sample.cfg", "subdivisions=1", "subdivisions=16")
    assert "batch" in [finding.name for finding in case.findings()]


@pytest.mark.parametrize(
    "layers",
    ["[cost]\n", "[softmax]\n[cost]\n", "[connected]\noutput=4\n[cost]\n", "[dropout]\n[cost]\n"],
)
def test_network_whose_last_layers_are_no_output_is_no_traceback(
    layers: str, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    """The layer that decides the number of classes was searched without a default (StopIteration)."""
    net = "[net]\nwidth=8\nheight=8\nchannels=1\nbatch=2\nmax_batches=1\nlearning_rate=.001\n"
    case.cfg.write_text(net + layers)
    assert main(["train", str(case.cfg), str(case.data), "--workers", "0"]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("key", ["classes", "num", "max"])
def test_sizes_beyond_all_memory_are_refused_by_each_command(
    key: str, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    text = re.sub(rf"(?m)^{key} *=.*\n", "", case.cfg.read_text())
    case.cfg.write_text(text.replace("[yolo]\n", f"[yolo]\n{key}=9999999999\n"))
    cfg, data = str(case.cfg), str(case.data)
    for command in (("anchors", data, "--cfg", cfg), ("train", cfg, data), ("doctor", cfg, data)):
        assert main(command) in (1, 2), command
        assert "Traceback" not in capsys.readouterr().err
