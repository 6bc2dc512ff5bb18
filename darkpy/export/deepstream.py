"""Configuration of NVIDIA DeepStream's inference plug-in for an exported network.

Source: docs.nvidia.com/metropolis/deepstream, Gst-nvinfer, configuration file; the parser of boxes is that of
github.com/marcoslucianops/DeepStream-Yolo, which reads rows of x1, y1, x2, y2, score, class.
"""

from __future__ import annotations

from collections.abc import Sequence

from darkpy.evaluation.detect import DetectOptions
from darkpy.network import Network

PIXEL_SCALE_TEXT = "0.0039215697906911373"  # 1 / 255 as the plug-in reads it in float32
NETWORK_MODES = {"fp32": 0, "fp16": 2}
COLOR_FORMATS = {3: 0, 1: 2}  # RGB, gray
DEFAULT_NMS_IOU, MAX_BOXES = 0.45, 300


def deepstream_config(network: Network, stem: str, names: Sequence[str], precision: str, thresh: float) -> str:
    """Text of a config_infer file. stem: name, without suffix, of the ONNX and label files beside it."""
    letterbox = int(bool(DetectOptions().resolved(network).letterbox))
    classes = max(head.class_count for head in network.heads)
    shape = network.plan.input_shape
    lines = [
        "[property]",
        "gpu-id=0",
        "gie-unique-id=1",
        "process-mode=1",
        "network-type=0",
        f"onnx-file={stem}.onnx",
        f"model-engine-file={stem}.onnx_b1_gpu0_{precision}.engine",
        *([f"labelfile-path={stem}.labels.txt"] if names else []),
        "batch-size=1",
        f"network-mode={NETWORK_MODES[precision]}",
        f"infer-dims={shape.c};{shape.h};{shape.w}",
        f"num-detected-classes={classes}",
        f"net-scale-factor={PIXEL_SCALE_TEXT}",
        f"model-color-format={COLOR_FORMATS.get(shape.c, 0)}",
        f"maintain-aspect-ratio={letterbox}",
        "symmetric-padding=1",
        "cluster-mode=2",
        "parse-bbox-func-name=NvDsInferParseYolo",
        "custom-lib-path=nvdsinfer_custom_impl_Yolo/libnvdsinfer_custom_impl_Yolo.so",
        "",
        "[class-attrs-all]",
        f"nms-iou-threshold={DEFAULT_NMS_IOU}",
        f"pre-cluster-threshold={thresh:g}",
        f"topk={MAX_BOXES}",
    ]
    return "\n".join(lines) + "\n"
