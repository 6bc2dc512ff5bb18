"""Record a training with Weights & Biases: its settings, the numbers of each update, mAP, findings and the weights.

Needs `pip install wandb`, and the data set that `darkpy sample shapes` draws. WANDB_MODE=offline records without an
account.
"""

import wandb

import darkpy


class WandbCallback:
    def on_start(self, run: darkpy.TrainingRun) -> None:
        if not run.is_main:  # of several processes one records
            return
        net = run.trainer.net
        config = {"batch": net.batch, "learning_rate": net.learning_rate, "max_batches": net.max_batches}
        wandb.init(project="darkpy", name=run.base, config=config)

    def on_update(self, report: darkpy.UpdateReport) -> None:
        wandb.log({"loss": report.loss, "average_loss": report.average, "rate": report.rate}, step=report.batch_num)

    def on_validation(self, report: darkpy.ValidationReport) -> None:
        wandb.log({"map": report.mean}, step=report.batch_num)

    def on_finding(self, finding: darkpy.Finding) -> None:
        if wandb.run is not None:  # some findings come before the run
            wandb.alert(title=finding.name, text=finding.text)

    def on_checkpoint(self, report: darkpy.CheckpointReport) -> None:
        if report.is_last:
            wandb.save(str(report.paths[0]))


result = darkpy.train(
    "shapes/sample.cfg", "shapes/sample.data", device="cpu", map_epochs=4, callbacks=[WandbCallback()], overwrite=True
)
wandb.finish()
print("recorded", result.batch_num, "updates")
