"""Networks by name: the catalog, downloads with mirrors and checks, and commands and functions that take names."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

import darkpy
from darkpy import catalog as catalog_module
from darkpy.catalog import DATA_FILES, CatalogModel, catalog, find_cfg, find_model
from darkpy.cli.commands import models as models_module
from darkpy.download import BLOCK_BYTES, download_weights
from darkpy.errors import ConfigError, DarkpyError
from tests.cli.conftest import Run

NO_DEVICE = ("show", "ops", "doctor", "statistics", "partial", "rgbgr", "convert")
"""Commands that run no network."""
CONTENT = bytes(range(256)) * 10_000  # 2.5 blocks


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT as the path says: /whole, /range, /breaks, /other, /missing."""

    ranges: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.ranges.append(asked)
        start = int((asked or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if self.path == "/missing":
            self.send_error(404)
        elif self.path == "/other":
            self._send(200, bytes(len(CONTENT)))
        elif self.path == "/whole":
            self._send(200, CONTENT)
        elif self.path == "/range":
            self._send(206 if start else 200, CONTENT[start:])
        elif self.path == "/breaks":
            self._send(206 if start else 200, CONTENT[start:], sent=BLOCK_BYTES)

    def _send(self, status: int, body: bytes, sent: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:sent])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    Handler.ranges.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "darkpy"


def model(*urls: str) -> CatalogModel:
    return CatalogModel("tiny", Path("tiny.cfg"), None, urls, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


def test_catalog_holds_every_cfg_and_the_sizes_of_their_weights() -> None:
    models = catalog()
    folder = Path(__file__).resolve().parents[2] / "cfg"
    assert set(models) == {path.stem for path in folder.glob("*.cfg")}
    published = [one for one in models.values() if one.urls]
    assert {one.name for one in published} == {"yolov3", "yolov3-tiny", "yolov4", "yolov4-tiny"}
    for one in published:
        assert one.names is not None and one.names.is_file() and len(one.sha256) == 64
        assert all(url.startswith("https://") for url in one.urls)
        assert one.size == 20 + 4 * darkpy.plan(one.name).parameter_count
    assert set(json.loads((folder / "models.json").read_text())) <= set(models)
    assert {path.name for path in folder.iterdir()} == {f"{name}.cfg" for name in models} | {*DATA_FILES, "models.json"}


@pytest.mark.parametrize("path", ["/whole", "/range"])
def test_weights_are_downloaded(server: str, tmp_path: Path, path: str) -> None:
    target = tmp_path / "deep" / "tiny.weights"
    assert list(download_weights(model(server + path), target))[-1] == len(CONTENT)
    assert target.read_bytes() == CONTENT and list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("path", ["/whole", "/range"])
def test_download_that_broke_off_is_continued_from_any_mirror(server: str, tmp_path: Path, path: str) -> None:
    target = tmp_path / "tiny.weights"
    with pytest.raises(DarkpyError, match=f"broke off after {BLOCK_BYTES} of {len(CONTENT)} bytes"):
        list(download_weights(model(server + "/breaks"), target))
    assert not target.exists()
    list(download_weights(model(server + path), target))
    assert target.read_bytes() == CONTENT
    assert Handler.ranges == ["bytes=0-", f"bytes={BLOCK_BYTES}-"]


def test_mirrors_are_tried_in_order_and_all_reasons_are_reported(server: str, tmp_path: Path) -> None:
    target = tmp_path / "tiny.weights"
    urls = [server + path for path in ("/missing", "/other", "/whole")]
    list(download_weights(model(*urls), target))
    assert target.read_bytes() == CONTENT
    target.unlink()
    with pytest.raises(DarkpyError) as caught:
        list(download_weights(model(*urls[:2], "http://127.0.0.1:9/closed", "file:///etc/passwd"), target))
    message, hint = caught.value.message, caught.value.hint or ""
    assert "/missing: Not Found" in message and "SHA-256 differs" in message
    assert "Connection refused" in message and "is not an http address" in message
    assert str(target) in hint and model().sha256 in hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_two_processes_do_not_write_one_download(server: str, tmp_path: Path) -> None:
    target = tmp_path / "tiny.weights"
    first = download_weights(model(server + "/whole"), target)
    next(first)
    with pytest.raises(DarkpyError, match=r"tiny\.weights\.part: another process downloads this file"):
        list(download_weights(model(server + "/whole"), target))
    assert list(first)[-1] == len(CONTENT) and target.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [target]
    (tmp_path / "tiny.weights.part").mkdir()
    with pytest.raises(DarkpyError, match=r"tiny\.weights\.part: cannot be written"):
        list(download_weights(model(server + "/whole"), target))


def test_fetch_downloads_into_the_cache_once(
    server: str, cache: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = replace(model(server + "/whole"), name="yolov3-tiny")
    for module in (models_module, catalog_module):
        monkeypatch.setattr(module, "catalog", lambda: {"yolov3-tiny": tiny})
    target = cache / "yolov3-tiny.weights"
    assert run("fetch", "yolov3-tiny") == (0, f"{target}\n", "")
    assert target.read_bytes() == CONTENT
    assert "is there already" in run("fetch", "yolov3-tiny").err
    assert run("fetch", "yolov3-tiny", "--out", "mine.weights").out == "mine.weights\n"
    code, _, err = run("fetch", "yolov3-tinny")
    assert code == 2 and "did you mean yolov3-tiny?" in err


def test_models_are_listed(cache: Path, run: Run) -> None:
    out = run("models").out
    assert "yolov4-tiny\n  weights: 24 MB, darkpy fetch yolov4-tiny\n" in out
    assert "published by others" in out and "License of the weights" in out
    records = json.loads(run("models", "--json").out)
    assert {record["name"] for record in records} == set(catalog())
    assert all(Path(record["cfg"]).is_file() and record["weights"] is None for record in records)


def test_names_stand_for_cfgs_and_for_fetched_weights(
    task: Path, cache: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = replace(model("https://localhost/x"), name="small", cfg=task / "net.cfg", names=task / "pets.names")
    monkeypatch.setattr(catalog_module, "catalog", lambda: {"small": small})
    assert "yolo" in run("show", "small").out and len(darkpy.plan("small").nodes) == 3
    for weights in (None, "small"):
        with pytest.raises(DarkpyError, match="are not downloaded") as caught:
            darkpy.load("small", weights)
        assert "darkpy fetch small downloads them" in (caught.value.hint or "")
    code, _, err = run("detect", "small", "a.png", "-nogpu")
    assert code == 2 and "darkpy fetch small" in err
    cache.mkdir(parents=True)
    (cache / "small.weights").write_bytes((task / "net.weights").read_bytes())
    for names in ((), (small.names,)):
        (result,) = darkpy.detect(darkpy.load("small"), "a.png", *names)
        assert result.names == ("cat", "dog")
    for words in (("a.png",), ("net.weights", "a.png")):
        assert run("detect", "small", *words, "-nogpu").out.startswith("a.png: 2 objects\ncat: 95%")
    code, _, err = run("detect", "none.cfg")
    assert code == 2 and "missing argument 'WEIGHTS'" in err


@pytest.fixture
def small(task: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of net.cfg, whose weights are fetched; the working directory has a data set for it."""
    tiny = replace(model("https://localhost/x"), name="small", cfg=task / "net.cfg", names=task / "pets.names")
    monkeypatch.setattr(catalog_module, "catalog", lambda: {"small": tiny})
    cache.mkdir(parents=True)
    (cache / "small.weights").write_bytes((task / "net.weights").read_bytes())
    (task / "net.weights").unlink()
    (task / "a.txt").write_text("0 .5 .5 .5 .25\n")
    (task / "list.txt").write_text("a.png\n")
    (task / "pets.data").write_text("names = pets.names\ntrain = list.txt\nvalid = list.txt\nclasses = 2\n")
    return "small"


@pytest.mark.parametrize(
    "words",
    [
        "show small",
        "ops small",
        "doctor small",
        pytest.param("doctor small pets.data small", marks=pytest.mark.slow),
        "detector test pets.data small small a.png",
        "detector map pets.data small small",
        "detector recall pets.data small small",
        "evaluate small pets.data small",
        "compare small small --against small.npz --dump other.npz",
        pytest.param("speed small small --seconds 0", marks=pytest.mark.slow),
        "statistics small small",
        "partial small small part.weights 2",
        "rgbgr small small turned.weights",
        "convert small made.safetensors",
        "convert small --to safetensors",
        "train small pets.data small",
    ],
)
def test_every_command_takes_a_name_as_cfg_and_weights(small: str, cache: Path, run: Run, words: str) -> None:
    if "compare" in words:
        assert run("compare", small, small, "--dump", "small.npz", "-nogpu").code == 0
    if "train" in words:
        cfg = Path("net.cfg")
        cfg.write_text(cfg.read_text().replace("[net]", "[net]\nbatch=1\nsubdivisions=1\nmax_batches=1\n"))
    code, _, err = run(*words.split(), *(() if words.split()[0] in NO_DEVICE else ("-nogpu",)))
    assert code in (0, 1) and "error" not in err, err
    assert f"{small}: cfg " in err and "net.cfg" in err
    assert words.count("small") == 1 or str(cache / "small.weights") in err
    assert [path.name for path in cache.iterdir() if path.stem == "small"] == ["small.weights"]


@pytest.mark.parametrize(
    "words",
    [
        "show cfg/small.cfg",
        "doctor cfg/small.cfg",
        "train cfg/small.cfg pets.data",
        "detect cfg/small.cfg small a.png",
        "serve cfg/small.cfg small",
        "new cfg/small.cfg --data pets.data",
        "detector test pets.data small.cfg small a.png",
        "detector train pets.data cfg/small.cfg",
    ],
)
def test_a_missing_file_of_a_networks_name_is_reported_with_the_name(small: str, run: Run, words: str) -> None:
    code, _, err = run(*words.split())
    assert code == 2 and "small.cfg: no such file" in err and "small by itself is the cfg" in err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("detect small small.weights a.png", "small in its place names the weights that darkpy fetch small downloads"),
        ("train small pets.data x/small.weights", "small in its place names the weights"),
        ("detector test cfg/coco.data small small a.png", "coco.data comes with darkpy"),
        ("detect small a.png --names data/voc.names", "voc.names comes with darkpy"),
    ],
)
def test_other_missing_files_of_darknets_folder_name_theirs(small: str, run: Run, words: str, hint: str) -> None:
    code, _, err = run(*words.split())
    assert code == 2 and "no such file" in err and hint in err


def test_a_missing_cfg_says_where_it_was_looked_for(small: str, run: Run) -> None:
    for words in ("show cfg/mine.cfg", "doctor cfg/mine.cfg", "train cfg/mine.cfg pets.data"):
        code, _, err = run(*words.split())
        assert code == 2 and f"hint: it was looked for in {Path.cwd()}; " in err
    for name in ("a" * 300, "a" * 300 + ".cfg"):
        code, _, err = run("show", name)
        assert code == 2 and "File name too long" in err


def test_train_takes_names(small: str, cache: Path) -> None:
    cfg = Path("net.cfg")
    cfg.write_text(cfg.read_text().replace("[net]", "[net]\nbatch=1\nsubdivisions=1\nmax_batches=1\n"))
    with pytest.warns(darkpy.DarkpyWarning):
        result = darkpy.train("small", "pets.data", "small", device="cpu")
    assert result.batch_num == 1 and result.weights == Path("backup/net_final.weights")
    with pytest.raises(DarkpyError, match=r"x/small\.cfg: no such file"):
        darkpy.train("x/small.cfg", "pets.data")
    (cache / "small.weights").unlink()
    with pytest.raises(DarkpyError, match="are not downloaded"):
        darkpy.train("small", "pets.data", "small")


def test_anchors_fit_a_name_and_do_not_write_into_its_cfg(small: str, run: Run) -> None:
    before = Path("net.cfg").read_text()
    assert run("anchors", "pets.data", "--cfg", small).code == 0
    code, _, err = run("anchors", "pets.data", "--cfg", small, "--write")
    assert code == 2 and "darkpy new small --data DATA" in err and Path("net.cfg").read_text() == before


def test_weights_that_are_not_fetched_name_the_command_that_fetches_them(small: str, cache: Path, run: Run) -> None:
    (cache / "small.weights").unlink()
    for words in (("evaluate", small, "pets.data", small), ("train", small, "pets.data", small)):
        code, _, err = run(*words)
        assert code == 2 and "darkpy fetch small" in err


def test_files_go_before_names_and_near_names_are_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_model("yolov3") is not None and find_model("yolov3.cfg") is None
    Path("yolov3").write_text("[net]\n")
    assert find_model("yolov3") is None and find_cfg("yolov3") == "yolov3"
    with pytest.raises(DarkpyError, match="no network of this name") as caught:
        darkpy.plan("yolov4-tinny")
    assert "did you mean yolov4-tiny" in (caught.value.hint or "")
    with pytest.raises(ConfigError):
        darkpy.plan("something-else")
