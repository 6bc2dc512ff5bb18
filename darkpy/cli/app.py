"""The command `darkpy`.

Nothing here imports torch before a command runs: help and completion answer at once.
"""

from __future__ import annotations

import click

import darkpy
from darkpy.cli.commands.anchors import anchors
from darkpy.cli.commands.calc_anchors import calc_anchors
from darkpy.cli.commands.classifier import classifier, classify
from darkpy.cli.commands.compare import compare
from darkpy.cli.commands.convert import convert
from darkpy.cli.commands.dataset import dataset
from darkpy.cli.commands.dataset_out import to_coco
from darkpy.cli.commands.dataset_views import draw, split, stats
from darkpy.cli.commands.detect import detect
from darkpy.cli.commands.detector import detector
from darkpy.cli.commands.doctor import doctor
from darkpy.cli.commands.evaluate import evaluate, map_command, recall, valid
from darkpy.cli.commands.report import report
from darkpy.cli.commands.sample import sample
from darkpy.cli.commands.show import show
from darkpy.cli.commands.train import train, train_classifier, train_detector
from darkpy.cli.commands.weight_stats import ops, print_command, statistics, visualize
from darkpy.cli.commands.weight_tools import average, denormalize, normalize, oneoff, partial, rescale, reset, rgbgr
from darkpy.cli.parsing import Group

HELP = """Read, run and train darknet networks (.cfg, .weights), with darknet's numbers.

\b
  darkpy show yolov3.cfg
  darkpy detect yolov3.cfg yolov3.weights photos/ --out drawn
  darkpy detector test coco.data yolov3.cfg yolov3.weights dog.jpg -thresh .25
  darkpy doctor my.cfg my.data
  darkpy train my.cfg my.data darknet53.conv.74
  darkpy report backup
  darkpy evaluate my.cfg my.data my.weights

darknet's command lines are understood as they are: options with one dash, anywhere in the line. darkpy COMMAND --help
tells what a command takes.

Results go to standard output, everything else to standard error. The exit code is 0, 2 when something that was given
is wrong, or 130 after Ctrl-C; darkpy compare has 1 for a difference, darkpy doctor for a finding.

\b
The shell completes commands, options and files after one line in its start-up file:
  ~/.bashrc                   eval "$(_DARKPY_COMPLETE=bash_source darkpy)"
  ~/.zshrc                    eval "$(_DARKPY_COMPLETE=zsh_source darkpy)"
  ~/.config/fish/config.fish  _DARKPY_COMPLETE=fish_source darkpy | source
"""


@click.group(cls=Group, help=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(darkpy.__version__, message="%(prog)s %(version)s")
def app() -> None:
    pass


app.add_command(anchors)
app.add_command(classifier)
app.add_command(classify)
app.add_command(compare)
app.add_command(dataset)
app.add_command(convert)
app.add_command(detect)
app.add_command(detector)
app.add_command(doctor)
app.add_command(evaluate)
app.add_command(report)
app.add_command(sample)
app.add_command(show)
app.add_command(train)
for tool in (average, denormalize, normalize, oneoff, partial, rescale, reset, rgbgr):
    app.add_command(tool)
for tool in (ops, print_command, statistics, visualize):
    app.add_command(tool)
classifier.add_command(train_classifier)
for command in (draw, split, stats, to_coco):
    dataset.add_command(command)
for command in (calc_anchors, map_command, recall, train_detector, valid):
    detector.add_command(command)
