"""The summary of a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from darkpy.build import make_plan
from darkpy.summary import as_record, table

ROOT = Path(__file__).resolve().parents[1]
NET = "[net]\nwidth=16\nheight=8\nchannels=3\n"


def rows(*sections: str, dialect: str = "alexeyab") -> list[str]:
    """The table's lines for layers, blanks made one."""
    lines = table(make_plan(NET + "".join(sections), dialect)).splitlines()
    return [" ".join(line.split()) for line in lines[1:-1]]


@pytest.mark.parametrize(
    ("section", "row"),
    [
        (
            "[convolutional]\nfilters=4\nsize=3\npad=1\n",
            "0 convolutional 4 3 x 3 / 1 16 x 8 x 3 -> 16 x 8 x 4 0.000 112",
        ),
        (
            "[convolutional]\nfilters=4\nsize=3\npad=1\ndilation=2\n",
            "0 convolutional 4 3 x 3 / 1 (dilation 2) 16 x 8 x 3 -> 16 x 8 x 4 0.000 112",
        ),
        (
            "[convolutional]\nfilters=1\nstride_x=2\nstride_y=4\n",
            "0 convolutional 1 1 x 1 / 2 x 4 16 x 8 x 3 -> 8 x 2 x 1 0.000 4",
        ),
        ("[maxpool]\nstride=2\n", "0 maxpool 2 x 2 / 2 16 x 8 x 3 -> 8 x 4 x 3 0.000"),
        ("[upsample]\nstride=2\n", "0 upsample / 2 16 x 8 x 3 -> 32 x 16 x 3"),
    ],
)
def test_row_tells_size_stride_shapes_and_weights(section: str, row: str) -> None:
    (found,) = rows(section)
    assert found == row


def test_row_tells_which_layers_are_read_unless_it_is_the_one_before() -> None:
    pool = "[maxpool]\nsize=1\n"
    assert [row.split(" 16 x 8")[0] for row in rows(pool, pool, "[route]\nlayers=-1,0\n", "[route]\nlayers=-1\n")] == [
        "0 maxpool 1 x 1 / 1",
        "1 maxpool 1 x 1 / 1",
        "2 route reads 1, 0",
        "3 route",
    ]


def test_table_ends_with_the_sums() -> None:
    plan = make_plan(ROOT / "cfg" / "yolov3.cfg")
    last = table(plan).splitlines()[-1]
    assert last.endswith("yolov3.cfg: 107 layers, 62,001,757 weights, 140.723 BFLOPs an image")


@pytest.mark.parametrize("cfg", sorted((ROOT / "cfg").glob("*.cfg")), ids=lambda path: path.stem)
def test_every_network_has_a_table_and_a_record_that_is_json(cfg: Path) -> None:
    plan = make_plan(cfg)
    lines = table(plan).splitlines()
    assert len(lines) == len(plan.nodes) + 2
    document = json.loads(json.dumps(as_record(plan), allow_nan=False))
    assert sum(layer["parameter_count"] for layer in document["layers"]) == document["parameter_count"]
    assert document["layers"][0]["sources"] == [-1]


def test_key_that_names_a_file_is_a_word_in_the_record(tmp_path: Path) -> None:
    (tmp_path / "a.tree").write_text("cat -1\ndog -1\n")
    (tmp_path / "net.cfg").write_text("[net]\ninputs=2\n[softmax]\ntree=a.tree\n")
    (layer,) = json.loads(json.dumps(as_record(make_plan(tmp_path / "net.cfg"))))["layers"]
    assert layer["keys"]["tree"].endswith("a.tree")
