"""Images a second of the networks behind Frechet distances: ours and PyTorch's in several ways, taking turns.

    cargo build --release -p smd --example extractor_bench
    python reference/bench_extractors.py inception            # or efficientnet

PyTorch runs in f32 with its batch normalisations folded by `torch.jit.optimize_for_inference`, by TorchInductor with frozen
weights, and as written; contiguous and channels last. The ratio is ours over the best of them. The environment is that of
`gen_extractors.py`.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from benchmark import RELEASE, alternate, median, median_seconds, print_load
from gen_extractors import fid_inception, filled

SIDES = {"inception": 299, "efficientnet": 224}
WAYS = ["eager", "jit", "inductor"]
LAYOUTS = ["contiguous", "channels_last"]


def network(name: str):
    from efficientnet_lite_pytorch import EfficientNet

    if name == "inception":
        plain = filled(fid_inception())
        plain.transform_input = False
        return plain
    plain = filled(EfficientNet.from_name("efficientnet-lite0"))
    plain.forward = lambda x: plain.extract_features(x).mean(dim=(2, 3))
    return plain


def one(args: argparse.Namespace) -> None:
    """Times one way in this process."""
    import torch
    import torch._inductor.config

    torch.set_num_threads(args.threads)
    torch._inductor.config.freezing = True
    layout = torch.channels_last if args.layout == "channels_last" else torch.contiguous_format
    net = network(args.name).to(memory_format=layout)
    x = torch.rand(args.batch, 3, SIDES[args.name], SIDES[args.name]).to(memory_format=layout)
    with torch.no_grad():
        if args.way == "jit":
            net = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(net, x)))
        elif args.way == "inductor":
            net = torch.compile(net)
        net(x), net(x)
        seconds = median_seconds(lambda: net(x), args.steps)
    print(json.dumps({"images_per_s": args.batch / seconds}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SIDES)
    parser.add_argument("--runs", type=int, default=3, help="alternating runs of each side")
    parser.add_argument("--steps", type=int, default=5, help="timed batches in a run")
    parser.add_argument("--batch", type=int, default=32, help="images")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each side")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--layout", choices=LAYOUTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        return one(args)
    from safetensors.numpy import save_file

    print_load()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "weights.safetensors")
        state = {k: x.numpy() for k, x in network(args.name).state_dict().items()}
        save_file({k: np.ascontiguousarray(x) for k, x in state.items() if x.dtype == np.float32}, weights)
        ours = [str(RELEASE / "examples/extractor_bench"), args.name, str(weights)]
        commands = {"smd": [*ours, str(args.batch), str(args.steps)]}
        for way in args.ways:
            for layout in LAYOUTS:
                theirs = [sys.executable, __file__, args.name, "--way", way, "--layout", layout]
                theirs += ["--batch", str(args.batch), "--steps", str(args.steps), "--threads", str(args.threads)]
                commands[f"{way}, {layout}"] = theirs
        reports = alternate(commands, ["images_per_s"], args.runs, args.threads)
    rates = {name: median(runs, "images_per_s") for name, runs in reports.items()}
    for name, rate in rates.items():
        print(f"{name:24} {rate:8.2f} images/s")
    best = max(rate for name, rate in rates.items() if name != "smd")
    print(f"smd / best of PyTorch    {rates['smd'] / best:8.2f}")


if __name__ == "__main__":
    main()
