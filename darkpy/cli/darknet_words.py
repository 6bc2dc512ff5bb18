"""darknet's own command lines: the options that its programs read, and the commands that darkpy lacks.

Source: AlexeyAB/darknet src/darknet.c, src/detector.c, src/classifier.c; pjreddie/darknet examples/ of the same names
"""

from __future__ import annotations

from typing import NamedTuple

GENERAL_OPTIONS = {"-nogpu": False, "-cuda_debug_sync": False, "-i": True}
_SHARED_FLAGS = (
    "-dont_show",
    "-benchmark",
    "-benchmark_layers",
    "-dontuse_opencv",
    "-show_imgs",
    "-clear",
    "-fullscreen",
)
_SHARED_VALUED_OPTIONS = ("-mjpeg_port", "-gpus", "-c", "-chart")
_DETECTOR_FLAGS = ("-show", "-letter_box", "-map", "-dontdraw_bbox", "-ext_output", "-save_labels")
_DETECTOR_VALUED_OPTIONS = (
    *("-points", "-avgframes", "-json_port", "-http_post_host", "-time_limit_sec", "-out_filename"),
    *("-json_file_output", "-out", "-prefix", "-thresh", "-iou_thresh", "-hier", "-s", "-num_of_clusters"),
    *("-width", "-height", "-mAP_epochs", "-avg", "-w", "-fps"),
)  # fmt: skip
_DETECTOR_OPTIONS = {
    **GENERAL_OPTIONS,
    **dict.fromkeys((*_SHARED_FLAGS, *_DETECTOR_FLAGS), False),
    **dict.fromkeys((*_SHARED_VALUED_OPTIONS, *_DETECTOR_VALUED_OPTIONS), True),
}
_CLASSIFIER_OPTIONS = {
    **GENERAL_OPTIONS,
    **dict.fromkeys((*_SHARED_FLAGS, "-topk"), False),
    **dict.fromkeys((*_SHARED_VALUED_OPTIONS, "-t"), True),
}
_TEXT_OPTIONS = {
    **GENERAL_OPTIONS,
    **dict.fromkeys(("-clear", "-tokenized"), False),
    **dict.fromkeys(("-file", "-seed", "-len", "-temp", "-srand", "-tokens"), True),
}
_MASK_OPTIONS = {
    **GENERAL_OPTIONS,
    **dict.fromkeys(("-clear", "-display"), False),
    **dict.fromkeys(("-gpus", "-c"), True),
}
_NUMBER_OPTIONS = {**GENERAL_OPTIONS, "-clear": False, "-gpus": True, "-c": True}
_NIGHTMARE_OPTIONS = {
    **GENERAL_OPTIONS,
    "-reconstruct": False,
    **dict.fromkeys(("-range", "-norm", "-rounds", "-iters", "-octaves", "-zoom", "-rate", "-thresh"), True),
    **dict.fromkeys(("-rotate", "-momentum", "-lambda", "-prefix", "-smooth"), True),
}
DARKNET_OPTIONS = {
    **dict.fromkeys(("detector", "detect"), _DETECTOR_OPTIONS),
    **dict.fromkeys(("classifier", "classify"), _CLASSIFIER_OPTIONS),
    **dict.fromkeys(("segmenter", "isegmenter"), _MASK_OPTIONS),
    "nightmare": _NIGHTMARE_OPTIONS,
    "regressor": _NUMBER_OPTIONS,
    "rnn": _TEXT_OPTIONS,
    "tag": {**GENERAL_OPTIONS, "-clear": False},
    "train": _DETECTOR_OPTIONS | _CLASSIFIER_OPTIONS,
}
"""Options that darknet reads for all subcommands of a command, and whether a value follows; others GENERAL_OPTIONS."""
SILENT_OPTIONS = frozenset({"-dont_show"})
"""Options accepted without effect, because darkpy opens no window."""
COMMANDS_IGNORING_OPTIONS = ("detector", "classifier", "train", "segmenter", "isegmenter")
"""darknet's commands that parse the options of all their subcommands, `demo` included."""
COMMANDS_IGNORING_WORDS = frozenset({
    *("detector", "classifier", "classify", "partial", "rgbgr", "rescale", "reset", "denormalize", "normalize"),
    *("oneoff", "ops", "statistics", "print", "visualize", "rnn", "nightmare"),
})  # fmt: skip
"""darknet's commands that read a fixed number of words and ignore further ones."""


_FOR_VIDEO = ("is for cameras and video", "darkpy detector demo DATA CFG WEIGHTS FILE takes it")
_FOR_STREAMS = (
    "sends the frames of a video",
    "darkpy detector demo DATA CFG WEIGHTS FILE takes it; darkpy detect --json prints JSON for programs",
)
UNSUPPORTED_OPTIONS = {
    **dict.fromkeys(("c", "s", "w", "fps", "prefix", "avg", "avgframes", "outfilename"), _FOR_VIDEO),
    **dict.fromkeys(("timelimitsec", "dontdrawbbox", "jsonfileoutput", "benchmark"), _FOR_VIDEO),
    **dict.fromkeys(("jsonport", "mjpegport", "httpposthost"), _FOR_STREAMS),
    "showimgs": ("shows images during training, and darkpy opens no window", "leave it out"),
    "topk": ("evaluates a classifier during training", "darkpy classifier valid evaluates each checkpoint"),
}
"""darknet's options that darkpy lacks: their purpose, and a replacement."""


class AbsentCommand(NamedTuple):
    """A command of darknet's programs that darkpy lacks: its purpose, and what to use instead."""

    purpose: str
    hint: str


_IN_PYTHON = "in Python, darkpy.load(CFG, WEIGHTS) gives the network's output for an image"
_MASKS_HINT = "darkpy segmenter test DATA CFG WEIGHTS IMAGES --out DIR draws those of images"
_CAMERA_HINT = "darkpy classifier demo DATA CFG WEIGHTS FILE prints the classes of each frame"
_YOLO_V1_HINTS = {
    "test": "darkpy detect CFG WEIGHTS IMAGE -thresh .2 --nms .4 --stretch finds the same boxes",
    "train": "darkpy detector train DATA CFG WEIGHTS, with the lists in DATA",
    "valid": "darkpy detector valid DATA CFG WEIGHTS, with the list in DATA",
    "recall": "darkpy detector recall DATA CFG WEIGHTS, with the list in DATA",
    "demo": "darkpy detector demo DATA CFG WEIGHTS FILE",
}
_AUTHORS_EXPERIMENT = AbsentCommand("is an experiment of darknet's authors with paths of their machines", _IN_PYTHON)

ABSENT_COMMANDS = {
    **dict.fromkeys(
        ("art", "attention", "captcha", "dice", "go", "lsd", "super", "swag", "vid", "voxel", "writing"),
        _AUTHORS_EXPERIMENT,
    ),
    "3d": AbsentCommand("merges two images into a red and cyan one", "an image editor does it"),
    "cfglayers": AbsentCommand("lists the layers of a cfg", "darkpy show CFG"),
    "cifar": AbsentCommand(
        "reads the binary files of CIFAR-10", "with CIFAR-10 as image files: darkpy classifier train DATA CFG"
    ),
    "help": AbsentCommand("prints the commands", "darkpy --help"),
    "version": AbsentCommand("prints the version", "darkpy --version"),
    "regressor demo": AbsentCommand(
        "predicts values for a camera's frames", "darkpy regressor test CFG WEIGHTS IMAGES takes images"
    ),
    "rnn generatetactic": AbsentCommand("generates proofs of an experiment", "darkpy rnn generate CFG WEIGHTS"),
    "rnn validtactic": AbsentCommand("measures proofs of an experiment", "darkpy rnn valid CFG WEIGHTS < TEXT"),
    "segmenter demo": AbsentCommand("shows the masks of a camera's frames", _MASKS_HINT),
    "isegmenter demo": AbsentCommand("shows the masks of a camera's frames", _MASKS_HINT),
    "detector draw": AbsentCommand(
        "changes an image until an object is found where the mouse has drawn a box",
        "darkpy nightmare CFG WEIGHTS IMAGE 10 changes an image without a window",
    ),
    "detector calcanchors": AbsentCommand("computes anchors", "darkpy detector calc_anchors"),
    **{
        f"{word} {subcommand}": AbsentCommand(f"is YOLOv1's command for {data}", hint)
        for word, data in (("yolo", "VOC"), ("coco", "COCO"))
        for subcommand, hint in _YOLO_V1_HINTS.items()
    },
    "yolo": AbsentCommand("is YOLOv1's command for VOC", _YOLO_V1_HINTS["test"]),
    "coco": AbsentCommand("is YOLOv1's command for COCO", _YOLO_V1_HINTS["test"]),
    "classifier gun": AbsentCommand("counts frames with a weapon, by class numbers of its author", _CAMERA_HINT),
    "classifier threat": AbsentCommand("draws a gauge of three classes of its author's network", _CAMERA_HINT),
    "classifier try": AbsentCommand(
        "prints the output of a layer", "darkpy compare CFG WEIGHTS IMAGE --dump FILE.npz writes all"
    ),
}  # fmt: skip
"""Commands of either darknet that darkpy lacks, as they follow the program's name."""
