"""The command `darkpy` and its subcommands.

A subcommand's module is imported when it runs; help and shell completion answer at once.
"""

from __future__ import annotations

import click

import darkpy
from darkpy.cli.groups import Group, LazyCommand

APP_HELP = """Run, train, inspect and convert darknet networks (.cfg, .weights) with darknet's results.

\b
  darkpy show yolov3.cfg
  darkpy detect yolov3.cfg yolov3.weights photos/ --out drawn
  darkpy detector test coco.data yolov3.cfg yolov3.weights dog.jpg -thresh .25
  darkpy doctor my.cfg my.data
  darkpy train my.cfg my.data darknet53.conv.74
  darkpy report backup
  darkpy evaluate my.cfg my.data my.weights

darknet's command lines work unchanged: options with one dash, anywhere on the line. Run darkpy COMMAND --help for the
arguments and options of a command.

Results go to standard output, everything else to standard error. Exit codes: 0 success; 1 darkpy compare found a
difference or darkpy doctor a problem; 2 wrong input; 130 interrupted by Ctrl-C; 141 broken pipe.

\b
To complete commands, options and files in your shell, add one line to its start-up file:
  ~/.bashrc                   eval "$(_DARKPY_COMPLETE=bash_source darkpy)"
  ~/.zshrc                    eval "$(_DARKPY_COMPLETE=zsh_source darkpy)"
  ~/.config/fish/config.fish  _DARKPY_COMPLETE=fish_source darkpy | source
"""


def _lazy(module: str, function: str, short_help: str) -> LazyCommand:
    return LazyCommand(f"darkpy.cli.commands.{module}", function, short_help)


classifier = Group(
    "classifier",
    {
        "csv": _lazy("classifier_lists", "csv", "Print the best classes of each image of a list, as numbers."),
        "demo": _lazy("classifier_demo", "demo", "Classify the frames of a video or camera."),
        "fout": _lazy("classifier_lists", "fout", "Print the probabilities of each image of a list."),
        "label": _lazy("classifier_lists", "label", "Print the best class of each image of a list."),
        "predict": _lazy("classifier", "predict", "Classify images."),
        "train": _lazy("train", "train_classifier", "Train a classifier."),
        "test": _lazy("classifier_lists", "test", "Print the network's output for each image of a list."),
        "valid": _lazy("classifier_valid", "valid", "Measure top-1 and top-k accuracy."),
        "valid10": _lazy("classifier_valid", "valid10", "Measure accuracy with ten crops of each image."),
        "validcrop": _lazy("classifier_valid", "validcrop", "Measure accuracy on stretched images."),
        "validfull": _lazy("classifier_valid", "validfull", "Measure accuracy on whole images."),
        "validmulti": _lazy("classifier_valid", "validmulti", "Measure accuracy with several sizes of each image."),
    },
    help="darknet's commands for classification networks, with darknet's arguments.",
)
dataset = Group(
    "dataset",
    {
        "clean": _lazy("dataset_clean", "clean", "Move unusable images and labels into a folder, with --undo."),
        "draw": _lazy("dataset", "draw", "Draw images of a data set with their boxes."),
        "from-coco": _lazy("dataset_import", "from_coco", "Convert COCO JSON to a darknet data set."),
        "from-kitti": _lazy("dataset_import", "from_kitti", "Convert KITTI's label_2 to a darknet data set."),
        "from-labelme": _lazy("dataset_import", "from_labelme", "Convert LabelMe's JSON to a darknet data set."),
        "from-labelstudio": _lazy(
            "dataset_import", "from_labelstudio", "Convert an export of Label Studio to a darknet data set."
        ),
        "from-openimages": _lazy(
            "dataset_import", "from_openimages", "Convert Open Images' CSV to a darknet data set."
        ),
        "from-voc": _lazy("dataset_import", "from_voc", "Convert PASCAL VOC XML to a darknet data set."),
        "from-yolo": _lazy(
            "dataset_import", "from_yolo", "Convert a YOLO data set (data.yaml, folder) to a darknet data set."
        ),
        "merge": _lazy("dataset_change", "merge", "Merge data sets."),
        "preview": _lazy("dataset_preview", "preview", "Draw augmented training samples."),
        "remap": _lazy("dataset_change", "remap", "Rename, merge and drop classes."),
        "repair": _lazy("dataset_repair", "repair", "Correct a systematic mistake in label files."),
        "split": _lazy("dataset", "split", "Split a list of images at random."),
        "stats": _lazy("dataset", "stats", "Count images, boxes and classes."),
        "to-coco": _lazy("dataset_export", "to_coco", "Convert labels to COCO JSON."),
        "to-voc": _lazy("dataset_export", "to_voc", "Convert labels to PASCAL VOC XML."),
        "to-yolo": _lazy("dataset_export", "to_yolo", "Convert labels to a data set of ultralytics (data.yaml)."),
    },
    help="""Convert, change, count and draw data sets.

\b
  darkpy dataset from-labelstudio export.json pets --images upload
  darkpy dataset stats pets/pets.data
  darkpy dataset draw pets/pets.data sheet.png
  darkpy dataset remap pets/pets.data cats --map kitten=cat,drop=cow
  darkpy dataset merge cats/cats.data more.data all
  darkpy dataset to-coco all/all.data annotations

from-FORMAT converts another program's data set to darknet's: links to the images with label files beside them, lists,
names, and the .data file that every other command reads; most also read a list or a folder of images. to-FORMAT
converts it to another program's. So any format converts to any other in two steps.

Errors of all files are reported at once; data that a format cannot represent is lost with a warning.
""",
)
detector = Group(
    "detector",
    {
        "calc_anchors": _lazy("anchors", "calc_anchors", "Compute anchors, with AlexeyAB's output."),
        "demo": _lazy("demo", "demo", "Detect the objects on a video or camera."),
        "map": _lazy("evaluate", "map_command", "Compute AlexeyAB's mean average precision."),
        "recall": _lazy("evaluate", "recall", "Measure recall, regardless of class."),
        "test": _lazy("detector", "test", "Detect the objects on an image."),
        "train": _lazy("train", "train_detector", "Train a detection network."),
        "valid": _lazy("detector_valid", "valid", "Write detections in VOC, COCO or another format."),
        "valid2": _lazy("detector_valid", "valid2", "Write detections averaged with those on mirrored images."),
    },
    help="darknet's commands for detection networks, with darknet's arguments.",
)
segmenter, isegmenter = (
    Group(
        name,
        {
            "test": _lazy("segmenter", "test", "Find the masks of the classes on images."),
            "train": _lazy("segmenter", f"train_{name}", f"Train a network on masks of {masks}."),
        },
        help=f"darknet's commands for masks of {masks}, with darknet's arguments.",
    )
    for name, masks in (("segmenter", "classes"), ("isegmenter", "instances"))
)
regressor = Group(
    "regressor",
    {
        "test": _lazy("regressor", "test_regressor", "Predict the values of images."),
        "train": _lazy("regressor", "train_regressor", "Train a regression network."),
    },
    help="darknet's commands for regression networks, with darknet's arguments.",
)
rnn = Group(
    "rnn",
    {
        "generate": _lazy("characters", "generate", "Generate text."),
        "train": _lazy("characters", "train", "Train a character-level network on a text."),
        "valid": _lazy("characters", "valid", "Measure how well a network predicts a text."),
        "vec": _lazy("characters", "vec", "Turn each line of a text into a vector."),
    },
    help="darknet's commands for character-level networks, with darknet's arguments.",
)
tag = Group(
    "tag",
    {
        "test": _lazy("regressor", "test_tagger", "Print the best tags of images."),
        "train": _lazy("regressor", "train_tagger", "Train a multi-label classifier."),
    },
    help="darknet's commands for multi-label classifiers.",
)
app = click.version_option(darkpy.__version__, message="%(prog)s %(version)s")(
    Group(
        "darkpy",
        {
            "anchors": _lazy("anchors", "anchors", "Compute anchors for a data set."),
            "average": _lazy("weight_tools", "average", "Average several weight files."),
            "classifier": classifier,
            "classify": _lazy("classifier", "classify", "Classify images, without a .data file."),
            "compare": _lazy("compare", "compare", "Compare every layer's output with another program's."),
            "compare-runs": _lazy("compare_runs", "compare_runs", "Compare two evaluations."),
            "convert": _lazy("convert", "convert", "Convert weights: .weights, .pt, .safetensors, .onnx."),
            "dataset": dataset,
            "denormalize": _lazy("weight_tools", "denormalize", "Fold batch norm into the weights and drop it."),
            "detect": _lazy("detect", "detect", "Detect objects on images or a video."),
            "detector": detector,
            "doctor": _lazy("doctor", "doctor", "Check a cfg and its data before training."),
            "evaluate": _lazy("evaluate", "evaluate", "Compute mAP, COCO's AP, accuracy or IoU; write a report."),
            "fetch": _lazy("models", "fetch", "Download the published weights of a network."),
            "isegmenter": isegmenter,
            "imtest": _lazy("image_tools", "imtest", "Write recolored copies of an image."),
            "mkimg": _lazy("image_tools", "mkimg", "Draw textures of a network's first filters."),
            "models": _lazy("models", "models", "List the networks that come with darkpy."),
            "new": _lazy("new", "new", "Write a cfg for your data, from a published one."),
            "nightmare": _lazy("nightmare", "nightmare", "Change an image so that it excites a layer."),
            "normalize": _lazy("weight_tools", "normalize", "Add an identity batch norm to layers without one."),
            "oneoff": _lazy("weight_tools", "oneoff", "Turn a classifier's last layer into a detector's."),
            "oneoff2": _lazy("weight_tools", "oneoff2", "Load a weight file again into the layers from L on."),
            "ops": _lazy("weight_stats", "ops", "Count the operations for one image."),
            "partial": _lazy("weight_tools", "partial", "Keep the first layers of a weight file."),
            "print": _lazy("weight_stats", "print_command", "Print the weights of a layer."),
            "regressor": regressor,
            "report": _lazy("report", "report", "Write an HTML report of a training run."),
            "rescale": _lazy("weight_tools", "rescale", "Convert inputs from [-1, 1] to [0, 1]."),
            "reset": _lazy("weight_tools", "reset", "Fold batch norm and keep an identity in its place."),
            "rgbgr": _lazy("weight_tools", "rgbgr", "Swap the red and blue input channels."),
            "rnn": rnn,
            "sample": _lazy("sample", "sample", "Create a small synthetic data set."),
            "segmenter": segmenter,
            "serve": _lazy("serve", "serve", "Detect objects on images posted over HTTP, or classify them."),
            "show": _lazy("show", "show", "Print the layers of a network."),
            "speed": _lazy("speed", "speed", "Measure the time of a network on this machine."),
            "statistics": _lazy("weight_stats", "statistics", "Print statistics of the weight arrays."),
            "tag": tag,
            "test": _lazy("image_tools", "test", "Write recolored copies of an image: imtest."),
            "train": _lazy("train", "train", "Train a network, or resume a run."),
            "visualize": _lazy("weight_stats", "visualize", "Draw the filters of a convolution."),
        },
        help=APP_HELP,
    )
)
