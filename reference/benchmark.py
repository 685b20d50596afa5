"""What the benchmarks here share: runs of a command, medians over alternating runs, timed steps."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

REFERENCE = Path(__file__).parent
RELEASE = REFERENCE.parent / "target/release"


def add_arguments(parser: argparse.ArgumentParser, runs: int, steps: int) -> None:
    """What both sides of a comparison are given."""
    parser.add_argument("--runs", type=int, default=runs, help="alternating runs of each side")
    parser.add_argument("--steps", type=int, default=steps, help="timed steps in a run")
    parser.add_argument("--batch", type=int, default=16, help="images in a step")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each side")


def run(command: list[str], threads: int) -> list[dict]:
    """The JSON objects that a benchmark prints, one a line."""
    # PASSIVE: on a busy machine OpenMP's default spinning made PyTorch up to 4 times slower.
    env = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ | {"RAYON_NUM_THREADS": str(threads)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=env)
    except FileNotFoundError:
        sys.exit(f"{command[0]}: not found; `cargo build --release --workspace --bins --examples`")
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr.strip()}")
    reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not reports:
        sys.exit(f"{' '.join(command)}: printed no JSON\n{done.stdout.strip()}")
    return reports


def alternate(
    commands: dict[str, list[str]], keys: Iterable[str], runs: int, threads: int
) -> dict[str, list[dict]]:
    """The last object that each command prints in each run, which must have the keys.

    The commands take turns, so that the machine's other load falls on all of them.
    """
    reports: dict[str, list[dict]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            report = run(command, threads)[-1]
            missing = [key for key in keys if report.get(key) is None]
            if missing:
                sys.exit(f"{' '.join(command)}: no {', '.join(missing)} in {report}")
            reports[name].append(report)
    return reports


def median(reports: list[dict], key: str) -> float:
    return statistics.median(report[key] for report in reports)


def median_seconds(step: Callable[[], None], steps: int) -> float:
    """Median wall time of `step` in seconds, after one warm-up call."""
    step()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def print_load() -> None:
    load = os.getloadavg()[0]
    print(f"load average before the first run: {load:.2f} (0 is an idle machine)", flush=True)
