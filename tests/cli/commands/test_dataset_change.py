"""`darkpy dataset remap` and `merge`."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkpy.data.formats.darknet_reader import read_darknet
from tests.cli.conftest import Run, write_image


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put("one", ("cat", "dog", "bird"), a="0 .5 .5 .5 .5\n1 .25 .25 .5 .5\n", b="2 .5 .5 1 1\n", c="")


def put(name: str, names: tuple[str, ...], **labels: str) -> Path:
    """A data set in a folder, the last image in valid."""
    folder = Path(name)
    folder.mkdir()
    for key, text in labels.items():
        write_image(folder / f"{key}.jpg", 40, 20)
        (folder / f"{key}.txt").write_text(text)
    paths = [f"{folder}/{key}.jpg\n" for key in labels]
    (folder / "t.list").write_text("".join(paths[:-1]))
    (folder / "v.list").write_text(paths[-1])
    (folder / "x.names").write_text("".join(f"{item}\n" for item in names))
    data = folder / f"{name}.data"
    data.write_text(f"train={folder}/t.list\nvalid={folder}/v.list\nnames={folder}/x.names\n")
    return data


def content(data: str) -> tuple[object, ...]:
    dataset = read_darknet(Path(data))
    objects = {key: [item.name for item in image.objects] for key, image in dataset.images.items()}
    return dataset.names, objects, {split: list(keys) for split, keys in dataset.splits.items()}


SPLITS = {"train": ["a", "b"], "valid": ["c"]}


@pytest.mark.parametrize(
    ("maps", "names", "objects"),
    [
        (["cat=pet,dog=pet"], ("pet", "bird"), {"a": ["pet", "pet"], "b": ["bird"], "c": []}),
        (["0=dog", "dog=cat"], ("dog", "cat", "bird"), {"a": ["dog", "cat"], "b": ["bird"], "c": []}),
        (["drop=2, 1=cat"], ("cat",), {"a": ["cat", "cat"], "b": [], "c": []}),
        (["dog=big dog,drop=*"], ("big dog",), {"a": ["big dog"], "b": [], "c": []}),
    ],
)
def test_classes_are_renamed_merged_and_dropped(
    run: Run, maps: list[str], names: tuple[str, ...], objects: dict[str, list[str]]
) -> None:
    options = [word for text in maps for word in ("--map", text)]
    code, _, err = run("dataset", "remap", "one/one.data", "out", *options)
    assert code == 0 and content("out/out.data") == (names, objects, SPLITS)
    assert ("have no object any more: b" in err) == (not objects["b"])
    assert Path("one/a.txt").read_text() == "0 .5 .5 .5 .5\n1 .25 .25 .5 .5\n"
    assert Path("out/pictures/a.txt").read_text().split()[1:5] == ["0.5"] * 4 or names == ("big dog",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dgo=pet", "--map: no class is called 'dgo'; did you mean dog?"),
        ("CAT=pet,9=x", "no class is called 'CAT'; did you mean cat?"),
        ("zebra=pet", "no class is called 'zebra'; the classes are cat, dog, bird"),
        ("cat", "--map: 'cat' is not OLD=NEW or drop=OLD"),
        ("cat=", "'cat=' is not OLD=NEW"),
        ("cat=a,0=b", "cat is mapped twice"),
        ("drop=*", "every class is dropped"),
    ],
)
def test_wrong_map_is_one_error_with_a_near_name_and_nothing_is_written(run: Run, text: str, told: str) -> None:
    code, out, err = run("dataset", "remap", "one/one.data", "out", "--map", text)
    assert (code, out) == (2, "") and told in err and err.count("error: ") == 1 and not Path("out").exists()
    assert text != "CAT=pet,9=x" or "'9'" in err


def test_sets_are_joined_by_names_and_images_of_one_name_do_not_collide(run: Run) -> None:
    put("two", ("dog", "Cat", "cow"), a="0 .5 .5 .5 .5\n1 .5 .5 .2 .2\n", c="2 .5 .5 .1 .1\n")
    code, out, err = run("dataset", "merge", "one/one.data", "two/two.data", "both")
    assert code == 0 and "both: 5 images (train 3, valid 2)" in out
    assert "1 classes differ from others in case only, and stay apart: cat and Cat" in err
    names, objects, splits = content("both/both.data")
    assert names == ("cat", "dog", "bird", "Cat", "cow")
    expected = {"one_a": ["cat", "dog"], "b": ["bird"], "one_c": [], "two_a": ["dog", "Cat"], "two_c": ["cow"]}
    assert objects == expected and splits == {"train": ["one_a", "b", "two_a"], "valid": ["one_c", "two_c"]}
    assert Path("both/pictures/two_a.jpg").resolve() == Path("two/a.jpg").resolve()


def test_image_of_two_sets_has_the_objects_of_both_and_folders_are_added_to_train(run: Run) -> None:
    Path("more.list").write_text("one/a.jpg\none/c.jpg\n")
    Path("more.data").write_text("train=more.list\nnames=more.names\n")
    Path("more.names").write_text("dog\nhorse\n")
    Path("one/a.txt").write_text("0 .5 .5 .5 .5\n1 .25 .25 .5 .5\n")
    code, _, err = run("dataset", "merge", "one/one.data", "more.data", "both")
    assert code == 0 and "2 images are in several data sets" in err and "1 images are in different splits" in err
    names, objects, splits = content("both/both.data")
    assert names == ("cat", "dog", "bird", "horse") and splits == SPLITS
    assert objects == {"a": ["cat", "dog", "dog", "horse"], "b": ["bird"], "c": []}
    Path("new").mkdir()
    write_image(Path("new/n.jpg"), 8, 8)
    Path("new/n.txt").write_text("0 .5 .5 1 1\n")
    code, _, err = run("dataset", "merge", "one/one.data", "new", "third")
    assert code == 0 and "1 data sets have no names: their classes are called by their numbers: new" in err
    assert content("third/third.data")[2] == {"train": ["a", "b", "n"], "valid": ["c"]}


def test_merging_needs_two_sets(run: Run) -> None:
    assert "name two data sets or more" in run("dataset", "merge", "one/one.data", "out").err


def test_train_list_named_as_valid_too_adds_nothing_to_valid(run: Run) -> None:
    """A data set without validation images has valid=train.txt."""
    data = put("two", ("cat",), x="0 .5 .5 .5 .5\n", y="0 .5 .5 .5 .5\n")
    data.write_text(data.read_text().replace("v.list", "t.list"))
    assert run("dataset", "merge", "one/one.data", "two/two.data", "both").code == 0
    assert content("both/both.data")[2] == {"train": ["a", "b", "x"], "valid": ["c"]}
