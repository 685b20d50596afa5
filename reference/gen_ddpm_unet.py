"""Writes the golden file of the U-Net of Ho et al. 2020 (arXiv 2006.11239) from diffusers.

The settings are those of google/ddpm-cifar10-32 at a small size: one attention head over all
channels, time as (sin, cos), stride-2 convolutions padded (0, 1, 0, 1) like TensorFlow's "SAME".
"""

import argparse
import copy
import json
from pathlib import Path

import diffusers
import torch
from diffusers import UNet2DModel
from safetensors.torch import save_file

GOLDEN = Path(__file__).parents[1] / "crates/smd/tests/golden/ddpm_unet.safetensors"

CONFIG = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": [16, 32],
    "layers_per_block": 2,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": None,
    "norm_num_groups": 4,
    "norm_eps": 1e-6,
    "act_fn": "silu",
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "dropout": 0.0,
}


def build(generator: torch.Generator) -> UNet2DModel:
    """The model with weights that hide no mistake.

    Norms and biases are random, not 1 and 0. Queries and keys are three times larger than
    PyTorch's default, which would leave attention close to a plain mean over pixels.
    """
    unet = UNet2DModel(**CONFIG).eval()
    for name, param in unet.named_parameters():
        if param.ndim == 1:
            center = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            param.data = center + 0.2 * torch.randn(param.shape, generator=generator)
        elif "to_q" in name or "to_k" in name:
            param.data *= 3.0
    return unet


def run(unet: UNet2DModel, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """`expected.*` and `grad.*` of mean((eps_hat - eps)^2), in the model's own precision."""
    x_t, eps = inputs["input.x_t"].to(unet.dtype), inputs["input.eps"].to(unet.dtype)
    eps_hat = unet(x_t, inputs["input.t"]).sample
    loss = (eps_hat - eps).square().mean()
    loss.backward()
    grads = {f"grad.{name}": param.grad for name, param in unet.named_parameters()}
    return {"expected.eps": eps_hat.detach(), "expected.loss": loss.detach().reshape(1), **grads}


def relative_error(actual: torch.Tensor, exact: torch.Tensor) -> float:
    """Largest |actual - exact| over the largest |exact| of one tensor."""
    return ((actual.double() - exact).abs().max() / exact.abs().max()).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=2020, help="seed of weights and inputs")
    parser.add_argument("--out", type=Path, default=GOLDEN, help="file to write (safetensors)")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    generator = torch.Generator().manual_seed(args.seed)

    unet = build(generator)
    shape = (2, 3, 16, 16)
    inputs = {
        "input.x_t": torch.randn(shape, generator=generator),
        "input.t": torch.tensor([3, 750]),
        "input.eps": torch.randn(shape, generator=generator),
    }
    outputs = run(unet, inputs)
    exact = run(copy.deepcopy(unet).double().requires_grad_(), inputs)
    errors = {name: relative_error(value, exact[name]) for name, value in outputs.items()}
    # Softmax ignores a shift shared by all keys: the gradient of to_k.bias is 0, f32 leaves dust.
    grads = [name for name in errors if name.startswith("grad.") and "to_k.bias" not in name]
    worst_grad = max(grads, key=errors.get)

    metadata = {
        "generator": "reference/gen_ddpm_unet.py",
        "seed": str(args.seed),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "config": json.dumps(CONFIG),
        "t": "0-based: the paper's t is this t + 1",
        "layout": "images NCHW; convolutions [C_out, C_in, kH, kW]; linear [out, in]",
        "loss": "mean((expected.eps - input.eps)^2); grad.* are its gradients (to_k.bias: 0)",
        "f32_error": json.dumps(
            {
                "what": "max |f32 - f64| / max |f64| of one tensor, the same model in float64",
                "expected.eps": errors["expected.eps"],
                "expected.loss": errors["expected.loss"],
                f"worst grad: {worst_grad}": errors[worst_grad],
            }
        ),
    }
    weights = {f"model.{name}": value for name, value in unet.state_dict().items()}
    tensors = {name: value.contiguous() for name, value in (weights | inputs | outputs).items()}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, args.out, metadata)
    print(f"{args.out}: {args.out.stat().st_size} bytes, {len(tensors)} tensors")
    print(f"loss {outputs['expected.loss'].item():.6f}, {metadata['f32_error']}")


if __name__ == "__main__":
    main()
