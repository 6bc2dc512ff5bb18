"""Tiles: how an image is cut, and how the detections on its tiles are joined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import Tensor

import darkpy
from darkpy.errors import DarkpyError
from darkpy.evaluation.tiles import TILE_OVERLAP_SHARE, TileGrid, join_tiles
from darkpy.network import Network
from darkpy.ops import boxes
from darkpy.ops.boxes import Detections

TILES_T4 = torch.tensor([(0, 0, 120, 100), (80, 0, 200, 100), (0, 0, 200, 100)])
"""Two tiles that share the columns 80 to 120, and the whole image."""

NETWORK = """[net]
width=32
height=32
channels=3
[convolutional]
filters=6
size=3
stride=16
pad=1
activation=leaky
{extra}
[convolutional]
filters=12
activation=linear
[yolo]
mask=0,1
anchors=8,8, 16,16
classes=1
num=2
"""


def on_tiles(*found: tuple[int, tuple[float, float, float, float], int, float]) -> Detections:
    """Detections from their tile, corners in pixels of the image, class and score."""
    tile_M = torch.tensor([tile for tile, *_ in found])
    tile_M4 = TILES_T4[tile_M].float()
    size_M4 = (tile_M4[:, 2:] - tile_M4[:, :2]).repeat(1, 2)
    corners_M4 = (torch.tensor([corners for _, corners, _, _ in found]) - tile_M4[:, :2].repeat(1, 2)) / size_M4
    prob_MK = torch.zeros(len(found), 2)
    for row, (*_, class_id, score) in enumerate(found):
        prob_MK[row, class_id] = score
    return Detections(tile_M, boxes.to_center(corners_M4), prob_MK.amax(dim=1), prob_MK)


def corners(joined: Detections) -> list[tuple[int, ...]]:
    pixels_M4 = boxes.to_corners(joined.boxes_M4) * torch.tensor((200, 100, 200, 100))
    return sorted(tuple(map(round, row)) for row in pixels_M4.tolist())


@pytest.mark.parametrize(("w", "h"), [(4000, 3000), (417, 5000), (1000, 999), (65, 3)])
@pytest.mark.parametrize("grid", [TileGrid(), TileGrid(4, 3), TileGrid(64, 64)])
def test_tiles_cover_every_pixel_and_overlap_by_their_share(w: int, h: int, grid: TileGrid) -> None:
    edges_T4 = grid.cut(w, h, 416, 416)
    assert edges_T4[-1].tolist() == [0, 0, w, h]
    covered_HW = np.zeros((h, w), bool)
    for left, top, right, bottom in (edges_T4[:-1] if len(edges_T4) > 1 else edges_T4).tolist():
        assert 0 <= left < right <= w and 0 <= top < bottom <= h
        covered_HW[top:bottom, left:right] = True
    assert covered_HW.all()
    first, *others = sorted({(left, right) for left, _, right, _ in edges_T4[:-1].tolist()}) or [(0, w)]
    for second in others:
        assert first[1] - second[0] >= TILE_OVERLAP_SHARE * (first[1] - first[0]) - 2
        first = second


def test_automatic_tiles_are_about_as_large_as_the_network() -> None:
    edges_T4 = TileGrid().cut(4000, 3000, 416, 416)
    sides_T2 = (edges_T4[:-1, 2:] - edges_T4[:-1, :2]).float()
    assert len(edges_T4) == 12 * 9 + 1
    assert bool(((sides_T2 / 416 - 1).abs() < 0.1).all())
    assert TileGrid().cut(500, 400, 416, 416).tolist() == [[0, 0, 500, 400]]


@pytest.mark.parametrize("tiles", ["", "0x3", "3", "65x1", "3x-1", "auto2", (3, 0), (1, 2, 3)])
def test_tiles_that_are_no_grid_are_refused(tiles: str | tuple[int, int]) -> None:
    with pytest.raises(DarkpyError, match="are not a grid"):
        TileGrid.parse(tiles)


def test_grids_are_columns_and_rows() -> None:
    assert TileGrid.parse("4x3") == TileGrid.parse((4, 3)) == TileGrid(columns=4, rows=3)
    assert TileGrid.parse("auto") == TileGrid(None, None)


def test_object_that_two_tiles_cut_is_joined_to_one() -> None:
    joined = join_tiles(on_tiles((0, (30, 20, 119, 70), 0, 0.6), (1, (81, 22, 170, 71), 0, 0.8)), TILES_T4)
    assert corners(joined) == [(30, 22, 170, 71)]  # the other edges are those of the better box
    assert joined.prob_MK.tolist() == [[pytest.approx(0.8), 0]]


def test_object_that_two_tiles_see_whole_is_joined_to_one() -> None:
    joined = join_tiles(on_tiles((0, (90, 20, 112, 70), 0, 0.9), (1, (91, 21, 113, 72), 0, 0.8)), TILES_T4)
    assert corners(joined) == [(90, 20, 112, 70)]


def test_piece_of_an_object_that_another_tile_sees_better_is_dropped() -> None:
    joined = join_tiles(on_tiles((0, (100, 30, 119, 50), 0, 0.95), (1, (98, 20, 170, 71), 0, 0.8)), TILES_T4)
    assert corners(joined) == [(98, 20, 170, 71)]


def test_object_of_all_tiles_is_taken_from_the_whole_image() -> None:
    found = on_tiles((0, (10, 10, 120, 90), 0, 0.9), (1, (80, 10, 190, 90), 0, 0.9), (2, (11, 11, 190, 91), 0, 0.7))
    assert len(corners(join_tiles(found, TILES_T4))) == 1


def test_neighbors_and_other_classes_stay_apart() -> None:
    found = on_tiles(
        (0, (82, 20, 98, 70), 0, 0.9),
        (1, (102, 20, 118, 70), 0, 0.8),
        (1, (82, 20, 98, 70), 1, 0.8),
        (0, (10, 20, 40, 70), 0, 0.5),
        (1, (150, 20, 190, 70), 0, 0.5),
    )
    assert len(join_tiles(found, TILES_T4)) == 5


def test_joining_works_through_pairs_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(tile, (90.0 + tile, 2.0 * row, 112.0, 2.0 * row + 2), 0, 0.5) for row in range(40) for tile in (0, 1)]
    expected = corners(join_tiles(on_tiles(*found), TILES_T4))
    assert len(expected) == 40
    monkeypatch.setattr("darkpy.evaluation.tiles.MAX_PAIRS", 100)
    assert corners(join_tiles(on_tiles(*found), TILES_T4)) == expected


def test_no_detections_stay_none() -> None:
    empty = on_tiles((0, (1, 1, 9, 9), 0, 0.0))
    assert len(join_tiles(empty, TILES_T4)) == 0


def random_network(extra: str = "") -> Network:
    network = darkpy.load(NETWORK.format(extra=extra), dialect="pjreddie")
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        parameter.detach().uniform_(-1, 1, generator=generator)
    return network


def noise(w: int, h: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(1).integers(0, 256, (h, w, 3), dtype=np.uint8)


def test_image_of_the_networks_size_gives_the_same_with_and_without_tiles() -> None:
    network, image = random_network(), noise(33, 30)
    plain = darkpy.detect_image(network, image, ["a"], thresh=0.05)
    tiled = darkpy.detect_image(network, image, ["a"], thresh=0.05, tiles="auto")
    assert len(plain) and np.allclose(plain.boxes, tiled.boxes) and np.allclose(plain.scores, tiled.scores)


def test_tiles_are_the_same_in_batches_and_alone_and_for_each_kind_of_source() -> None:
    network, image = random_network(), noise(150, 100)
    expected = darkpy.detect_image(network, image, ["a"], thresh=0.05, tiles="3x2")
    assert len(expected) > 1
    for source, batch_size in (([image, image], 1), ([image, image], 5), (iter([image, image]), None)):
        results = list(darkpy.detect(network, source, ["a"], thresh=0.05, tiles=(3, 2), batch_size=batch_size))
        assert len(results) == 2 and all(np.allclose(result.boxes, expected.boxes, atol=1e-3) for result in results)


def test_recurrent_networks_refuse_tiles() -> None:
    network = random_network("[crnn]\nbatch_normalize=0\noutput_filters=4\nhidden_filters=4\nactivation=leaky")
    with pytest.raises(DarkpyError, match="recurrent") as caught:
        darkpy.detect_image(network, noise(80, 80), ["a"], tiles="2x2")
    assert "--tiles" in str(caught.value.hint)


@pytest.mark.slow
def test_small_objects_of_a_large_photograph_are_found_once_each(shared: Path) -> None:
    folder = shared / "data" / "weights" / "yolov3-tiny"
    network = darkpy.load(folder / "yolov3-tiny.cfg", folder / "yolov3-tiny.weights")
    rng = np.random.default_rng(0)
    parts = []
    for name in ("dog.jpg", "eagle.jpg", "person.jpg"):
        with PillowImage.open(shared / "data" / "images" / name) as image:
            image.thumbnail((320, 320))
            part = np.array(image.convert("RGB"))
        parts.append((part, darkpy.detect_image(network, part, thresh=0.5)))
    canvas = np.full((3000, 4000, 3), 128, np.uint8)
    truths, classes = [], []
    for top in range(20, 2680, 320):
        for left in range(20, 3640, 360):
            part, result = parts[rng.integers(len(parts))]
            x, y = left + int(rng.integers(30)), top + int(rng.integers(30))
            canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
            truths.append(result.boxes + np.array((x, y, x, y), np.float32))
            classes.append(result.class_ids)
    truth_N4, class_N = torch.from_numpy(np.concatenate(truths)), np.concatenate(classes)

    def overlaps(first_N4: Tensor, second_M4: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        iou_NM: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = boxes.iou(
            boxes.to_center(first_N4)[:, None], boxes.to_center(second_M4)
        ).numpy()
        return iou_NM

    def recall(result: darkpy.Result) -> float:
        is_match_NM = overlaps(truth_N4, torch.from_numpy(result.boxes)) > 0.5
        return float((is_match_NM & (class_N[:, None] == result.class_ids)).any(axis=1).mean())

    tiled = darkpy.detect_image(network, canvas, thresh=0.5, tiles="auto")
    plain = darkpy.detect_image(network, canvas, thresh=0.5)
    assert recall(tiled) >= max(0.7, 2 * recall(plain))
    # the network itself gives nested boxes for the other classes
    birds = torch.from_numpy(tiled.filter("bird").boxes)
    assert len(birds) > 20 and int((overlaps(birds, birds) > 0).sum()) == len(birds)
