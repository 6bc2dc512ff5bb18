"""Findings of an evaluation in words: the errors that cost most, and the remedies to try."""

from __future__ import annotations

from collections.abc import Iterator

from darkpy.evaluation.detector_report import DetectorReport
from darkpy.finding import Cause, Finding, Severity, count_text

MIN_NOTABLE_SHARE = 0.1
"""Share of the objects, or of the detections, from which their errors are named."""
MIN_CONFUSED, MIN_CONFUSED_SHARE = 3, 0.03
"""Objects of a class that another one's detections take, and their share of the class, to be named."""
MAX_CONFUSIONS = 3
MIN_F1_GAIN = 0.01
MIN_WEAKNESS = 0.1
"""Difference to the mean from which a class is named as weak."""
MIN_TRUTHS = 30
"""Objects of a class below which its numbers are uncertain."""
MIN_ECE = 0.1
MIN_CALIBRATED = 100
"""Detections from which calibration is judged."""
MIN_PLACEMENT_LOSS = 0.5
"""Share of AP50 that is lost at an IoU of .75, from which boxes are called imprecise."""
MIN_SURE_SCORE = 0.9
MAX_LISTED_NAMES = 5

_LABELS_HINT = "darkpy dataset draw DATA PNG shows whether such objects are labeled alike"
_MISS_TEXTS = {
    "wrong_class": "are detected as another class",
    "below_thresh": "are detected with lower scores only",
    "poorly_placed": "have a box that overlaps them too little",
    "not_detected": "have no box at all",
}
_FALSE_POSITIVE_TEXTS = {
    "duplicate": ("are second boxes of objects", "a lower --nms of darkpy detect suppresses more of them"),
    "wrong_class": ("are on objects of another class", _LABELS_HINT),
    "poorly_placed": ("overlap their object too little", "darkpy anchors DATA --cfg CFG fits the anchors to the boxes"),
    "both": ("are near an object of another class", _LABELS_HINT),
    "background": ("are where no object is labeled", "add such images to the training list, or label what is missing"),
}


def percent(value: float | None, decimals: int | None = None) -> str:
    """Text of a share from 0 to 1, by default with two digits."""
    if value is None:
        return "-"
    decimals = (0 if value >= 0.1 or not value else 1) if decimals is None else decimals
    return f"{100 * value:.{decimals}f} %"


def find_causes(report: DetectorReport) -> list[Finding]:
    """Findings of a detector's report, the most important first."""
    result = report.darknet
    findings = list(_on_inputs(report))
    if not result.truths:
        return [
            *findings,
            evaluation_finding("no-truth", "No image has a labeled object: nothing can be measured", hard=True),
        ]
    if not result.detections:
        message = "Nothing was detected, not even with a score of .005"
        hint = "darkpy doctor CFG DATA WEIGHTS checks the three together"
        return [*findings, evaluation_finding("no-detections", message, hint, hard=True)]
    if not result.tp + result.fp:
        message = f"No detection has a score above {result.thresh:g}"
        return [
            *findings,
            evaluation_finding("no-detections", message, "a lower -thresh", hard=True),
            *_on_threshold(report),
        ]
    return [finding for check in _REPORT_CHECKS for finding in check(report)] + findings


def evaluation_finding(
    name: str, message: str, *hints: str, hard: bool = False, cause: Cause = Cause.DETAILS
) -> Finding:
    severity = Severity.WARNING if hard else Severity.NOTE
    return Finding(name=name, message=message, severity=severity, cause=cause, hints=hints)


def _on_missed(report: DetectorReport) -> Iterator[Finding]:
    result, missed = report.darknet, report.errors.missed
    count = result.fn - missed["unreadable"]
    if count < MIN_NOTABLE_SHARE * result.truths:
        return
    text = f"{count} of {result.truths} objects are missed ({percent(count / result.truths)})"
    by_size = {bucket.name: bucket.truths - bucket.found for bucket in report.errors.sizes}
    size, most = max(by_size.items(), key=lambda item: item[1])
    hints = []
    bucket = next(bucket for bucket in report.errors.sizes if bucket.name == size)
    # notable if the size is missed more often than objects are in general
    if most > count / 2 and bucket.truths < result.truths and most / bucket.truths > count / result.truths:
        text += f"; most of them are {size} ({percent(most / count)})"
        if size == "small":
            hints.append("larger width= and height= in [net], or darkpy detect --tiles auto")
    kind = max(_MISS_TEXTS, key=missed.__getitem__)
    text += f"; {percent(missed[kind] / count)} {_MISS_TEXTS[kind]}"
    if kind == "below_thresh":
        hints.append("a lower -thresh finds them, with more false positives")
    yield evaluation_finding("missed", text, *hints, hard=True)


def _on_confusion(report: DetectorReport) -> Iterator[Finding]:
    truths = [row.truths for row in report.darknet.classes]
    cells = [
        (count, true_id, detected_id)
        for true_id, detected_id, count in report.errors.wrong_class
        if count >= max(MIN_CONFUSED, MIN_CONFUSED_SHARE * truths[true_id])
    ]
    if cells:
        parts = [
            f"{report.names[true_id]} is confused with {report.names[detected_id]} "
            f"({count} detections on {count_text(truths[true_id], 'object')})"
            for count, true_id, detected_id in sorted(cells, key=lambda cell: (-cell[0], cell))
        ]
        yield evaluation_finding("confused", listed(parts, MAX_CONFUSIONS, "; "), _LABELS_HINT, hard=True)


def _on_false_positives(report: DetectorReport) -> Iterator[Finding]:
    result, kinds = report.darknet, report.errors.false_positives
    if result.fp < MIN_NOTABLE_SHARE * (result.tp + result.fp):
        return
    kind = max(kinds, key=kinds.__getitem__)
    text, hint = _FALSE_POSITIVE_TEXTS[kind]
    part = percent(result.fp / (result.tp + result.fp))
    message = f"{result.fp} of {result.tp + result.fp} detections are wrong ({part}); "
    yield evaluation_finding("false-positives", f"{message}{percent(kinds[kind] / result.fp)} {text}", hint, hard=True)
    sure = [error for error in report.errors.worst_false_positives if (error.score or 0) > MIN_SURE_SCORE]
    unlabeled = [error for error in sure if error.kind == "background"]
    if len(unlabeled) > 2:
        count = (
            f"at least {len(unlabeled)}" if len(sure) == len(report.errors.worst_false_positives) else len(unlabeled)
        )
        place = "where no object is labeled: labels may be missing"
        text = f"{count} detections with scores above {MIN_SURE_SCORE:g} are {place}"
        yield evaluation_finding("labels-missing", text, _LABELS_HINT, cause=Cause.DATA)


def _on_threshold(report: DetectorReport) -> Iterator[Finding]:
    best, result = report.best_overall, report.darknet
    if best is None:
        return
    text = f"-thresh {best.thresh:g} gives the best F1, {best.f1:.3f}"
    if best.f1 - result.f1 >= MIN_F1_GAIN:
        yield evaluation_finding(
            "threshold", f"{text}; {result.thresh:g} gives {result.f1:.3f}", f"-thresh {best.thresh:g}"
        )
    else:
        yield evaluation_finding("threshold", f"{text}, hardly more than {result.thresh:g}")


def _on_classes(report: DetectorReport) -> Iterator[Finding]:
    rows = [
        (row.average_precision, name, row.truths)
        for row, name in zip(report.darknet.classes, report.names, strict=True)
    ]
    known = [(ap, name) for ap, name, truths in rows if truths]
    mean = sum(ap for ap, _ in known) / len(known)
    weak = sorted((ap, name) for ap, name in known if ap < mean - MIN_WEAKNESS)
    if weak:
        names = listed([f"{name} ({percent(ap)})" for ap, name in weak])
        text = f"AP is far below the mean of {percent(mean)} in {count_text(len(weak), 'class')}: {names}"
        yield evaluation_finding("weak-classes", text, hard=True)
    rare = [name for _, name, truths in rows if 0 < truths < MIN_TRUTHS]
    if rare:
        few = f"fewer than {MIN_TRUTHS} objects, too few for certain numbers"
        text = f"{count_text(len(rare), 'class')} with {few}: {listed(rare)}"
        yield evaluation_finding("rare-classes", text, "more images in the valid= list", cause=Cause.DATA)
    absent = [name for _, name, truths in rows if not truths]
    if absent:
        effect = "they count as 0 in darknet's mAP, and not in COCO's"
        text = f"{count_text(len(absent), 'class')} without an object ({effect}): {listed(absent)}"
        yield evaluation_finding("absent-classes", text, cause=Cause.DATA)


def _on_placement(report: DetectorReport) -> Iterator[Finding]:
    loose, strict = report.coco.stats["AP50"], report.coco.stats["AP75"]
    if loose and strict is not None and strict < (1 - MIN_PLACEMENT_LOSS) * loose:
        text = f"Boxes are imprecise: AP is {percent(loose)} at an IoU of .50, and {percent(strict)} at .75"
        yield evaluation_finding("imprecise", text, "darkpy anchors DATA --cfg CFG fits the anchors to the boxes")


def _on_scores(report: DetectorReport) -> Iterator[Finding]:
    calibration = report.calibration
    count = sum(bin_.count for bin_ in calibration.bins)
    if calibration.ece is None or calibration.gap is None or calibration.ece < MIN_ECE or count < MIN_CALIBRATED:
        return
    score = sum(bin_.count * (bin_.score or 0) for bin_ in calibration.bins) / count
    kind = "too high" if calibration.gap > 0 else "too low"
    correct = percent(score - calibration.gap)
    text = f"Scores are {kind}: {score:.2f} on average, where {correct} of the detections are correct"
    yield evaluation_finding("calibration", f"{text} (ECE {calibration.ece:.2f})")


def _on_inputs(report: DetectorReport) -> Iterator[Finding]:
    images, unreadable = len(report.images), report.unreadable
    if unreadable:
        lost = report.errors.missed["unreadable"]
        text = f"{len(unreadable)} of {count_text(images, 'image')} cannot be read, with {count_text(lost, 'object')}"
        yield evaluation_finding("unreadable", f"{text}; first: {unreadable[0].path}", hard=True, cause=Cause.DATA)
    for name, text, messages in (
        ("unlabeled", f"of {count_text(images, 'image')} have no label file", report.unlabeled),
        ("invalid-labels", "lines of label files are invalid", report.invalid_labels),
    ):
        if messages:
            hint = "darkpy doctor CFG DATA lists them all"
            yield evaluation_finding(
                name, f"{len(messages)} {text}; first: {messages[0]}", hint, hard=True, cause=Cause.DATA
            )


_REPORT_CHECKS = (
    _on_missed,
    _on_confusion,
    _on_false_positives,
    _on_threshold,
    _on_classes,
    _on_placement,
    _on_scores,
)
"""Checks of a report whose detector detects something, the most important first."""


def listed(texts: list[str], most: int = MAX_LISTED_NAMES, separator: str = ", ") -> str:
    rest = len(texts) - most
    return separator.join(texts[:most]) + (f" and {rest} more" if rest > 0 else "")
