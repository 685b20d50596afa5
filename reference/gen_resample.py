"""Writes the golden file of Pillow's resizing: `crates/smd/tests/golden/resample.safetensors`."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save_file

GOLDEN = Path(__file__).parents[1] / "crates/smd/tests/golden/resample.safetensors"
SEED = 0
HEIGHT, WIDTH = 31, 47
SIZES = [(5, 9), (23, 31), (64, 20), (7, 47), (40, 90)]
FILTERS = ["box", "bilinear", "bicubic", "lanczos"]


def pictures(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Noise beside flat parts of the darkest and the brightest: filters overshoot there."""
    rgb = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    rgb[8:20, 10:30] = 0
    rgb[12:25, 20:40] = 255
    floats = rng.normal(100.0, 80.0, (HEIGHT, WIDTH)).astype(np.float32)
    return {"L": rgb[..., 0].copy(), "RGB": rgb, "F": floats}


def main() -> None:
    tensors = {}
    for mode, picture in pictures(np.random.default_rng(SEED)).items():
        tensors[mode] = picture
        image = Image.fromarray(picture)
        assert image.mode == mode
        for name in FILTERS:
            for height, width in SIZES:
                resized = image.resize((width, height), Image.Resampling[name.upper()])
                tensors[f"{mode}.{name}.{height}x{width}"] = np.asarray(resized)
    # Half precision holds every byte exactly.
    tensors = {k: x.astype(np.float16) if x.dtype == np.uint8 else x for k, x in tensors.items()}
    versions = {"pillow": version("pillow"), "numpy": np.__version__}
    save_file(tensors, GOLDEN, {"seed": str(SEED), "versions": json.dumps(versions)})


if __name__ == "__main__":
    main()
