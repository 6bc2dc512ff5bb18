"""Find out why a run fails: check it, then watch it fail. Needs the data set of `darkpy sample shapes`."""

import re
from pathlib import Path

import darkpy
from darkpy.data.lists.text_files import read_data
from darkpy.diagnostics.doctor import examine

CFG, DATA = Path("shapes/sample.cfg"), Path("shapes/sample.data")

hot = CFG.with_name("hot.cfg")  # the same network with a rate that is far too high
text = re.sub(r"learning_rate=\S+", "learning_rate=100", CFG.read_text(), count=1)
hot.write_text(re.sub(r"burn_in=\d+", "burn_in=0", text))

examination = examine(hot, read_data(DATA))
for _ in examination.survey():  # decodes every image and reads every label
    pass
print("before the run:")
for finding in examination.findings:
    print(f"  {finding.name}: {finding}")


class Printer:
    """Print what the monitor finds."""

    def on_start(self, run: darkpy.TrainingRun) -> None:
        print("during the run:")

    def on_finding(self, finding: darkpy.Finding) -> None:
        print(f"  {finding.name}: {finding}")


try:
    darkpy.train(hot, DATA, device="cpu", max_bad_updates=3, callbacks=[Printer()])
except darkpy.DarkpyError as error:
    print(f"ended: {error}")
