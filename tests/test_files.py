"""Files that appear whole or not at all, and files that lie where others say."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from darkpy.errors import DarkpyError
from darkpy.files import (
    TEXT_FILE,
    identify,
    locate,
    note_input,
    protect_inputs,
    require_output_folder,
    write_atomic,
    write_folder,
)


def test_file_appears_with_all_its_chunks(tmp_path: Path) -> None:
    write_atomic(tmp_path / "x", [b"one", b"", b"two"])
    assert (tmp_path / "x").read_bytes() == b"onetwo"


def test_writer_that_breaks_off_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_bytes(b"old")

    def broken() -> Iterator[bytes]:
        yield b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(target, broken())
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_reader_sees_the_old_file_until_the_new_one_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_bytes(b"old")
    seen: list[bytes] = []

    def watched() -> Iterator[bytes]:
        yield b"new"
        seen.append(target.read_bytes())

    write_atomic(target, watched())
    assert (seen, target.read_bytes()) == ([b"old"], b"new")


def test_only_what_must_last_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    monkeypatch.setattr("os.fsync", waits.append)
    write_atomic(tmp_path / "a", [b"1"], durable=False)
    assert (tmp_path / "a").read_bytes() == b"1" and not waits
    write_atomic(tmp_path / "a", [b"2"])
    assert len(waits) == 1


def test_file_is_for_everybody_the_umask_lets_in(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "x", [b""])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o755])
def test_file_keeps_its_permissions_when_it_is_overwritten(mode: int, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    (tmp_path / "x").chmod(mode)
    write_atomic(tmp_path / "x", [b"new"])
    assert (tmp_path / "x").read_bytes() == b"new" and stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode


def test_umask_is_never_changed_while_threads_write(tmp_path: Path) -> None:
    """A file that another thread creates meanwhile must get the umask's permissions, too."""
    before = os.umask(0o027)
    try:
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                write_atomic(tmp_path / "x", [b""], durable=False)

        writer = threading.Thread(target=write)
        writer.start()
        modes = set()
        for number in range(500):
            handle = os.open(tmp_path / f"{number}", os.O_CREAT | os.O_WRONLY, 0o666)
            modes.add(stat.S_IMODE(os.fstat(handle).st_mode))
            os.close(handle)
        stop.set()
        writer.join()
    finally:
        os.umask(before)
    assert modes == {0o640}


def test_link_stays_a_link_and_its_target_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "deep" / "x", tmp_path / "link"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomic(link, [b"new"])
    assert link.is_symlink() and target.read_bytes() == b"new"


def test_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_atomic(pipe, [b"through"])
    reader.join(10)
    assert read == [b"through"] and pipe.is_fifo()


@pytest.mark.parametrize("name", ["no/such/folder/x", "."])
def test_place_that_cannot_be_written_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(DarkpyError) as caught:
        write_atomic(tmp_path / name, [b""])
    assert str(caught.value).startswith(f"{tmp_path / name}: cannot be written: ")


def test_name_as_long_as_a_name_may_be_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "é" * 127, "😀" * 63):
        write_atomic(tmp_path / name, [b"1"])
        assert (tmp_path / name).read_bytes() == b"1"


def test_named_file_is_looked_for_from_here_then_from_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    (there / "coco.names").write_text("")
    monkeypatch.chdir(here)
    assert locate(Path("coco.names"), there) == there / "coco.names"
    (here / "coco.names").write_text("")
    assert locate(Path("coco.names"), there) == Path("coco.names")
    assert locate(Path("no.names"), there) == Path("no.names")
    assert locate(Path("n" * 5000), there) == Path("n" * 5000)


@pytest.mark.parametrize("start", [b"train = x.txt\n", "größe=1\n".encode(), ("a" * 511 + "ö").encode()[:512]])
def test_text_is_distinguished_from_binary_data(start: bytes) -> None:
    assert identify(start) is TEXT_FILE


@pytest.mark.parametrize("start", [b"\0\0\0\0\2\0\0\0\5\0\0\0", b"abcdefgh\0", b"caf\xe9 au lait", b"\x93NUMPY\1\0"])
def test_binary_data_of_no_known_kind_is_not_described(start: bytes) -> None:
    assert identify(start) is None


def test_folder_appears_with_all_its_files_or_not_at_all(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"new"
        raise KeyboardInterrupt

    target = tmp_path / "made" / "r"
    write_folder(target, {"page": [b"darkpy ", b"one"], "b": []})
    assert (target / "page").read_bytes() == b"darkpy one"
    with pytest.raises(KeyboardInterrupt):
        write_folder(target, {"page": [b"darkpy two"], "b": broken()})
    assert (target / "page").read_bytes() == b"darkpy one" and list(target.parent.iterdir()) == [target]
    write_folder(target, {"page": [b"darkpy two"]})
    assert [path.name for path in target.iterdir()] == ["page"] and list(target.parent.iterdir()) == [target]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DarkpyError, match="cannot be written"):
        write_folder(tmp_path / "file" / "r", {"page": [b""]})


def test_folder_is_replaced_only_if_it_holds_such_files_alone(tmp_path: Path) -> None:
    names = ("page", "b")
    require_output_folder(tmp_path / "new", names, mark="page", overwrite=False)
    require_output_folder(tmp_path, names, mark="page", overwrite=False)
    (tmp_path / "b").write_bytes(b"")
    with pytest.raises(DarkpyError, match="holds b, which darkpy did not write"):
        require_output_folder(tmp_path, names, mark="page", overwrite=True)
    (tmp_path / "page").write_bytes(b"made by darkpy")
    require_output_folder(tmp_path, names, mark="page", overwrite=True)
    with pytest.raises(DarkpyError, match="already exists"):
        require_output_folder(tmp_path, names, mark="page", overwrite=False)
    with protect_inputs():
        note_input(tmp_path / "b")
        with pytest.raises(DarkpyError, match="is an input"):
            require_output_folder(tmp_path, names, mark="page", overwrite=True)
    (tmp_path / "c").write_bytes(b"")
    with pytest.raises(DarkpyError, match="holds c"):
        require_output_folder(tmp_path, names, mark="page", overwrite=True)
