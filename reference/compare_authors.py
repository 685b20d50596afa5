"""Runs our benchmark and the authors' alternately and prints medians and ratios ours / theirs.

Ours is `smd bench --preset authors-dim64`, theirs is bench_authors.py at the same width, batch,
image size and threads. Alternating spreads the machine's other load over both.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

REFERENCE = Path(__file__).parent
METRICS = {
    "train_images_per_s": ("train images/s", 1.0),
    "sample_images_per_s": ("sample images x steps/s", 1.0),
    "train_peak_bytes": ("train peak GiB", 2.0**30),
}


def bench(command: list[str], threads: int) -> dict[str, float]:
    """Runs one benchmark; its last line on stdout is the JSON object."""
    # PASSIVE: on a busy machine OpenMP's default spinning made PyTorch up to 4 times slower.
    env = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ | {"RAYON_NUM_THREADS": str(threads)}
    try:
        run = subprocess.run(command, capture_output=True, text=True, env=env)
    except FileNotFoundError:
        sys.exit(f"{command[0]}: not found; build it with `cargo build --release`")
    if run.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {run.returncode}\n{run.stderr.strip()}")
    report = json.loads(run.stdout.strip().splitlines()[-1])
    missing = METRICS.keys() - report.keys()
    if missing:
        sys.exit(f"{' '.join(command)}: no {', '.join(sorted(missing))} in {report}")
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", required=True, help="root of the authors' repository")
    parser.add_argument(
        "--smd-binary", default=str(REFERENCE.parent / "target/release/smd"), help="our command"
    )
    parser.add_argument("--runs", type=int, default=3, help="alternating runs of each side")
    parser.add_argument("--steps", type=int, default=3, help="timed steps in a run")
    parser.add_argument("--batch", type=int, default=16, help="images in a step")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each side")
    args = parser.parse_args()

    sizes = ["--batch", str(args.batch), "--steps", str(args.steps), "--json"]
    ours = [args.smd_binary, "bench", "--preset", "authors-dim64", *sizes]
    theirs = [sys.executable, str(REFERENCE / "bench_authors.py"), "--checkout", args.checkout]
    theirs += [*sizes, *f"--dim 64 --size 32 --threads {args.threads}".split()]

    print(f"load average before the first run: {os.getloadavg()[0]:.2f} (0 is an idle machine)")
    title = f"median of {args.runs}"
    print(f"{'':6} {title:24} {'ours':>10} {'theirs':>10} {'ours/theirs':>12}", flush=True)
    for mode in ("--smd", "--no-smd"):
        reports = {"ours": [], "theirs": []}
        for _ in range(args.runs):
            reports["ours"].append(bench([*ours, mode], args.threads))
            reports["theirs"].append(bench([*theirs, mode], args.threads))
        for metric, (label, unit) in METRICS.items():
            a, b = (
                statistics.median(r[metric] for r in reports[side]) / unit
                for side in ("ours", "theirs")
            )
            print(f"{mode[2:]:6} {label:24} {a:10.3f} {b:10.3f} {a / b:12.3f}", flush=True)


if __name__ == "__main__":
    main()
