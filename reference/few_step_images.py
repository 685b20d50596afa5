"""Compares kernels on small images at few steps, every model trained for the same time.

    python reference/few_step_images.py digits                      # after cargo build --release
    python reference/few_step_images.py fashion16 --fashion DIR     # or fashion28
    python reference/few_step_images.py digits --quick              # does it run?

Digits: scikit-learn's, 8x8, 1500 to train on and 297 held out. Fashion-MNIST: 16x16 (averages of
areas) or 28x28, 60,000 and 10,000, from a folder with its four files as published; Debian's package
dataset-fashion-mnist has them.

First, on a machine that does nothing else, short trainings measure what each model costs: updates a
second, and time for an image and step of sampling. They are kept in WORK/DATA/costs.json. From then on
other load changes no result: for each model, T and seed `smd train` runs for as many updates as fill
--seconds at that rate, however long they take, `smd sample` draws, and the samples are held against
the training and the held-out images: Frechet distances in the features of a small classifier and in 20
principal components, and mean distances to the nearest image, pixels in [-1, 1]. The table's first row
is the held-out images themselves, each without itself: samples that are nearer to the training images
than they are were copied or are too plain. Its Frechet distance is what as few images have by chance;
4000 samples of a perfect model have less against the training images.

Results are lines of WORK/DATA/results.jsonl; what is there is not run again, and to run it again is to
remove its line. Several of these scripts may work on one folder once the costs are there.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmark import RELEASE, print_load
from image_measures import Judge, classifier, load_digits, load_fashion, prepare, set_threads

# "--..." is a flag, the rest is for --set; "{late}" is Kind.late.
MODELS = {
    "vanilla": ["kernel.kind=gaussian"],
    "smd": ["kernel.kind=soft-mixture"],
    "smd-eta-off": ["kernel.kind=soft-mixture", "--control=eta-off"],
    "smd-width-matched": ["kernel.kind=soft-mixture", "--control=width-matched"],
    "smd-time-matched": ["kernel.kind=soft-mixture", "--control=time-matched"],
    "mixture": ["kernel.kind=mixture", "kernel.components=16"],
    "mixture-1": ["kernel.kind=mixture", "kernel.components=1"],
    "codebook": ["kernel.kind=codebook", "kernel.components=16", "kernel.late.dim={late}"],
    "energy": ["kernel.kind=soft-mixture", "kernel.late.d_eta=16", "kernel.late.dim={late}",
               "objective.kind=energy", "objective.etas=3"],
    "encoder": ["kernel.kind=soft-mixture", "kernel.late.d_eta=16", "kernel.late.dim={late}",
                "objective.kind=encoder"],
}  # fmt: skip
# All models get the same time here, so this control is "vanilla" over again.
DEFAULT_MODELS = [name for name in MODELS if name != "smd-time-matched"]

CONFIG = """[data]
path = "{path}"
[schedule]
kind = "cosine"
steps = {T}
[net]
{net}
[train]
lr = 1e-3
lr_schedule = "cosine"
warmup_steps = 100
ema = [0.999]
seed = {seed}
checkpoint_every = 1000000000
"""
MLP = 'kind = "mlp"\ndim = 256\nblocks = 3\nfrequencies = 0'
UNET = """kind = "ddpm-unet"
dim = 32
multipliers = [1, 2, 2]
blocks = 1
attention = []
groups = 8
dropout = 0.0"""
QUICK = {"models": ["vanilla", "smd"], "steps": [3], "seeds": [0], "seconds": 5.0, "count": 500,
         "probe_seconds": 2.0}  # fmt: skip
LOG_EVERY = 10  # updates to a line of metrics


@dataclass
class Kind:
    """What is done with one data set; `late`: features where a latent enters late, of a pixel or of a whole digit."""

    load: Callable[[Path], dict[str, np.ndarray]]
    net: str
    batch: int
    late: int
    count: int
    epochs: int


KINDS = {
    "digits": Kind(load_digits, MLP, batch=256, late=128, count=4000, epochs=60),
    "fashion16": Kind(partial(load_fashion, side=16), UNET, 64, 32, 10_000, epochs=4),
    "fashion28": Kind(partial(load_fashion, side=28), UNET, 64, 32, 10_000, epochs=4),
}


class Failed(Exception):
    """A command of ours that did not end well."""


def smd(args: argparse.Namespace, *command: str) -> tuple[str, float]:
    """What it prints, and its seconds."""
    command = [args.smd_binary, *map(str, command)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=args.env)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr.strip()}")
    return done.stdout, time.perf_counter() - start


def costs(args: argparse.Namespace, data: Path, kind: Kind, folder: Path) -> dict[str, dict]:
    """What each model of `args.models` costs; measured where `folder` does not say it yet."""
    file, asked = folder / "costs.json", {"threads": args.threads, "set": args.set}
    known = json.loads(file.read_text()) if file.is_file() else asked
    if any(known[name] != value for name, value in asked.items()):
        sys.exit(f"{file}: measured with other --threads or --set; take another --work")
    for model in (model for model in args.models if model not in known):
        print(f"what {model} costs", flush=True)
        known[model] = cost(args, data, kind, model, folder / "probe")
        file.write_text(json.dumps(known, indent=2))
    return known


def cost(args: argparse.Namespace, data: Path, kind: Kind, model: str, folder: Path) -> dict:
    """Updates a second, and microseconds of an image and step of sampling."""
    T = args.steps[0]  # both are the same for any T
    train = training(args, data, kind, model, T, 0, folder)
    rate = updates_per_s(args, train, folder / "run")
    few, many = args.sample_batch, 5 * args.sample_batch
    # The first warms up; the difference of the others is without the start of the program.
    seconds = [draw(args, folder / "run", 0, count)[1] for count in (few, few, many)]
    shutil.rmtree(folder)
    return {"updates_per_s": rate, "sample_us": 1e6 * (seconds[2] - seconds[1]) / ((many - few) * T)}


def updates_per_s(args: argparse.Namespace, train: list[str], folder: Path) -> float:
    """The rate of a training that is stopped after `args.probe_seconds`; it stays in `folder`."""
    # This control has as many more updates as the model takes longer: the rate is the model's.
    train = [part for part in train if part != "--control=time-matched"]
    command = [args.smd_binary, *train, "--set", "train.steps=1000000000", "--out", str(folder)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    metrics, seen = folder / "metrics.jsonl", []
    process = subprocess.Popen(command, env=args.env, **pipes)
    try:
        # The first line's updates are slow.
        while len(seen) < 3 or time.perf_counter() - seen[0][0] < args.probe_seconds:
            time.sleep(0.02)
            if process.poll() is not None:
                raise Failed(f"{' '.join(command)}: {process.stderr.read().strip()}")
            lines = metrics.read_text().count("\n") if metrics.is_file() else 0
            if lines > (seen[-1][1] if seen else 0):
                seen.append((time.perf_counter(), lines))
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()
    (start, before), (end, after) = seen[0], seen[-1]
    return (after - before) * LOG_EVERY / (end - start)


def draw(args: argparse.Namespace, run: Path, seed: int, count: int) -> tuple[np.ndarray, float]:
    """Samples `[n, H, W]`, and the seconds of the command."""
    seeds = f"{seed * args.count}-{seed * args.count + count - 1}"
    options = ["--npz", "--overwrite", "--batch", args.sample_batch, "--out", run / "drawn"]
    seconds = smd(args, "sample", run, "--seeds", seeds, *options)[1]
    with np.load(run / "drawn/samples.npz") as arrays:
        return arrays["arr_0"][..., 0], seconds


def influences(args: argparse.Namespace, run: Path, heldout: Path) -> list[float] | None:
    """r_t of every step where `smd diagnose` tells it of images, else nothing."""
    try:
        report = json.loads(smd(args, "diagnose", run, "--data", heldout, "--json")[0])
    except (Failed, ValueError) as error:
        print(f"no r_t: {error}", file=sys.stderr)
        return None
    rows = [row for part in report.values() if isinstance(part, list) for row in part]
    return [row["r"] for row in rows if "r" in row] or None


def training(
    args: argparse.Namespace, data: Path, kind: Kind, model: str, T: int, seed: int, folder: Path
) -> list[str]:
    """A command of `smd` but for `train.steps` and `--out`; its configuration is in the new `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = CONFIG.format(path=data.absolute(), T=T, net=kind.net, seed=seed)
    (folder / "asked.toml").write_text(config)
    return ["train", str(folder / "asked.toml"), *flags(args, kind, model)]


def train_and_measure(
    args: argparse.Namespace, judge: Judge, kind: Kind, key: dict, cost: dict, folder: Path
) -> dict:
    """One line of results."""
    T, seed = key["T"], key["seed"]
    train = training(args, judge.data.train_file, kind, key["model"], T, seed, folder)
    updates, run = max(1, round(cost["updates_per_s"] * args.seconds)), folder / "run"
    smd(args, *train, "--set", f"train.steps={updates}", "--out", run)
    info = json.loads(smd(args, "info", run, "--json")[0])
    return {
        "parameters": info["parameters"],
        "updates": info["step"],
        "sample_us": cost["sample_us"],
        "r": influences(args, run, judge.data.heldout_file),
    } | judge.measure(draw(args, run, seed, args.count)[0])


def flags(args: argparse.Namespace, kind: Kind, model: str) -> list[str]:
    """The model as options of `smd train`."""
    settings = [f"train.batch={kind.batch}", f"train.log_every={LOG_EVERY}"]
    settings += [setting.format(late=kind.late) for setting in MODELS[model]] + args.set
    return [x for s in settings for x in ([s] if s.startswith("--") else ["--set", s])]


COLUMNS = {
    "parameters": ("parameters", "{:,}"),
    "updates": ("updates", "{:,}"),
    "fd_cls_train": ("FD cls, train", "{:.2f}"),
    "fd_cls_heldout": ("FD cls, held out", "{:.2f}"),
    "fd_pca_train": ("FD pca, train", "{:.3f}"),
    "fd_pca_heldout": ("FD pca, held out", "{:.3f}"),
    "near_train": ("nearest, train", "{:.2f}"),
    "near_heldout": ("nearest, held out", "{:.2f}"),
    "confidence": ("confidence", "{:.3f}"),
    "sample_us": ("µs an image and step", "{:.0f}"),
    "largest_r": ("largest r_t", "{:.4f}"),
}


def table(rows: list[dict], real: dict) -> str:
    """Markdown; the seeds stand beside each other."""
    heads = ["T", "model", *(head for head, _ in COLUMNS.values())]
    lines = ["| " + " | ".join(heads) + " |", "|--:|---|" + "--:|" * len(COLUMNS)]
    groups = {(0, "held-out images"): [real]}
    order = list(MODELS)
    for row in sorted(rows, key=lambda row: (row["T"], order.index(row["model"]), row["seed"])):
        known = [r for r in row["r"] or [] if r is not None]
        row = row | {"largest_r": max(known, default=None)}
        groups.setdefault((row["T"], row["model"]), []).append(row)
    for (T, model), group in groups.items():
        cells = [str(T or ""), model]
        for key, (_, form) in COLUMNS.items():
            values = ["-" if row.get(key) is None else form.format(row[key]) for row in group]
            cells.append(", ".join(dict.fromkeys(values) if key == "parameters" else values))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(panels: dict[str, np.ndarray], path: Path) -> None:
    """The first 64 images of each panel, side by side under their names."""
    side = next(iter(panels.values())).shape[1]
    scale = max(1, 256 // (8 * side))
    size, head, gap = 8 * (side + 1) * scale, 16, 8
    sheet = Image.new("L", (len(panels) * (size + gap) - gap, head + size), 255)
    for i, (name, images) in enumerate(panels.items()):
        images = images[:64]
        tiles = np.pad(images, ((0, 64 - len(images)), (0, 1), (0, 1)), constant_values=128)
        grid = tiles.reshape(8, 8, side + 1, side + 1).swapaxes(1, 2).reshape(8 * (side + 1), -1)
        grid = Image.fromarray(grid).resize((size, size), Image.Resampling.NEAREST)
        sheet.paste(grid, (i * (size + gap), head))
        ImageDraw.Draw(sheet).text((i * (size + gap) + 2, 2), name, fill=0)
    sheet.save(path)


def report(args: argparse.Namespace, rows: list[dict], judge: Judge, folder: Path) -> None:
    asked = (args.steps, args.seeds, args.models)
    rows = [r for r in rows if all(r[k] in a for k, a in zip(("T", "seed", "model"), asked))]
    real = judge.measure(judge.data.heldout)
    real |= {key: None for key in real if key.startswith("fd") and key.endswith("heldout")}
    print("\n" + table(rows, real))
    done = {(row["T"], row["seed"], row["model"]) for row in rows}
    for T, seed in sorted({key[:2] for key in done}):
        panels = {"held out": judge.data.heldout}
        for model in MODELS:
            file = run_folder(folder, T, model, seed) / "run/drawn/samples.npz"
            if (T, seed, model) in done and file.is_file():
                with np.load(file) as arrays:
                    panels[model] = arrays["arr_0"][..., 0]
        path = folder / f"samples-T{T}-seed{seed}.png"
        picture(panels, path)
        print(f"\n{path}")


def run_folder(folder: Path, T: int, model: str, seed: int) -> Path:
    return folder / f"runs/T{T}-{model}-seed{seed}"


def finished(results: Path, key: dict, asked: dict) -> bool:
    """Whether the line is there; another one under its name stops us."""
    for row in map(json.loads, results.read_text().splitlines() if results.is_file() else []):
        if all(row[name] == value for name, value in key.items()):
            other = [name for name, value in asked.items() if row["asked"][name] != value]
            if other:
                other = ", ".join(other)
                sys.exit(f"{results}: {key} was run with other {other}; take another --work")
            return True
    return False


def arguments() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("data", choices=KINDS)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=DEFAULT_MODELS, metavar="NAME",
                        help=f"of {', '.join(MODELS)}; default: all but smd-time-matched")  # fmt: skip
    parser.add_argument("--steps", type=int, nargs="+", default=[3, 8], help="T")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--seconds", type=float, default=120.0, help="of each training, on an idle machine")
    parser.add_argument("--probe-seconds", type=float, default=10.0, help="of measuring a model's rate")
    parser.add_argument("--count", type=int, help="samples; default 4000, of Fashion-MNIST 10000")
    parser.add_argument("--sample-batch", type=int, default=250)
    parser.add_argument("--set", action="append", default=[], help="a setting of every model")
    parser.add_argument("--work", type=Path, default=Path("/tmp/few-step-images"))
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--smd-binary", default=str(RELEASE / "smd"), help="our command")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="two models for seconds")
    args = parser.parse_args()
    if args.quick:
        parser.set_defaults(**QUICK, work=Path("/tmp/few-step-images/quick"))
        args = parser.parse_args()
    args.count = args.count or KINDS[args.data].count
    args.env = os.environ | {"RAYON_NUM_THREADS": str(args.threads)}
    return args


def main() -> None:
    args = arguments()
    set_threads(args.threads)
    kind, folder, failed = KINDS[args.data], args.work / args.data, []
    data = prepare(partial(kind.load, args.fashion), folder)
    judge = Judge(data, classifier(data, kind.epochs, folder / "classifier.pt"))
    results = folder / "results.jsonl"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without the command that runs
    print_load()
    known = costs(args, data.train_file, kind, folder)
    for T, seed, model in [(T, s, m) for T in args.steps for s in args.seeds for m in args.models]:
        key = {"data": args.data, "model": model, "T": T, "seed": seed}
        asked = {"net": kind.net, "options": flags(args, kind, model)}
        asked |= {"seconds": args.seconds, "count": args.count}
        if finished(results, key, asked):
            continue
        print(f"T = {T}, seed {seed}, {model}", flush=True)
        try:
            run = run_folder(folder, T, model, seed)
            found = train_and_measure(args, judge, kind, key, known[model], run)
        except Failed as error:
            print(f"failed, left out: {error}", file=sys.stderr)
            failed.append(key)
            continue
        with results.open("a") as file:
            file.write(json.dumps(key | {"asked": asked} | found) + "\n")
    if results.is_file():
        report(args, [json.loads(line) for line in results.read_text().splitlines()], judge, folder)
    if failed:
        sys.exit(f"{len(failed)} failed")


if __name__ == "__main__":
    main()
