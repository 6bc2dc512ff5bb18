"""Detect objects on a numpy array, such as a frame of a camera.

Needs sample.cfg, sample.weights and sample.names of the folder weights/ in the working directory.
"""

import numpy as np
import PIL.Image
import PIL.ImageDraw

import darkpy

network = darkpy.accelerate(darkpy.load("sample.cfg", "sample.weights"))

frame = PIL.Image.new("RGB", (320, 240), (90, 110, 90))  # stands for a frame: any (H, W, 3) uint8 array
PIL.ImageDraw.Draw(frame).ellipse((60, 60, 140, 140), fill=(220, 60, 60))
array = np.array(frame)

result = darkpy.detect_image(network, array, "sample.names", thresh=0.3)  # of cv2: channel_order="bgr"
for (left, top, right, bottom), score, name in zip(result.boxes, result.scores, result.names, strict=True):
    print(f"{name} {score:.2f} from ({left:.0f}, {top:.0f}) to ({right:.0f}, {bottom:.0f})")
