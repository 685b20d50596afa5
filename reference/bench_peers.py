"""Runs our kernels and training steps alternately with PyTorch's and prints medians and ratios.

PyTorch runs in every layout it has (NCHW, channels last; for steps also torch.compile), and its best
median counts. A ratio above 1 means that ours is faster, or smaller where it is memory.

    python reference/bench_peers.py conv                 # 3x3 convolutions, forward and all gradients
    python reference/bench_peers.py step --checkout DIR  # the authors' U-Net without SMD
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

REFERENCE = Path(__file__).parent
TARGET = REFERENCE.parent / "target/release"


def run(command: list[str], threads: int) -> list[dict]:
    """The JSON lines that a benchmark prints."""
    # PASSIVE: on a busy machine OpenMP's default spinning made PyTorch up to 4 times slower.
    env = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ | {"RAYON_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def median_ms(step, count: int = 15) -> float:
    step()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def torch_conv(name: str, layout: str, threads: int) -> dict[str, float]:
    """Milliseconds of one convolution in this process."""
    import torch

    torch.set_num_threads(threads)
    batch, c_in, c_out, side, window = map(int, re.findall(r"\d+", name))
    form = torch.channels_last if layout == "channels last" else torch.contiguous_format
    conv = torch.nn.Conv2d(c_in, c_out, window, padding=window // 2).to(memory_format=form)
    x = torch.randn(batch, c_in, side, side).to(memory_format=form).requires_grad_()
    gradient = torch.randn(batch, c_out, side, side).to(memory_format=form)

    def forward() -> None:
        with torch.no_grad():
            conv(x)

    def both() -> None:
        torch.autograd.grad(conv(x), [x, conv.weight, conv.bias], gradient)

    return {"forward": median_ms(forward), "both": median_ms(both)}


def convolutions(args: argparse.Namespace) -> None:
    ours: dict[str, list[dict]] = {}
    theirs: dict[tuple[str, str], list[dict]] = {}
    for _ in range(args.runs):
        for line in run([str(TARGET / "examples/conv_bench")], args.threads):
            ours.setdefault(line["name"], []).append(line)
        for name in ours:
            for layout in ("NCHW", "channels last"):
                command = [sys.executable, __file__, "one-conv", name, layout]
                command += ["--threads", str(args.threads)]
                theirs.setdefault((name, layout), []).append(run(command, args.threads)[0])
    print(f"{'':22} {'forward ms':>22} {'ratio':>6}   {'forward + backward ms':>22} {'ratio':>6}")
    print(f"{'':22} {'ours':>10} {'theirs':>11} {'':>6}   {'ours':>10} {'theirs':>11}")
    for name, lines in ours.items():
        best = {
            key: min(
                statistics.median(line[key] for line in theirs[name, layout])
                for layout in ("NCHW", "channels last")
            )
            for key in ("forward", "both")
        }
        forward = statistics.median(line["forward_ms"] for line in lines)
        both = statistics.median(
            line["forward_ms"] + line["grad_input_ms"] + line["grad_weight_ms"] for line in lines
        )
        print(
            f"{name:22} {forward:10.2f} {best['forward']:11.2f} {best['forward'] / forward:6.2f}   "
            f"{both:10.2f} {best['both']:11.2f} {best['both'] / both:6.2f}"
        )


def steps(args: argparse.Namespace) -> None:
    sizes = ["--batch", str(args.batch), "--steps", str(args.steps), "--json"]
    mine = [str(TARGET / "smd"), "bench", "--preset", "authors-dim64", "--no-smd", *sizes]
    mine += ["--set", f"net.dim={args.dim}"]
    if args.bf16:
        mine += ["--set", "precision=bf16"]
    theirs = [sys.executable, str(REFERENCE / "bench_authors.py"), "--checkout", args.checkout]
    theirs += [*sizes, "--no-smd", "--dim", str(args.dim), "--threads", str(args.threads)]
    theirs += ["--bf16"] if args.bf16 else []
    variants = {
        "ours": mine,
        "NCHW": theirs,
        "channels last": [*theirs, "--channels-last"],
        "compiled": [*theirs, "--compile"],
        "compiled, channels last": [*theirs, "--compile", "--channels-last"],
    }
    reports: dict[str, list[dict]] = {name: [] for name in variants}
    for _ in range(args.runs):
        for name, command in variants.items():
            reports[name].append(run(command, args.threads)[-1])
    for key, unit, larger in (
        ("train_images_per_s", 1, True),
        ("sample_images_per_s", 1, True),
        ("train_peak_bytes", 2**30, False),
    ):
        medians = {
            name: statistics.median(report[key] for report in found) / unit
            for name, found in reports.items()
        }
        ours = medians.pop("ours")
        best = (max if larger else min)(medians.values())
        each = ", ".join(f"{name} {value:.3g}" for name, value in medians.items())
        print(f"{key:20} ours {ours:.3g}, best of theirs {best:.3g}, ratio {ours / best:.2f} ({each})")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["conv", "step", "one-conv"])
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--checkout", help="root of vanderschaarlab/smd")
    parser.add_argument("--runs", type=int, default=5, help="alternating runs of each side")
    parser.add_argument("--steps", type=int, default=5, help="timed steps in a run")
    parser.add_argument("--batch", type=int, default=16, help="images in a step")
    parser.add_argument("--dim", type=int, default=64, help="base width in channels")
    parser.add_argument("--bf16", action="store_true", help="both sides of a step in bf16")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each side")
    args = parser.parse_args()
    if args.what == "one-conv":
        print(json.dumps(torch_conv(*args.rest, args.threads)))
        return
    print(f"load average before the first run: {os.getloadavg()[0]:.2f} (0 is an idle machine)")
    if args.what == "conv":
        convolutions(args)
    elif args.checkout is None:
        parser.error("step needs --checkout")
    else:
        steps(args)


if __name__ == "__main__":
    main()
