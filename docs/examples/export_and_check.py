"""Export a network to ONNX and compare ONNX Runtime's outputs with darkpy's. Needs the extra `onnx`."""

import onnxruntime
import torch

import darkpy

network = darkpy.load("sample.cfg", "sample.weights")
file = darkpy.export_onnx(network, "sample.onnx", overwrite=True)

x_BCHW = torch.rand(2, *network.plan.input_shape)
with torch.inference_mode():
    expected = network(x_BCHW)
session = onnxruntime.InferenceSession(str(file))
for ours, theirs in zip(expected, session.run(None, {"x": x_BCHW.numpy()}), strict=True):
    difference = float((ours - torch.from_numpy(theirs)).abs().max() / ours.abs().max())
    print(f"{tuple(theirs.shape)}: largest difference {difference:.1e} of the largest value")
    assert difference < 1e-4
