"""What `darkpy report` writes of a real run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from darkpy.build import make_plan
from darkpy.data.lists.text_files import read_data
from darkpy.data.synthetic import SyntheticConfig, write_synthetic_dataset
from darkpy.diagnostics.monitor.monitor import Monitor
from darkpy.network import Network
from darkpy.training.loop import run_updates
from darkpy.training.setup import open_setup
from darkpy.training.trainer import Trainer
from tests.cli.conftest import Run


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of 12 updates, whose monitor measures the layers in each."""
    folder = tmp_path_factory.mktemp("run") / "shapes"
    for _ in write_synthetic_dataset(SyntheticConfig(images=8, valid=2, size=64, seed=0), folder):
        pass
    cfg = folder / "sample.cfg"
    cfg.write_text(cfg.read_text().replace("max_batches=1500", "max_batches=12"))
    torch.manual_seed(0)
    network = Network(make_plan(cfg))
    network.initialize()
    trainer = Trainer(network, monitor=Monitor(folder / "backup", every=1))
    for _ in run_updates(trainer, open_setup(network.plan, read_data(folder / "sample.data"), seed=0).source):
        pass
    return folder / "backup"


def test_the_page_lies_beside_the_log(backup: Path, run: Run) -> None:
    code, out, _ = run("report", str(backup))
    assert code == 0
    page = backup / "sample.report.html"
    assert out.startswith(f"{page}: 12 updates, ")
    text = page.read_text()
    assert "12 of 12" in text
    for title in ("Clamped deltas", "Update to weight", "Gradients"):
        assert f"<h2>{title}, layer by layer</h2>" in text
    assert "<h2>Zeros, layer by layer</h2>" not in text  # a map without a value above 0 is one line


def test_images_are_written_where_they_are_wanted(backup: Path, run: Run, tmp_path: Path) -> None:
    assert run("report", str(backup), "--out", str(tmp_path / "a.html"), "--png", str(tmp_path / "png")).code == 0
    names = {path.stem for path in (tmp_path / "png").iterdir()}
    assert {"loss", "rate", "gradient", "layers_clamped", "layers_ratio"} <= names
    assert Image.open(tmp_path / "png/loss.png").size == (1720, 500)


def test_tensorboard_reads_its_events(backup: Path, run: Run, tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    words = ("report", str(backup), "--out", str(tmp_path / "a.html"), "--tensorboard", str(tmp_path / "events"))
    code, _, err = run(*words)
    assert code == 0
    assert "values for TensorBoard" in err
    events = accumulators.EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert [one.step for one in events.Scalars("run/loss")] == list(range(1, 13))
    assert len(events.Scalars("layers_zero/000_convolutional")) == 12
    code, _, err = run(*words)
    assert code == 2
    assert f"{tmp_path / 'events'}: is not empty" in err


def test_a_folder_without_a_log_is_a_mistake(tmp_path: Path, run: Run) -> None:
    code, _, err = run("report", str(tmp_path))
    assert code == 2
    assert "holds no log of a run" in err


def test_the_log_is_never_written_over(backup: Path, run: Run) -> None:
    log = backup / "sample.health.jsonl"
    before = log.read_bytes()
    assert run("report", str(log), "--out", str(log)).code == 2
    assert log.read_bytes() == before
