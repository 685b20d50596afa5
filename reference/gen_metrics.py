"""Writes the golden file of FID, KID, inception score, precision and recall from the tools that define them.

Features are small multiples of 1/4: exact in half precision, in which the evaluator of ADM measures
distances, and with many equal distances, where < and <= differ. Some sets have fewer rows than columns, so
that covariances are singular.

The evaluator of ADM runs in a process of its own (`metrics_of_adm.py`): PyTorch and TensorFlow bring two LLVMs
that do not live in one.

    python3.11 -m venv /tmp/metrics-venv
    /tmp/metrics-venv/bin/pip install -r reference/requirements-metrics.txt
    /tmp/metrics-venv/bin/python reference/gen_metrics.py --adm ../guided-diffusion
"""

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from pytorch_fid.fid_score import calculate_frechet_distance
from safetensors.numpy import save_file
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

GOLDEN = Path(__file__).parents[1] / "crates/smd/tests/golden/metrics.safetensors"
SEED = 0
# Rows of the samples and of the reference, columns.
SETS = {"regular": (300, 260, 12), "singular": (40, 50, 64), "one-singular": (40, 400, 64)}
CLASSES = 10
KID = {"kid_subsets": 7, "kid_subset_size": 40, "kid_kernel": "poly", "kid_degree": 3,
       "kid_gamma": None, "kid_coef0": 1, "rng_seed": 2020, "verbose": False}  # fmt: skip
PRC = {"prc_neighborhood": 3, "prc_batch_size": 10_000, "save_cpu_ram": False, "verbose": False}
ADM_SPLIT = 70


def quarters(rng: np.random.Generator, rows: int, columns: int, shift: float) -> np.ndarray:
    """Correlated columns of multiples of 1/4."""
    mix = rng.normal(size=(columns, columns)) / np.sqrt(columns)
    values = rng.normal(size=(rows, columns)) @ mix + shift
    return (np.round(values * 4) / 4).astype(np.float32)


def of_adm(checkout: Path, arrays: dict[str, np.ndarray]) -> dict[str, float]:
    """What the evaluator says of all sets and the logits."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/arrays.npz", **arrays)
        command = [sys.executable, Path(__file__).with_name("metrics_of_adm.py"), checkout]
        command += [f"{folder}/arrays.npz", str(ADM_SPLIT)]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def of_torch_fidelity(samples: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    # pytorch-fid keeps features in double precision; so that one mean is meant, so do we here.
    samples, reference = (torch.from_numpy(x).double() for x in (samples, reference))
    statistics = [fid_features_to_statistics(x) for x in (samples, reference)]
    fid = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    kid = kid_features_to_metric(samples, reference, **KID)
    prc = prc_features_to_metric(samples, reference, **PRC)
    return {
        "torch-fidelity.fid": fid,
        "torch-fidelity.kid": kid["kernel_inception_distance_mean"],
        "torch-fidelity.kid_std": kid["kernel_inception_distance_std"],
        "torch-fidelity.precision": prc["precision"],
        "torch-fidelity.recall": prc["recall"],
    }


def of_pytorch_fid(samples: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    moments = [
        (x.mean(axis=0), np.cov(x, rowvar=False)) for x in (samples.astype(float), reference.astype(float))
    ]
    (mu_1, sigma_1), (mu_2, sigma_2) = moments
    return {"pytorch-fid.fid": calculate_frechet_distance(mu_1, sigma_1, mu_2, sigma_2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adm", type=Path, required=True, help="a checkout of openai/guided-diffusion")
    args = parser.parse_args()
    rng, tensors, expected = np.random.default_rng(SEED), {}, {}
    for name, (rows, reference_rows, columns) in SETS.items():
        samples = quarters(rng, rows, columns, 0.25)
        reference = quarters(rng, reference_rows, columns, 0.0)
        tensors |= {f"{name}.samples": samples, f"{name}.reference": reference}
        found = of_pytorch_fid(samples, reference) | of_torch_fidelity(samples, reference)
        expected |= {f"{name}.{measure}": float(value) for measure, value in found.items()}
    logits = rng.normal(scale=2.0, size=(333, CLASSES)).astype(np.float32)
    tensors["logits"] = logits
    score = isc_features_to_metric(torch.from_numpy(logits))
    expected["torch-fidelity.isc"] = score["inception_score_mean"]
    expected["torch-fidelity.isc_std"] = score["inception_score_std"]
    expected |= of_adm(args.adm, tensors)
    tools = ["torch-fidelity", "pytorch-fid", "tensorflow-cpu", "torch", "numpy", "scipy"]
    versions = {tool: version(tool) for tool in tools}
    metadata = {"seed": SEED, "versions": versions, "kid": KID, "adm_split": ADM_SPLIT, "expected": expected}
    save_file(tensors, GOLDEN, {key: json.dumps(value) for key, value in metadata.items()})
    print(json.dumps(expected, indent=2))


if __name__ == "__main__":
    main()
