"""Train a detector from Python, print its progress, and stop when the loss is low enough.

Needs the data set that `darkpy sample shapes` draws.
"""

import darkpy


class Progress:
    """A callback is any object with some of these methods."""

    def on_start(self, run: darkpy.TrainingRun) -> None:
        self.run = run

    def on_update(self, report: darkpy.UpdateReport) -> None:
        if report.batch_num % 10 == 0:
            print(f"update {report.batch_num}: average loss {report.average:.3g}, rate {report.rate:.3g}")
        if report.average < 5:
            self.run.stop("the average loss is below 5")

    def on_finding(self, finding: darkpy.Finding) -> None:
        print(finding)

    def on_checkpoint(self, report: darkpy.CheckpointReport) -> None:
        print("written:", *report.paths)


result = darkpy.train(
    "shapes/sample.cfg", "shapes/sample.data", device="cpu", callbacks=[Progress()], overwrite=True
)  # overwrite: the final weights of an earlier run
print(f"{result.batch_num} updates, average loss {result.average_loss:.3g}, weights in {result.weights}")
if result.stop_reason:
    print("stopped:", result.stop_reason)
