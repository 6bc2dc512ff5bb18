"""Every kind of image is decoded or refused in one line; nothing but an ImageError gets out of a file."""

from __future__ import annotations

import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from darkpy.data.loading.decoding import DEFAULT_MAX_PIXELS as LIMIT
from darkpy.data.loading.images import load_image, prepare
from darkpy.errors import ImageError

PNG = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112


def colors(w: int = 12, h: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(w * 1009 + h).integers(0, 256, (h, w, 3), dtype=np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(w: int, h: int) -> bytes:
    return PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0))


def refusal(path: Path) -> str:
    """The refusal's text without the file's name, after checking that it is one line about this file."""
    with pytest.raises(ImageError) as caught:
        load_image(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


class TestModes:
    @pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif", "tga"])
    def test_rgb_keeps_every_sample(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"image.{suffix}"
        PIL.Image.fromarray(colors()).save(path)
        image = load_image(path)
        assert (image.path, image.w, image.h) == (path, 12, 8)
        assert image.pixels_HWC.dtype == np.uint8
        np.testing.assert_array_equal(image.pixels_HWC, colors())

    def test_gray_is_repeated_in_three_colors(self, tmp_path: Path) -> None:
        gray_HW = colors()[:, :, 0]
        PIL.Image.fromarray(gray_HW).save(tmp_path / "gray.png")
        np.testing.assert_array_equal(load_image(tmp_path / "gray.png").pixels_HWC, np.stack([gray_HW] * 3, axis=2))

    def test_one_bit_is_black_and_white(self, tmp_path: Path) -> None:
        bits_HW = colors()[:, :, 0] > 127
        PIL.Image.fromarray(bits_HW).save(tmp_path / "bits.png")
        np.testing.assert_array_equal(load_image(tmp_path / "bits.png").pixels_HWC[:, :, 1], bits_HW * np.uint8(255))

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_alpha_is_dropped_and_the_color_under_it_kept(self, tmp_path: Path, mode: str) -> None:
        picture = PIL.Image.fromarray(colors())
        opaque = picture.convert("L").convert("RGB") if mode == "LA" else picture
        layered = picture.convert(mode)
        layered.putalpha(PIL.Image.fromarray(colors()[:, :, 2]))
        layered.save(tmp_path / "alpha.png")
        np.testing.assert_array_equal(load_image(tmp_path / "alpha.png").pixels_HWC, np.asarray(opaque))

    @pytest.mark.parametrize("transparency", [None, 1, b"\x00\x80\xff\x00"])
    def test_palette_gives_its_colors_transparent_or_not(
        self, tmp_path: Path, transparency: int | bytes | None
    ) -> None:
        picture = PIL.Image.fromarray(colors()).quantize(4)
        options: dict[str, Any] = {} if transparency is None else {"transparency": transparency}
        picture.save(tmp_path / "palette.png", **options)
        with warnings.catch_warnings(record=True) as leaked:
            warnings.simplefilter("always")
            image = load_image(tmp_path / "palette.png")
        np.testing.assert_array_equal(image.pixels_HWC, np.asarray(picture.convert("RGB")))
        assert not leaked

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_sixteen_bits_keep_the_upper_eight(self, tmp_path: Path, suffix: str) -> None:
        deep_HW = np.array([[0, 255, 256], [32767, 32768, 65535]], dtype=np.uint16)
        PIL.Image.fromarray(deep_HW).save(tmp_path / f"deep.{suffix}")
        pixels_HWC = load_image(tmp_path / f"deep.{suffix}").pixels_HWC
        assert pixels_HWC[:, :, 0].tolist() == [[0, 0, 1], [127, 128, 255]]
        np.testing.assert_array_equal(pixels_HWC[:, :, 2], pixels_HWC[:, :, 0])

    def test_integers_of_32_bits_are_read_as_sixteen_or_refused(self, tmp_path: Path) -> None:
        samples_HW = np.array([[0, 256, 65535]], dtype=np.int32)
        PIL.Image.fromarray(samples_HW).save(tmp_path / "small.tif")
        PIL.Image.fromarray(samples_HW + 1).save(tmp_path / "large.tif")
        assert load_image(tmp_path / "small.tif").pixels_HWC[0, :, 0].tolist() == [0, 1, 255]
        assert "int32 samples from 1 to 65536, only 0 to 65535 is supported" in refusal(tmp_path / "large.tif")

    @pytest.mark.parametrize("bad", [2.0, -0.5, float("nan"), float("inf")])
    def test_floats_are_read_from_0_to_1_or_refused(self, tmp_path: Path, bad: float) -> None:
        samples_HW = np.array([[0, 0.5, 1]], dtype=np.float32)
        PIL.Image.fromarray(samples_HW).save(tmp_path / "good.tif")
        PIL.Image.fromarray(np.append(samples_HW, np.float32(bad))[None]).save(tmp_path / "bad.tif")
        assert load_image(tmp_path / "good.tif").pixels_HWC[0, :, 0].tolist() == [0, 128, 255]
        assert "only 0 to 1 is supported" in refusal(tmp_path / "bad.tif")

    @pytest.mark.parametrize(("mode", "suffix"), [("CMYK", "jpg"), ("CMYK", "tif"), ("YCbCr", "tif"), ("LAB", "tif")])
    def test_other_color_spaces_become_rgb(self, tmp_path: Path, mode: str, suffix: str) -> None:
        path = tmp_path / f"image.{suffix}"
        gray = {"CMYK": (128, 128, 128, 0), "YCbCr": (127, 128, 128), "LAB": (137, 128, 128)}[mode]
        PIL.Image.new(mode, (16, 16), gray).save(path)
        np.testing.assert_allclose(load_image(path).pixels_HWC.astype(int), 127, atol=4)

    @pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
    def test_an_animation_gives_its_first_image(self, tmp_path: Path, suffix: str) -> None:
        first, second = (PIL.Image.new("RGB", (9, 7), color) for color in ("red", "blue"))
        path = tmp_path / f"moving.{suffix}"
        first.save(path, save_all=True, append_images=[second], lossless=True)
        assert (load_image(path).pixels_HWC == (255, 0, 0)).all()

    @pytest.mark.parametrize(("w", "h"), [(1, 1), (1, 50), (50, 1)])
    @pytest.mark.parametrize("suffix", ["png", "jpg", "gif"])
    def test_one_pixel_wide_images_reach_the_network(self, tmp_path: Path, w: int, h: int, suffix: str) -> None:
        PIL.Image.new("RGB", (w, h), "white").save(tmp_path / f"line.{suffix}")
        image = load_image(tmp_path / f"line.{suffix}")
        assert (image.w, image.h) == (w, h)
        assert prepare(image, 32, 32, letterbox=False).eq(1).all()
        assert prepare(image, 32, 32, letterbox=True).eq(1).any()


class TestDraft:
    @pytest.mark.parametrize(
        ("least", "size"),
        [(None, (96, 64)), (33, (96, 64)), (32, (48, 32)), (17, (48, 32)), (16, (24, 16)), (1, (12, 8))],
    )
    def test_a_jpeg_is_halved_while_no_side_gets_too_short(
        self, tmp_path: Path, least: int | None, size: tuple[int, int]
    ) -> None:
        PIL.Image.linear_gradient("L").resize((96, 64)).convert("RGB").save(tmp_path / "a.jpg", quality=95)
        whole, draft = load_image(tmp_path / "a.jpg"), load_image(tmp_path / "a.jpg", min_side=least)
        assert (draft.w, draft.h) == size
        halved = PIL.Image.fromarray(whole.pixels_HWC).reduce(96 // size[0])
        np.testing.assert_allclose(draft.pixels_HWC.astype(int), np.asarray(halved).astype(int), atol=4)

    def test_other_formats_ignore_draft_mode(self, tmp_path: Path) -> None:
        PIL.Image.new("RGB", (96, 64), "red").save(tmp_path / "a.png")
        assert load_image(tmp_path / "a.png", min_side=8).pixels_HWC.shape == (64, 96, 3)


class TestOrientation:
    @pytest.fixture(params=range(1, 9))
    def turned(self, request: pytest.FixtureRequest, tmp_path: Path) -> Path:
        exif = PIL.Image.Exif()
        exif[ORIENTATION] = request.param
        path = tmp_path / f"{request.param}.png"
        PIL.Image.fromarray(colors()).save(path, exif=exif)
        return path

    def test_exif_orientation_is_obeyed_by_default(self, turned: Path) -> None:
        pixels_HWC = colors()
        upright = {
            1: pixels_HWC,
            2: pixels_HWC[:, ::-1],
            3: pixels_HWC[::-1, ::-1],
            4: pixels_HWC[::-1],
            5: pixels_HWC.transpose(1, 0, 2),
            6: np.rot90(pixels_HWC, -1),
            7: np.rot90(pixels_HWC, 2).transpose(1, 0, 2),
            8: np.rot90(pixels_HWC),
        }
        np.testing.assert_array_equal(load_image(turned).pixels_HWC, upright[int(turned.stem)])

    def test_exif_orientation_can_be_ignored_as_stb_does(self, turned: Path) -> None:
        np.testing.assert_array_equal(load_image(turned, exif_rotate=False).pixels_HWC, colors())

    def test_broken_exif_does_not_cost_the_image(self, tmp_path: Path) -> None:
        PIL.Image.fromarray(colors()).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\x99" * 40)
        assert load_image(tmp_path / "a.jpg").w == 12


class TestRefusals:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "an empty file"),
            (b"just some words about an image\n" * 30, "a text file"),
            (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n", "a Git-LFS pointer"),
            (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document"),
            (bytes(range(256)) * 4, "not an image format that Pillow knows"),
            (png_header(4, 4)[:-1] + b"?" * 40, "starts like a PNG image, but its header is damaged"),
            (b"\xff\xd8\xff\xe0" + b"\0" * 30, "starts like a JPEG image, but its header is damaged"),
            (b"\0\0\0\x18ftypheic" + b"\0" * 40, "starts like a HEIC or AVIF image"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "PostScript"),
            (
                png_header(100_000, 100_000) + chunk(b"IDAT", b"\0"),
                "more pixels than the limit of 178956970",
            ),
            (
                png_header(14_000, 14_000) + chunk(b"IDAT", b"\0"),
                f"14000 x 14000 pixels, more than the limit of {LIMIT}",
            ),
            (png_header(1, 1 << 25) + chunk(b"IDAT", b"\0"), "1 x 33554432 pixels, longer than the limit of 16777216"),
            (
                b"GIF89a\x09\0\x09\0\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\0;",
                "more pixels than the limit of 178956970",
            ),
            (
                b"GIF89a\x09\0\x09\0\0\0\0!\xf9\x04\x08\0\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\0;",
                "claims more pixels than the limit",  # Pillow would allocate the frame to dispose of while it opens
            ),
            (png_header(0, 5) + chunk(b"IDAT", b""), "starts like a PNG image"),
            (PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 99, 2, 0, 0, 0)), "starts like a PNG image"),
            (png_header(4, 4) + chunk(b"IDAT", zlib.compress(b"\x09" * 52)) + chunk(b"IEND", b""), "damaged"),
        ],
    )
    def test_other_kinds_of_file_are_named(self, tmp_path: Path, content: bytes, reason: str) -> None:
        path = tmp_path / "image.jpg"
        path.write_bytes(content)
        assert reason in refusal(path)

    @pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "ppm", "tif", "tga"])
    def test_a_truncated_file_is_reported_as_truncated(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"cut.{suffix}"
        PIL.Image.fromarray(colors(200, 150)).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert refusal(path).startswith("truncated, the file ends before the image does")

    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            (MemoryError(), "does not fit into memory"),
            (EOFError(), "truncated, the file ends before the image does (EOFError)"),
            (KeyError(40961), "damaged (40961)"),
            (RecursionError("too\ndeep"), "damaged (too deep)"),
            (AssertionError(), "damaged (AssertionError)"),
            (struct.error("unpack requires 4 bytes"), "damaged (unpack requires 4 bytes)"),
        ],
    )
    def test_whatever_a_decoder_raises_becomes_an_image_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, reason: str
    ) -> None:
        def trip(_: object) -> None:
            raise fault

        PIL.Image.fromarray(colors()).save(tmp_path / "good.png")
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", trip)
        assert refusal(tmp_path / "good.png") == reason


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """One small image in many formats, some with an EXIF block."""
    folder = tmp_path_factory.mktemp("whole")
    picture = PIL.Image.fromarray(colors(24, 16))
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = 6
    for suffix in ("jpg", "png", "tif", "webp"):
        picture.save(folder / f"a.{suffix}", exif=exif)
    for suffix in ("gif", "bmp", "ppm", "tga"):
        picture.save(folder / f"a.{suffix}")
    return [path.read_bytes() for path in sorted(folder.iterdir())]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damage_anywhere_ends_in_a_image_or_in_one_line(
    tmp_path: Path, whole_files: list[bytes], data: st.DataObject
) -> None:
    content = bytearray(data.draw(st.sampled_from(whole_files)))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.bin"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            assert load_image(path).pixels_HWC.shape[2] == 3
        except ImageError as refused:
            assert str(refused).isprintable()


class TestPillowsGlobals:
    def test_the_limit_is_ours_while_pillows_is_left_as_it_was(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        PIL.Image.fromarray(colors(12, 8)).save(tmp_path / "a.png")
        monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 5)
        assert load_image(tmp_path / "a.png").w == 12
        monkeypatch.setenv("DARKPY_MAX_PIXELS", "96")
        assert load_image(tmp_path / "a.png").w == 12
        messages = {
            "95": "12 x 8 pixels, more than the limit of 95; --max-pixels 96, or",
            "9": "the limit of 9, perhaps",
        }
        for limit, message in messages.items():
            monkeypatch.setenv("DARKPY_MAX_PIXELS", limit)
            with pytest.raises(ImageError, match=message):
                load_image(tmp_path / "a.png")
        monkeypatch.setenv("DARKPY_MAX_PIXELS", "many")
        with pytest.raises(ImageError, match="DARKPY_MAX_PIXELS=many is not a number of pixels"):
            load_image(tmp_path / "a.png")
        assert PIL.Image.MAX_IMAGE_PIXELS == 5

    def test_threads_leave_the_warning_filters_as_they_were(self, tmp_path: Path) -> None:
        whole, broken = tmp_path / "a.png", tmp_path / "b.png"
        PIL.Image.fromarray(colors(64, 64)).save(whole)
        broken.write_bytes(whole.read_bytes()[:200])
        before = list(warnings.filters)

        def attempt(number: int) -> bool:
            try:
                return load_image(broken if number % 3 else whole).w == 64
            except ImageError:
                return False

        with ThreadPoolExecutor(4) as threads:
            assert sum(threads.map(attempt, range(60))) == 20
        assert list(warnings.filters) == before
