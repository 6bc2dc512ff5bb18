"""Detect objects on a numpy array, such as a frame of a camera.

Needs sample.cfg, sample.weights and sample.names of the folder weights/ in the working directory.
"""

from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw

import darkpy
from darkpy.data.loading.images import Image, prepare
from darkpy.evaluation.detect import DetectOptions, postprocess, to_objects

names = Path("sample.names").read_text().split()
network = darkpy.accelerate(darkpy.load("sample.cfg", "sample.weights"))
options = DetectOptions(thresh=0.3).resolved(network)

frame = PIL.Image.new("RGB", (320, 240), (90, 110, 90))  # stands for a frame: any (H, W, 3) uint8 array, RGB
PIL.ImageDraw.Draw(frame).ellipse((60, 60, 140, 140), fill=(220, 60, 60))
image = Image(Path("frame"), np.array(frame))

net = network.plan.input_shape
x_BCHW = prepare(image, net.w, net.h, letterbox=bool(options.letterbox))[None]
detections = postprocess(network, network(x_BCHW), [(image.w, image.h)], options)
for detected in to_objects(detections, 0, names, 0.3):
    x, y, w, h = detected.box_frac  # center and size, as fractions of the image
    print(f"{detected.name} {detected.confidence:.2f} at ({x * image.w:.0f}, {y * image.h:.0f})")
