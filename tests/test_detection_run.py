"""`darkpy.detect`: every kind of source, the results, and errors with hints."""

from __future__ import annotations

import gc
import importlib.util
import json
import math
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage

import darkpy
from darkpy.errors import DarkpyError, ImageError
from darkpy.network import Network
from darkpy.sources.frames import ImageSource

NAMES = ("cat", "dog")
NETWORK = """[net]
width=64
height=64
channels=3
[convolutional]
filters=6
size=3
stride=16
pad=1
activation=leaky
[convolutional]
filters=14
activation=linear
[yolo]
mask=0,1
anchors=16,8, 30,30
classes=2
num=2
"""


def random_network(cfg: str) -> Network:
    """Return a network whose boxes depend on every pixel and color."""
    model = darkpy.load(cfg, dialect="pjreddie")
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.detach().uniform_(-1, 1, generator=generator)
    return model


@pytest.fixture
def network() -> Network:
    return random_network(NETWORK)


@pytest.fixture
def pixels_HWC() -> NDArray[np.uint8]:
    y, x = np.mgrid[:48, :80].astype(float)
    waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 5)], axis=2)
    return (127.5 + 127 * waves).astype(np.uint8)


@pytest.fixture
def file(tmp_path: Path, pixels_HWC: NDArray[np.uint8]) -> Path:
    path = tmp_path / "a.png"
    PillowImage.fromarray(pixels_HWC).save(path)
    return path


def test_the_note_on_names_is_given_to_the_caller(network: Network, file: Path) -> None:
    with pytest.warns(darkpy.DarkpyWarning, match="no names are given for the 2 classes") as caught:
        darkpy.detect(network, file)
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]


def same(first: darkpy.Result, second: darkpy.Result) -> bool:
    return len(first) > 0 and bool(
        np.array_equal(first.boxes, second.boxes)
        and np.array_equal(first.scores, second.scores)
        and np.array_equal(first.class_ids, second.class_ids)
    )


FORMS: dict[str, Callable[[Path], Any]] = {
    "text": str,
    "bytes": Path.read_bytes,
    "bytearray": lambda file: bytearray(file.read_bytes()),
    "pillow": PillowImage.open,
    "array": lambda file: np.array(PillowImage.open(file)),
    "strided array": lambda file: np.array(PillowImage.open(file)).repeat(2, axis=1)[:, ::2],
    "uint8 tensor": lambda file: torch.from_numpy(np.array(PillowImage.open(file))).permute(2, 0, 1),
    "float tensor": lambda file: torch.from_numpy(np.array(PillowImage.open(file))).permute(2, 0, 1) / 255,
    "array with alpha": lambda file: np.array(PillowImage.open(file).convert("RGBA")),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_image_has_the_same_boxes_in_every_form(network: Network, file: Path, form: str) -> None:
    expected = darkpy.detect_image(network, file, NAMES, thresh=0.2)
    image = FORMS[form](file)
    assert same(darkpy.detect_image(network, image, NAMES, thresh=0.2), expected)
    (from_list,) = darkpy.detect(network, [image], NAMES, thresh=0.2)
    assert same(from_list, expected)
    (generated,) = darkpy.detect(network, (item for item in [image]), NAMES, thresh=0.2)
    assert same(generated, expected)


def test_colors_of_bgr_arrays_and_tensors_are_turned_and_those_of_files_are_not(network: Network, file: Path) -> None:
    expected = darkpy.detect_image(network, file, NAMES, thresh=0.2)
    bgr = np.array(PillowImage.open(file))[:, :, ::-1]
    for image in (bgr, torch.from_numpy(bgr.copy()).permute(2, 0, 1), file, PillowImage.open(file)):
        result = darkpy.detect_image(network, image, NAMES, thresh=0.2, channel_order="bgr")
        assert same(result, expected)
    assert not same(darkpy.detect_image(network, bgr, NAMES, thresh=0.2), expected)


def test_gray_array_is_a_gray_file(network: Network, tmp_path: Path, pixels_HWC: NDArray[np.uint8]) -> None:
    PillowImage.fromarray(pixels_HWC[:, :, 0]).save(tmp_path / "gray.png")
    expected = darkpy.detect_image(network, tmp_path / "gray.png", NAMES, thresh=0.2)
    for image in (pixels_HWC[:, :, 0], pixels_HWC[:, :, :1], torch.from_numpy(pixels_HWC[:, :, 0].copy())):
        assert same(darkpy.detect_image(network, image, NAMES, thresh=0.2), expected)


@pytest.mark.parametrize(
    ("image", "message", "hint"),
    [
        (np.zeros((8, 8, 3)), "array of float64, not of uint8", "(image * 255).round()"),
        (np.zeros((8, 8, 3), np.int32), "array of int32", "dtype uint8"),
        (np.array("a.png"), "array of <U5", "dtype uint8"),
        (np.zeros((3, 8, 9), np.uint8), "array of 3 x 8 x 9, not of height x width x 3", "image.transpose(1, 2, 0)"),
        (np.zeros((2, 8, 8, 3), np.uint8), "several images", "list(array)"),
        (np.zeros((8, 8, 5), np.uint8), "array of 8 x 8 x 5", "(height, width, 3)"),
        (np.zeros(8, np.uint8), "array of 8,", "(height, width, 3)"),
        (np.zeros((0, 8, 3), np.uint8), "has 0 x 8 x 3 pixels", "shape (height, width, 3)"),
        (torch.zeros(8, 9, 3), "tensor of 8 x 9 x 3", "tensor.permute(2, 0, 1)"),
        (torch.zeros(1, 3, 8, 8), "several images", "list(tensor)"),
        (torch.full((3, 8, 8), 200.0), "values from 200 to 200", "divide values from 0 to 255 by 255"),
        (torch.full((3, 8, 8), math.nan), "values from nan to nan", "float from 0 to 1"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "tensor of torch.int64", "uint8"),
        (torch.zeros(3, 8, 8, device="meta"), "without values (meta)", "uint8"),
        (torch.zeros(3, 8, 8).to_sparse(), "that is sparse", "uint8"),
        (b"no image", "not an image", None),
        (b"", "empty", None),
    ],
)
def test_image_in_memory_of_a_wrong_kind_is_one_clear_error(
    network: Network, image: Any, message: str, hint: str | None
) -> None:
    with pytest.raises(ImageError, match="image 0: ") as caught:
        darkpy.detect_image(network, image, NAMES)
    assert message in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")


@pytest.mark.parametrize("source", [None, 3.5, [3.5], [None], [["a.png"]], object()])
def test_source_of_no_known_kind_is_refused_at_once(network: Network, source: Any) -> None:
    with pytest.raises(ImageError, match="type") as caught:
        darkpy.detect(network, source, NAMES)
    assert "give a path" in (caught.value.hint or "")


@pytest.mark.parametrize("source", ["", [""], True, np.int64(97)])
def test_source_that_names_nothing_is_refused_at_once(network: Network, source: Any) -> None:
    with pytest.raises(ImageError, match=r"the path is empty|nor cameras|camera 97: cannot be opened"):
        darkpy.detect(network, source, NAMES)


def test_read_only_array_is_taken_without_a_warning(network: Network, pixels_HWC: NDArray[np.uint8]) -> None:
    expected = darkpy.detect_image(network, pixels_HWC, NAMES, thresh=0.2)
    pixels_HWC.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(darkpy.detect_image(network, pixels_HWC, NAMES, thresh=0.2), expected)


def test_missing_file_is_an_exception_or_by_choice_a_result(network: Network, file: Path) -> None:
    sources: list[ImageSource] = ["none.png", ["none.png", str(file)], Path("none.png")]
    for source in sources:
        with pytest.raises(ImageError, match=r"none\.png: no such file"):
            list(darkpy.detect(network, source, NAMES))
    missing, good = darkpy.detect(network, ["none.png", file], NAMES, thresh=0.2, on_error="yield")
    assert missing.error is not None and len(missing) == 0 and missing.boxes.shape == (0, 4)
    assert "none.png" in repr(missing) and json.loads(missing.to_json())["error"]
    assert good.error is None and len(good) > 0
    with pytest.raises(ImageError, match="no such file"):
        _ = missing.image


def test_an_error_ends_the_threads_at_once_and_not_when_garbage_is_collected(network: Network, file: Path) -> None:
    gc.disable()
    try:
        for _ in range(3):
            with pytest.raises(ImageError):
                list(darkpy.detect(network, [file, file.with_name("absent.png")], NAMES))
        iterator = darkpy.detect(network, [file] * 20, NAMES)
        next(iterator)
        iterator.close()  # type: ignore[attr-defined]
        assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("ThreadPoolExecutor")]
    finally:
        gc.enable()


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_source_that_breaks_off_gives_the_images_before(
    network: Network, pixels_HWC: NDArray[np.uint8], batch_size: int
) -> None:
    def camera() -> Iterator[NDArray[np.uint8]]:
        yield from [pixels_HWC] * 6
        raise OSError("the camera is gone")

    results: list[darkpy.Result] = []
    with pytest.raises(OSError, match="gone"):
        results.extend(darkpy.detect(network, camera(), NAMES, batch_size=batch_size))
    assert len(results) == 6


def test_folder_glob_and_list_file_are_the_images_they_stand_for(network: Network, file: Path) -> None:
    folder = file.parent
    (folder / "b.png").write_bytes(file.read_bytes())
    (folder / "list.txt").write_text("a.png\nb.png\n")
    expected = [str(folder / "a.png"), str(folder / "b.png")]
    for source in (folder, f"{folder}/*.png", f"{folder}/[ab].png", folder / "list.txt", [file, folder / "b.png"]):
        results = list(darkpy.detect(network, source, NAMES))
        assert [result.path for result in results] == expected
        assert [result.frame for result in results] == [0, 1]
    with pytest.raises(DarkpyError, match="matches no file"):
        darkpy.detect(network, f"{folder}/*.jpg", NAMES)
    with pytest.raises(DarkpyError, match="2 images"):
        darkpy.detect_image(network, folder, NAMES)
    with pytest.raises(DarkpyError, match="takes one image, not list"):
        darkpy.detect_image(network, [file], NAMES)  # type: ignore[arg-type]


def test_generator_is_asked_only_for_what_is_taken_and_may_reuse_its_array(
    network: Network, pixels_HWC: NDArray[np.uint8]
) -> None:
    asked = []
    buffer = np.empty_like(pixels_HWC)

    def frames() -> Iterator[NDArray[np.uint8]]:
        try:
            for number in range(9):
                asked.append(number)
                buffer[:] = np.roll(pixels_HWC, 9 * number, axis=1)
                yield buffer
        finally:
            asked.append(-1)

    results = darkpy.detect(network, frames(), NAMES, thresh=0.2)
    first = next(results)
    assert asked == [0]
    image = first.image
    second = next(results)
    assert asked == [0, 1] and (first.frame, second.frame) == (0, 1)
    assert np.array_equal(image, pixels_HWC) and not np.array_equal(second.image, pixels_HWC)
    with pytest.raises(ImageError, match="no longer in memory") as caught:
        _ = first.image
    assert "keep_images=True" in (caught.value.hint or "")
    results.close()  # type: ignore[attr-defined]
    assert asked[-1] == -1
    kept = list(darkpy.detect(network, frames(), NAMES, keep_images=True))
    assert np.array_equal(kept[0].image, pixels_HWC)


def test_images_of_a_list_are_released_and_decoded_again(network: Network, file: Path) -> None:
    results = list(darkpy.detect(network, [file] * 3, NAMES, thresh=0.2))
    assert all(result.source._decoded is None for result in results)
    assert results[0].image.shape == (48, 80, 3)


@pytest.mark.parametrize(
    ("count", "options", "kept"),
    [(3, {}, False), (3, {"keep_images": True}, True), (3, {"batch_size": 1}, True), (1, {}, True)],
    ids=str,
)
def test_a_batch_of_several_does_not_keep_large_images(
    network: Network, file: Path, count: int, options: dict[str, Any], kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, is_kept in ((48 * 80 - 1, kept), (48 * 80, True)):
        monkeypatch.setattr("darkpy.detection_run.MAX_KEPT_PIXELS", limit)
        for result in darkpy.detect(network, [file] * count, NAMES, **options):
            assert (result.source._decoded is not None) == is_kept
            assert result.image.shape == (48, 80, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"thresh": 30}, "thresh=30 is not from 0 to 1"),
        ({"nms": -1}, "nms=-1"),
        ({"channel_order": "brg"}, "channel_order='brg'"),
        ({"on_error": "ignore"}, "on_error='ignore'"),
        ({"thresh": "high"}, "thresh='high' is not from 0 to 1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"letterbox": "yes"}, "letterbox='yes'"),
        ({"names": 5}, "not a list of class names"),
        ({"names": [1, 2]}, "not a list of class names"),
        ({"names": ["cat"]}, "2 classes"),
        ({"names": "none.names"}, "none.names"),
    ],
)
def test_wrong_arguments_are_refused_at_once(
    network: Network, file: Path, arguments: dict[str, Any], message: str
) -> None:
    arguments = {"names": NAMES, **arguments}
    with pytest.raises(DarkpyError, match=message):
        darkpy.detect(network, file, **arguments)


def test_network_that_is_none_or_in_training_is_refused(network: Network, file: Path) -> None:
    with pytest.raises(DarkpyError, match="takes a network, not str"):
        darkpy.detect("net.cfg", file)  # type: ignore[arg-type]
    with pytest.raises(DarkpyError, match="training mode"):
        darkpy.detect(network.train(), file)


# results


@pytest.fixture
def result(network: Network, file: Path) -> darkpy.Result:
    return darkpy.detect_image(network, file, NAMES, thresh=0.2)


def test_result_is_sorted_arrays_in_pixels(result: darkpy.Result) -> None:
    count = len(result)
    assert count > 4 and result.boxes.shape == (count, 4) and result.boxes.dtype == np.float32
    assert result.scores.tolist() == sorted(result.scores.tolist(), reverse=True)
    for detected, box, score, class_id, name in zip(
        result, result.boxes, result.scores, result.class_ids, result.names, strict=True
    ):
        x, y, w, h = detected.box_frac
        edges = ((x - w / 2) * 80, (y - h / 2) * 48, (x + w / 2) * 80, (y + h / 2) * 48)
        assert box == pytest.approx(edges, rel=1e-5, abs=1e-4)
        assert (detected.confidence, detected.class_id, detected.name) == (score, class_id, name)
        assert name == NAMES[class_id]
    assert result.track_ids is None and result.time is None and result.size == (80, 48)


def test_result_is_indexed_like_an_array(result: darkpy.Result) -> None:
    assert result[0] == next(iter(result)) and result[-1] == list(result)[-1]
    assert result[:2].scores.tolist() == result.scores[:2].tolist()
    assert result[result.scores > 0.5].scores.tolist() == [score for score in result.scores if score > 0.5]
    assert len(result[[]]) == 0 and len(result[[True] + [False] * (len(result) - 1)]) == 1


def test_result_is_filtered_by_class_and_score(result: darkpy.Result) -> None:
    dogs = result.filter("dog", min_score=0.3)
    assert 0 < len(dogs) < len(result) and set(dogs.names) == {"dog"} and dogs.scores.min() >= 0.3
    assert same(dogs, result.filter([1], 0.3)) and same(dogs, result.filter(classes=1, min_score=0.3))
    assert len(result.filter(["cat", "dog"])) == len(result)
    with pytest.raises(DarkpyError, match="no class is called 'dogg'") as caught:
        result.filter("dogg")
    assert caught.value.hint == "did you mean dog?"


def test_numbers_of_numpy_choose_detections_and_classes(result: darkpy.Result) -> None:
    assert result[np.int64(0)] == result[0]
    assert same(result.filter(np.int64(1)), result.filter(1))
    assert len(result.filter(np.array([0, 1]))) == len(result)
    with pytest.raises(DarkpyError, match="no class is called"):
        result.filter([0.5])  # type: ignore[list-item]


@pytest.mark.parametrize("width", [0, -3, 2.5, 10**6])
def test_line_width_that_cannot_be_drawn_is_refused(result: darkpy.Result, width: Any) -> None:
    with pytest.raises(DarkpyError, match="line_width="):
        result.draw(line_width=width)


def test_result_becomes_a_sketch_crops_and_files(
    result: darkpy.Result, file: Path, pixels_HWC: NDArray[np.uint8]
) -> None:
    drawing = result.draw()
    assert drawing.size == (80, 48) and not np.array_equal(np.asarray(drawing), pixels_HWC)
    assert np.array_equal(result.image, pixels_HWC)
    crops = result.crop()
    assert len(crops) == len(result)
    for crop, (left, top, right, bottom) in zip(crops, result.boxes, strict=True):
        assert abs(crop.shape[1] - max(min(right, 80) - max(left, 0), 0)) < 2
        assert abs(crop.shape[0] - max(min(bottom, 48) - max(top, 0), 0)) < 2
    record = json.loads(result.to_json())
    assert (record["filename"], record["width"], len(record["objects"])) == (str(file), 80, len(result))
    labels = result.save_labels()
    assert labels == file.with_suffix(".txt") and len(labels.read_text().splitlines()) == len(
        {*result.boxes_frac[:, 0]}
    )
    with pytest.raises(DarkpyError, match="already exists"):
        result.save_labels()
    assert result.save_labels(overwrite=True) == labels


def test_labels_of_an_image_in_memory_need_a_path(
    network: Network, tmp_path: Path, pixels_HWC: NDArray[np.uint8]
) -> None:
    result = darkpy.detect_image(network, pixels_HWC, NAMES)
    with pytest.raises(DarkpyError, match="has no path"):
        result.save_labels()
    assert result.save_labels(tmp_path / "x.txt").exists()


def test_supervision_takes_the_arrays_in_one_line(result: darkpy.Result) -> None:
    def check(xyxy: NDArray[np.float32], confidence: NDArray[np.float32], class_id: NDArray[np.int64]) -> Any:
        """The checks of its constructor."""
        assert xyxy.ndim == 2 and xyxy.shape[1] == 4 and confidence.shape == class_id.shape == (len(xyxy),)
        return xyxy

    is_installed = importlib.util.find_spec("supervision") is not None
    detections_class = importlib.import_module("supervision").Detections if is_installed else check
    assert len(detections_class(xyxy=result.boxes, confidence=result.scores, class_id=result.class_ids)) == len(result)


@pytest.fixture
def two_torch_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.usefixtures("two_torch_threads")
def test_threads_share_a_network(network: Network, file: Path, accelerated: bool) -> None:
    model = darkpy.accelerate(network) if accelerated else network
    images = [np.roll(np.array(PillowImage.open(file)), 5 * shift, axis=1) for shift in range(8)]
    expected = [darkpy.detect_image(model, image, NAMES, thresh=0.2) for image in images]
    wrong: list[int] = []

    def run() -> None:
        for index, actual in enumerate(darkpy.detect(model, images * 3, NAMES, thresh=0.2, batch_size=1)):
            if not same(actual, expected[index % 8]):
                wrong.append(index)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_names_of_the_package_are_listed_before_torch_is_imported() -> None:
    code = "import sys, darkpy; print(sorted(set(darkpy.__all__) - set(dir(darkpy))), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] False\n"
