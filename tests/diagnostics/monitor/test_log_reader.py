"""The log of a run: written records are read back, even if the writing process dies."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from darkpy.diagnostics.monitor.run_log import (
    MAX_LOOKED_UPDATES,
    LoggedLayer,
    LoggedMap,
    LoggedRun,
    LogReader,
    LogWriter,
    find_log,
    log_path,
    read_log,
)
from darkpy.errors import DarkpyError
from darkpy.finding import CfgEdit, Finding, Location, Remedy
from darkpy.training.reports import UpdateReport

LAYER = LoggedLayer(index=0, type="convolutional", line=9, place="layer 0 [convolutional] net.cfg:9", learns=True)
RUN = LoggedRun(
    cfg="net.cfg",
    dialect="pjreddie",
    time=1.5,
    batch_num=0,
    seen=0,
    net={"batch": 8, "learning_rate": 0.01, "steps": [30, 40]},
    layers=(LAYER,),
)
FINDING = Finding(
    name="DeadUnits",
    batch_num=2,
    message="dead",
    location=Location("net.cfg", 9, "convolutional", 0),
    hints=("learning_rate", "activation"),
    evidence="evidence/update_2",
    remedies=(Remedy(edits=(CfgEdit("learning_rate", "0.001"), CfgEdit("filters", "8", 0)), reason="a tenth"),),
    paths=("a.jpg",),
)


def update(n: int, loss: float = 1.25) -> UpdateReport:
    return UpdateReport(
        batch_num=n, seen=8 * n, images=8, loss=loss, average=2.0, rate=0.001, norm=3.0, largest=0.5, seconds=0.25
    )


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    path = log_path(tmp_path, "net")
    assert path.name == "net.health.jsonl"
    writer = LogWriter(path)
    writer.begin(RUN)
    looked_at = replace(update(2), layers={"zero": [0.5], "clamped": [None]})
    for one in (update(1), looked_at):
        writer.update(one)
    writer.finding(FINDING)
    log = read_log(path)
    assert (log.run, log.updates, log.findings, log.torn) == (RUN, (update(1), looked_at), (FINDING,), 0)


def test_what_is_no_number_is_json_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "net.health.jsonl"
    writer = LogWriter(path)
    writer.begin(RUN)
    writer.update(replace(update(1, math.nan), norm=math.inf, layers={"low": [-math.inf]}))
    assert "NaN" not in path.read_text() and [json.loads(line) for line in path.read_text().splitlines()]
    (back,) = read_log(path).updates
    assert math.isnan(back.loss) and back.norm == math.inf and back.layers["low"] == [-math.inf]


def test_torn_last_line_is_passed_over_and_the_run_goes_on_in_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "net.health.jsonl"
    writer = LogWriter(path)
    writer.begin(RUN)
    for n in range(1, 6):
        writer.update(update(n))
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(last + 1, len(whole)):
        path.write_bytes(whole[:cut])
        torn = read_log(path)
        assert [one.batch_num for one in torn.updates] == [1, 2, 3, 4] or cut == len(whole) - 1
    again = LogWriter(path)
    again.begin(replace(RUN, batch_num=3, seen=24))
    again.update(update(4, 9.0))
    log = read_log(path)
    assert [(one.batch_num, one.loss) for one in log.updates] == [(1, 1.25), (2, 1.25), (3, 1.25), (4, 9.0)]
    assert len(log.starts) == 2 and log.run.batch_num == 3


def test_refused_update_is_distinguished_from_the_one_with_the_same_number(tmp_path: Path) -> None:
    path = tmp_path / "net.health.jsonl"
    writer = LogWriter(path)
    writer.begin(RUN)
    writer.update(replace(update(1, math.inf), refused=True))
    writer.update(update(1))
    log = read_log(path)
    assert log.updates == (update(1),) and [one.loss for one in log.refused] == [math.inf]


def test_log_is_found_in_the_folder_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(DarkpyError, match="holds no log of a run"):
        find_log(tmp_path)
    for age, name in enumerate(("new", "old")):
        path = log_path(tmp_path, name)
        LogWriter(path)
        os.utime(path, (1000 - age, 1000 - age))
    assert find_log(tmp_path) == log_path(tmp_path, "new")
    assert find_log(log_path(tmp_path, "old")) == log_path(tmp_path, "old")


@pytest.mark.parametrize(
    "text", ["", "hello\n", '{"kind":"update","batch_num":1}\n', '{"kind":"run","format":99}\n', "[1]\n"]
)
def test_other_files_are_distinguished_from_logs(text: str, tmp_path: Path) -> None:
    path = tmp_path / "net.health.jsonl"
    path.write_text(text)
    with pytest.raises(DarkpyError, match="not a log of a run"):
        read_log(path)


def test_lines_that_say_nothing_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "net.health.jsonl"
    LogWriter(path).begin(RUN)
    with path.open("a") as stream:
        stream.write('{"kind":"update","batch_num":"x"}\n{"kind":"finding"}\nnull\n{"kind":"dream"}\n{}\n')
    assert read_log(path).torn == 5


def test_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(DarkpyError, match="cannot be written"):
        LogWriter(tmp_path / "nowhere" / "net.health.jsonl")


def test_means_come_back_and_those_that_were_undone_do_not(tmp_path: Path) -> None:
    path = tmp_path / "net.health.jsonl"
    writer = LogWriter(path)
    writer.begin(RUN)
    for n, mean in ((100, 0.25), (200, 0.5)):
        writer.map(LoggedMap(batch_num=n, mean=mean))
    writer.begin(replace(RUN, batch_num=150))
    writer.map(LoggedMap(batch_num=200, mean=0.75))
    assert [(one.batch_num, one.mean) for one in read_log(path).maps] == [(100, 0.25), (200, 0.75)]


@pytest.mark.parametrize(
    "line",
    [
        *(
            "[" * 100_000 + "]" * 100_000,
            '{"kind":' * 5000 + "1" + "}" * 5000,
            '{"kind":"map","batch_num":1e999,"mean":1}',
        ),
        '{"kind":"map","batch_num":18446744073709551616,"mean":1}',
        '{"kind":"map","batch_num":1,"mean":1' + "0" * 400 + "}",
        '{"kind":"run","format":1,"cfg":"x","dialect":"y","time":1,"batch_num":0,"seen":0,"net":{},"layers":[{"index":-1,'
        '"type":"a","line":1,"place":"b","learns":true}]}',
        '{"kind":"finding","batch_num":Infinity,"name":"x","message":"y"}',
    ],
)
def test_hostile_line_is_passed_over(tmp_path: Path, line: str) -> None:
    path = log_path(tmp_path, "net")
    LogWriter(path).begin(RUN)
    with path.open("a") as stream:
        stream.write(f"{line}\n")
    log = read_log(path)
    assert (log.torn, log.starts) == (1, (RUN,))


def test_texts_that_cannot_be_encoded_are_escaped(tmp_path: Path) -> None:
    path = log_path(tmp_path, "net")
    LogWriter(path).begin(RUN)
    path.write_text(
        path.read_text().replace('"batch":8', r'"\ud800":["\udfff","\u001b[31m"]').replace("net.cfg", r"\ud800")
    )
    run = read_log(path).run
    assert run.net["\\ud800"] == ["\\udfff", "\\x1b[31m"] and run.cfg == "\\ud800"
    repr(run).encode()


def test_log_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "net.health.jsonl")
    with pytest.raises(DarkpyError, match="is a pipe, not a regular file"):
        read_log(tmp_path / "net.health.jsonl")


def test_a_log_that_grows_is_read_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "net.health.jsonl"
    writer = LogWriter(path)
    reader = LogReader(path)
    with pytest.raises(DarkpyError, match="is not a log of a run"):
        reader.log()
    writer.begin(RUN)
    for n in range(1, 4):
        writer.update(update(n))
    whole = path.read_bytes()
    batch_nums = []
    for cut in range(0, len(whole) + 1, 7):
        path.write_bytes(whole[:cut])
        reader.read_new()
        batch_nums.append([report.batch_num for report in reader.log().updates] if reader.lines else None)
    path.write_bytes(whole)
    reader.read_new()
    assert reader.log() == read_log(path) and reader.log().torn == 0
    assert batch_nums[0] is None and [1] in batch_nums and [1, 2] in batch_nums


def test_thinning_keeps_the_extremes_the_time_and_the_end(tmp_path: Path) -> None:
    path = tmp_path / "net.health.jsonl"
    writer = LogWriter(path)
    writer.begin(RUN)
    for n in range(1, 2001):
        loss = 100.0 if n == 333 else math.nan if n == 555 else -1.0 if n == 777 else 1.0
        layers = {"low": [0.5]} if n % 3 == 0 else {}
        writer.update(replace(update(n, loss), seconds=0.5, layers=layers))
    reader = LogReader(path, most=400)
    reader.read_new()
    whole, thinned = read_log(path).updates, reader.log().updates
    assert 400 <= len(thinned) <= 800
    losses = [report.loss for report in thinned]
    assert 100 in losses and -1 in losses and any(map(math.isnan, losses))
    assert sum(report.seconds for report in thinned) == pytest.approx(sum(report.seconds for report in whole))
    assert thinned[-1] == whole[-1] and sum(bool(report.layers) for report in thinned) <= MAX_LOOKED_UPDATES
    assert [report.batch_num for report in thinned] == sorted({report.batch_num for report in thinned})
