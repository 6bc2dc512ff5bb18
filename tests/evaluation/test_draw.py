from __future__ import annotations

import colorsys
import random
from itertools import pairwise
from time import perf_counter

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from darkpy.evaluation.draw import _Coverage, _font, _Rects, class_color, draw, truncate_text
from darkpy.evaluation.result import BoxFrac, Object

GRAY = 90
MIDDLE: BoxFrac = (0.5, 0.5, 0.5, 0.5)


def gray(width: int, height: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), GRAY, dtype=np.uint8)


def drawn(width: int, height: int, *objects: Object) -> NDArray[np.uint8]:
    return np.asarray(draw(gray(width, height), objects))


def named(name: str, box_frac: BoxFrac = MIDDLE, class_id: int = 0, confidence: float = 0.5) -> Object:
    return Object(class_id, name, confidence, box_frac)


def extent_of(image_HW3: NDArray[np.uint8], class_id: int) -> tuple[int, int, int, int]:
    """First and last column, first and last row in the color of a class."""
    rows, columns = np.nonzero((image_HW3 == class_color(class_id)).all(axis=2))
    return int(columns.min()), int(columns.max()), int(rows.min()), int(rows.max())


def label_of(image_HW3: NDArray[np.uint8], class_id: int) -> tuple[int, int]:
    """Width and height of the filled part above a box in the middle."""
    rows, columns = np.nonzero((image_HW3[: len(image_HW3) // 4] == class_color(class_id)).all(axis=2))
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


def test_the_border_of_the_box_takes_the_color_of_its_class_and_its_inside_stays() -> None:
    write_image = drawn(200, 200, named("dog", class_id=3))
    color = class_color(3)
    for x, y in [(50, 100), (149, 100), (100, 149), (120, 149), (50, 149), (149, 149), (149, 50)]:
        assert tuple(write_image[y, x]) == color
    assert (write_image[70:130, 70:130] == GRAY).all()
    assert (write_image[155:] == GRAY).all()
    assert (write_image[:, 155:] == GRAY).all()


def test_the_array_given_is_left_as_it_was_and_not_shared() -> None:
    image = gray(100, 80)
    write_image = draw(image, [named("dog")])
    assert (image == GRAY).all()
    assert (np.asarray(write_image) != GRAY).any()


def test_nothing_to_draw_changes_nothing() -> None:
    assert np.array_equal(drawn(30, 20), gray(30, 20))


def test_a_image_that_may_not_be_written_and_has_gaps_in_memory_is_drawn_alike() -> None:
    wide = np.repeat(gray(200, 200), 2, axis=1)[:, ::2]
    wide.flags.writeable = False
    assert np.array_equal(np.asarray(draw(wide, [named("dog")])), drawn(200, 200, named("dog")))


@pytest.mark.parametrize("side", [416, 4000])
def test_line_and_label_grow_with_the_image(side: int) -> None:
    write_image = drawn(side, side, named("dog"))
    middle_row = (write_image[side // 2, : side // 2] != GRAY).any(axis=1)
    assert middle_row.sum() == round(0.004 * side)
    _, height = label_of(write_image, 0)
    assert 0.025 * side < height < 0.05 * side


@pytest.mark.parametrize("x", [0.0, 0.02, 0.98, 1.0])
@pytest.mark.parametrize("y", [0.0, 0.02, 0.98, 1.0])
def test_the_label_of_a_box_at_the_border_is_whole(x: float, y: float) -> None:
    full = drawn(300, 300, named("dog"))
    width, height = label_of(full, 0)
    left, right, top, bottom = extent_of(drawn(300, 300, named("dog", (x, y, 0.04, 0.04))), 0)
    assert right - left + 1 >= width
    assert bottom - top + 1 >= height


@pytest.mark.parametrize("size", [(416, 416), (64, 64), (300, 40)])
def test_a_label_longer_than_the_image_stays_inside(size: tuple[int, int]) -> None:
    label = drawn(*size, named("x" * 300, (0.9, 0.9, 0.4, 0.4)))
    row = np.nonzero((label == class_color(0)).all(axis=2).any(axis=1))[0]
    assert len(row) < size[1]
    text = (label != GRAY).any(axis=2) & (label != class_color(0)).any(axis=2)
    assert text.any()


def test_a_label_too_long_is_cut_and_says_so() -> None:
    assert np.array_equal(drawn(60, 60, named("x" * 50)), drawn(60, 60, named("x" * 80)))
    assert not np.array_equal(drawn(60, 60, named("x" * 5)), drawn(60, 60, named("x" * 80)))


def test_a_box_is_clipped_to_the_image() -> None:
    write_image = drawn(100, 100, named("dog", (0.5, 0.5, 3.0, 0.5)))
    left, right, _, bottom = extent_of(write_image, 0)
    assert (left, right, bottom) == (0, 99, 74)


def test_a_box_larger_than_the_image_frames_it() -> None:
    write_image = drawn(100, 100, named("dog", (0.5, 0.5, 3.0, float("inf"))))
    assert extent_of(write_image, 0) == (0, 99, 0, 99)
    assert (write_image[50, 10:90] == GRAY).all()


@pytest.mark.parametrize("box_frac", [(2.0, 0.5, 0.1, 0.1), (0.5, -1.0, 0.1, 0.1), (float("nan"), 0.5, 0.1, 0.1)])
def test_a_box_outside_the_image_is_not_drawn(box_frac: BoxFrac) -> None:
    assert np.array_equal(drawn(100, 100, named("dog", box_frac)), gray(100, 100))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 2), (7, 300), (20, 20)])
def test_tiny_images_keep_their_size_and_show_the_box(size: tuple[int, int]) -> None:
    write_image = drawn(*size, named("dog"), named("cat", (0.1, 0.1, 0.0, 0.0), 1), named("pig", (1, 1, 2, 2), 2))
    assert write_image.shape == (size[1], size[0], 3)
    assert (write_image != GRAY).any()


def test_a_box_of_several_classes_has_one_label_and_the_color_of_the_best() -> None:
    dog, cat = named("dog", class_id=1, confidence=0.97), named("cat", class_id=2, confidence=0.31)
    both = drawn(400, 400, cat, dog)
    assert not (both == class_color(2)).all(axis=2).any()
    assert np.array_equal(both, drawn(400, 400, dog, cat))
    joined = drawn(400, 400, Object(1, "dog: 0.97, cat", 0.31, MIDDLE))
    assert np.array_equal(both, joined)


def test_labels_at_the_same_place_are_moved_apart() -> None:
    one, other = named("dog", class_id=1), named("cat", (0.5, 0.5, 0.5, 0.501), 2, 0.4)
    alone = [(drawn(400, 400, it) == class_color(it.class_id)).all(axis=2).sum() for it in (one, other)]
    together = drawn(400, 400, one, other)
    seen = [(together == class_color(it.class_id)).all(axis=2).sum() for it in (one, other)]
    border = 4 * 200 * 2
    assert seen[0] == alone[0]
    assert seen[1] > alone[1] - border


def test_labels_that_would_hide_better_ones_are_left_out() -> None:
    crowd = [named("dog", (0.5, 0.5, 0.5, 0.5 + 0.0001 * i), class_id=i, confidence=0.9 - i / 100) for i in range(30)]
    write_image = drawn(64, 64, *crowd)
    assert (write_image == class_color(0)).all(axis=2).sum() > 200
    assert not (write_image == class_color(29)).all(axis=2).any()


def test_the_surest_box_lies_on_top() -> None:
    sure, unsure = named("dog", class_id=1, confidence=0.9), named("cat", class_id=2, confidence=0.3)
    moved = Object(2, "cat", 0.3, (0.5, 0.5, 0.5, 0.500001))
    for order in ([sure, moved], [moved, sure]):
        assert tuple(drawn(400, 400, *order)[200, 100]) == class_color(1)
    assert tuple(drawn(400, 400, unsure)[200, 100]) == class_color(2)


def test_text_is_dark_on_light_colors_and_light_on_dark_ones() -> None:
    for class_id in range(12):
        luminance = np.dot(class_color(class_id), (0.299, 0.587, 0.114))
        label = drawn(1000, 1000, named("dog", class_id=class_id))[:250]
        has_black = bool((label == 0).all(axis=2).any())
        has_white = bool((label == 255).all(axis=2).any())
        assert (has_black, has_white) == ((True, False) if luminance > 140 else (False, True))


def test_each_class_has_its_own_color() -> None:
    assert len({class_color(k) for k in range(80)}) == 80
    hues = [colorsys.rgb_to_hsv(*(c / 255 for c in class_color(k)))[0] for k in range(80)]
    for one, following in pairwise(hues):
        assert min((one - following) % 1, (following - one) % 1) > 0.3


def test_the_image_can_be_saved() -> None:
    assert isinstance(draw(gray(10, 10), []), Image.Image)
    assert draw(gray(10, 10), []).mode == "RGB"


@pytest.mark.parametrize(("boxes", "name"), [(3000, "dog"), (1000, "dog " * 1250), (1, "W" * 200_000)])
def test_time_grows_in_step_with_the_boxes_and_not_with_the_letters(boxes: int, name: str) -> None:
    rng = random.Random(0)
    places = [(rng.random(), rng.random(), 0.2 * rng.random(), 0.2 * rng.random()) for _ in range(boxes)]
    objects = [named(name, place, index % 80, rng.random()) for index, place in enumerate(places)]
    start = perf_counter()
    drawn(640, 480, *objects)
    assert perf_counter() - start < 15  # when each label was compared and shortened one by one: 60 to 300 s


@pytest.mark.parametrize("text", ["dog", "", "traffic light: 0.98", "wWiIlL" * 30, "é…漢字" * 40])
@pytest.mark.parametrize("width", [0, 5, 40, 300])
@pytest.mark.parametrize("keep_end", [False, True])
def test_text_is_the_longest_that_fits(text: str, width: int, keep_end: bool) -> None:
    font, _ = _font(12)
    shorter = [f"…{text[-n:]}" if keep_end else f"{text[:n]}…" for n in range(1, len(text))]
    fitting = [candidate for candidate in (*shorter, text) if font.getlength(candidate) <= width]
    assert truncate_text(text, font, width, keep_end=keep_end) == (fitting or [""])[-1]


def test_shared_pixels_are_summed_over_all_rectangles() -> None:
    rng = random.Random(0)

    def rect() -> tuple[int, int, int, int]:
        left, top = rng.randrange(50), rng.randrange(50)
        return left, top, left + rng.randrange(20), top + rng.randrange(20)

    canvas, taken = np.zeros((80, 80), int), _Rects()
    for _ in range(150):
        left, top, right, bottom = rect()
        taken.append((left, top, right, bottom))
        canvas[top : bottom + 1, left : right + 1] += 1
        candidates = [rect() for _ in range(8)]
        expected = [canvas[t : b + 1, l : r + 1].sum() for l, t, r, b in candidates]  # noqa: E741
        assert taken.shared_pixels(candidates).tolist() == expected


def test_hidden_objects_are_the_shares_of_all_boxes_under_a_rectangle() -> None:
    rng = random.Random(0)
    rects = [
        (x, y, x + rng.randrange(20), y + rng.randrange(20))
        for x, y in np.random.default_rng(0).integers(60, size=(40, 2))
    ]
    canvas = np.zeros((80, 80))
    for left, top, right, bottom in rects:
        canvas[top : bottom + 1, left : right + 1] += 1 / ((bottom + 1 - top) * (right + 1 - left))
    expected = [canvas[t : b + 1, l : r + 1].sum() for l, t, r, b in rects]  # noqa: E741
    assert _Coverage(rects, (80, 80)).hidden_objects(rects) == pytest.approx(expected)


def test_a_label_goes_where_it_hides_least_of_other_objects() -> None:
    body = named("person", (0.5, 0.6, 0.3, 0.3), 1, 0.9)
    face = Object(2, "face", 0.8, (0.42, 0.43, 0.1, 0.04))  # where the label above the body would be
    both = drawn(600, 600, body, face)
    x, y, w, h = (600 * share for share in face.box_frac)
    inside = both[round(y - h / 2) + 3 : round(y + h / 2) - 2, round(x - w / 2) + 3 : round(x + w / 2) - 2]
    assert (inside == GRAY).all()
    alone = drawn(600, 600, body)
    assert (alone[round(y), round(x - w / 2) : round(x + w / 2)] != GRAY).any()


def test_colors_of_the_first_classes_are_far_apart() -> None:
    colors = np.array([class_color(class_id) for class_id in range(15)], dtype=float)
    distances = np.linalg.norm(colors[:, None] - colors, axis=2) + 999 * np.eye(15)
    assert distances.min() > 70  # with hues alone 27


def test_few_boxes_are_compared_with_labels_as_many_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, 90, (40, 2, 2)), axis=1)
    rects = [(left, top, right, bottom) for (left, top), (right, bottom) in corners.tolist()]
    compared = _Coverage(rects[:30], (96, 96)).hidden_objects(rects)
    monkeypatch.setattr("darkpy.evaluation.draw.MAX_COMPARED_BOXES", 0)
    np.testing.assert_allclose(compared, _Coverage(rects[:30], (96, 96)).hidden_objects(rects), atol=1e-9)
    assert compared.max() > 1
