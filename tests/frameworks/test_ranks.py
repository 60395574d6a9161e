"""Two processes of torchrun on one machine: one run, each joule once, and both stop at a budget."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aiocarbon.journal import load

ROOT = str(Path(__file__).parents[2])

LIGHTNING = """
import json, sys, torch, lightning, warnings
from torch.utils.data import DataLoader, TensorDataset
from aiocarbon import Budget
from aiocarbon.integrations.lightning import CarbonCallback

warnings.simplefilter("ignore")

class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 1)
    def training_step(self, batch, batch_idx):
        return torch.nn.functional.mse_loss(self.linear(batch[0]), batch[1])
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)

x = torch.ones(64, 4)
settings = json.loads(sys.argv[1])
carbon = CarbonCallback(budget=Budget(energy_kwh=settings.pop("budget")), **settings)
trainer = lightning.Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=int(sys.argv[2]), logger=False,
                            callbacks=[carbon], enable_progress_bar=False, enable_model_summary=False)
trainer.fit(Net(), DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4))
trained = trainer.current_epoch
"""

TRANSFORMERS = """
import json, sys, torch, warnings
from transformers import Trainer, TrainingArguments
from aiocarbon import Budget
from aiocarbon.integrations.transformers import CarbonCallback

warnings.simplefilter("ignore")

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 1)
    def forward(self, x=None, labels=None):
        found = self.linear(x)
        return {"loss": torch.nn.functional.mse_loss(found, labels), "logits": found}

data = [{"x": torch.ones(4), "labels": torch.ones(1)}] * 64
settings = json.loads(sys.argv[1])
carbon = CarbonCallback(budget=Budget(energy_kwh=settings.pop("budget")), **settings)
arguments = TrainingArguments(output_dir="out", num_train_epochs=int(sys.argv[2]), per_device_train_batch_size=4,
                              use_cpu=True, report_to=[], disable_tqdm=True, save_strategy="no")
trainer = Trainer(model=Net(), args=arguments, train_dataset=data, callbacks=[carbon])
trainer.train()
trained = trainer.state.epoch
"""

TELL = """
import os
os.write(1, (json.dumps({"told": {"rank": os.environ["RANK"], "epochs": trained, "why": carbon.stop_reason,
    "run": carbon.report.run_id if carbon.report else None}}) + "\\n").encode())
"""

ENGINES = [
    pytest.param(LIGHTNING, "lightning", marks=pytest.mark.lightning),
    pytest.param(TRANSFORMERS, "transformers", marks=pytest.mark.transformers),
]


def trained(folder: Path, code: str, name: str, epochs: int, **settings: Any) -> list[dict[str, Any]]:
    """What both processes tell of their training."""
    pytest.importorskip(name, reason=f"needs the extra {name}")
    (folder / "train.py").write_text(code + TELL, encoding="utf-8")
    known = {"meters": "simulated:250", "location": "DK", "pue": 1.0, "interval_s": 0.05, "budget": 1e6}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["train.py", json.dumps(known | settings), str(epochs)]
    environ = os.environ | {"PYTHONPATH": ROOT, "AIOCARBON_LOCK_DIR": str(folder / "locks"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if '"told"' in line]
    return [json.loads(line[line.index('{"told"') :])["told"] for line in lines]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("code", "name"), ENGINES)
def test_ranks_that_write_journals_are_one_run(tmp_path: Path, code: str, name: str) -> None:
    told = trained(tmp_path, code, name, 2, journal=str(tmp_path / "runs"))
    assert len({one["run"] for one in told}) == 1
    (run,) = load(tmp_path / "runs").runs
    assert [epoch.index for epoch in run.epochs] == [0, 1]
    assert run.it_energy_kwh * 3.6e6 == pytest.approx(250 * run.duration_s, rel=1e-3)
    assert len(list((tmp_path / "runs").rglob("*.jsonl"))) == 2


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("code", "name"), ENGINES)
def test_ranks_stop_together_at_a_budget_that_one_of_them_sees(tmp_path: Path, code: str, name: str) -> None:
    told = trained(tmp_path, code, name, 100_000, budget=1e-6)
    assert len({one["epochs"] for one in told}) == 1
    assert told[0]["epochs"] < 100_000
    assert sorted(bool(one["why"]) for one in told) == [False, True]
    assert sorted(one["run"] is not None for one in told) == [False, True]  # without a journal one of them tracks
