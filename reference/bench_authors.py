"""Times the authors' own SMD code (vanderschaarlab/smd) and prints one JSON line.

The networks are built as their src/smd/main.py does with the sizes of cases/run_smd.sh, except for
the width (--dim). A training step is forward, backward, gradient clip and Adam; a sampling step is
their p_sample, so sample_images_per_s counts images x steps. Each rate is a median over steps
after one warm-up step. --channels-last, --compile and --bf16 are ways to run PyTorch that their script
does not use.
"""

import argparse
import json
import resource
import sys
from pathlib import Path

import torch

from benchmark import median_seconds

TIMESTEPS = 1000


def build(args: argparse.Namespace) -> torch.nn.Module:
    """Their GaussianDiffusion, with the hypernetworks and the identifier if args.smd."""
    source = args.checkout / "src/smd"
    if not (source / "models.py").is_file():
        sys.exit(
            f"{source}/models.py: not found; --checkout expects the root of vanderschaarlab/smd"
        )
    sys.path.insert(0, str(source))
    if not hasattr(torch.cuda.amp, "autocast"):  # a later torch may drop the old name
        torch.cuda.amp.autocast = lambda enabled: torch.autocast("cuda", enabled=enabled)
    from models import GaussianDiffusion
    from nn import UNet

    unet = UNet(
        dim=args.dim,
        channels=3,
        dim_mults=[1, 2, 2, 2],
        full_attn=(False,) * 4,
        latent_dim=100 if args.smd else 0,
        hypernet_layers=2 if args.smd else None,
        resnet_block_groups=4,
        learned_sinusoidal_dim=32,
        attn_dim_head=32,
        attn_heads=4,
    )
    scale = 2**2  # exp_scale 2
    identifier = UNet(
        dim=args.dim // scale,
        channels=6,
        dim_mults=[1, 2],
        full_attn=(False,) * 2,
        out_dim=100,
        resnet_block_groups=4 // scale,
        learned_sinusoidal_dim=32 // scale,
        attn_dim_head=32 // scale,
        attn_heads=4 // scale,
    )
    return GaussianDiffusion(
        model=unet,
        identifier=identifier if args.smd else None,
        image_size=args.size,
        timesteps=TIMESTEPS,
        auto_normalize=True,
    )


def wait() -> None:
    """Until the GPU, if there is one, has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def train_seconds(diffusion: torch.nn.Module, images: torch.Tensor, steps: int) -> float:
    adam = torch.optim.Adam(diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))

    def step() -> None:
        loss = diffusion(images)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        adam.step()
        adam.zero_grad()
        wait()

    return median_seconds(step, steps)


def sample_seconds(diffusion: torch.nn.Module, x_t: torch.Tensor, steps: int) -> float:
    diffusion.eval()
    t = TIMESTEPS

    def step() -> None:
        nonlocal x_t, t
        t -= 1
        x_t, _ = diffusion.p_sample(x_t, t, clip_denoising=True)
        wait()

    return median_seconds(step, steps)


def peak_bytes(device: str) -> int:
    """High-water mark of the GPU's memory, or of this process's (Linux counts KiB)."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--checkout", type=Path, required=True, help="root of the authors' repository"
    )
    parser.add_argument("--dim", type=int, default=64, help="base width in channels")
    parser.add_argument("--batch", type=int, default=16, help="images in a step")
    parser.add_argument("--size", type=int, default=32, help="image height and width in pixels")
    parser.add_argument(
        "--steps", type=int, default=5, help="timed steps after one warm-up, 1 to 999"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="where it runs")
    parser.add_argument(
        "--smd",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="soft mixture denoising, or their plain DDPM",
    )
    parser.add_argument("--channels-last", action="store_true", help="activations in NHWC order")
    parser.add_argument("--compile", action="store_true", help="torch.compile of the U-Net")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    parser.add_argument("--json", action="store_true", help="print JSON (the only format)")
    args = parser.parse_args()
    if not 1 <= args.steps < TIMESTEPS:
        parser.error(f"--steps: {args.steps}, expected 1 to {TIMESTEPS - 1}")

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    diffusion = build(args).to(args.device)
    if args.channels_last:
        diffusion = diffusion.to(memory_format=torch.channels_last)
    if args.compile:
        diffusion.model = torch.compile(diffusion.model)
    shape = (args.batch, 3, args.size, args.size)

    form = torch.channels_last if args.channels_last else torch.contiguous_format
    draws = (torch.rand, torch.randn)
    images, x_t = (draw(shape).to(args.device, memory_format=form) for draw in draws)
    with torch.autocast(args.device, dtype=torch.bfloat16, enabled=args.bf16):
        train = train_seconds(diffusion, images, args.steps)
        train_peak = peak_bytes(args.device)  # before sampling, so that it is training's alone
        sample = sample_seconds(diffusion, x_t, args.steps)

    report = {
        "train_images_per_s": args.batch / train,
        "sample_images_per_s": args.batch / sample,
        "train_peak_bytes": train_peak,
        "smd": args.smd,
        "dim": args.dim,
        "batch": args.batch,
        "size": args.size,
        "steps": args.steps,
        "params": sum(p.numel() for p in diffusion.parameters() if p.requires_grad),
        "torch": torch.__version__,
        "threads": args.threads,
        "device": args.device,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
