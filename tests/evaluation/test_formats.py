"""Output formats of detections on an image."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import pytest

from darkpy.dialect import Dialect
from darkpy.errors import DarkpyError
from darkpy.evaluation import formats
from darkpy.evaluation.result import Object

DOG = Object(16, "dog", 0.8123107, (0.288883, 0.6661953, 0.344135, 0.5664661))
CAR = Object(2, "car", 0.25, (0.75, 0.25, 0.5, 0.125))
TRUCK = Object(7, "truck", 0.5, (0.75, 0.25, 0.5, 0.125))
OUTSIDE = Object(0, "person", 0.995, (0.0, 0.0, 0.1, 0.3))


def test_json_of_two_images_is_alexeyabs_to_the_byte() -> None:
    frames = [formats.frame_json(1, "data/dog.jpg", [DOG, CAR]), formats.frame_json(2, "b.jpg", [])]
    assert formats.frames_json(frames) == (
        "[\n"
        "{\n"
        ' "frame_id":1, \n'
        ' "filename":"data/dog.jpg", \n'
        ' "objects": [ \n'
        '  {"class_id":16, "name":"dog", "relative_coordinates":'
        '{"center_x":0.288883, "center_y":0.666195, "width":0.344135, "height":0.566466}, "confidence":0.812311}, \n'
        '  {"class_id":2, "name":"car", "relative_coordinates":'
        '{"center_x":0.750000, "center_y":0.250000, "width":0.500000, "height":0.125000}, "confidence":0.250000}\n'
        " ] \n"
        "}, \n"
        "{\n"
        ' "frame_id":2, \n'
        ' "filename":"b.jpg", \n'
        ' "objects": [ \n'
        "\n"
        " ] \n"
        "}\n"
        "]"
    )


@pytest.mark.parametrize("text", ['say "hi"', "C:\\data\\dog.jpg", "Hündchen 狗", "line\nbreak", "\udcff.jpg", ""])
def test_json_survives_any_name(text: str) -> None:
    frame = formats.frame_json(1, text, [Object(0, text, 0.5, DOG.box_frac)])
    document = json.loads(formats.frames_json([frame]).encode())
    assert (document[0]["filename"], document[0]["objects"][0]["name"]) == (text, text)


def test_letters_stay_letters_in_alexeyabs_json() -> None:
    assert '"filename":"狗.jpg"' in formats.frame_json(1, "狗.jpg", [])


def test_json_never_holds_nan() -> None:
    lost = Object(0, "lost", 0.5, (math.nan, 0.5, math.inf, 0.5))
    (frame,) = json.loads(formats.frames_json([formats.frame_json(1, "a", [lost])]), parse_constant=pytest.fail)
    assert frame["objects"][0]["relative_coordinates"]["center_x"] is None
    (record,) = json.loads(
        "".join(formats.array_json([formats.image_record("a", (9, 9), [lost])])), parse_constant=pytest.fail
    )
    assert (record["objects"][0]["box"]["w"], record["objects"][0]["box_px"]) == (None, None)


def test_time_line_has_each_dialects_unit() -> None:
    assert formats.time_line("a.jpg", 0.0293291, Dialect.PJREDDIE) == "a.jpg: Predicted in 0.029329 seconds."
    assert formats.time_line("a.jpg", 0.0293291, Dialect.ALEXEYAB) == "a.jpg: Predicted in 29.329100 milli-seconds."


def test_lines_round_as_c_does_and_do_not_clip() -> None:
    assert list(formats.object_lines([DOG, OUTSIDE])) == ["dog: 81%", "person: 100%"]
    (line,) = formats.object_lines([OUTSIDE], (50, 30))
    assert line == "person: 100%\t(left_x:   -3   top_y:   -5   width:    5   height:    9)"


def test_alexeyabs_order_is_by_left_edge_with_the_best_class_of_a_box_first() -> None:
    assert formats.left_to_right([CAR, TRUCK, DOG, OUTSIDE]) == (OUTSIDE, DOG, TRUCK, CAR)


def test_labels_have_the_best_class_of_each_box() -> None:
    assert formats.label_lines([DOG, CAR, TRUCK, OUTSIDE]) == (
        "16 0.2889 0.6662 0.3441 0.5665\n7 0.7500 0.2500 0.5000 0.1250\n0 0.0000 0.0000 0.1000 0.3000\n"
    )
    assert formats.label_lines([]) == ""


def test_name_that_begins_with_dont_show_is_not_visible() -> None:
    hidden = Object(3, "dont_show this", 0.9, DOG.box_frac)
    assert formats.visible([DOG, hidden, CAR]) == (DOG, CAR)


def test_record_has_the_box_inside_the_image_in_pixels() -> None:
    record = formats.image_record("a.jpg", (100, 50), [OUTSIDE, CAR])
    assert (record["filename"], record["width"], record["height"]) == ("a.jpg", 100, 50)
    assert [one["box_px"] for one in record["objects"]] == [[0, 0, 5, 8], [50, 9, 100, 16]]
    assert record["objects"][1]["box"] == {"x": 0.75, "y": 0.25, "w": 0.5, "h": 0.125}


@pytest.mark.parametrize("count", [0, 1, 3])
def test_array_is_json_that_comes_in_whole_lines(count: int) -> None:
    records = [formats.image_record(f"{i}.jpg", (9, 9), [DOG]) for i in range(count)]
    pieces = list(formats.array_json(records))
    assert json.loads("".join(pieces)) == records
    assert all(piece.endswith("\n") and piece.count("\n") == 1 for piece in pieces)
    assert [json.loads(piece.lstrip(",")) for piece in pieces[1:-1]] == records


@pytest.mark.parametrize("error", [DarkpyError("b.jpg: the network's output is NaN"), KeyboardInterrupt()])
def test_array_is_whole_when_an_error_ends_it(error: BaseException) -> None:
    def records() -> Iterator[dict[str, str]]:
        yield {"filename": "a.jpg"}
        raise error

    pieces: list[str] = []
    with pytest.raises(type(error)):
        pieces.extend(formats.array_json(records()))
    assert json.loads("".join(pieces)) == [{"filename": "a.jpg"}]
