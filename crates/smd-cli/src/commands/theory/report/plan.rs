//! Which models, at which lengths, trained for how long.

use smd::config::{self, RunConfig};

/// Lengths of the chains.
pub(super) const LENGTHS: [usize; 5] = [4, 8, 16, 50, 1000];

/// One training.
pub(super) struct Job {
    /// What the reader sees.
    pub(super) name: &'static str,
    /// `T`.
    pub(super) steps: usize,
    pub(super) seed: u64,
    /// The config.
    pub(super) config: RunConfig,
    /// Where it starts: a config with the same weights, trained first.
    pub(super) first: Option<RunConfig>,
}

impl Job {
    /// Updates of the optimiser, those of its start among them.
    pub(super) fn updates(&self) -> u64 {
        self.config.train.steps
    }
}

/// A model of the comparison.
struct Model {
    name: &'static str,
    settings: &'static [&'static str],
    /// The objective of the run that it goes on from.
    first: Option<&'static str>,
    eta_off: bool,
    /// Updates of the optimiser, and those of the quick run.
    updates: [u64; 2],
}

const LATE: &[&str] = &[
    "kernel.kind=soft-mixture",
    "kernel.late.d_eta=4",
    "objective.kind=energy",
];

const fn model(name: &'static str, settings: &'static [&'static str], updates: [u64; 2]) -> Model {
    Model {
        name,
        settings,
        first: None,
        eta_off: false,
        updates,
    }
}

const VANILLA: Model = model("one Gaussian", &["kernel.kind=gaussian"], [1_500, 100]);
const SMD: Model = model(
    "SMD, as published",
    &["kernel.kind=soft-mixture"],
    [1_500, 100],
);
const ETA_OFF: Model = Model {
    eta_off: true,
    ..model("SMD, eta = 0", &["kernel.kind=soft-mixture"], [1_500, 100])
};
const FROM_REAL: Model = Model {
    first: Some("energy"),
    ..model(
        "SMD, from a real mixture",
        &[
            "kernel.kind=soft-mixture",
            "kernel.late.d_eta=4",
            "kernel.variance=published",
            "objective.kind=paper",
        ],
        [1_500, 60],
    )
};
const ENERGY: Model = model("energy score", LATE, [3_000, 60]);
const ENCODER: Model = model(
    "encoder",
    &[
        "kernel.kind=soft-mixture",
        "kernel.late.d_eta=2",
        "objective.kind=encoder",
    ],
    [3_000, 60],
);
const CODEBOOK: Model = model(
    "codebook",
    &[
        "kernel.kind=codebook",
        "kernel.components=16",
        "kernel.late.layers=0",
    ],
    [2_500, 60],
);
const MIXTURE: Model = model("mixture", &["kernel.kind=mixture"], [10_000, 150]);
const MIXTURE_32: Model = model(
    "mixture",
    &["kernel.kind=mixture", "kernel.components=32"],
    [14_000, 150],
);

/// All trainings, the longest first: what is left at the end should be short.
pub(super) fn jobs(quick: bool) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut add = |steps, models: &[Model], seeds: u64| {
        for model in models {
            for seed in 0..if quick { 1 } else { seeds } {
                jobs.push(job(model, steps, seed, quick));
            }
        }
    };
    add(8, &[CODEBOOK, MIXTURE], 3);
    add(4, &[MIXTURE_32], 3);
    add(16, &[MIXTURE_32], 3);
    add(8, &[ENERGY, ENCODER, FROM_REAL, VANILLA, SMD, ETA_OFF], 3);
    for steps in [4, 16] {
        add(steps, &[CODEBOOK, VANILLA, SMD], 1);
    }
    for steps in [50, 1000] {
        add(steps, &[MIXTURE, VANILLA, SMD], 1);
    }
    jobs
}

fn job(model: &Model, steps: usize, seed: u64, quick: bool) -> Job {
    let updates = model.updates[usize::from(quick)];
    let mut settings: Vec<String> = model.settings.iter().map(|&s| s.into()).collect();
    settings.extend([
        format!("schedule.steps={steps}"),
        format!("train.seed={seed}"),
        format!("train.steps={updates}"),
    ]);
    let preset = config::preset("gmm-7x7").expect("a preset");
    let mut config = config::set(preset, "smd theory report", &settings).expect("a valid config");
    if model.eta_off {
        config = config.with_eta_off().expect("a soft mixture");
    }
    // As a checkpoint has it, which the second training goes on from.
    config.data.shape = Some([1, 1, 2]);
    let first = model.first.map(|objective| {
        let kind = [format!("objective.kind={objective}")];
        config::set(&config.to_toml(), "smd theory report", &kind).expect("a valid config")
    });
    if let Some(first) = &first {
        // It goes on from there.
        config.train.steps += first.train.steps;
    }
    Job {
        name: model.name,
        steps,
        seed,
        config,
        first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_valid_and_every_length_has_some() {
        for quick in [true, false] {
            let jobs = jobs(quick);
            for mut job in jobs.into_iter().map(|job| job.config) {
                job.resolve().unwrap();
            }
        }
        let jobs = jobs(false);
        for steps in LENGTHS {
            assert!(jobs.iter().filter(|job| job.steps == steps).count() >= 3);
        }
    }
}
