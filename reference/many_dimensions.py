"""Which kernels and objectives keep a posterior of 2^D modes? D independent two-valued coordinates.

    python reference/many_dimensions.py --out /tmp/bits [--dims 1 4 16 64] [--steps 2000] [--seeds 0]

The examples are images of D pixels, each -0.6 or 0.6 with a deviation of 0.2 about it, and the chain has one
step: x_1 says nothing of x_0, so a kernel has to draw all of it. For each kernel: training time, the share
of the data's variance that its samples have (r: 0 collapsed, 1 right), the mean size of the correlation
between coordinates (0 is right; of independent samples it is 0.006), the share of numbers within 2
deviations of one of the two values (data: 0.954), and the sliced Wasserstein distance to fresh data.
Needs numpy and a release build.
"""

import argparse
import json
import struct
import subprocess
import time
from pathlib import Path

import numpy as np

SMD = Path(__file__).resolve().parent.parent / "target/release/smd"
SAMPLES = 10_000
LATE = ["kernel.kind=soft-mixture", "kernel.late.d_eta=16", "kernel.late.d_latent=32"]
KERNELS = {
    "paper": ["kernel.kind=soft-mixture"],
    "paper, late": [*LATE, "objective.kind=paper"],
    "multi-sample 16": [*LATE, "objective.kind=multi-sample"],
    "mixture 16": ["kernel.kind=mixture"],
    "codebook 32": ["kernel.kind=codebook"],
    "encoder": [*LATE, "objective.kind=encoder"],
    "encoder, importance 8": [
        *LATE,
        "objective.kind=encoder",
        "objective.etas=8",
        "objective.importance=true",
    ],
    "energy 3": [*LATE, "objective.kind=energy"],
}


def bits(count: int, dim: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, (count, dim)) * 2 - 1
    return 0.6 * signs + 0.2 * rng.standard_normal((count, dim))


def write_idx(path: Path, x: np.ndarray, side: int) -> None:
    """Images of x in [-1, 1]."""
    pixels = np.clip(np.round((x + 1) * 127.5), 0, 255).astype(np.uint8)
    header = struct.pack(">IIII", 0x803, len(x), side, side)
    path.write_bytes(header + pixels.tobytes())


def run(arguments: list[str]) -> None:
    subprocess.run([str(SMD), *arguments], check=True, capture_output=True, text=True)


def sliced_wasserstein(a: np.ndarray, b: np.ndarray, directions: int = 128) -> float:
    rng = np.random.default_rng(0)
    u = rng.standard_normal((a.shape[1], directions))
    u /= np.linalg.norm(u, axis=0)
    off = np.sort(a @ u, axis=0) - np.sort(b @ u, axis=0)
    return float(np.sqrt((off**2).mean()))


def measure(x: np.ndarray, dim: int) -> dict[str, float]:
    data = bits(len(x), dim, 99)
    if dim > 1:
        with np.errstate(invalid="ignore", divide="ignore"):
            corr = np.nan_to_num(np.corrcoef(x.T))
        off = np.abs(corr[~np.eye(dim, dtype=bool)]).mean()
    else:
        off = 0.0
    return {
        "r": float(x.var(0).sum() / data.var(0).sum()),
        "correlation": float(off),
        "near": float((np.abs(np.abs(x) - 0.6) < 0.4).mean()),
        "swd": sliced_wasserstein(x, data),
    }


def train(out: Path, name: str, settings: list[str], dim: int, seed: int, steps: int) -> dict:
    folder = out / f"{name.replace(' ', '-').replace(',', '')}-{dim}-{seed}"
    config = [
        f"data.path={out / f'bits-{dim}-idx3-ubyte'}",
        "schedule.steps=1",
        "net.kind=mlp",
        "net.dim=128",
        "net.frequencies=0",
        f"train.steps={steps}",
        "train.batch=256",
        "train.lr=2e-3",
        "train.lr_schedule=cosine",
        "train.warmup_steps=100",
        "train.ema=[0.999]",
        f"train.seed={seed}",
        "sample.clip=false",
        *settings,
    ]
    (out / "empty.toml").write_text("")
    flags = [flag for setting in config for flag in ("--set", setting)]
    started = time.time()
    run(["train", str(out / "empty.toml"), "--out", str(folder), *flags])
    seconds = time.time() - started
    seeds = f"0-{SAMPLES - 1}"
    samples = str(folder / "samples")
    run(["sample", str(folder), "--seeds", seeds, "--batch", "1000", "--npz", "--out", samples])
    with np.load(folder / "samples/samples.npz") as file:
        x = file[file.files[0]].reshape(SAMPLES, dim).astype(np.float64)
    if dim > 1:
        x = x / 127.5 - 1
    return {"kernel": name, "D": dim, "seed": seed, "seconds": seconds, **measure(x, dim)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="work folder; must not exist")
    parser.add_argument("--dims", type=int, nargs="+", default=[1, 4, 16, 64], help="squares")
    parser.add_argument("--steps", type=int, default=2000, help="of training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of training")
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    rows = "| kernel, objective | D | seed | seconds | r | correlation | near | sliced Wasserstein |"
    print(f"{rows}\n|---|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    for dim in args.dims:
        side = round(dim**0.5)
        write_idx(args.out / f"bits-{dim}-idx3-ubyte", bits(60_000, dim, 1), side)
        for name, settings in KERNELS.items():
            for seed in args.seeds:
                row = train(args.out, name, settings, dim, seed, args.steps)
                with (args.out / "rows.jsonl").open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(
                    f"| {name} | {dim} | {seed} | {row['seconds']:.0f} | {row['r']:.3f} | "
                    f"{row['correlation']:.3f} | {row['near']:.3f} | {row['swd']:.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
