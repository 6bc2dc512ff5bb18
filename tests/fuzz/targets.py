"""Readers of darkpy, each with sound files of a small training made here."""

from __future__ import annotations

import contextlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image
import torch

import darkpy
from darkpy.__main__ import main
from darkpy.build import make_plan
from darkpy.config.classmap import read_class_map
from darkpy.config.tree import read_tree
from darkpy.data.formats.coco import read_coco
from darkpy.data.formats.darknet_writer import ImportStats, label_texts
from darkpy.data.formats.voc import read_voc
from darkpy.data.formats.yolo_reader import read_yolo
from darkpy.data.lists.labels import read_label_table, read_labels, read_tags
from darkpy.data.lists.mask_files import encode_runs, read_masks
from darkpy.data.lists.paths import read_image_list
from darkpy.data.lists.text_files import read_data, read_names
from darkpy.data.loading.decoding import read_image_size
from darkpy.data.loading.images import load_image
from darkpy.diagnostics.monitor.run_log import read_log
from darkpy.diagnostics.report.events import write_events
from darkpy.diagnostics.report.page import drawings, write_page
from darkpy.errors import ImageError
from darkpy.evaluation.dump import open_dump, write_dump
from darkpy.export.convert import fill, open_source
from darkpy.network import Network
from darkpy.shapes import Shape
from darkpy.training.checkpoints import open_resume
from darkpy.training.trainer import Trainer
from tests.fuzz.annotation_targets import annotation_targets
from tests.fuzz.harness import OUT, Target

CFG = """[net]
batch=2
subdivisions=1
width=32
height=32
channels=3
momentum=0.9
decay=0.0005
angle=0
saturation=1.5
exposure=1.5
hue=.1
learning_rate=0.001
burn_in=2
max_batches=3
policy=steps
steps=2,3
scales=.1,.1

[convolutional]
batch_normalize=1
filters=4
size=3
stride=2
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[convolutional]
filters=21
size=1
stride=1
pad=1
activation=linear

[yolo]
mask=0,1,2
anchors=5,5, 8,8, 12,12
classes=2
num=3
jitter=.3
ignore_thresh=.7
random=0
max=10
"""
REGION_CFG = CFG.replace("[yolo]\nmask=0,1,2\nanchors=5,5, 8,8, 12,12", "[region]\nanchors=.5,.5, 1,1, 2,2").replace(
    "max=10", "max=10\nbias_match=1\ncoords=4\nsoftmax=1\nrescore=1\nobject_scale=5\nthresh=.6"
)
ALEXEYAB_CFG = CFG.replace(
    "jitter=.3", "jitter=.3\nscale_x_y=1.05\niou_loss=ciou\niou_normalizer=.07\nbeta_nms=.6"
).replace("channels=3", "channels=3\nmosaic=1\nmax_delta=5")
CLASSIFIER_CFG = CFG[: CFG.index("[yolo]")].replace("filters=21", "filters=2") + "[avgpool]\n[softmax]\ngroups=1\n"
DATA = "classes=2\ntrain=train.txt\nvalid=train.txt\nnames=pets.names\nbackup=out\n"
LABELS = b"0 0.5 0.5 0.25 0.5\n1 0.25 0.75 0.125 0.0625\n"
VOC = """<annotation><folder>x</folder><filename>p0.png</filename>
<size><width>32</width><height>24</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult>
<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object>
<object><name>dog</name><difficult>1</difficult>
<bndbox><xmin>9</xmin><ymin>2</ymin><xmax>30</xmax><ymax>9</ymax></bndbox></object>
</annotation>
"""
COCO = {
    "images": [
        {"id": 1, "file_name": "p0.png", "width": 32, "height": 24},
        {"id": 2, "file_name": "p1.png", "width": 32, "height": 24},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [2, 3, 8, 9], "segmentation": [[2, 3, 10, 3, 10, 12]]},
        {"id": 2, "image_id": 2, "category_id": 3, "bbox": [1.5, 3, 20, 9.5], "area": 190, "iscrowd": 1},
        {"id": 3, "image_id": 2, "category_id": 3, "segmentation": {"size": [24, 32], "counts": [50, 8, 710]}},
    ],
    "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}],
}
_YAMLS = [
    b"path: .\ntrain: train.txt\nval: [p0.png, '.']\nnames: {0: cat, 1: 'dog'}\n",
    b"train: ../.\nnames:\n- cat # the \n- dog\nnc: 2\nkpt_shape: [17, 3]\n",
]
TREE = b"root0 -1\nroot1 -1\ncat 0\ndog 0\ncar 1\nbus 1\n"


def picture(number: int, form: str = "PNG", mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).convert(mode).save(stream, form)
    return stream.getvalue()


@cache
def trained(folder: Path) -> dict[str, bytes]:
    """Files of a training of two updates: weights, resume file and log."""
    folder.mkdir()
    for name, data in project().items():
        (folder / name).write_bytes(data)
    text = DATA.replace("=train.txt", f"={folder}/train.txt").replace("=out", f"={folder}")
    (folder / "pets.data").write_text(text)
    (folder / "train.txt").write_text("".join(f"{folder}/p{number}.png\n" for number in range(4)))
    darkpy.train(folder / "net.cfg", folder / "pets.data", chart=False, workers=0)
    return {
        "weights": (folder / "net_final.weights").read_bytes(),
        "resume": (folder / "net_3.resume").read_bytes(),
        "log": (folder / "net.health.jsonl").read_bytes(),
    }


def project() -> dict[str, bytes]:
    """Files of a small project, by name."""
    files = {"net.cfg": CFG.encode(), "pets.data": DATA.encode(), "pets.names": b"cat\ndog\n"}
    files["train.txt"] = b"".join(b"p%d.png\n" % number for number in range(4))
    for number in range(4):
        files |= {f"p{number}.png": picture(number), f"p{number}.txt": LABELS}
    return files


def _network(folder: Path) -> Network:
    return Network(make_plan(CFG))


def _load(name: str) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        return fill(open_source(folder / name), _network(folder), allow_partial=True)

    return read


def _read_lists(folder: Path) -> None:
    for path in read_image_list(folder / "train.txt"):
        with contextlib.suppress(ImageError):
            read_image_size(path)


def _read_data(folder: Path) -> None:
    data = read_data(folder / "pets.data")
    for key in ("train", "valid", "names", "backup"):
        data.find(key)
    data.find_names()


def _read_labels(folder: Path) -> None:
    read_label_table(["p0.png"], folder)
    read_labels(folder / "p0.txt", 2)
    read_labels(folder / "p0.txt", 2, allow_class_only=True)
    read_tags(folder / "p0.txt", 2)


def _read_masks(folder: Path) -> None:
    for mask in read_masks(folder / "p0.txt", 2).fitting(8, 4).masks:
        assert mask.render(8, 4).sum() == 255 * encode_runs(mask.render(8, 4) > 0)[1::2].sum()


def _report(folder: Path) -> None:
    log = read_log(folder / "net.health.jsonl")
    write_page(log).encode("utf-8")
    for drawing in drawings(log).values():
        drawing.svg()
    events = folder / OUT / "events"
    write_events(log, events)
    for path in events.iterdir():
        path.unlink()
    events.rmdir()


def _resume(folder: Path) -> None:
    resume = open_resume(folder / "net_3.resume")
    network = _network(folder)
    network.initialize()
    trainer = Trainer(network)
    trainer.network.header = trainer.network.header.with_seen(resume.seen)
    resume.restore(trainer)


def _dump(folder: Path) -> None:
    shape = Shape(3, 4, 4)
    with open_dump(folder / "x.npz") as dump:
        if dump.has_input and not dump.unknown_names:
            dump.read_input(shape, 4)
        for index in dump.layers:
            dump.read_layer(index, 1, shape)


def _coco(folder: Path) -> None:
    dataset = read_coco(folder / "instances.json", folder)
    label_texts(dataset, dataset.class_names(), ImportStats(), difficult="apart")


def _voc(folder: Path) -> None:
    dataset = read_voc(folder)
    label_texts(dataset, dataset.class_names(), ImportStats(), difficult="apart")


def _yolo(folder: Path) -> None:
    for source in (folder / "data.yaml", folder):
        dataset = read_yolo(source)
        label_texts(dataset, dataset.class_names(), ImportStats(), difficult="apart")


def _image(folder: Path) -> None:
    try:
        read_image_size(folder / "p")
    finally:
        for channels in (1, 3):
            load_image(folder / "p", channels=channels, min_side=8)


def _converted(folder: Path, suffix: str) -> bytes:
    """The trained weights in another format."""
    folder.mkdir(exist_ok=True)
    (folder / "net.cfg").write_text(CFG)
    (folder / "net.weights").write_bytes(trained(folder.parent / "trained")["weights"])
    target = folder / f"net{suffix}"
    assert main(["convert", str(folder / "net.weights"), str(target), "--force"]) == 0
    return target.read_bytes()


def _dumped(folder: Path) -> bytes:
    outputs = [torch.rand(1, 3, 4, 4) for _ in range(2)]
    write_dump(folder / "x.npz", torch.rand(1, 3, 4, 4), outputs)
    return (folder / "x.npz").read_bytes()


def _images() -> list[bytes]:
    forms = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "TGA", "ICO", "PCX", "JPEG2000", "DDS", "SGI", "MSP")
    modes = {"PPM": "L", "GIF": "P", "TIFF": "CMYK", "BMP": "1", "MSP": "1"}
    return [picture(0, form, modes.get(form, "RGB")) for form in forms] + [
        picture(1, "PNG", "RGBA"),
        picture(2, "TIFF", "F"),
    ]


def _stored(folder: Path) -> bytes:
    """A dump that is not compressed, so that accidents reach its headers."""
    dump = _dumped(folder)
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(dump)) as source, zipfile.ZipFile(stream, "w") as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    return stream.getvalue()


def _keep_backup(data: bytes) -> bytes:
    """Let a .data file name the output folder, whose name is the user's own wish."""
    is_data_file = b"train=" in data or b"names=" in data
    return re.sub(rb"(?m)^.*backup.*$", b"", data) + b"\nbackup=out\n" if is_data_file else data


_CFGS = [text.encode() for text in (CFG, REGION_CFG, ALEXEYAB_CFG, CLASSIFIER_CFG)]
_COMMANDS = (
    ("show", "net.cfg"),
    ("show", "net.cfg", "--json"),
    ("doctor", "net.cfg", "pets.data"),
    ("doctor", "net.cfg", "pets.data", "--json", "--updates", "1"),
    ("detect", "net.cfg", "net.weights", "p0.png", "--out", "out/drawn"),
    ("detect", "net.cfg", "net.weights", "p0.png", "p1.png", "--json", "--data", "pets.data"),
    ("detector", "test", "pets.data", "net.cfg", "net.weights", "p0.png", "-thresh", ".01", "-dont_show"),
    ("detector", "map", "pets.data", "net.cfg", "net.weights"),
    ("train", "net.cfg", "pets.data", "--workers", "0", "--allow-empty"),
    ("train", "net.cfg", "pets.data", "net.weights", "--workers", "0", "-clear", "-map", "--darknet-log"),
    ("anchors", "pets.data", "--cfg", "net.cfg"),
    ("detector", "calc_anchors", "pets.data", "-num_of_clusters", "3", "-width", "32", "-height", "32"),
    ("dataset", "stats", "pets.data"),
    ("dataset", "to-coco", "train.txt", "out/x.json", "--force"),
    ("dataset", "split", "pets.data", "out/lists", "--force"),
    ("compare", "net.cfg", "net.weights", "p0.png"),
    ("statistics", "net.cfg", "net.weights"),
    ("evaluate", "net.cfg", "pets.data", "net.weights"),
)  # fmt: skip


TARGETS: dict[str, Callable[[Path], Target]] = {
    "cfg": lambda folder: Target(
        name="cfg", files={"net.cfg": _CFGS}, kinds="text", read=lambda work: make_plan(work / "net.cfg"), quick=150
    ),
    "weights": lambda folder: Target(
        name="weights",
        files={"net.weights": [trained(folder)["weights"]]},
        kinds="bytes",
        read=_load("net.weights"),
        quick=100,
    ),
    "labels": lambda folder: Target(
        name="labels", files={"p0.txt": [LABELS, b"0 .5 .5 .2 .2 # cell\n"]}, kinds="text", read=_read_labels, quick=150
    ),
    "masks": lambda folder: Target(
        name="masks", files={"p0.txt": [b"0 3,2,11\n1 0,7,20,5\n"]}, kinds="text", read=_read_masks, quick=150
    ),
    "list": lambda folder: Target(
        name="list", files={"train.txt": [project()["train.txt"]]}, kinds="text", read=_read_lists
    ),
    "names": lambda folder: Target(
        name="names",
        files={"pets.names": [b"cat\ndog\n"]},
        kinds="text",
        read=lambda work: read_names(work / "pets.names"),
    ),
    "data": lambda folder: Target(name="data", files={"pets.data": [DATA.encode()]}, kinds="text", read=_read_data),
    "tree": lambda folder: Target(
        name="tree", files={"x.tree": [TREE]}, kinds="text", read=lambda work: read_tree(work / "x.tree")
    ),
    "map": lambda folder: Target(
        name="map", files={"x.map": [b"0\n3\n7\n"]}, kinds="text", read=lambda work: read_class_map(work / "x.map", 9)
    ),
    "voc": lambda folder: Target(
        name="voc", files={"p0.xml": [VOC.encode()]}, fixed=project(), kinds="text", read=_voc
    ),
    "coco": lambda folder: Target(
        name="coco", files={"instances.json": [json.dumps(COCO).encode()]}, fixed=project(), kinds="json", read=_coco
    ),
    "yolo": lambda folder: Target(
        name="yolo",
        files={"data.yaml": _YAMLS, "p0.txt": [LABELS, b"1 .1 .1 .5 .1 .5 .6\n0 .5 .5 .2 .2 .9\n"]},
        fixed=project(),
        kinds="text",
        read=_yolo,
        quick=25,
    ),
    "log": lambda folder: Target(
        name="log", files={"net.health.jsonl": [trained(folder)["log"]]}, kinds="jsonl", read=_report, quick=60
    ),
    "resume": lambda folder: Target(
        name="resume", files={"net_3.resume": [trained(folder)["resume"]]}, kinds="npz", read=_resume, quick=150
    ),
    "pt": lambda folder: Target(
        name="pt", files={"net.pt": [_converted(folder.parent / "pt", ".pt")]}, kinds="bytes", read=_load("net.pt")
    ),
    "safetensors": lambda folder: Target(
        name="safetensors",
        files={"net.safetensors": [_converted(folder.parent / "st", ".safetensors")]},
        kinds="bytes",
        read=_load("net.safetensors"),
    ),
    "onnx": lambda folder: Target(
        name="onnx",
        files={"net.onnx": [_converted(folder.parent / "onnx", ".onnx")]},
        fixed=project() | {"net.weights": trained(folder)["weights"]},
        kinds="bytes",
        commands=[("compare", "net.cfg", "net.weights", "--against", "net.onnx")],
        quick=40,
        thorough=2_000,
    ),
    "image": lambda folder: Target(name="image", files={"p": _images()}, kinds="bytes", read=_image),
    "dump": lambda folder: Target(
        name="dump", files={"x.npz": [_dumped(folder.parent), _stored(folder.parent)]}, kinds="npz", read=_dump
    ),
    "command": lambda folder: Target(
        name="command",
        files={
            "net.cfg": _CFGS,
            "pets.data": [DATA.encode()],
            "pets.names": [b"cat\ndog\n"],
            "train.txt": [project()["train.txt"]],
            "p0.txt": [LABELS],
        },
        fixed={name: data for name, data in project().items() if name.startswith("p")}
        | {"net.weights": trained(folder)["weights"]},
        kinds="text",
        commands=_COMMANDS,
        repair=_keep_backup,
        quick=40,
        thorough=4_000,
    ),
    **annotation_targets(project()),
}
