"""Loss curves of runs from their metrics.jsonl: plot_losses.py OUT.png NAME=RUN [NAME=RUN ...]."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def curve(run: Path, window: int = 20) -> tuple[list[int], list[float]]:
    """Steps and losses, averaged over `window` lines."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    chunks = [rows[i : i + window] for i in range(0, len(rows), window)]
    mean = [sum(row["loss"] for row in chunk) / len(chunk) for chunk in chunks]
    return [chunk[-1]["step"] for chunk in chunks], mean


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for argument in sys.argv[2:]:
        name, run = argument.split("=", 1)
        axes.plot(*curve(Path(run)), label=name)
    axes.set(xlabel="step", ylabel="loss (mean over 200 steps)", yscale="log")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(sys.argv[1], dpi=120)


if __name__ == "__main__":
    main()
