"""Small images with labels, and measures that hold samples against them.

Pixels are in [-1, 1]. Frechet distances are those of the features of a small classifier and of 20
principal components, both made of the training images.
"""

import gzip
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

# Before torch is loaded: on a busy machine threads that spin while they wait lose their core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
import torch  # noqa: E402


def set_threads(threads: int) -> None:
    torch.set_num_threads(threads)


@dataclass
class Data:
    """Images `[n, H, W]` of bytes, their labels, and the same images as IDX files."""

    train: np.ndarray
    train_labels: np.ndarray
    heldout: np.ndarray
    heldout_labels: np.ndarray
    train_file: Path
    heldout_file: Path


def load_digits(_: Path) -> dict[str, np.ndarray]:
    """1500 to train on and 297 held out, in always the same way."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    sizes = {"train_size": 1500, "test_size": 297}
    labels = digits.target
    split = train_test_split(images, labels, stratify=labels, random_state=0, **sizes)
    return dict(zip(("train", "heldout", "train_labels", "heldout_labels"), split))


def load_fashion(folder: Path, side: int) -> dict[str, np.ndarray]:
    """As its publisher splits it, made smaller by averages of areas."""
    arrays = {}
    for name, prefix in [("train", "train"), ("heldout", "t10k")]:
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
        if side != images.shape[1]:
            small = [Image.fromarray(x).resize((side, side), Image.Resampling.BOX) for x in images]
            images = np.stack([np.asarray(x) for x in small])
        arrays[name] = images
        arrays[f"{name}_labels"] = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz").astype(int)
    return arrays


def read_idx(path: Path) -> np.ndarray:
    if not path.is_file():
        sys.exit(f"{path}: not found; --fashion expects the folder of Fashion-MNIST's four files")
    data = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(data, ">u4", data[3], 4).astype(int)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def prepare(load: Callable[[], dict[str, np.ndarray]], folder: Path) -> Data:
    """The data, made once: images.npz and the two files that `smd` reads."""
    files = [folder / f"{name}-images-idx3-ubyte" for name in ("train", "heldout")]
    cache = folder / "images.npz"
    if not cache.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        arrays = load()
        for name, file in zip(("train", "heldout"), files):
            header = np.array([0x00000803, *arrays[name].shape], ">u4")
            file.write_bytes(header.tobytes() + arrays[name].tobytes())
        np.savez(folder / "part.npz", **arrays)
        os.replace(folder / "part.npz", cache)
    with np.load(cache) as arrays:
        return Data(**arrays, train_file=files[0], heldout_file=files[1])


def unit(images: np.ndarray) -> torch.Tensor:
    """Bytes `[n, H, W]` as pixels in [-1, 1], `[n, 1, H, W]`."""
    return torch.from_numpy(images).float().div(127.5).sub(1)[:, None]


def network(side: int) -> torch.nn.Sequential:
    """Features of an image, 32 of 8x8 and 64 of larger ones, then scores of ten classes."""
    nn = torch.nn
    if side == 8:
        body = [nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU()]
        return nn.Sequential(nn.Sequential(*body), nn.Linear(32, 10))
    body = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    body += [nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    body += [nn.Linear(32 * (side // 4) ** 2, 64), nn.ReLU()]
    return nn.Sequential(nn.Sequential(*body), nn.Linear(64, 10))


def classifier(data: Data, epochs: int, cache: Path) -> torch.nn.Sequential:
    """Trained on the training images, once."""
    torch.manual_seed(0)
    model = network(data.train.shape[1])
    if cache.is_file():
        model.load_state_dict(torch.load(cache))
    else:
        images, labels = unit(data.train), torch.from_numpy(data.train_labels)
        batches = -(-len(images) // 64)
        optimiser = torch.optim.Adam(model.parameters())
        rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=epochs * batches)
        for _ in range(epochs):
            for batch in torch.randperm(len(images)).split(64):
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
                optimiser.step()
                rate.step()
        torch.save(model.state_dict(), cache.with_suffix(".part"))
        os.replace(cache.with_suffix(".part"), cache)
    with torch.no_grad():
        found = model(unit(data.heldout)).argmax(1).numpy()
    accuracy = (found == data.heldout_labels).mean()
    print(f"classifier: {100 * accuracy:.1f} % of the held-out images right", flush=True)
    return model


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Between the Gaussians of two samples, `[n, D]` each."""
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b) - 2 * cross)


def nearest(images: np.ndarray, others: np.ndarray) -> float:
    """Mean distance to the nearest other one; an image is not its own neighbour."""
    same = images is others
    images, others = unit(images).flatten(1), unit(others).flatten(1)
    squares, total = others.square().sum(1), 0.0
    for start in range(0, len(images), 500):
        part = images[start : start + 500]
        distance = part.square().sum(1)[:, None] + squares - 2 * part @ others.T
        if same:
            rows = torch.arange(len(part))
            distance[rows, start + rows] = torch.inf
        # The differences again: the squares above have lost the digits of small distances.
        total += (part - others[distance.argmin(1)]).norm(dim=1).sum().item()
    return total / len(images)


class Judge:
    """Holds samples against the training and the held-out images."""

    def __init__(self, data: Data, model: torch.nn.Sequential):
        self.data, self.model = data, model
        pixels = unit(data.train).flatten(1).double().numpy()
        self.centre = pixels.mean(0)
        self.axes = np.linalg.eigh(np.cov(pixels.T))[1][:, -20:]
        self.train, self.heldout = self.spaces(data.train), self.spaces(data.heldout)

    def spaces(self, images: np.ndarray) -> dict[str, np.ndarray]:
        pixels = unit(images)
        with torch.no_grad():
            parts = [self.model[0](part) for part in pixels.split(2000)]
        components = (pixels.flatten(1).double().numpy() - self.centre) @ self.axes
        return {"cls": torch.cat(parts).double().numpy(), "pca": components}

    def measure(self, images: np.ndarray) -> dict[str, float]:
        spaces = self.spaces(images)
        found = {"near_train": nearest(images, self.data.train)}
        found["near_heldout"] = nearest(images, self.data.heldout)
        for name, points in spaces.items():
            found[f"fd_{name}_train"] = frechet(points, self.train[name])
            found[f"fd_{name}_heldout"] = frechet(points, self.heldout[name])
        with torch.no_grad():
            scores = self.model[1](torch.from_numpy(spaces["cls"]).float())
        return found | {"confidence": scores.softmax(1).max(1).values.mean().item()}
