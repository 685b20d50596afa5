"""Writes the golden file of the networks whose features FID and its like compare.

Inception is pytorch-fid's, EfficientNet-Lite0 that of efficientnet-lite-pytorch. No weights are downloaded: each number
of weights and images comes from one formula (`number`), which the test in Rust has too. The environment is that of
`gen_metrics.py`; efficientnet-lite-pytorch goes in with --no-deps.
"""

import json
import math
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from pytorch_fid import inception
from safetensors.numpy import save_file

GOLDEN = Path(__file__).parents[1] / "crates/smd/tests/golden/extractors.safetensors"
IMAGES = 2


def numbers(name: str, count: int) -> np.ndarray:
    """Uniform in [-1, 1): the upper 24 bits of SplitMix64, seeded by the FNV-1a hash of the name."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return ((z >> np.uint64(40)).astype(np.float64) / 2**23 - 1).astype(np.float32)


def weight(name: str, shape: torch.Size) -> torch.Tensor:
    """As wide as keeps the size of features through rectifiers; normalisations that are not trivial."""
    x = torch.from_numpy(numbers(name, math.prod(shape))).reshape(shape)
    if len(shape) > 1:
        return x * np.float32(math.sqrt(5 / math.prod(shape[1:])))
    scale, centre = {"running_var": (0.5, 1.0), "weight": (0.5, 1.0)}.get(name.rsplit(".", 1)[1], (0.25, 0.0))
    return x * scale + centre


def filled(network: torch.nn.Module) -> torch.nn.Module:
    state = network.state_dict()
    floats = {name: weight(name, x.shape) for name, x in state.items() if x.is_floating_point()}
    network.load_state_dict(state | floats)
    return network.eval()


def fid_inception() -> torch.nn.Module:
    """pytorch-fid's network without its download."""
    inception.load_state_dict_from_url = lambda *_, **__: torch.nn.Module().state_dict()
    plain, torch.nn.Module.load_state_dict = torch.nn.Module.load_state_dict, lambda *_, **__: None
    try:
        return inception.fid_inception_v3()
    finally:
        torch.nn.Module.load_state_dict = plain


def of_inception(images: torch.Tensor) -> dict[str, torch.Tensor]:
    network, seen = filled(fid_inception()), {}
    network.avgpool.register_forward_hook(lambda _, __, y: seen.update(pool=y.flatten(1)))
    conv = network.Mixed_6d.branch1x1.conv
    conv.register_forward_hook(lambda _, __, y: seen.update(spatial=y[:, :7].permute(0, 2, 3, 1).flatten(1)))
    network.transform_input = False
    with torch.no_grad():
        logits = network(images) - network.fc.bias
    return {"inception.pool": seen["pool"], "inception.spatial": seen["spatial"], "inception.logits": logits}


def of_efficientnet(images: torch.Tensor) -> dict[str, torch.Tensor]:
    network = filled(EfficientNet.from_name("efficientnet-lite0"))
    with torch.no_grad():
        return {"efficientnet_lite0.pool": network.extract_features(images).mean(dim=(2, 3))}


def images(side: int) -> torch.Tensor:
    """`[B, 3, H, W]`; the formula fills `[B, H, W, 3]`."""
    x = numbers(f"images {side}", IMAGES * side * side * 3).reshape(IMAGES, side, side, 3)
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def main() -> None:
    tensors = of_inception(images(299)) | of_efficientnet(images(224))
    tools = ["pytorch-fid", "efficientnet-lite-pytorch", "torch", "torchvision", "numpy"]
    versions = {tool: version(tool) for tool in tools}
    arrays = {name: np.ascontiguousarray(x.numpy()) for name, x in tensors.items()}
    save_file(arrays, GOLDEN, {"versions": json.dumps(versions)})
    for name, x in arrays.items():
        print(name, x.shape, f"mean {x.mean():.6f} std {x.std():.6f} largest {np.abs(x).max():.4f}")


if __name__ == "__main__":
    main()
