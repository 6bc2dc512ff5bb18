"""`darkpy speed`: every configuration of a network is timed, and the kernels of its convolutions are shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

CFG = "[net]\nwidth=32\nheight=32\nchannels=3\n" + 2 * "[convolutional]\nfilters=16\nsize=3\npad=1\nactivation=leaky\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("net.cfg").write_text(CFG)


def test_every_way_is_timed_on_random_weights(run: Run) -> None:
    code, out, _ = run("speed", "net.cfg", "--seconds", "0", "--batch-size", "2", "--json", "-nogpu")
    assert code == 0
    report = json.loads(out)
    assert report["batch"] == 2 and report["bflops"] > 0 and report["cpu"]
    ways = {row["way"]: row for row in report["ways"]}
    assert {"fp32", "fp32, default kernels", "bf16", "int8"} <= ways.keys()
    for way, row in ways.items():
        if "absent" not in row:
            low, middle, high = row["ms"]
            assert 0 < low <= middle <= high
            assert row["images_per_second"] == pytest.approx(1000 / middle)
            assert (row["percent_of_peak"] is None) == (way == "int8")


def test_table_has_a_line_for_each_way(run: Run) -> None:
    code, out, _ = run("speed", "net.cfg", "7", "-nogpu")  # darknet's number of runs
    assert code == 0
    head, columns, *rows = out.splitlines()
    assert "BF an image, batch 1" in head and columns.startswith("way")
    assert [row.split("  ")[0] for row in rows][:2] == ["fp32", "fp32, default kernels"]


def test_random_weights_of_a_deep_network_stay_finite(run: Run) -> None:
    doubled = "[convolutional]\nfilters=16\nsize=1\nactivation=linear\n" + 20 * "[shortcut]\nfrom=-1\n"
    Path("deep.cfg").write_text(CFG + 7 * doubled + "[avgpool]\n[connected]\noutput=1\nactivation=linear\n")
    report = json.loads(run("speed", "deep.cfg", "--seconds", "0", "--json", "-nogpu").out)
    assert all("ms" in row or "not installed" in row["absent"] for row in report["ways"])


def test_kernels_are_measured_shown_and_kept(run: Run) -> None:
    code, out, _ = run("speed", "net.cfg", "--kernels", "--json", "-nogpu")
    assert code == 0
    layers, ways = json.loads(out)["layers"], json.loads(out)["ms"]
    assert list(ways)[:2] == ["layer by layer", "as one program"] and ways["layer by layer"] > 0
    assert [layer["index"] for layer in layers] == [0, 1]
    assert layers[1]["task"] == "1 x 32 x 32 x 16 -> 16, 3x3/1 pad 1, leaky"
    assert {"oneDNN", "Winograd 4"} <= layers[1]["ms"].keys()
    assert layers[1]["kernel"] in layers[1]["ms"]
    again = json.loads(run("speed", "net.cfg", "--kernels", "--json", "-nogpu").out)["layers"]
    assert again == layers
    table = run("speed", "net.cfg", "--kernels", "-nogpu").out.splitlines()
    assert len(table) in (5, 6) and layers[1]["kernel"] in table[2]
    assert table[4].startswith("the network as one program: ")
