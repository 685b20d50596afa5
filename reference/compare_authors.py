"""Runs our benchmark and the authors' alternately and prints medians and ratios ours / theirs.

Ours is `smd bench --preset authors-dim64`, theirs is bench_authors.py at the same width, batch,
image size and threads. Alternating spreads the machine's other load over both.
"""

import argparse
import sys

from benchmark import REFERENCE, RELEASE, add_arguments, alternate, median, print_load

METRICS = {
    "train_images_per_s": ("train images/s", 1.0),
    "sample_images_per_s": ("sample images x steps/s", 1.0),
    "train_peak_bytes": ("train peak GiB", 2.0**30),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", required=True, help="root of the authors' repository")
    parser.add_argument("--smd-binary", default=str(RELEASE / "smd"), help="our command")
    add_arguments(parser, runs=3, steps=3)
    args = parser.parse_args()

    sizes = ["--batch", str(args.batch), "--steps", str(args.steps), "--json"]
    ours = [args.smd_binary, "bench", "--preset", "authors-dim64", *sizes]
    theirs = [sys.executable, str(REFERENCE / "bench_authors.py"), "--checkout", args.checkout]
    theirs += [*sizes, *f"--dim 64 --size 32 --threads {args.threads}".split()]

    print_load()
    title = f"median of {args.runs}"
    print(f"{'':6} {title:24} {'ours':>10} {'theirs':>10} {'ours/theirs':>12}", flush=True)
    for mode in ("--smd", "--no-smd"):
        commands = {"ours": [*ours, mode], "theirs": [*theirs, mode]}
        reports = alternate(commands, METRICS, args.runs, args.threads)
        for metric, (label, unit) in METRICS.items():
            a, b = (median(reports[side], metric) / unit for side in commands)
            print(f"{mode[2:]:6} {label:24} {a:10.3f} {b:10.3f} {a / b:12.3f}", flush=True)


if __name__ == "__main__":
    main()
