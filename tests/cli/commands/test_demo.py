"""`detector demo`, and `detect` on videos."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import av
import pytest
import torch
from PIL import Image

from darkpy.cli.commands.demo import _FrameRate
from darkpy.network import Network
from tests.cli.conftest import Run
from tests.cli.videos import H, W, bar_position, network_camera, read_video, write_video

DEMO = ("detector", "demo", "pets.data", "net.cfg", "net.weights")
CPU = ("--device", "cpu")


@pytest.fixture
def film(task: Path) -> str:
    """A video of 12 frames with uneven times, in which the network sees a cat and a dog in the middle of each."""
    write_video(task / "film.mp4", 12, times_ms=[0, 40, 80, *range(500, 1400, 100)])
    return "film.mp4"


def test_lines_are_alexeyabs(film: str, run: Run) -> None:
    code, out, err = run(*DEMO, film, *CPU, "--dialect", "alexeyab", "-ext_output", "-dont_show")
    assert code == 0
    place = f"(left_x: {W / 4:4.0f}   top_y: {H * 3 / 8:4.0f}   width: {W / 2:4.0f}   height: {H / 4:4.0f})"
    frames = re.sub(r"\d+\.\d\b", "_", out).split("Objects:\n\n")[1:]
    assert frames == [f"cat: 95%\t{place}\ndog: 73%\t{place}\n\nFPS:_ \t AVG_FPS:_\n"] * 12
    assert "12 frames in" in err


def test_pjreddies_lines_have_the_rate_first(film: str, run: Run) -> None:
    _, out, _ = run(*DEMO, film, *CPU, "--dialect", "pjreddie", "-s", "5")
    assert re.sub(r"\d+\.\d\b", "_", out) == "\nFPS:_\nObjects:\n\ncat: 95%\ndog: 73%\n" * 2


def test_the_rate_of_frames_that_come_together_is_the_true_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 1.5, 3, 4.5, 4.7, 5])
    monkeypatch.setattr("darkpy.cli.commands.demo.perf_counter", lambda: next(clock))
    rate = _FrameRate()
    for frames, recent in ((8, 8 / 1.5), (8, 8 / 1.5), (8, 8 / 1.5), (2, 2 / 0.2)):
        rate.count(frames)
        assert rate.recent == pytest.approx(recent)
    rate.count(0)
    assert (rate.frames, rate.seconds, rate.average) == (26, 5, 26 / 5)


def test_viewers_see_each_frame_of_a_file_as_it_comes(film: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = Network.forward

    def counted(network: Network, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        sizes.append(len(x_BCHW))
        return forward(network, x_BCHW)

    monkeypatch.setattr(Network, "forward", counted)
    assert run(*DEMO, film, *CPU).code == 0
    assert sizes == [8, 4]
    assert run(*DEMO, film, *CPU, "-json_port", "0").code == 0
    assert sizes[2:] == [1] * 12
    assert run("detect", "net.cfg", "net.weights", film, *CPU, "--batch-size", "5").code == 0
    assert sizes[14:] == [5, 5, 2]


def test_json_is_exact_to_the_frame(film: str, task: Path, run: Run) -> None:
    assert run(*DEMO, film, *CPU, "-json_file_output", "found.json").code == 0
    records = json.loads((task / "found.json").read_text())
    assert [record["frame_id"] for record in records] == list(range(1, 13))
    assert all([entry["name"] for entry in record["objects"]] == ["cat", "dog"] for record in records)
    assert "filename" not in records[0]


@pytest.mark.parametrize("name", ["drawn.mp4", "drawn.mkv", "drawn.avi", "drawn.webm"])
def test_the_written_video_has_the_same_frames(film: str, task: Path, run: Run, name: str) -> None:
    assert run(*DEMO, film, *CPU, "-out_filename", name).code == 0
    written, original = read_video(task / name), read_video(task / film)
    assert [bar_position(pixels) for _, pixels in written] == list(range(12))
    if not name.endswith(".avi"):
        assert [at for at, _ in written] == pytest.approx([at for at, _ in original], abs=2e-3)
    assert all(
        abs(drawn.astype(int) - plain).max() > 60 for (_, drawn), (_, plain) in zip(written, original, strict=True)
    )


def test_the_written_mp4_is_what_browsers_play(film: str, task: Path, run: Run) -> None:
    assert run(*DEMO, film, *CPU, "-out_filename", "drawn.mp4", "-dontdraw_bbox").code == 0
    with av.open(str(task / "drawn.mp4")) as container:
        track = container.streams.video[0]
        assert (track.codec_context.name, track.pix_fmt, track.frames) == ("h264", "yuv420p", 12)
    written, original = read_video(task / "drawn.mp4"), read_video(task / film)
    assert abs(written[5][1].astype(int) - original[5][1]).mean() < 4


def test_an_odd_size_is_written_with_its_last_edge_repeated(task: Path, run: Run) -> None:
    write_video(task / "film.avi", 3, size=(97, 65))
    assert run(*DEMO, "film.avi", *CPU, "-out_filename", "drawn.mp4").code == 0
    assert [pixels.shape for _, pixels in read_video(task / "drawn.mp4")] == [(66, 98, 3)] * 3


def test_prefix_writes_an_image_of_each_frame(film: str, task: Path, run: Run) -> None:
    assert run(*DEMO, film, *CPU, "-prefix", "frame", "-s", "4").code == 0
    assert sorted(path.name for path in task.glob("frame_*")) == [f"frame_{index:08}.jpg" for index in (1, 6, 11)]


def test_time_limit_ends_a_camera_with_whole_files(task: Path, run: Run) -> None:
    with network_camera(20) as (address, _):
        code, _, err = run(
            *DEMO, address, *CPU, "-time_limit_sec", "1", "-out_filename", "drawn.mp4", "-json_file_output", "a.json"
        )
    assert code == 0 and "frames were dropped" in err
    records = json.loads((task / "a.json").read_text())
    assert len(records) == len(read_video(task / "drawn.mp4")) > 2


def test_streams_show_what_the_files_hold(task: Path, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as images, socket.create_server(("127.0.0.1", 0)) as records:
        ports = [server.getsockname()[1] for server in (images, records)]
    answers: dict[str, bytes] = {}

    def read(name: str, port: int) -> None:
        while name not in answers:
            with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
                answers[name] = answer.read()

    clients = [threading.Thread(target=read, args=pair) for pair in zip(("images", "records"), ports, strict=True)]
    with network_camera(20) as (address, _):
        for client in clients:
            client.start()
        options = ("-mjpeg_port", str(ports[0]), "-json_port", str(ports[1]), "-time_limit_sec", "1.2", "-dont_show")
        code, _, err = run(*DEMO, address, *CPU, *options, "-json_file_output", "found.json")
        for client in clients:
            client.join()
    assert code == 0 and f"note: -mjpeg_port: http://127.0.0.1:{ports[0]}/" in err
    in_file = {record["frame_id"]: record for record in json.loads((task / "found.json").read_text())}
    streamed = json.loads(answers["records"])
    assert len(streamed) > 3 and all(in_file[record["frame_id"]] == record for record in streamed)
    parts = answers["images"].split(b"Content-Type: image/jpeg")[1:]
    assert len(parts) > 3
    with Image.open(io.BytesIO(parts[0][parts[0].index(b"\xff\xd8") :])) as image:
        assert image.size == (W, H)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
@pytest.mark.skipif(os.name == "nt", reason="sends signals")
def test_ctrl_c_and_kill_leave_a_video_that_plays_and_valid_json(task: Path, number: signal.Signals) -> None:
    with network_camera(40) as (address, _):
        code, err = stop(address, 30, number)
    assert code == 128 + number and "Traceback" not in err and "frames were dropped" in err
    assert len(json.loads((task / "found.json").read_text())) == len(read_video(task / "drawn.mp4")) > 5


@pytest.mark.slow
@pytest.mark.parametrize("end", ["Ctrl-C", "time limit"])
@pytest.mark.skipif(os.name == "nt", reason="sends signals")
def test_what_ends_a_long_file_leaves_its_first_frames(task: Path, run: Run, end: str) -> None:
    write_video(task / "long.mp4", 4000)
    if end == "Ctrl-C":
        code, err = stop("long.mp4", 30, signal.SIGINT)
    else:
        files = ("-out_filename", "drawn.mp4", "-json_file_output", "found.json")
        code, _, err = run(*DEMO, "long.mp4", *CPU, *files, "-time_limit_sec", "0.2")
    assert code == (128 + signal.SIGINT if end == "Ctrl-C" else 0) and "Traceback" not in err
    records = json.loads((task / "found.json").read_text())
    assert [record["frame_id"] for record in records] == list(range(1, len(records) + 1))
    assert 8 <= len(records) == len(read_video(task / "drawn.mp4")) < 4000


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends SIGKILL")
def test_a_killed_process_leaves_a_video_that_plays_and_valid_json(task: Path) -> None:
    with network_camera(60) as (address, _):
        code, _ = stop(address, 250, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert 100 < len(read_video(task / "drawn.mp4")) <= len(json.loads((task / "found.json").read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("lines", [1, 10])
@pytest.mark.skipif(os.name == "nt", reason="sends signals")
def test_ctrl_c_and_kill_close_the_json_array_of_detect(task: Path, number: signal.Signals, lines: int) -> None:
    with network_camera(40) as (address, _):
        command = [sys.executable, "-m", "darkpy", "detect", "net.cfg", "net.weights", address, *CPU, "--json"]
        process = subprocess.Popen([*command, "--out", "drawn"], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        begin = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(number)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    written = sum(len(read_video(video)) for video in (task / "drawn").iterdir())
    assert len(json.loads("".join(begin) + rest)) == written >= lines - 1


def stop(source: str, frames: int, number: int) -> tuple[int, str]:
    """Send a signal to `detector demo` after some frames. Returns: exit code, text on stderr."""
    files = ("-out_filename", "drawn.mp4", "-json_file_output", "found.json")
    command = [sys.executable, "-m", "darkpy", *DEMO, source, *CPU, *files]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        frames -= "FPS" in line
        if not frames:
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_no_frames_leave_no_video(task: Path, run: Run) -> None:
    write_video(task / "film.avi", 1)
    data = (task / "film.avi").read_bytes()
    (task / "film.avi").write_bytes(data[: data.index(b"movi") + 4] + data[data.index(b"idx1") :])
    code, _, err = run(*DEMO, "film.avi", *CPU, "-out_filename", "drawn.mp4", "-json_file_output", "found.json")
    assert code == 2 and err.count("error: ") == 1
    assert not (task / "drawn.mp4").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("-out_filename", "drawn.txt"), "drawn.txt: no video is written with the ending '.txt'"),
        (("-out_filename", "no/drawn.mp4"), "no/drawn.mp4: No such file"),
        (("-out_filename", "film.mp4"), "film.mp4: is an input"),
        (("-w", "640"), "-w and -h go together"),
        (("-out_filename", "a.mp4", "-json_file_output", "./a.mp4"), "name the same file"),
    ],
)
def test_a_wrong_target_is_one_error_before_the_network_runs(
    film: str, run: Run, words: tuple[str, ...], told: str
) -> None:
    code, out, err = run(*DEMO, film, *CPU, *words)
    assert (code, out) == (2, "") and told in err and err.count("error: ") == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
@pytest.mark.parametrize("limit", [1, 1000, 1500, 2000])
def test_a_full_disk_leaves_valid_json(film: str, task: Path, run: Run, limit: int) -> None:
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        code, _, err = run(*DEMO, film, *CPU, "-json_file_output", "found.json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2 and "found.json: File too large" in err
    if limit > 1:
        records = json.loads((task / "found.json").read_text())
        assert 0 < len(records) < 12
        assert [record["frame_id"] for record in records] == list(range(1, len(records) + 1))


def test_averaging_is_a_note(film: str, run: Run) -> None:
    assert "on the image in which they were found" in run(*DEMO, film, *CPU, "-avgframes", "5").err


def test_benchmark_measures_the_network_alone(film: str, run: Run) -> None:
    code, out, _ = run(*DEMO, film, *CPU, "-benchmark", "-time_limit_sec", "0.2")
    assert code == 0
    assert re.fullmatch(r"(FPS:\d+\.\d \t AVG_FPS:\d+\.\d\n)+", out)


def test_tracks_are_in_the_lines_and_the_json(film: str, task: Path, run: Run) -> None:
    _, out, _ = run(*DEMO, film, *CPU, "--dialect", "pjreddie", "--track", "-json_file_output", "found.json")
    assert out.count("cat #1: 95%\ndog #2: 73%\n") == 12
    records = json.loads((task / "found.json").read_text())
    assert all([entry["track_id"] for entry in record["objects"]] == [1, 2] for record in records)


def test_counts_are_in_the_lines_the_json_and_the_video(film: str, task: Path, run: Run) -> None:
    zone, line = f"zone:0,0,{W},0,{W},{H},0,{H}", f"line:0,4,{W},4"
    files = ("-json_file_output", "found.json", "-out_filename", "drawn.mp4")
    code, out, _ = run(*DEMO, film, *CPU, "--count", zone, "--count", line, *files)
    assert (
        code == 0 and out.count(f"cat #1: 95%\ndog #2: 73%\n{zone} inside: 1 cat, 1 dog\n{line} to the left: 0;") == 12
    )
    records = json.loads((task / "found.json").read_text())
    assert [count.get("inside") for count in records[-1]["counts"]] == [{"cat": 1, "dog": 1}, None]
    assert all(pixels[4, -30:].mean() > 180 for _, pixels in read_video(task / "drawn.mp4"))


def test_tiles_find_a_box_in_each_part_of_a_frame(film: str, task: Path, run: Run) -> None:
    assert run(*DEMO, film, *CPU, "--tiles", "2x1", "-s", "5", "-json_file_output", "found.json").code == 0
    records = json.loads((task / "found.json").read_text())
    assert [record["frame_id"] for record in records] == [1, 7]
    cats = sorted(entry["relative_coordinates"]["center_x"] for entry in records[0]["objects"] if not entry["class_id"])
    assert cats == pytest.approx([27 / W, 0.5, 1 - 27 / W], abs=1e-3)
    code, _, err = run(*DEMO, film, *CPU, "--tiles", "two")
    assert code == 2 and "not a grid" in err


@pytest.mark.parametrize("idle_cores", [0, 3])
def test_tiles_tracks_counts_and_a_maximum_go_together_in_order(
    film: str, task: Path, run: Run, monkeypatch: pytest.MonkeyPatch, idle_cores: int
) -> None:
    monkeypatch.setattr("darkpy.evaluation.detect._idle_cores", lambda device: idle_cores)
    options = ("--tiles", "2x1", "--track", "--count", f"zone:0,0,{W},0,{W},{H - 20},0,{H - 20}", "--max", "4")
    command = ("detect", "net.cfg", "net.weights", film, *CPU, "--names", "pets.names", *options, "--json-lines")
    code, out, _ = run(*command, "--out", "drawn")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [record["frame"] for record in records] == list(range(12))
    for record in records:
        assert [entry["track_id"] for entry in record["objects"]] == [1, 3, 5, 2]
        assert [entry["name"] for entry in record["objects"]] == ["cat", "cat", "cat", "dog"]
        assert record["counts"][0]["inside"] == {"cat": 3, "dog": 3}
    assert [bar_position(pixels) for _, pixels in read_video(task / "drawn" / film)] == list(range(12))


def test_a_broken_stream_closes_the_json_array_of_detect(task: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("darkpy.sources.video.MAX_RECONNECT_TRIES", 0)
    with network_camera(100, frames_per_connection=30) as (address, _):
        code, out, err = run("detect", "net.cfg", "net.weights", address, *CPU, "--json")
    assert code == 2 and "no connection after 0 tries" in err
    assert len(json.loads(out)) > 0


def test_detect_takes_a_video(film: str, task: Path, run: Run) -> None:
    code, out, _ = run("detect", "net.cfg", "net.weights", film, *CPU, "--out", "drawn", "--json-lines")
    records = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [record["frame"] for record in records] == list(range(12))
    assert [record["time"] for record in records][:4] == pytest.approx([0, 0.04, 0.08, 0.5], abs=1e-3)
    assert len(read_video(task / "drawn" / "film.mp4")) == 12


def test_detect_writes_files_of_each_frame(film: str, task: Path, run: Run) -> None:
    code, out, _ = run(
        "detect",
        "net.cfg",
        "net.weights",
        film,
        *CPU,
        "--crop",
        "found",
        "--save-labels",
        "found",
        "--csv",
        "--max",
        "1",
        "--names",
        "pets.names",
    )
    assert code == 0
    assert [row["frame"] for row in csv.DictReader(out.splitlines())] == [str(index) for index in range(12)]
    names = [path.name for path in sorted((task / "found").iterdir())]
    assert names[:2] == ["film_00000000.txt", "film_00000000_000_cat.jpg"] and len(names) == 24


def test_detect_prints_frames_as_text(film: str, run: Run) -> None:
    _, out, _ = run("detect", "net.cfg", "net.weights", film, *CPU, "--names", "pets.names")
    assert out.startswith("film.mp4: frame 0: 2 objects\ncat: 95%")
