"""Writes the golden file of how three tools bring pictures to Inception: `crates/smd/tests/golden/prepare.safetensors`.

- pytorch-fid: `torch.nn.functional.interpolate` as its network calls it
- clean: Pillow, channel by channel in floats, as clean-fid does
- adm: TensorFlow's ResizeBilinear, as the graph of the evaluator does

Every 97th number is kept. The environment is that of `gen_metrics.py`; PyTorch runs in a process of its own.
"""

import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

GOLDEN = Path(__file__).parents[1] / "crates/smd/tests/golden/prepare.safetensors"
SIDE, STEP, SEED = 299, 97, 0
# Height and width, and how often a pixel is repeated in each direction.
SIZES = {"small": ((32, 40), 1), "large": ((33, 41), 10)}


def pytorch_fid(picture: np.ndarray) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/in.npy", picture)
        subprocess.run([sys.executable, __file__, folder], check=True)
        return np.load(f"{folder}/out.npy")


def pytorch_fid_here(folder: str) -> None:
    import torch
    from torch.nn.functional import interpolate
    from torchvision.transforms.functional import to_tensor

    x = to_tensor(np.load(f"{folder}/in.npy"))[None]
    x = 2 * interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False) - 1
    np.save(f"{folder}/out.npy", x[0].permute(1, 2, 0).numpy())


def clean(picture: np.ndarray) -> np.ndarray:
    planes = [Image.fromarray(picture[..., c].astype(np.float32)) for c in range(3)]
    planes = [np.asarray(x.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).clip(0, 255) for x in planes]
    return (np.stack(planes, axis=-1) - 128) / 128


def adm(picture: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    x = tf.constant(picture[None].astype(np.float32))
    resized = tf.raw_ops.ResizeBilinear(images=x, size=[SIDE, SIDE], align_corners=False, half_pixel_centers=False)
    return (resized.numpy()[0] - 128) * 0.0078125


def main() -> None:
    rng, tensors = np.random.default_rng(SEED), {}
    for name, (size, times) in SIZES.items():
        tensors[name] = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        picture = tensors[name].repeat(times, axis=0).repeat(times, axis=1)
        for tool, prepare in {"pytorch-fid": pytorch_fid, "clean": clean, "adm": adm}.items():
            prepared = prepare(picture).astype(np.float32)
            tensors[f"{name}.{tool}"] = np.ascontiguousarray(prepared.reshape(-1)[::STEP])
    # Half precision holds every byte exactly.
    tensors = {k: x.astype(np.float16) if x.dtype == np.uint8 else x for k, x in tensors.items()}
    versions = {tool: version(tool) for tool in ["torch", "pillow", "tensorflow-cpu", "numpy"]}
    save_file(tensors, GOLDEN, {"seed": str(SEED), "versions": json.dumps(versions)})


if __name__ == "__main__":
    pytorch_fid_here(sys.argv[1]) if len(sys.argv) > 1 else main()
