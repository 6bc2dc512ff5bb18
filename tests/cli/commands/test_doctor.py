"""What `darkpy doctor` prints, and its exit code."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run, write_weights


def test_healthy_cfg_is_said_to_be_healthy(task: Path, run: Run) -> None:
    code, out, err = run("doctor", "net.cfg")
    assert (code, out) == (0, "healthy: nothing found in net.cfg\n")
    assert "note: net.cfg:1: [net] batch=1 subdivisions=1" in err


def test_a_finding_is_exit_code_1_with_its_place_and_what_to_try(task: Path, run: Run) -> None:
    Path("net.cfg").write_text(Path("net.cfg").read_text().replace("size=32", "size=16"))
    code, out, _ = run("doctor", "net.cfg")
    assert code == 1
    assert out.splitlines() == [
        "operations:",
        "  net.cfg:8: [maxpool] layer 0 stride=32 is larger than size=16: 75% of the cells are in no window, and the"
        " layers before learn nothing from them",
        "    hint: stride=16; or size=32",
        "1 finding in net.cfg",
    ]


def test_a_mistake_of_the_user_is_exit_code_2(task: Path, run: Run) -> None:
    for words in (("none.cfg",), ("net.cfg", "none.data"), ("net.cfg", "pets.data", "none.weights"), ()):
        code, out, err = run("doctor", *words)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")


def test_json_holds_what_is_printed(task: Path, run: Run) -> None:
    Path("net.cfg").write_text(Path("net.cfg").read_text().replace("classes=2", "classes=3"))
    code, out, _ = run("doctor", "net.cfg", "--json")
    record = json.loads(out)
    assert code == 1
    assert record["healthy"] is False
    (found,) = record["findings"]
    assert found["place"] == "layer 2 [yolo] net.cfg:16"
    assert found["level"] == "error"
    assert found["try"] == ["set filters=8 in the convolutional before it"]
    assert [one["kind"] for one in record["notes"]] == []


def test_json_has_remedies_that_programs_can_carry_out(task: Path, run: Run) -> None:
    text = Path("net.cfg").read_text().replace("size=32", "size=16").replace("[net]", "[net]\nlearning_rate=7")
    Path("net.cfg").write_text(text)
    record = json.loads(run("doctor", "net.cfg", "--json").out)
    remedies = {finding["kind"]: finding["remedies"] for finding in record["findings"]}
    first, second = remedies["stride-beyond-size"]
    line = text.splitlines().index("stride=32") + 1
    edit = {"key": "stride", "value": "16", "section": "maxpool", "layer": 0, "line": line}
    assert first == {"edits": [edit], "command": [], "reason": ""}
    assert second["edits"][0] == edit | {"key": "size", "value": "32", "line": line - 1}
    (edit,) = remedies["rate-too-high"][0]["edits"]
    assert edit == {"key": "learning_rate", "value": "0.001", "section": "net", "layer": None, "line": 2}
    assert any(remedy["edits"][0]["line"] is None for remedy in remedies["rate-too-high"])


def test_run_without_updates_is_an_error_whose_remedy_cures(task: Path, run: Run) -> None:
    Path("net.cfg").write_text(Path("net.cfg").read_text().replace("[net]", "[net]\nmax_batches=-3\nburn_in=0"))
    code, out, _ = run("doctor", "net.cfg", "--write", "fixed.cfg")
    assert code == 1 and out.splitlines() == [
        "rates:",
        "  net.cfg:2: [net] max_batches=-3: darknet ends before the first update",
        "    hint: max_batches=6000",
        "1 finding in net.cfg",
    ]
    assert run("doctor", "fixed.cfg").code == 0 and "max_batches=6000" in Path("fixed.cfg").read_text()


def test_many_findings_of_a_kind_are_counted_unless_all_are_wanted(task: Path, run: Run) -> None:
    Path("pets.data").write_text("classes=2\ntrain=list.txt\n")
    Path("list.txt").write_text("".join(f"a{number}.png\n" for number in range(8)) + "a.png\n")
    Path("a.txt").write_text("0 .5 .5 .5 .5\n1 .2 .2 .2 .2\n")
    code, out, _ = run("doctor", "net.cfg", "pets.data")
    assert code == 1
    assert out.count(".png: cannot be read: No such file or directory") == 5
    assert "... and 3 more image-missing (--all shows them)" in out
    assert run("doctor", "net.cfg", "pets.data", "--all").out.count(".png: cannot be read") == 8


def test_a_name_that_no_file_can_have_is_a_missing_image(task: Path, run: Run) -> None:
    Path("a.txt").write_text("0 .5 .5 .5 .5\n")
    Path("long.txt").write_text(f"a.png\n{'x' * 300}.jpg\n")
    Path("long.data").write_text("classes=2\nnames=pets.names\ntrain=long.txt\n")
    code, out, _ = run("doctor", "net.cfg", "long.data", "--json")
    findings = json.loads(out)["findings"]
    assert code == 1 and {"image-missing", "label-missing"} <= {finding["kind"] for finding in findings}
    assert "File name too long" in out
    assert run("dataset", "clean", "long.data").code == 0
    assert Path("long.txt").read_text() == "a.png\n"


def test_the_cfg_is_looked_at_without_data(task: Path) -> None:
    command = [sys.executable, "-m", "darkpy", "doctor", "net.cfg", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["data"] is None


@pytest.mark.parametrize("name", ["doctor"])
def test_help_teaches(task: Path, run: Run, name: str) -> None:
    code, out, _ = run(name, "--help")
    assert code == 0
    assert "Exit codes: 0 nothing found, 1 findings, 2 wrong input" in " ".join(out.split())


def test_samples_are_printed_worst_first_and_written_where_they_are_wanted(tmp_path: Path, run: Run) -> None:
    sample = tmp_path / "shapes"
    assert run("sample", str(sample), "--images", "20", "--valid", "4").code == 0
    root = Path(__file__).resolve().parents[3]
    words = ("doctor", str(sample / "sample.cfg"), str(sample / "sample.data"), str(root / "weights/sample.weights"))
    code, out, err = run(*words, "--out", str(tmp_path / "found"), "--worst", "4", "--limit", "10")
    assert code == 0
    assert f"{tmp_path / 'found/samples.csv'} holds 10 samples" in err
    assert len((tmp_path / "found/samples.csv").read_text().splitlines()) == 11
    assert (tmp_path / "found/samples.png").read_bytes().startswith(b"\x89PNG")
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["rank", "1", "2", "3", "4"]
    record = json.loads(run(*words, "--json").out)
    assert len(record["samples"]) == 20
    assert record["samples"][0].keys() == {"image", "score", "loss", "gradient_norm", "objects"}


def test_a_folder_for_samples_without_weights_is_a_mistake(task: Path, run: Run) -> None:
    code, _, err = run("doctor", "net.cfg", "pets.data", "--out", "found")
    assert code == 2
    assert "hint: name the weights: CFG DATA WEIGHTS" in err


def test_updates_are_tried_and_nothing_is_kept(tmp_path: Path, run: Run) -> None:
    sample = tmp_path / "shapes"
    assert run("sample", str(sample), "--images", "20", "--valid", "4").code == 0
    before = sorted(sample.rglob("*"))
    words = ("doctor", str(sample / "sample.cfg"), str(sample / "sample.data"), "--updates", "2")
    code, out, _ = run(*words)
    assert code == 0
    assert "dry run: updates 1 to 2, loss " in out
    record = json.loads(run(*words, "--json").out)
    assert record["dry_run"]["updates"] == 2
    assert sorted(sample.rglob("*")) == before


def test_updates_without_data_are_a_mistake(task: Path, run: Run) -> None:
    code, _, err = run("doctor", "net.cfg", "--updates", "2")
    assert code == 2
    assert "hint: name the data: CFG DATA" in err


def test_ruined_weights_are_named_by_their_layer_and_not_run(task: Path, run: Run) -> None:
    Path("pets.data").write_text("classes=2\nnames=pets.names\ntrain=list.txt\n")
    Path("list.txt").write_text("a.png\n")
    Path("a.txt").write_text("0 .5 .5 .5 .5\n")
    write_weights((math.nan, *(0.0,) * 6))
    code, out, _ = run("doctor", "net.cfg", "pets.data", "net.weights")
    assert code == 1
    assert "net.cfg:10: [convolutional] layer 1 has 1 NaN or infinite of 7 biases" in out
    assert "worst first" not in out


def test_remedies_are_written_to_a_new_cfg_in_which_nothing_is_found(tmp_path: Path, run: Run) -> None:
    sample = tmp_path / "shapes"
    assert run("sample", str(sample), "--images", "20", "--valid", "4").code == 0
    cfg, cured, data = sample / "sample.cfg", tmp_path / "fixed.cfg", str(sample / "sample.data")
    text = cfg.read_text().replace("learning_rate=0.02", "learning_rate=2").replace("num=3", "num=3\njitter=-1")
    cfg.write_text(text.replace("24,24, 31,31, 42,42", "72,72, 93,93, 126,126"))
    code, _, err = run("doctor", str(cfg), data, "--write", str(cured))
    assert code == 1
    assert "3 remedies: " in err
    for remedy in ("learning_rate=0.001", "jitter=0.2 in layer 10", "anchors="):
        assert remedy in err
    assert run("doctor", str(cured), data).code == 0
    code, _, err = run("doctor", str(cfg), data, "--write", str(cured))
    assert code == 2 and "already exists" in err


def test_same_warning_is_printed_once(tmp_path: Path, run: Run) -> None:
    sample = tmp_path / "shapes"
    assert run("sample", str(sample), "--images", "12", "--valid", "4").code == 0
    names = sample / "sample.names"
    names.write_bytes(names.read_text().encode("utf-16"))
    _, _, err = run("doctor", str(sample / "sample.cfg"), str(sample / "sample.data"))
    assert err.count("UTF-16") == 1
