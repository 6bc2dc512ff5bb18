"""Input sizes that the strides of a network do not divide: refused as the C parsers do, with the sizes that fit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from darkpy.build import make_plan, resize_plan
from darkpy.config.text import Section, parse
from darkpy.dialect import Dialect
from darkpy.errors import ConfigError, ShapeError
from darkpy.shapes import FlatShape

ROOT = Path(__file__).resolve().parents[1]
AX, PJ = Dialect.ALEXEYAB, Dialect.PJREDDIE
HEADS = {"yolo", "region", "Gaussian_yolo", "detection"}
SIZES = [
    *((104, 104), (300, 300), (640, 360), (1280, 720), (1000, 1000), (416, 416)),
    *((608, 352), (96, 160), (333, 512), (544, 448), (200, 328), (1920, 1088)),
]
DETECTORS = sorted(
    path for path in (ROOT / "cfg").glob("*.cfg") if re.search(r"^\[(yolo|region|detection)\]", path.read_text(), re.M)
)
MISMATCH = re.compile(
    "joins layers of different sizes|differ in height or width|layers of one width and height|have different ratios"
    "|not multiples of stride="
)


def resized(text: str, width: int, height: int) -> str:
    text = re.sub(r"(?m)^width *=.*", f"width={width}", text, count=1)
    return re.sub(r"(?m)^height *=.*", f"height={height}", text, count=1)


def atoi(text: str) -> int:
    match = re.match(r"[+-]?\d+", text)
    return int(match.group()) if match else 0


def c_quotient(number: int, divisor: int) -> int:
    """Division as in C, towards 0."""
    return number // divisor if number >= 0 else -(-number // divisor)


class Refused(Exception):
    """The C parser ends with an error."""


class CParser:
    """Width and height of every layer by the rules of parse_network_cfg of both programs; 0 x 0 is not an image."""

    def __init__(self, dialect: Dialect, width: int, height: int) -> None:
        self.dialect = dialect
        self.sizes: list[tuple[int, int]] = []
        self.input = (width, height)

    def add(self, section: Section) -> None:
        size = self.sizes[-1] if self.sizes else self.input
        self.sizes.append(self._size(section, size))

    def _source(self, reference: int) -> tuple[int, int]:
        return self.sizes[reference if reference >= 0 else len(self.sizes) + reference]

    def _size(self, section: Section, x: tuple[int, int]) -> tuple[int, int]:
        def number(name: str, default: int) -> int:
            entry = section.entries.get(name)
            return default if entry is None or not entry.value else atoi(entry.value)

        def references(name: str) -> list[tuple[int, int]]:
            entry = section.entries[name]
            return [self._source(atoi(part)) for part in (entry.value or "").split("#")[0].split(",")]

        kind = section.type
        needs_image = {"convolutional", "conv", "maxpool", "max", "avgpool", "avg", "reorg", "reorg3d", "local"}
        if kind in needs_image and not min(x):
            raise Refused("must output image")
        if kind in ("convolutional", "conv"):
            size, stride = number("size", 1), number("stride", 1)
            padding = size // 2 if number("pad", 0) else number("padding", 0)
            strides = [number(f"stride_{axis}", stride) if self.dialect is AX else stride for axis in "xy"]
            return _pair(c_quotient(side + 2 * padding - size, by) + 1 for side, by in zip(x, strides, strict=True))
        if kind in ("maxpool", "max", "local_avgpool"):
            if number("maxpool_depth", 0):
                return x
            stride = number("stride", 1)
            size = number("size", stride)
            return _pair(c_quotient(side + number("padding", size - 1) - size, stride) + 1 for side in x)
        if kind == "local":
            size, stride = number("size", 1), number("stride", 1)
            return _pair((side - (1 if number("pad", 0) else size)) // stride + 1 for side in x)
        if kind in ("avgpool", "avg", "connected", "conn"):
            return 1, 1
        if kind == "upsample":
            return _pair(side * number("stride", 2) for side in x)
        if kind in ("reorg", "reorg3d"):
            stride = number("stride", 1)
            return _pair(side * stride if number("reverse", 0) else side // stride for side in x)
        if kind == "route":
            first, *others = references("layers")
            if all(other == first for other in others):
                return first
            if self.dialect is AX:
                raise Refused("a route of two sizes")
            return 0, 0
        if kind == "shortcut":
            for other in references("from") if self.dialect is AX else references("from")[:1]:
                if not min(*x, *other) or (other != x and self.dialect is AX):
                    raise Refused("a shortcut of two sizes")
                if (x[0] // other[0], other[0] // x[0]) != (x[1] // other[1], other[1] // x[1]):
                    raise Refused("assert(stride == h1 / h2)")
            return x
        if kind in ("sam", "scale_channels"):
            return references("from")[0]
        if kind in ("detection", "softmax", "cost", "contrastive"):
            return 0, 0
        if kind in HEADS and not min(x):
            raise Refused("assert(l.outputs == params.inputs)")
        return x


def _pair(sides: Iterator[int]) -> tuple[int, int]:
    width, height = sides
    return width, height


def assert_as_in_c(text: str, dialect: Dialect, width: int, height: int) -> bool:
    """Compare with the rules of the C parser, follow the hint of an error. Returns: True if the size was refused."""
    text = resized(text, width, height)
    parser = CParser(dialect, width, height)
    try:
        for section in parse(text, "x.cfg").sections[1:]:
            parser.add(section)
    except Refused:
        with pytest.raises(ConfigError) as caught:
            make_plan(text, dialect)
        error = next(finding for finding in caught.value.findings if MISMATCH.search(finding.message))
        (hint,) = error.hints
        match = re.fullmatch(
            r"width and height: multiples of (\d+) \(the largest stride\); nearest: (\d+) x (\d+)", hint
        )
        assert match, hint
        stride, *nearest = map(int, match.groups())
        assert not any(side % stride for side in nearest)
        assert max(abs(nearest[0] - width), abs(nearest[1] - height)) <= stride // 2
        make_plan(resized(text, *nearest), dialect)
        return True
    plan = make_plan(text, dialect)
    for node, size in zip(plan.nodes, parser.sizes, strict=True):
        assert min(size) == 0 or (node.shape.w, node.shape.h) == size, plan.place(node.index)
        assert isinstance(node.shape, FlatShape) is (node.type == "route" and size == (0, 0)), plan.place(node.index)
    return False


@pytest.mark.parametrize("cfg", DETECTORS, ids=lambda path: path.stem)
def test_sizes_are_refused_as_the_c_parsers_do(cfg: Path) -> None:
    text = cfg.read_text()
    for size in SIZES[:5]:
        assert_as_in_c(text, make_plan(cfg).dialect, *size)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", list(Dialect))
def test_sizes_of_all_detectors_are_refused_as_the_c_parsers_do(shared: Path, dialect: Dialect) -> None:
    cfgs = [*DETECTORS, *sorted((shared / "zoo").rglob("*.cfg"))]
    refused = compared = 0
    for cfg in cfgs:
        text = cfg.read_text(errors="replace")
        try:
            plan = make_plan(text, dialect)
        except ConfigError:
            continue
        if not any(node.type in HEADS for node in plan.nodes) or any(node.type == "crop" for node in plan.nodes):
            continue
        if any(node.type == "detection" for node in plan.nodes):
            continue  # connected layers: any size fits
        for size in SIZES:
            compared += 1
            refused += assert_as_in_c(text, dialect, *size)
    assert refused > 100 and compared - refused > 100


NET = "[net]\nwidth={}\nheight={}\nchannels=3\n"
CONV = "[convolutional]\nfilters=4\nsize=3\nstride=2\npad=1\n"
TWO_SIZES = CONV * 2 + "[upsample]\nstride=2\n[route]\nlayers=-1,0\n"


def error_of(text: str, dialect: Dialect = PJ) -> str:
    with pytest.raises(ConfigError) as caught:
        make_plan(parse(text, "x.cfg"), dialect)
    (error,) = caught.value.findings
    return str(error)


@pytest.mark.parametrize(
    "section",
    [
        *("[convolutional]", "[deconvolutional]", "[local]", "[maxpool]", "[avgpool]", "[upsample]", "[batchnorm]"),
        *("[reorg]\nstride=1", "[crop]\ncrop_width=1\ncrop_height=1", "[yolo]\nclasses=3\nnum=1", "[l2norm]"),
        *("[region]\nclasses=3\nnum=1\ncoords=4", "[iseg]\nclasses=4\nids=4", "[shortcut]\nfrom=0", "[normalization]"),
        "[crnn]",
    ],
)
@pytest.mark.parametrize("between", ["", "[dropout]\n", "[route]\nlayers=-1\n", "[activation]\n[dropout]\n"])
def test_layer_that_needs_an_image_cannot_read_a_route_of_two_sizes(section: str, between: str) -> None:
    text = error_of(NET.format(10, 6) + TWO_SIZES + between + section + "\n")
    assert "needs an image, but layer 3 [route] joins layers of different sizes: 6 x 4 x 4, 5 x 3 x 4" in text
    assert text.endswith("hint: width and height: multiples of 4 (the largest stride); nearest: 8 x 4")


@pytest.mark.parametrize(
    "section",
    [
        *("[connected]\noutput=3", "[softmax]", "[cost]", "[dropout]", "[activation]", "[logistic]", "[gru]", "[lstm]"),
        *("[rnn]", "[route]\nlayers=-1,0", "[route]\nlayers=-1"),
    ],
)
def test_layer_of_values_can_read_a_route_of_two_sizes(section: str) -> None:
    plan = make_plan(NET.format(10, 6) + TWO_SIZES + section + "\n", PJ)
    assert isinstance(plan.nodes[3].shape, FlatShape)
    assert plan.nodes[3].shape == (6 * 4 * 4 + 5 * 3 * 4, 1, 1)


def test_image_follows_a_connected_layer() -> None:
    make_plan(NET.format(10, 6) + TWO_SIZES + "[connected]\noutput=4\n[convolutional]\n", PJ)


def test_reorg_with_extra_outputs_no_image() -> None:
    text = error_of(NET.format(8, 8) + "[reorg]\nstride=2\nextra=3\n[convolutional]\n")
    assert "needs an image, but layer 0 [reorg] outputs no image" in text and "connected" in text


@pytest.mark.parametrize("dialect", list(Dialect))
def test_no_size_is_named_where_none_fits(dialect: Dialect) -> None:
    text = error_of(
        NET.format(8, 8) + CONV + "[route]\nlayers=-1\n[upsample]\n[route]\nlayers=-1,0\n[maxpool]\n", dialect
    )
    assert "nearest" not in text and "hint: " in text


def test_width_and_height_have_their_own_strides() -> None:
    wide = CONV.replace("stride=2", "stride_x=4\nstride_y=2")
    text = error_of(NET.format(10, 6) + wide + wide + "[upsample]\nstride=2\n[route]\nlayers=-1,0\n", AX)
    assert "differ in height or width" in text
    assert "nearest" not in text  # 4 x 2 in, 2 x 2 out


def test_size_of_a_plan_is_refused_with_the_sizes_that_fit() -> None:
    plan = make_plan(ROOT / "cfg/yolov3-tiny.cfg", PJ)
    with pytest.raises(ShapeError) as caught:
        resize_plan(plan, 104, 104)
    assert "layer 21 [convolutional]" in caught.value.message and "at 104 x 104, needs an image" in caught.value.message
    assert caught.value.hint == "width and height: multiples of 32 (the largest stride); nearest: 96 x 96"


def test_largest_stride_is_that_of_the_whole_network() -> None:
    cfg = CONV * 6 + "[upsample]\nstride=2\n[route]\nlayers=-1,4\n" + "[convolutional]\n"
    assert "multiples of 64 (the largest stride); nearest: 640 x 640" in error_of(NET.format(650, 650) + cfg)
