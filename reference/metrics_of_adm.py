"""What the evaluator of ADM says of features; used by `gen_metrics.py`.

    python metrics_of_adm.py CHECKOUT ARRAYS.npz SPLIT      # prints JSON

The evaluator is used as it is, from a checkout of openai/guided-diffusion (MIT), but for its network: it is given
features and logits.
"""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import tensorflow.compat.v1 as tf


def evaluator(checkout: Path):
    """Its module."""
    spec = importlib.util.spec_from_file_location("evaluator", checkout / "evaluations/evaluator.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    np.bool = bool  # the name that numpy had when the evaluator was written
    return module


def distances(module, samples: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    moments = [(x.astype(float).mean(axis=0), np.cov(x, rowvar=False)) for x in (samples, reference)]
    ours, theirs = (module.FIDStatistics(*moment) for moment in moments)
    with tf.Session(graph=tf.Graph()) as session:
        manifold = module.ManifoldEstimator(session)
        radii = [manifold.manifold_radii(x) for x in (reference, samples)]
        precision, recall = manifold.evaluate_pr(reference, radii[0], samples, radii[1])
    fid = ours.frechet_distance(theirs)
    return {"fid": float(fid), "precision": float(precision[0]), "recall": float(recall[0])}


def inception_score(module, logits: np.ndarray, split: int) -> float:
    """Its own code, whose network answers with the softmax of `logits`."""

    def answer(_, feed_dict):
        powers = np.exp(feed_dict[None].astype(float))
        return powers / powers.sum(axis=1, keepdims=True)

    its = object.__new__(module.Evaluator)
    its.softmax_batch_size, its.softmax, its.softmax_input = 512, None, None
    its.sess = SimpleNamespace(run=answer)
    return its.compute_inception_score(logits, split_size=split)


def main() -> None:
    checkout, arrays, split = Path(sys.argv[1]), np.load(sys.argv[2]), int(sys.argv[3])
    module = evaluator(checkout)
    sets = [name.removesuffix(".samples") for name in arrays if name.endswith(".samples")]
    found = {"adm.isc": inception_score(module, arrays["logits"], split)}
    for name in sets:
        measures = distances(module, arrays[f"{name}.samples"], arrays[f"{name}.reference"])
        found |= {f"{name}.adm.{measure}": value for measure, value in measures.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
