"""Writes a small checkpoint as the authors' Trainer.save does, and what its model computes.

`authors_tiny.pt` has the keys of their utils.py (step, model, opt, ema, scaler); the EMA is stored as
ema-pytorch does, under `ema_model.` and `online_model.`. Adam has stepped only the `scales`, so that
`opt` is small and still has its shape. `authors_tiny.safetensors` holds inputs and outputs, no weights.
"""

import argparse
import copy
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

GOLDEN = Path(__file__).parents[1] / "crates/smd/tests/golden"

CONFIG = {
    "dim": 8,
    "mults": [1, 2],
    "latent_dim": 4,
    "hypernet_layers": 1,
    "image": 8,
    "groups": 2,
    "heads": 2,
    "head_dim": 4,
    "identifier_dim": 4,
    "identifier_mults": [1],
}
TIMESTEPS = 100


def build(checkout: Path) -> torch.nn.Module:
    """Their GaussianDiffusion; biases and norms are random, so that they hide no mistake."""
    sys.path.insert(0, str(checkout / "src/smd"))
    if not hasattr(torch.cuda.amp, "autocast"):  # a later torch may drop the old name
        torch.cuda.amp.autocast = lambda enabled: torch.autocast("cuda", enabled=enabled)
    from models import GaussianDiffusion
    from nn import UNet

    unet = UNet(
        dim=CONFIG["dim"],
        dim_mults=CONFIG["mults"],
        full_attn=(False,) * len(CONFIG["mults"]),
        latent_dim=CONFIG["latent_dim"],
        hypernet_layers=CONFIG["hypernet_layers"],
        resnet_block_groups=CONFIG["groups"],
        attn_dim_head=CONFIG["head_dim"],
        attn_heads=CONFIG["heads"],
    )
    identifier = UNet(
        dim=CONFIG["identifier_dim"],
        channels=6,
        dim_mults=CONFIG["identifier_mults"],
        full_attn=(False,) * len(CONFIG["identifier_mults"]),
        out_dim=CONFIG["latent_dim"],
        resnet_block_groups=1,
        attn_dim_head=8,
        attn_heads=1,
    )
    diffusion = GaussianDiffusion(
        unet, identifier, image_size=CONFIG["image"], timesteps=TIMESTEPS, auto_normalize=True
    )
    for name, param in diffusion.named_parameters():
        if "norm" in name or name.endswith((".bias", ".g")):
            param.data += 0.2 * torch.randn_like(param)
    return diffusion


def ema_state(diffusion: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state_dict of ema_pytorch.EMA 0.2.3 with averages that differ from the weights."""
    average = copy.deepcopy(diffusion)
    for param in average.parameters():
        if param.requires_grad:
            param.data += 0.1 * torch.randn_like(param)
    state = {"initted": torch.Tensor([True]), "step": torch.tensor([7])}
    for prefix, model in [("online_model.", diffusion), ("ema_model.", average)]:
        state |= {prefix + name: value for name, value in model.state_dict().items()}
    return state


def optimizer_state(diffusion: torch.nn.Module) -> dict:
    adam = torch.optim.Adam(diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
    diffusion.model.in_hypernet.scales.sum().backward()
    adam.step()
    adam.zero_grad()
    return adam.state_dict()


def run(diffusion: torch.nn.Module) -> dict[str, torch.Tensor]:
    shape = (2, 3, CONFIG["image"], CONFIG["image"])
    x_0, eps, eta = torch.rand(shape), torch.randn(shape), torch.randn(shape)
    t = torch.tensor([2, 60])
    x_start = diffusion.normalize(x_0)
    with torch.no_grad():
        x_t = diffusion.q_sample(x_start, t, eps)
        z_t = diffusion.identifier(torch.cat([x_t, eta], dim=1), t)
        v = diffusion.model(x_t, t, None, z_t)
        square = (v - diffusion.predict_v(x_start, t, eps)).square().flatten(1).mean(1)
        loss = (square * diffusion.loss_weight[t]).mean()
    return {
        "input.x_0": x_0,
        "input.t": t,
        "input.eps": eps,
        "input.eta": eta,
        "expected.x_t": x_t,
        "expected.z_t": z_t,
        "expected.v": v,
        "expected.loss": loss.reshape(1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--checkout", type=Path, required=True, help="root of the authors' repository"
    )
    parser.add_argument("--out", type=Path, default=GOLDEN, help="folder to write into")
    args = parser.parse_args()

    torch.manual_seed(3)
    torch.set_num_threads(1)
    diffusion = build(args.checkout)
    optimizer = optimizer_state(diffusion)
    ema = ema_state(diffusion)
    checkpoint = {
        "step": 70,
        "model": diffusion.state_dict(),
        "opt": optimizer,
        "ema": ema,
        "scaler": None,
    }
    torch.save(checkpoint, args.out / "authors_tiny.pt")
    tensors = run(diffusion)
    # One average, to see that an import reads the right half of `ema`.
    name = "model.final_conv.bias"
    tensors[f"average.{name}"] = ema[f"ema_model.{name}"].clone()
    metadata = {
        "generator": "reference/gen_authors_pt.py",
        "source": "vanderschaarlab/smd@50172d8",
        "torch": torch.__version__,
        "config": json.dumps(CONFIG),
        "objective": "v",
        "schedule": "sigmoid",
        "timesteps": str(TIMESTEPS),
        "t": "0-based: the paper's t is this t + 1",
        "x_0": "in [0,1]; the model sees 2*x_0-1",
    }
    save_file(tensors, args.out / "authors_tiny.safetensors", metadata)


if __name__ == "__main__":
    main()
