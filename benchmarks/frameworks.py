"""What do the callbacks of training frameworks cost? Each hook is timed in a real small training on the CPU.

Needs `pip install 'aiocarbon[lightning,transformers,keras,accelerate]' torch`, here or for the interpreter that
AIOCARBON_BENCH_PYTHON names. The trainings have a budget that holds and a journal, so that the hooks do all they can.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from benchmarks.result import ChildError, Row, at_most, child, info, skipped

NAME: Final = "frameworks"
QUESTION: Final = "how long do the callbacks of training frameworks hold a training?"

LIMIT_MS: Final = 1.0
"""A hook between begin and end waits for nothing."""

COMMON: Final = """
import json, os, statistics, sys, tempfile, time, warnings
warnings.filterwarnings("ignore")
os.environ["KERAS_BACKEND"] = "torch"
import torch
from aiocarbon import Budget
torch.manual_seed(0)
torch.set_num_threads(1)
EPOCHS, STEPS = int(sys.argv[1]), int(sys.argv[2])
FOLDER = tempfile.mkdtemp()
KNOWN = dict(location="DK", offline=True, journal=FOLDER + "/runs", budget=Budget(energy_kwh=1000))
X = torch.randn(STEPS * 32, 64)
Y = X.sum(1, keepdim=True)
took = {}

def net():
    return torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 1))

def timed(callback, names):
    def time_of(name, hook):
        def run(*args, **kwargs):
            begin = time.perf_counter()
            try:
                return hook(*args, **kwargs)
            finally:
                took.setdefault(name, []).append((time.perf_counter() - begin) * 1e3)
        return run
    for name in names:
        setattr(callback, name, time_of(name, getattr(callback, name)))
    return callback

def hooks(kind):
    return [n for n in vars(kind) if n.startswith(("on_", "teardown", "state", "log", "start", "finish"))
            and callable(getattr(kind, n))]

def tell(carbon, version, begun):
    report = carbon.report
    print(json.dumps({"version": version, "took": took, "training_s": time.perf_counter() - begun,
        "energy": [report.it_energy_kwh, sum(p.it_energy_kwh for p in (*report.epochs, report.outside))]}))
"""

LIGHTNING: Final = """
import lightning, logging
from torch.utils.data import DataLoader, TensorDataset
from aiocarbon.integrations.lightning import CarbonCallback
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = net()
    def training_step(self, batch, batch_idx):
        return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])
    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.nn.functional.mse_loss(self.net(batch[0]), batch[1]))
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)

carbon = timed(CarbonCallback(**KNOWN), hooks(CarbonCallback))
trainer = lightning.Trainer(accelerator="cpu", max_epochs=EPOCHS, callbacks=[carbon], default_root_dir=FOLDER,
    enable_progress_bar=False, enable_model_summary=False, logger=lightning.pytorch.loggers.CSVLogger(FOLDER))
data = DataLoader(TensorDataset(X, Y), batch_size=32)
begun = time.perf_counter()
trainer.fit(Net(), data, DataLoader(TensorDataset(X[:256], Y[:256]), batch_size=32))
tell(carbon, f"lightning {lightning.__version__}", begun)
"""

TRANSFORMERS: Final = """
import transformers
from transformers import Trainer, TrainingArguments
from aiocarbon.integrations.transformers import CarbonCallback

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()
    def forward(self, x=None, labels=None):
        found = self.net(x)
        return {"loss": torch.nn.functional.mse_loss(found, labels), "logits": found}

data = [{"x": x, "labels": y} for x, y in zip(X, Y)]
arguments = TrainingArguments(output_dir=FOLDER, num_train_epochs=EPOCHS, per_device_train_batch_size=32, use_cpu=True,
    report_to=[], logging_steps=10, eval_strategy="epoch", save_strategy="epoch", logging_strategy="steps",
    disable_tqdm=False)
trainer = Trainer(model=Net(), args=arguments, train_dataset=data, eval_dataset=data[:256])
carbon = timed(CarbonCallback(**KNOWN).attach(trainer), hooks(CarbonCallback))
begun = time.perf_counter()
sys.stdout, out = sys.stderr, sys.stdout
trainer.train()
sys.stdout = out
tell(carbon, f"transformers {transformers.__version__}", begun)
"""

KERAS: Final = """
import keras
from aiocarbon.integrations.keras import CarbonCallback
model = keras.Sequential([keras.layers.Input((64,)), keras.layers.Dense(256, "relu"), keras.layers.Dense(1)])
model.compile("sgd", "mse")
carbon = timed(CarbonCallback(**KNOWN), hooks(CarbonCallback))
begun = time.perf_counter()
x, y = X.numpy(), Y.numpy()
model.fit(x, y, batch_size=32, epochs=EPOCHS, validation_data=(x[:256], y[:256]), callbacks=[carbon], verbose=0)
tell(carbon, f"keras {keras.__version__}", begun)
"""

ACCELERATE: Final = """
import accelerate
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset
from aiocarbon.integrations.accelerate import CarbonTracker
carbon = timed(CarbonTracker(epochs=EPOCHS, **KNOWN), hooks(CarbonTracker))
accelerator = Accelerator(log_with=[carbon], cpu=True)
begun = time.perf_counter()
accelerator.init_trackers("bench")
model = net()
model, optimiser, data = accelerator.prepare(
    model, torch.optim.SGD(model.parameters(), 1e-3), DataLoader(TensorDataset(X, Y), batch_size=32))
step = 0
for _ in range(EPOCHS):
    with carbon.epoch(total=len(data)):
        for x, y in data:
            optimiser.zero_grad()
            loss = torch.nn.functional.mse_loss(model(x), y)
            accelerator.backward(loss)
            optimiser.step()
            step += 1
            accelerator.log({"loss": 0.0}, step=step)
accelerator.end_training()
tell(carbon, f"accelerate {accelerate.__version__}", begun)
"""

FRAMEWORKS: Final = {
    "lightning": (LIGHTNING, ("on_fit_start",), ("on_exception", "teardown")),
    "transformers": (TRANSFORMERS, ("on_train_begin",), ("on_train_end",)),
    # Keras: the first epoch begins the run, and waits for its readings as it ends.
    "keras": (KERAS, ("on_epoch_begin",), ("on_train_end",)),
    "accelerate": (ACCELERATE, ("start",), ("finish",)),
}
"""The training, and the hooks that begin and end the run."""


def run(*, quick: bool) -> list[Row]:
    """The rows of all frameworks; one that is missing says so."""
    epochs, steps = (3, 60) if quick else (10, 400)
    rows: list[Row] = []
    for name, (code, begins, ends) in FRAMEWORKS.items():
        try:
            heard = child(
                COMMON + code, str(epochs), str(steps), python=os.environ.get("AIOCARBON_BENCH_PYTHON", sys.executable)
            )
        except ChildError as error:
            rows.append(skipped(f"{name}: slowest hook", "ms", error.last_line, LIMIT_MS))
            continue
        rows += _rows(name, heard, begins, ends)
    return rows


def _rows(name: str, heard: dict, begins: tuple[str, ...], ends: tuple[str, ...]) -> list[Row]:
    took: dict[str, list[float]] = {hook: list(times) for hook, times in heard["took"].items()}
    begin = sum(took[hook].pop(0) for hook in begins)
    first_end = [took["on_epoch_end"].pop(0)] if name == "keras" else []
    end = sum(sum(took.pop(hook, [])) for hook in ends)
    between = {hook: sorted(times) for hook, times in took.items() if times}
    medians = {hook: times[len(times) // 2] for hook, times in between.items()}
    slowest = max(medians, key=lambda hook: medians[hook])
    every = sorted(time for times in between.values() for time in times)
    share = sum(every) / (heard["training_s"] * 1e3)
    whole, parts = heard["energy"]
    told = ", ".join(f"{hook} {medians[hook] * 1e3:.0f} µs" for hook in sorted(medians))
    rows = [
        at_most(
            f"{name}: slowest hook, its median", medians[slowest], "ms", LIMIT_MS, f"{slowest}; {heard['version']}"
        ),
        info(f"{name}: all hooks, 99 %", every[int(len(every) * 0.99)], "ms", f"{len(every)} calls; medians: {told}"),
        info(f"{name}: hooks' share of the training", share * 100, "%"),
        info(f"{name}: begin", begin, "ms", "once a training: meters are opened"),
        info(f"{name}: end", end, "ms", "once a training: last reading, report, journal"),
        at_most(f"{name}: epochs and rest beside the run's energy", abs(parts - whole) / whole * 100, "%", 1e-6),
    ]
    if first_end:
        rows.insert(4, info(f"{name}: end of the first epoch", first_end[0], "ms", "waits for its readings, once"))
    return rows
