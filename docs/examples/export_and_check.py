"""Export a network to ONNX and compare ONNX Runtime's outputs with darkpy's. Needs the extra `onnx`."""

from pathlib import Path

import onnxruntime
import torch

import darkpy
from darkpy.export.convert import Conversion, open_source, pack, target_for
from darkpy.files import write_atomic

CFG, WEIGHTS, TARGET = "sample.cfg", Path("sample.weights"), Path("sample.onnx")

network = darkpy.load(CFG, WEIGHTS)
x_BCHW = torch.rand(2, *network.plan.input_shape)
with torch.inference_mode():
    expected = [output.clone() for output in network(x_BCHW)]

metadata = open_source(WEIGHTS).metadata
write_atomic(TARGET, pack(Conversion(network.for_inference(), metadata), target_for(TARGET)))

session = onnxruntime.InferenceSession(str(TARGET))
for ours, theirs in zip(expected, session.run(None, {"x": x_BCHW.numpy()}), strict=True):
    difference = float((ours - torch.from_numpy(theirs)).abs().max() / ours.abs().max())
    print(f"{tuple(theirs.shape)}: largest difference {difference:.1e} of the largest value")
    assert difference < 1e-4
