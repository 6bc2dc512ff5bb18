"""Bad samples planted in clean data rank highest."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from darkpy.build import make_plan
from darkpy.data.lists.paths import label_path, read_image_list
from darkpy.data.lists.text_files import read_data
from darkpy.diagnostics.sample_scores import (
    SampleScorer,
    Scored,
    as_csv,
    check_scores,
    draw_worst,
    rank,
    ruined_by_samples,
)
from darkpy.network import Network
from darkpy.training.loop import run_updates
from darkpy.training.setup import TrainingSetup, open_setup
from darkpy.training.trainer import Trainer
from tests.diagnostics.conftest import Case

ROOT = Path(__file__).resolve().parents[2]
Boxes = list[list[float]]


def read(label: Path) -> Boxes:
    return [[float(word) for word in line.split()] for line in label.read_text().splitlines()]


def write(label: Path, boxes: Boxes) -> None:
    label.write_text("".join(" ".join(f"{number:g}" for number in box) + "\n" for box in boxes))


def shift(label: Path, other: Path, classes: int) -> None:
    """All boxes an eighth of the image to the right and down."""
    write(label, [[c, min(x + 0.12, 0.98), min(y + 0.12, 0.98), w, h] for c, x, y, w, h in read(label)])


def change_class(label: Path, other: Path, classes: int) -> None:
    """All objects called the next class."""
    write(label, [[(c + 1) % classes, *box] for c, *box in read(label)])


def take_other(label: Path, other: Path, classes: int) -> None:
    """The labels of another image."""
    write(label, read(other))


def halve(label: Path, other: Path, classes: int) -> None:
    """Boxes in pixels of an image twice as large."""
    write(label, [[c, x / 2, y / 2, w / 2, h / 2] for c, x, y, w, h in read(label)])


DIRT = [shift, change_class, take_other, halve]
Dirty = Callable[[Path, Path, int], None]


def open_sample(case: Case) -> tuple[Network, TrainingSetup]:
    """The sample's own network, trained on other images of the kind."""
    plan = make_plan(case.cfg)
    network = Network(plan)
    network.load_weights(ROOT / "weights/sample.weights")
    return network, open_setup(plan, read_data(case.data), seed=0)


def scorer(network: Network, setup: TrainingSetup) -> list[Scored]:
    made = SampleScorer(network, setup)
    return rank(list(made.run(made.indices())))


@pytest.mark.parametrize("dirty", DIRT, ids=lambda dirty: dirty.__name__)
@pytest.mark.parametrize("number", [3, 11])
def test_dirty_drawing_is_among_the_worst_3(case: Case, dirty: Dirty, number: int) -> None:
    dirty(case.label(number), case.label(20), 4)
    worst = scorer(*open_sample(case))[:3]
    assert str(case.image(number)) in [one.path for one in worst]


def test_each_sample_is_shown_once_and_the_network_is_as_it_was(case: Case) -> None:
    network, setup = open_sample(case)
    before = {name: array.clone() for name, array in network.state_dict().items()}
    seen, chance = network.header.seen, torch.get_rng_state()
    ranked = scorer(network, setup)
    assert sorted(one.path for one in ranked) == sorted(setup.paths)
    assert all(torch.equal(array, before[name]) for name, array in network.state_dict().items())
    assert network.header.seen == seen
    assert torch.equal(chance, torch.get_rng_state())
    assert all(array.grad is None for array in network.parameters())


def test_new_network_is_asked_too_and_its_statistics_stay_empty(case: Case) -> None:
    network, setup = open_sample(case)
    network = Network(setup.plan)
    network.initialize()
    made = SampleScorer(network, setup)
    assert not made.is_filled
    assert made.uses_sample_statistics
    assert len(list(made.run(range(4)))) == 4
    assert not any(array.any() for name, array in network.named_buffers() if name.endswith("rolling_variance"))


def test_statistics_that_are_not_yet_good_are_not_gone_by(case: Case) -> None:
    """As after some 60 minibatches, when the rolling statistics have come half of their way from 0."""
    network, setup = open_sample(case)
    assert not SampleScorer(network, setup).uses_sample_statistics
    usual = [one.loss for one in scorer(network, setup)]
    for name, array in network.named_buffers():
        if name.rpartition(".")[2].startswith("rolling"):
            array.mul_(0.45)
    made = SampleScorer(network, setup)
    assert made.uses_sample_statistics
    assert max(one.loss for one in made.run(range(24))) < 3 * max(usual)


def test_same_samples_are_scored_the_same_whatever_stands_between(case: Case) -> None:
    network, setup = open_sample(case)
    made = SampleScorer(network, setup)
    every, some = list(made.run(range(24))), list(made.run(range(0, 24, 5)))
    assert some == every[::5]
    assert made.indices(limit=5) == range(0, 24, 5)


def test_images_that_cannot_be_read_are_left_out(case: Case) -> None:
    case.image(3).write_bytes(b"")
    network, setup = open_sample(case)
    assert len(scorer(network, setup)) == 23


def test_sample_that_makes_no_number_is_an_error_and_stands_first() -> None:
    some = [Scored(f"{number}.jpg", 1 + number / 100, 2, 3) for number in range(20)]
    ranked = rank([*some, Scored("bad.jpg", math.nan, math.nan, 3)])
    assert ranked[0].path == "bad.jpg"
    (found,) = check_scores(ranked, "my.data")
    assert (found.place, found.name) == ("bad.jpg", "sample-not-finite")


def test_crowded_images_are_not_worse_for_being_crowded() -> None:
    usual = [Scored(f"{n}.jpg", 2 + n + 0.1 * (n % 3), 10 + n % 3, n) for n in range(30)]
    ranked = rank([*usual, Scored("few.jpg", 12, 11, 2)])
    assert ranked[0].path == "few.jpg"
    assert ranked[0].score > 6 > ranked[1].score
    (noted,) = check_scores(ranked, "my.data")
    assert noted.is_note
    assert noted.message.startswith("1 of 31 samples are 6 or more standard deviations worse")


def test_table_and_sheet_hold_the_samples_worst_first(case: Case, tmp_path: Path) -> None:
    network, setup = open_sample(case)
    ranked = scorer(network, setup)
    rows = list(csv.DictReader(as_csv(ranked).decode().splitlines()))
    assert [row["image"] for row in rows] == [one.path for one in ranked]
    assert float(rows[0]["score"]) >= float(rows[1]["score"])
    (tmp_path / "sheet.png").write_bytes(draw_worst(setup, ranked[:5], ("circle",)))
    assert Image.open(tmp_path / "sheet.png").size == (4 * 270 + 10, 2 * 262 + 10)


BCCD_CFG = (ROOT / "weights/sample.cfg").read_text()
BCCD_CFG = BCCD_CFG.replace("width=128", "width=160").replace("classes=4", "classes=3").replace("=27", "=24")
BCCD_CFG = BCCD_CFG.replace("24,24, 31,31, 42,42", "11,11, 26,26, 54,50")
BCCD_CFG = BCCD_CFG.replace("max_batches=1500", "max_batches=600").replace("1100,1400", "450,540")


@pytest.mark.slow
def test_dirty_blood_cells_are_among_the_worst_3_for_a_network_that_learnt_with_the_dirt(
    shared: Path, tmp_path: Path
) -> None:
    """The network is trained on a list with one sample of each dirt; then each is hunted among the clean ones."""
    from darkpy.__main__ import main

    assert main(["dataset", "from-voc", str(shared / "data/bccd"), str(tmp_path / "bccd")]) == 0
    (tmp_path / "bccd.cfg").write_text(BCCD_CFG)
    plan = make_plan(tmp_path / "bccd.cfg")
    data = read_data(tmp_path / "bccd/bccd.data")
    paths = list(map(str, read_image_list(tmp_path / "bccd/train.txt")))
    labels = [label_path(path, plan.dialect) for path in paths]
    crowded = [number for number, label in enumerate(labels) if len(read(label)) >= 8]
    chosen = dict(zip(random.Random(0).sample(crowded, len(DIRT)), DIRT, strict=True))
    clean = {number: labels[number].read_text() for number in chosen}
    for number, dirty in chosen.items():
        dirty(labels[number], labels[(number + 7) % len(labels)], 3)
    dirt = {number: labels[number].read_text() for number in chosen}

    torch.manual_seed(0)
    network = Network(plan)
    network.initialize()
    setup = open_setup(plan, data, seed=0)
    for _ in run_updates(Trainer(network), setup.source):
        pass
    for number in chosen:
        for other, text in clean.items():
            labels[other].write_text(dirt[other] if other == number else text)
        worst = [one.path for one in scorer(network, setup)[:3]]
        assert paths[number] in worst, (chosen[number].__name__, worst)


def test_ruined_weights_are_an_error_and_no_image_is_ranked(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    from darkpy.__main__ import main

    network, _ = open_sample(case)
    with torch.no_grad():
        network.get_parameter("layers.4.weights").mul_(1e12)
    network.save_weights(case.folder / "ruined.weights")
    assert main(["doctor", str(case.cfg), str(case.data), str(case.folder / "ruined.weights")]) == 1
    out = capsys.readouterr().out
    assert "layer 4 the weights are ruined: weights are up to" in out
    assert "rank" not in out and "take it out of the list" not in out


def test_losses_that_are_mostly_not_finite_are_the_weights_fault(case: Case) -> None:
    network, setup = open_sample(case)
    assert not SampleScorer(network, setup).is_ruined
    with torch.no_grad():
        network.get_parameter("layers.9.biases").fill_(1e38)  # whose square is none
    assert SampleScorer(network, setup).is_ruined
    assert ruined_by_samples("my.weights").text.startswith("my.weights: the weights are ruined: most images")
