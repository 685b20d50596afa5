"""Runs our kernels and training steps alternately with PyTorch's and prints medians and ratios.

PyTorch runs in every layout it has (NCHW, channels last; for steps also torch.compile), and its best
median counts. A ratio above 1 means that ours is faster, or smaller where it is memory.

    python reference/bench_peers.py conv                 # 3x3 convolutions, forward and all gradients
    python reference/bench_peers.py step --checkout DIR  # the authors' U-Net without SMD
"""

import argparse
import json
import re
import sys

from benchmark import (
    REFERENCE,
    RELEASE,
    add_arguments,
    alternate,
    median,
    median_seconds,
    print_load,
    run,
)

LAYOUTS = ("NCHW", "channels last")


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

    return {"forward": 1e3 * median_seconds(forward, 15), "both": 1e3 * median_seconds(both, 15)}


def convolutions(args: argparse.Namespace) -> None:
    ours: dict[str, list[dict]] = {}
    theirs: dict[tuple[str, str], list[dict]] = {}
    for _ in range(args.runs):
        for line in run([str(RELEASE / "examples/conv_bench")], args.threads):
            ours.setdefault(line["name"], []).append(line)
        for name in ours:
            for layout in LAYOUTS:
                command = [sys.executable, __file__, "one-conv", name, layout]
                command += ["--threads", str(args.threads)]
                theirs.setdefault((name, layout), []).append(run(command, args.threads)[0])
    print(f"{'':22} {'forward ms':>22} {'ratio':>6}   {'forward + backward ms':>22} {'ratio':>6}")
    print(f"{'':22} {'ours':>10} {'theirs':>11} {'':>6}   {'ours':>10} {'theirs':>11}")
    for name, lines in ours.items():
        best = {
            key: min(median(theirs[name, layout], key) for layout in LAYOUTS)
            for key in ("forward", "both")
        }
        for line in lines:
            line["both_ms"] = line["forward_ms"] + line["grad_input_ms"] + line["grad_weight_ms"]
        forward, both = median(lines, "forward_ms"), median(lines, "both_ms")
        print(
            f"{name:22} {forward:10.2f} {best['forward']:11.2f} {best['forward'] / forward:6.2f}   "
            f"{both:10.2f} {best['both']:11.2f} {best['both'] / both:6.2f}"
        )


def steps(args: argparse.Namespace) -> None:
    sizes = ["--batch", str(args.batch), "--steps", str(args.steps), "--json"]
    mine = [str(RELEASE / "smd"), "bench", "--preset", "authors-dim64", "--no-smd", *sizes]
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
    metrics = {
        "train_images_per_s": (1, max),
        "sample_images_per_s": (1, max),
        "train_peak_bytes": (2**30, min),
    }
    reports = alternate(variants, metrics, args.runs, args.threads)
    for key, (unit, best_of) in metrics.items():
        medians = {name: median(found, key) / unit for name, found in reports.items()}
        ours = medians.pop("ours")
        best = best_of(medians.values())
        each = ", ".join(f"{name} {value:.3g}" for name, value in medians.items())
        print(f"{key:20} ours {ours:.3g}, best of theirs {best:.3g}, ratio {ours / best:.2f} ({each})")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["conv", "step", "one-conv"])
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--checkout", help="root of vanderschaarlab/smd")
    add_arguments(parser, runs=5, steps=5)
    parser.add_argument("--dim", type=int, default=64, help="base width in channels")
    parser.add_argument("--bf16", action="store_true", help="both sides of a step in bf16")
    args = parser.parse_args()
    if args.what == "one-conv":
        print(json.dumps(torch_conv(*args.rest, args.threads)))
        return
    print_load()
    if args.what == "conv":
        convolutions(args)
    elif args.checkout is None:
        parser.error("step needs --checkout")
    else:
        steps(args)


if __name__ == "__main__":
    main()
