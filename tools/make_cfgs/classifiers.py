"""Image classifiers: darknet's own, and published ones."""

from __future__ import annotations

from . import backbones
from .blocks import squeezes
from .schedules import falling_polynomial, imagenet, images, optimizer
from .writer import Cfg, Keys
from .yolo_early import V2_PAPER
from .yolov3 import YOLOV3_PAPER

RESNET_PAPER = 'He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", 2015; here with leaky ReLU'
DENSENET_PAPER = 'Huang, Liu, van der Maaten, Weinberger: "Densely Connected Convolutional Networks", 2016'
ALEXNET_PAPER = 'Krizhevsky, Sutskever, Hinton: "ImageNet Classification with Deep Convolutional Neural Networks", 2012'
VGG_PAPER = 'Simonyan, Zisserman: "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014'


def about(network: str, origin: str, training: str, differences: str = "") -> str:
    lines = [
        f"{network}: ImageNet (1000 classes)",
        origin,
        f"To train: {training}" if training else "",
        differences,
    ]
    return "\n".join(filter(None, lines))


def ending_with_cost(network: str, more_differences: str = "") -> str:
    return f"pjreddie's file. AlexeyAB's {network}.cfg ends in [cost]{more_differences}"


def add_scores_then_pool(cfg: Cfg, classes: int, *, activation: str = "linear") -> None:
    """Add a 1x1 convolution of class scores, then the mean over the image."""
    cfg.note(f"{classes} classes")
    cfg.plain_conv(classes, activation=activation)
    cfg.add("avgpool")
    cfg.add("softmax", groups=1)


def add_pool_then_scores(cfg: Cfg, classes: int) -> None:
    """Add the mean over the image, then the class scores."""
    cfg.note(f"{classes} classes")
    cfg.add("avgpool")
    cfg.plain_conv(classes, activation="linear")
    cfg.add("softmax", groups=1)


def connected_classes(cfg: Cfg, classes: int) -> None:
    """Add two wide connected layers with dropout, then the class scores."""
    cfg.note(f"{classes} classes")
    for _ in range(2):
        cfg.add("connected", output=4096, activation="relu")
        cfg.add("dropout", probability=".5")
    cfg.add("connected", output=classes, activation="linear")
    cfg.add("softmax", groups=1)


def darknet19() -> Cfg:
    differences = ending_with_cost("darknet19", " and trains at 224x224, twice as long, without distortion")
    header = about("Darknet-19, the backbone of YOLOv2", V2_PAPER, "batch=128, subdivisions=2", differences)
    cfg = Cfg(header, imagenet(256, burn_in=1000, min_crop=128, max_crop=448))
    backbones.darknet19(cfg)
    add_scores_then_pool(cfg, 1000)
    return cfg


def darknet53() -> Cfg:
    header = about("Darknet-53, the backbone of YOLOv3", YOLOV3_PAPER, "batch=128, subdivisions=4")
    cfg = Cfg(header, imagenet(256, burn_in=1000, min_crop=128, max_crop=448))
    backbones.darknet53(cfg)
    add_pool_then_scores(cfg, 1000)
    return cfg


def tiny() -> Cfg:
    """Build a network of 16 to 128 narrow filters between 3x3 convolutions, small enough for 1000 classes."""
    differences = ending_with_cost("tiny")
    cfg = Cfg(
        about("Tiny Darknet", "A network for little memory, by Redmon", "", differences),
        imagenet(224, batch=128, max_batches=1600000, max_crop=320),
    )
    cfg.conv(16, 3)
    cfg.maxpool()
    cfg.conv(32, 3)
    for stage, (narrow, wide) in enumerate([(16, 128), (32, 256), (64, 512)], start=2):
        cfg.maxpool()
        cfg.note(f"Stage {stage}, stride {2**stage}")
        squeezes(cfg, narrow, wide, times=2)
    cfg.conv(128, 1)
    add_scores_then_pool(cfg, 1000)
    return cfg


def cifar() -> Cfg:
    """Build three stages of three convolutions."""
    differences = ending_with_cost("cifar", ", trains ten times as long and crops in a layer of its own")
    header = f"CIFAR-10 (10 classes), 28x28 crops\n{differences}"
    distortion: Keys = {"min_crop": 32, "max_crop": 32, "hue": ".1", "saturation": ".75", "exposure": ".75"}
    net: Keys = {**images(28, 128, 1), **falling_polynomial("0.4", 5000), **optimizer(), **distortion}
    cfg = Cfg(header, net)
    for stage, filters in enumerate([128, 256, 512]):
        cfg.note(f"Stage {stage}, stride {2**stage}")
        for _ in range(3):
            cfg.conv(filters, 3)
        if stage < 2:
            cfg.maxpool()
        cfg.add("dropout", probability=".5")
    add_scores_then_pool(cfg, 10, activation="leaky")
    return cfg


def resnet_stem(cfg: Cfg) -> None:
    cfg.note("Stem, down to stride 4")
    cfg.conv(64, 7, stride=2)
    cfg.maxpool()


def resnet18() -> Cfg:
    header = about("ResNet-18", RESNET_PAPER, "batch=128, subdivisions=1")
    cfg = Cfg(header, imagenet(256, burn_in=1000, min_crop=128, max_crop=448))
    resnet_stem(cfg)
    for stage in range(4):
        cfg.note(f"Stage {stage + 1}, stride {4 * 2**stage}: 2 basic blocks")
        for block in range(2):
            source = cfg.last()
            filters, stride = 64 * 2**stage, 2 if stage and not block else 1
            cfg.conv(filters, 3, stride=stride)
            cfg.conv(filters, 3, activation="linear")
            cfg.shortcut(source, activation="leaky")
    add_pool_then_scores(cfg, 1000)
    return cfg


def resnet50() -> Cfg:
    differences = ending_with_cost("resnet50", ", scores before it pools and trains twice as long")
    header = about("ResNet-50", RESNET_PAPER, "batch=128, subdivisions=4", differences)
    cfg = Cfg(header, imagenet(256, burn_in=1000, min_crop=128, max_crop=448))
    resnet_stem(cfg)
    for stage, blocks in enumerate([3, 4, 6, 3]):
        cfg.note(f"Stage {stage + 1}, stride {4 * 2**stage}: {blocks} bottleneck blocks")
        for block in range(blocks):
            source = cfg.last()
            filters, stride = 64 * 2**stage, 2 if stage and not block else 1
            cfg.conv(filters, 1)
            cfg.conv(filters, 3, stride=stride)
            cfg.conv(4 * filters, 1, activation="linear")
            cfg.shortcut(source, activation="leaky")
    add_pool_then_scores(cfg, 1000)
    return cfg


def densenet201() -> Cfg:
    """Build blocks in which each layer reads all before it, and adds 32 channels."""
    differences = ending_with_cost("densenet201")
    header = about("DenseNet-201", DENSENET_PAPER, "batch=128, subdivisions=4", differences)
    cfg = Cfg(header, imagenet(256, burn_in=1000, max_batches=1600000, max_crop=448))
    resnet_stem(cfg)
    for stage, (layers, transition) in enumerate([(6, 128), (12, 256), (48, 512), (32, 0)], start=1):
        cfg.note(f"Dense block {stage}: {layers} layers of growth 32")
        for _ in range(layers):
            squeezes(cfg, 128, 32)
            cfg.route(-1, -3)
        if transition:
            cfg.note("Transition")
            cfg.conv(transition, 1)
            cfg.maxpool()
    add_scores_then_pool(cfg, 1000)
    return cfg


def alexnet() -> Cfg:
    differences = ending_with_cost("alexnet", " and has batch=128")
    header = about("AlexNet", ALEXNET_PAPER, "batch=128, subdivisions=1", differences)
    cfg = Cfg(header, imagenet(227, rate="0.01", max_crop=256))
    cfg.plain_conv(96, 11, stride=4, pad=0, activation="relu")
    cfg.add("maxpool", size=3, stride=2, padding=0)
    cfg.plain_conv(256, 5, activation="relu")
    cfg.add("maxpool", size=3, stride=2, padding=0)
    for filters in (384, 384, 256):
        cfg.plain_conv(filters, 3, activation="relu")
    cfg.add("maxpool", size=3, stride=2, padding=0)
    connected_classes(cfg, 1000)
    return cfg


def vgg16() -> Cfg:
    differences = ending_with_cost("vgg-16", " and has batch=128, subdivisions=4")
    header = about("VGG-16", VGG_PAPER, "batch=128, subdivisions=4", differences)
    cfg = Cfg(header, {**images(256, 1, 1), "learning_rate": "0.00001", **optimizer()})
    cfg.add("crop", crop_width=224, crop_height=224, flip=1, angle=0, saturation=1, exposure=1)
    for stage, (filters, count) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        cfg.note(f"Stage {stage}, stride {2**stage}")
        for _ in range(count):
            cfg.plain_conv(filters, 3, activation="relu")
        cfg.maxpool()
    connected_classes(cfg, 1000)
    return cfg
