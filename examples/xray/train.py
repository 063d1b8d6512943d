#!/usr/bin/python3
"""Train a small residual network on labelled X-ray images.

It speaks the trainer's contract of `penstock train` and nothing else: what to
learn from lies in PENSTOCK_DATASET (task.json, manifest.jsonl, images/,
golden/), how in the JSON file PENSTOCK_PARAMS, from which seed in PENSTOCK_SEED.
Progress goes to PENSTOCK_EVENTS, checkpoints to PENSTOCK_CHECKPOINTS, the model
to PENSTOCK_OUTPUT. On SIGINT or SIGTERM it saves a checkpoint after the batch at
hand and leaves; the next start with the same checkpoints goes on from that batch
and ends with the very model that an undisturbed run would have given.

The images come preprocessed; only the normalisation of task.json is done here.
Needs: PyTorch 1.13 or 2.x, NumPy, Pillow (PyTorch 2.x also needs `onnx` to
export). One CPU or one CUDA device; the whole data set is held in memory.
"""
import importlib.util
import inspect
import json
import os
import platform
import signal
import sys
import time
import warnings

# Waiting threads sleep instead of spinning: on cores that others use as well,
# spinning makes a training many times slower. Must be set before the import.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Lets cuBLAS compute the same thing twice; must be set before CUDA starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

sys.dont_write_bytecode = True  # the project's folder is the user's

import numpy as np
import torch
from PIL import Image
from torch import nn

from measures import best_threshold, macro_auroc
from network import Network, Normalise, augment, weights_of_positives

DEFAULTS = {
    "epochs": 14, "batch_size": 32, "learning_rate": 0.003, "weight_decay": 0.0001,
    "width": 16, "shift": 4, "threads": 2, "device": "auto",
}
OPSET = 16


class Stopped(Exception):
    """A signal asked the trainer to leave."""


# --- the contract -----------------------------------------------------------

class Job:
    """Where things are, and what is asked for."""

    def __init__(self, environ):
        self.dataset, self.output, self.checkpoints, params, self.events, seed = (
            self.need(environ, "PENSTOCK_" + n)
            for n in ("DATASET", "OUTPUT", "CHECKPOINTS", "PARAMS", "EVENTS", "SEED"))
        self.seed = int(seed)
        with open(params) as f:
            given = json.load(f)
        unknown = sorted(set(given) - set(DEFAULTS))
        if unknown:
            sys.exit(f"train.py: unknown params {', '.join(unknown)}; known are {', '.join(DEFAULTS)}")
        self.params = {**DEFAULTS, **given}
        for name in ("epochs", "batch_size", "width", "threads"):
            value = self.params[name]
            if type(value) is not int or value < 1:
                sys.exit(f"train.py: params.{name} is {value!r}: a whole number from 1 on is wanted")
        with open(os.path.join(self.dataset, "task.json")) as f:
            self.task = json.load(f)
        if self.task["task"] not in ("multilabel", "binary"):
            sys.exit(f"train.py: this trainer cannot learn the task {self.task['task']}")
        self.labels = self.task["labels"]
        self.stop = None
        signal.signal(signal.SIGINT, self.on_signal)
        signal.signal(signal.SIGTERM, self.on_signal)

    @staticmethod
    def need(environ, name):
        if name not in environ:
            sys.exit(f"train.py: {name} is not set; `penstock train` starts this program")
        return environ[name]

    def on_signal(self, number, _frame):
        self.stop = number

    def leave_if_asked(self):
        if self.stop is not None:
            raise Stopped

    def event(self, step, epoch, **metrics):
        line = {"step": step, "epoch": epoch, "steps": self.params["epochs"], "metrics": metrics}
        with open(self.events, "a") as f:
            f.write(json.dumps(line) + "\n")


def say(text):
    print(text, file=sys.stderr, flush=True)


def write_atomically(path, write):
    """Write a file so that a kill leaves the old one or the new one."""
    part = path + ".part"
    with open(part, "wb") as f:
        write(f)
        f.flush()
        os.fsync(f.fileno())
    os.replace(part, path)


# --- data -------------------------------------------------------------------

class Split:
    """Images [n, channels, height, width] uint8 and labels [n, labels] 0 or 1."""

    def __init__(self, job, name, rows):
        rows = [r for r in rows if r["split"] == name]
        if not rows:
            sys.exit(f"train.py: the data set has no rows in split {name}")
        self.images = torch.from_numpy(np.stack([self.read(job, r) for r in rows]))
        at = {label: i for i, label in enumerate(job.labels)}
        self.targets = torch.zeros(len(rows), len(at))
        for i, row in enumerate(rows):
            for label in row["labels"] or []:
                self.targets[i, at[label]] = 1

    @staticmethod
    def read(job, row):
        want = job.task["input"]
        with Image.open(os.path.join(job.dataset, "images", row["sha256"] + ".png")) as image:
            pixels = as_planes(np.asarray(image))
        shape = (want["channels"], want["height"], want["width"])
        if pixels.shape != shape:
            sys.exit(f"train.py: image {row['sha256']} is {pixels.shape}, task.json says {shape}")
        return pixels


def as_planes(pixels):
    """Interleaved (height, width[, channels]) to (channels, height, width)."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def read_rows(job):
    with open(os.path.join(job.dataset, "manifest.jsonl")) as f:
        return sorted((json.loads(line) for line in f), key=lambda row: row["file"])


# --- checkpoints ------------------------------------------------------------

def flatten(state, prefix):
    return {f"{prefix}/{name}": value.detach().cpu().numpy() for name, value in state.items()}


def unflatten(arrays, prefix):
    cut = len(prefix) + 1
    return {n[cut:]: torch.from_numpy(arrays[n].copy()) for n in arrays if n.startswith(prefix + "/")}


class Run:
    """The state of a training: everything a checkpoint must hold."""

    def __init__(self, job, train):
        p, self.job = job.params, job
        self.device = pick_device(p["device"])
        torch.manual_seed(job.seed)
        self.network = Network(job.task["input"]["channels"], len(job.labels), p["width"]).to(self.device)
        self.normalise = Normalise(job.task["input"]).to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=p["learning_rate"], weight_decay=p["weight_decay"])
        self.loss = nn.BCEWithLogitsLoss(pos_weight=weights_of_positives(train.targets)).to(self.device)
        self.mixed = self.device.type == "cuda"
        self.scaler = gradient_scaler(self.mixed)
        self.epoch, self.batch, self.losses = 0, 0, []
        self.best, self.best_epoch, self.best_state = -1.0, 0, None
        self.path = os.path.join(job.checkpoints, "checkpoint.npz")

    def identity(self):
        """What a checkpoint must agree in to be gone on from."""
        return json.dumps([self.job.seed, self.job.params, self.job.task, self.device.type], sort_keys=True)

    def save(self):
        arrays = flatten(self.network.state_dict(), "network")
        if self.best_state is not None:
            arrays.update(flatten(self.best_state, "best"))
        moments = self.optimizer.state_dict()["state"]
        for index, state in moments.items():
            arrays.update(flatten({k: torch.as_tensor(v) for k, v in state.items()}, f"optimizer/{index}"))
        note = {"identity": self.identity(), "epoch": self.epoch, "batch": self.batch, "losses": self.losses,
                "best": self.best, "best_epoch": self.best_epoch, "scaler": self.scaler.state_dict()}
        arrays["note"] = np.array(json.dumps(note))
        write_atomically(self.path, lambda f: np.savez(f, **arrays))

    def resume(self):
        """Go on from a checkpoint, if there is one. It is an archive of plain
        arrays: reading it executes no code, in any version of PyTorch."""
        if not os.path.exists(self.path):
            return
        with np.load(self.path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        note = json.loads(str(arrays["note"]))
        if note["identity"] != self.identity():
            sys.exit(f"train.py: {self.path} is of another seed, task or params: remove it, or train with those")
        self.network.load_state_dict(unflatten(arrays, "network"))
        self.best_state = unflatten(arrays, "best") or None
        state = self.optimizer.state_dict()
        for index in range(len(list(self.network.parameters()))):
            moments = unflatten(arrays, f"optimizer/{index}")
            if moments:
                state["state"][index] = moments
        self.optimizer.load_state_dict(state)
        if note["scaler"]:
            self.scaler.load_state_dict(note["scaler"])
        self.epoch, self.batch, self.losses = note["epoch"], note["batch"], note["losses"]
        self.best, self.best_epoch = note["best"], note["best_epoch"]
        say(f"goes on from epoch {self.epoch + 1}, batch {self.batch + 1}")


def gradient_scaler(enabled):
    if hasattr(torch, "amp") and hasattr(torch.amp, "GradScaler"):  # PyTorch 2.3 and later
        return torch.amp.GradScaler("cuda", enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)


def pick_device(wanted):
    if wanted not in ("auto", "cpu", "cuda"):
        sys.exit(f"train.py: params.device is {wanted}; known are auto, cpu, cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        sys.exit("train.py: params.device asks for cuda, and PyTorch finds no CUDA device; "
                 "use a machine with one, or set device to cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


# --- training ---------------------------------------------------------------

def train_epoch(run, train):
    """One epoch from run.batch on. Order and augmentation depend on the seed,
    the epoch and the batch alone, so that a resumed run repeats them."""
    size, p = run.job.params["batch_size"], run.job.params
    order = torch.randperm(len(train.images), generator=seeded(run.job.seed, run.epoch, -1))
    batches = order.split(size)
    run.network.train()
    set_rate(run, len(batches))
    for at in range(run.batch, len(batches)):
        rows = batches[at]
        if len(rows) < 2:  # batch normalisation needs two
            continue
        images = augment(train.images[rows], p["shift"], seeded(run.job.seed, run.epoch, at)).to(run.device)
        with torch.autocast(run.device.type, enabled=run.mixed):
            logits = run.network.logits(run.normalise(images))
        loss = run.loss(logits.float(), train.targets[rows].to(run.device))
        value = loss.item()
        if not np.isfinite(value):
            raise SystemExit(f"train.py: the loss is {value} in epoch {run.epoch + 1}: "
                             "lower params.learning_rate, or look for broken images")
        run.optimizer.zero_grad()
        run.scaler.scale(loss).backward()
        run.scaler.step(run.optimizer)
        run.scaler.update()
        run.losses.append(value)
        run.batch = at + 1
        set_rate(run, len(batches))
        run.job.leave_if_asked()


def set_rate(run, batches):
    """Warm up over the first tenth, then fall along a cosine to a hundredth."""
    p = run.job.params
    done = (run.epoch + run.batch / batches) / p["epochs"]
    factor = min(1.0, 0.1 + 9 * done) * (0.01 + 0.99 * (1 + np.cos(np.pi * min(done, 1.0))) / 2)
    for group in run.optimizer.param_groups:
        group["lr"] = p["learning_rate"] * factor


def seeded(*numbers):
    state = np.random.SeedSequence([n % 2**32 for n in numbers]).generate_state(2)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


def predict(run, split):
    """Scores [n, labels] of the current network, in full precision."""
    run.network.eval()
    with torch.no_grad():
        parts = [torch.sigmoid(run.network.logits(run.normalise(part.to(run.device)))).cpu()
                 for part in split.images.split(256)]
    return torch.cat(parts).numpy()


def fit(run, train, val):
    epochs, targets = run.job.params["epochs"], val.targets.numpy()
    while run.epoch < epochs:
        began = time.monotonic()
        train_epoch(run, train)
        score = macro_auroc(predict(run, val), targets)
        loss = float(np.mean(run.losses))
        run.epoch, run.batch, run.losses = run.epoch + 1, 0, []
        if score > run.best:
            run.best, run.best_epoch = score, run.epoch
            run.best_state = {k: v.detach().cpu().clone() for k, v in run.network.state_dict().items()}
        run.save()
        run.job.event(run.epoch, run.epoch, train_loss=loss, val_macro_auroc=score,
                      images_per_second=len(train.images) / (time.monotonic() - began))
        say(f"epoch {run.epoch}/{epochs}: loss {loss:.4f}, validation macro AUROC {score:.4f}")
        run.job.leave_if_asked()
    run.network.load_state_dict(run.best_state)
    say(f"best epoch {run.best_epoch}: validation macro AUROC {run.best:.4f}")


# --- what comes out ---------------------------------------------------------

def thresholds(run, train, val):
    """Operating points of highest F1 on val; on train where val lacks a class."""
    out, val_scores, train_scores = {}, predict(run, val), None
    for i, label in enumerate(run.job.labels):
        positive, scores = val.targets[:, i].numpy() > 0.5, val_scores[:, i]
        if not positive.any() or positive.all():
            say(f"{label}: one class only in val, its threshold comes from train")
            train_scores = predict(run, train) if train_scores is None else train_scores
            positive, scores = train.targets[:, i].numpy() > 0.5, train_scores[:, i]
        if not positive.any():
            say(f"{label}: no example at all, its threshold is 0.5")
            out[label] = 0.5
            continue
        out[label] = best_threshold(scores, positive)
    return out


def write_goldens(run, job):
    """The network's own scores, one input at a time, as PyTorch computes them."""
    os.makedirs(os.path.join(job.output, "golden"), exist_ok=True)
    for name in job.task["goldens"]:
        pixels = np.load(os.path.join(job.dataset, "golden", name + ".input.npy"), allow_pickle=False)
        with torch.no_grad():
            scores = run.network(run.normalise(torch.from_numpy(as_planes(pixels))[None]))[0]
        path = os.path.join(job.output, "golden", name + ".output.npy")
        write_atomically(path, lambda f, s=scores: np.save(f, s[0].numpy().astype(np.float32)))


def export(run, job):
    want, path = job.task["input"], os.path.join(job.output, "model.onnx")
    example = torch.zeros(2, want["channels"], want["height"], want["width"])
    # The exporter that traces: the newer one is slower and names tensors anew.
    options = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    names = ["scores", "heatmap", "features"]
    torch.onnx.export(
        run.network, example, path + ".part", opset_version=OPSET, input_names=["image"], output_names=names,
        dynamic_axes={n: {0: "batch"} for n in ["image"] + names}, do_constant_folding=True, **options)
    os.replace(path + ".part", path)


def deliver(run, job, train, val):
    run.network.cpu().eval()
    run.normalise.cpu()
    run.device, run.mixed = torch.device("cpu"), False
    write_json(job, "thresholds.json", thresholds(run, train, val))
    write_goldens(run, job)
    write_json(job, "frameworks.json", {"python": platform.python_version(), "pytorch": torch.__version__,
                                        "numpy": np.__version__})
    export(run, job)


def need_exporter():
    """Says before the training what the export would say after it."""
    if int(torch.__version__.split(".")[0]) >= 2 and importlib.util.find_spec("onnx") is None:
        sys.exit("train.py: PyTorch 2.x needs the package onnx to export a model: pip install onnx")
    warnings.filterwarnings("ignore", message=".*legacy TorchScript-based ONNX export", category=DeprecationWarning)


def write_json(job, name, value):
    data = (json.dumps(value, indent=2) + "\n").encode()
    write_atomically(os.path.join(job.output, name), lambda f: f.write(data))


def main():
    job = Job(os.environ)
    need_exporter()
    torch.set_num_threads(job.params["threads"])
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    rows = read_rows(job)
    train, val = Split(job, "train", rows), Split(job, "val", rows)
    run = Run(job, train)
    say(f"{len(train.images)} images to train on, {len(val.images)} to validate, {len(job.labels)} labels, "
        f"PyTorch {torch.__version__} on {run.device}")
    try:
        run.resume()
        fit(run, train, val)
        deliver(run, job, train, val)
    except Stopped:
        run.save()
        say(f"stopped by signal {job.stop} in epoch {run.epoch + 1}, batch {run.batch}; the checkpoint is saved")
        sys.exit(128 + job.stop)


if __name__ == "__main__":
    main()
