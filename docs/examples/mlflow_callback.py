"""Record a training with MLflow: its settings, the numbers of each update, mAP, findings and the best weights.

Needs `pip install mlflow-skinny` (or mlflow), and the data set that `darkpy sample shapes` draws.
"""

import mlflow

import darkpy


class MlflowCallback:
    def on_start(self, run: darkpy.TrainingRun) -> None:
        if not run.is_main:  # of several processes one records
            return
        net = run.trainer.net
        mlflow.start_run(run_name=run.base)
        mlflow.log_params({"batch": net.batch, "learning_rate": net.learning_rate, "max_batches": net.max_batches})

    def on_update(self, report: darkpy.UpdateReport) -> None:
        metrics = {"loss": report.loss, "average_loss": report.average, "learning_rate": report.rate}
        mlflow.log_metrics(metrics, step=report.batch_num)

    def on_validation(self, report: darkpy.ValidationReport) -> None:
        mlflow.log_metrics({"map": report.mean}, step=report.batch_num)

    def on_finding(self, finding: darkpy.Finding) -> None:
        if mlflow.active_run():  # some findings come before the run
            mlflow.set_tag(f"finding.{finding.name}", finding.text)

    def on_checkpoint(self, report: darkpy.CheckpointReport) -> None:
        if report.is_last:
            mlflow.log_artifact(str(report.paths[0]))


result = darkpy.train(
    "shapes/sample.cfg", "shapes/sample.data", device="cpu", map_epochs=4, callbacks=[MlflowCallback()], overwrite=True
)
mlflow.end_run()
print("recorded", result.batch_num, "updates")
