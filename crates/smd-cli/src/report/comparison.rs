//! The page of `smd theory report`: samples, errors beside their floors, and latents over training.

use super::curves::{Series, curves};
use super::escape;
use super::picture::{COLOURS, TRUTH, img};
use super::scatter::{Frame, scatter};
use super::table::{count, duration, percent};
use smd::denoising_error::chain::ChainQuality;
use smd::denoising_error::{DenoisingError, Estimate, Family};
use std::fmt::Write;

/// Everything that the page shows.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Samples of the data.
    pub truth: Vec<[f32; 2]>,
    /// One for each length, the shortest first.
    pub chains: Vec<ComparisonChain>,
    /// Cores and processor.
    pub machine: String,
    /// Of the program.
    pub version: String,
    /// Whether trainings were cut short.
    pub quick: bool,
    /// Of the whole command.
    pub seconds: f64,
}

/// One length.
#[derive(Debug, Clone)]
pub struct ComparisonChain {
    /// `T`.
    pub steps: usize,
    /// The least that Gaussian steps can lose.
    pub floors: DenoisingError,
    /// Samples of the exact chain and of the floors'.
    pub qualities: Vec<ChainQuality>,
    /// The models.
    pub models: Vec<ComparisonModel>,
}

/// One model, trained from several seeds.
#[derive(Debug, Clone)]
pub struct ComparisonModel {
    /// What the reader sees.
    pub name: String,
    /// At least one.
    pub runs: Vec<ComparisonRun>,
    /// Of the first run: updates, and the latent's influence at `t = 2` then; empty without a latent.
    pub history: Vec<(usize, f64)>,
}

/// One training.
#[derive(Debug, Clone)]
pub struct ComparisonRun {
    /// Its seed.
    pub seed: u64,
    /// The sum of `M_t` over all steps.
    pub sum: Estimate,
    /// `M_t` from `t = 1`.
    pub per_t: Vec<Estimate>,
    /// `(t, r_t)`.
    pub influence: Vec<(usize, f64)>,
    /// Modes that its samples cover.
    pub modes: usize,
    /// Share of its samples within 3 standard deviations of a mode.
    pub share_within: f64,
    /// Sliced Wasserstein distance to the data.
    pub swd: f64,
    /// Its samples.
    pub points: Vec<[f32; 2]>,
    /// Of the optimiser.
    pub updates: u64,
    /// Of the training, beside the others'.
    pub seconds: f64,
    /// Numbers in its networks.
    pub parameters: usize,
}

impl Comparison {
    /// The whole page: a pure function of the numbers.
    pub fn to_html(&self) -> String {
        let title = "Past the Gaussian floor: one mixture, every kernel";
        let style = include_str!("style.css");
        let chains: String = self.chains.iter().map(|chain| self.chain(chain)).collect();
        let quick = if self.quick {
            "<p class=\"note\">This was the quick run: training was cut short, and the numbers are rough.</p>\n"
        } else {
            ""
        };
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; \
             style-src 'unsafe-inline'\">\n<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n\
             <header>\n<h1>{title}</h1>\n{OPENING}{quick}</header>\n<main>\n{}{chains}</main>\n{}</body>\n</html>\n",
            self.collapse(),
            self.footer(quick.is_empty()),
        )
    }

    /// The table on the terminal.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for chain in &self.chains {
            let floor = |family| chain.floors.sum_from(1, family).unwrap_or_default().nats;
            let _ = writeln!(
                text,
                "\nT = {}: Gaussian floors {:.3} (beta_t), {:.3} (one number a step), {:.3} (a matrix for each x_t)",
                chain.steps,
                floor(Family::FixedLarge),
                floor(Family::Isotropic),
                floor(Family::Full),
            );
            for model in &chain.models {
                let largest = largest_r(model).map_or("-".into(), |r| format!("{r:.4}"));
                let _ = writeln!(
                    text,
                    "  {:<26} sum of M_t {:<26} {:>8} of 49 modes {:>16} within 3 std   r_t <= {largest}",
                    model.name,
                    spread(model, |run| run.sum.nats, 3),
                    spread(model, |run| run.modes as f64, 0),
                    spread(model, |run| 100.0 * run.share_within, 1) + " %",
                );
            }
        }
        text
    }

    /// The latent's influence over training, of every model with one.
    fn collapse(&self) -> String {
        let Some(chain) = self.chains.iter().find(|chain| {
            let with = |model: &&ComparisonModel| !model.history.is_empty();
            chain.models.iter().filter(with).count() > 3
        }) else {
            return String::new();
        };
        let shown = [
            "SMD, as published",
            "SMD, from a real mixture",
            "energy score",
            "codebook",
            "mixture",
        ];
        let of = |name: &&str| chain.models.iter().find(|model| model.name == *name);
        let models = shown.iter().filter_map(of);
        // A zero has no logarithm; nothing below 1e-6 can be told from it.
        let lines = models.map(|model| Line {
            colour: colour(&model.name),
            name: model.name.clone(),
            points: model
                .history
                .iter()
                .map(|&(step, r)| (step, r.max(1e-6)))
                .collect(),
        });
        let lines: Vec<Line> = lines.collect();
        format!(
            "<section>\n<h2>The collapse, seen happening</h2>\n\
             <p>The share of the true spread of <i>x</i><sub>0</sub> that the latent carries, \
             <i>r<sub>t</sub></i> at <i>t</i> = 2 of T = {}, over the updates of the training. The published loss \
             removes the latent's influence, from scratch and from a model whose mixture was real; the others \
             keep it near 1, the truth's own.</p>\n\
             <div class=\"charts\"><figure class=\"chart\">{}<figcaption>{}</figcaption></figure></div>\n</section>\n",
            chain.steps,
            chart(&lines, "r_t at t = 2"),
            keys(&lines),
        )
    }

    fn chain(&self, chain: &ComparisonChain) -> String {
        format!(
            "<section>\n<h2>T = {}</h2>\n<div class=\"pictures\">\n{}</div>\n{}{}</section>\n",
            chain.steps,
            self.scatters(chain),
            errors(chain),
            table(chain),
        )
    }

    fn scatters(&self, chain: &ComparisonChain) -> String {
        let frame = Frame::around(&self.truth);
        let picture = |points: &[[f32; 2]], colour, alt: &str| {
            img(&scatter(points, frame, colour), "scatter", alt)
        };
        let figure = |picture: String, name: &str, text: &str| {
            format!(
                "<figure>{picture}<figcaption>{name}<span>{text}</span></figcaption></figure>\n"
            )
        };
        let truth = figure(
            picture(&self.truth, TRUTH, "Samples of the data"),
            "<span class=\"key truth\">The data</span>",
            &format!("{} samples", count(self.truth.len())),
        );
        let models = chain.models.iter().map(|model| {
            let run = &model.runs[0];
            let alt = format!("Samples of {} at T = {}", model.name, chain.steps);
            let outside = match frame.count_outside(&run.points) {
                0 => String::new(),
                outside => format!("<br>{} outside the picture", count(outside)),
            };
            figure(
                picture(&run.points, COLOURS[colour(&model.name)], &alt),
                &key(colour(&model.name), &model.name),
                &format!(
                    "{} of 49 modes<br>{} within 3 std{outside}",
                    run.modes,
                    percent(run.share_within)
                ),
            )
        });
        std::iter::once(truth).chain(models).collect()
    }

    fn footer(&self, whole: bool) -> String {
        format!(
            "<footer>\n<p><code>smd theory report{}</code>, smd {}, {}, {}. Each model trained from the seeds \
             given, beside the others; every number is a function of the seeds.</p>\n</footer>\n",
            if whole { "" } else { " --quick" },
            escape(&self.version),
            escape(&self.machine),
            duration(self.seconds),
        )
    }
}

const OPENING: &str = "<p class=\"lead\">A diffusion model goes back from noise in T steps, each modelled as one Gaussian. \
    Where the steps are few, the true step is a mixture: on this 7×7 grid it is known exactly, and so is the least that \
    any Gaussian step must lose. Below, every kernel is trained on the grid and held against those floors.</p>\n\
    <p>Soft mixture denoising gives the step a latent; trained as published it ends as one Gaussian, at the same error \
    as one that never had a latent. The kernels at the end of each row are mixtures, and pass the floor.</p>\n";

/// The names of the models, in the order in which they are shown; each has its colour everywhere.
pub const MODELS: [&str; 8] = [
    "one Gaussian",
    "SMD, as published",
    "SMD, eta = 0",
    "SMD, from a real mixture",
    "energy score",
    "encoder",
    "codebook",
    "mixture",
];

/// The first colours go to those whose errors are drawn; the controls' are the floors' in that chart.
fn colour(name: &str) -> usize {
    const COLOURED: [&str; 8] = [
        "one Gaussian",
        "SMD, as published",
        "mixture",
        "codebook",
        "energy score",
        "encoder",
        CONTROLS[0],
        CONTROLS[1],
    ];
    COLOURED
        .iter()
        .position(|known| *known == name)
        .unwrap_or(0)
}

/// They lie on the line of one Gaussian.
const CONTROLS: [&str; 2] = ["SMD, eta = 0", "SMD, from a real mixture"];

fn key(colour: usize, name: &str) -> String {
    format!("<span class=\"key c{colour}\">{}</span>", escape(name))
}

/// `M_t` over `t` of the models, beside two floors.
fn errors(chain: &ComparisonChain) -> String {
    // What cannot be told from nothing is not drawn: the axis is logarithmic.
    let told = |error: &Estimate| error.nats > 2.0 * error.se && error.nats > 1e-5;
    let mut lines: Vec<Line> = Vec::new();
    for model in &chain.models {
        if CONTROLS.contains(&&*model.name) {
            continue;
        }
        let points = model.runs[0].per_t.iter().enumerate();
        let points = points.filter(|(_, error)| told(error));
        lines.push(Line {
            colour: colour(&model.name),
            name: model.name.clone(),
            points: points.map(|(i, error)| (i + 1, error.nats)).collect(),
        });
    }
    for (family, name, like) in [
        (Family::Full, "least of any Gaussian", CONTROLS[0]),
        (
            Family::FixedLarge,
            "least with variance beta_t",
            CONTROLS[1],
        ),
    ] {
        let per_t = chain.floors.per_t.iter();
        let points = per_t.filter_map(|step| {
            let floor = step.floor(family).filter(told)?;
            Some((step.t, floor.nats))
        });
        lines.push(Line {
            colour: colour(like),
            name: name.into(),
            points: points.collect(),
        });
    }
    format!(
        "<h3>What a step loses: M<sub>t</sub> over t, in nats</h3>\n<div class=\"charts\"><figure class=\"chart\">{}\
         <figcaption>{}</figcaption></figure></div>\n",
        chart(&lines, "M_t, nats"),
        keys(&lines),
    )
}

/// A line of a chart.
struct Line {
    colour: usize,
    name: String,
    points: Vec<(usize, f64)>,
}

fn chart(lines: &[Line], y_name: &str) -> String {
    let lines = lines.iter().filter(|line| line.points.len() > 1);
    let series: Vec<Series> = lines
        .map(|line| Series {
            colour: line.colour,
            losses: &line.points,
        })
        .collect();
    let nothing = || "<p class=\"nothing\">nothing to draw</p>".into();
    curves(&series, y_name).unwrap_or_else(nothing)
}

fn keys(lines: &[Line]) -> String {
    let keys = lines.iter().map(|line| key(line.colour, &line.name));
    keys.collect::<Vec<_>>().join(" ")
}

fn table(chain: &ComparisonChain) -> String {
    let mut rows = String::new();
    let mut row = |cells: &[String], class: &str| {
        let name = &cells[0];
        let cells = cells[1..].iter().map(|cell| format!("<td>{cell}</td>"));
        let cells: String = cells.collect();
        let _ = writeln!(rows, "<tr{class}><th scope=\"row\">{name}</th>{cells}</tr>");
    };
    for model in &chain.models {
        row(
            &[
                key(colour(&model.name), &model.name),
                spread(model, |run| run.sum.nats, 3),
                spread(model, |run| run.modes as f64, 0),
                spread(model, |run| 100.0 * run.share_within, 1) + " %",
                spread(model, |run| run.swd, 3),
                largest_r(model).map_or("-".into(), |r| format!("{r:.4}")),
                count(model.runs[0].parameters),
                spread(model, |run| run.seconds, 0),
                model.runs.len().to_string(),
            ],
            "",
        );
    }
    for quality in &chain.qualities {
        let name = quality.step.name();
        let family = Family::ALL.into_iter().find(|family| family.name() == name);
        let sum = match family {
            Some(family) => chain
                .floors
                .sum_from(1, family)
                .map_or("-".into(), |sum| format!("{:.3}", sum.nats)),
            None => "0".into(),
        };
        let what = match family {
            Some(_) => format!("exact mean, <code>{name}</code>"),
            None => "the exact chain".into(),
        };
        let dash = || "-".to_string();
        row(
            &[
                what,
                sum,
                quality.modes.covered.to_string(),
                percent(quality.modes.share_within_3_std),
                format!("{:.3}", quality.swd),
                dash(),
                dash(),
                dash(),
                dash(),
            ],
            " class=\"muted\"",
        );
    }
    format!(
        "<div class=\"table\"><table>\n<thead><tr><th>model</th><th>sum of M<sub>t</sub>, nats</th><th>modes of 49</th>\
         <th>within 3 std</th><th>SWD</th><th>largest r<sub>t</sub></th><th>parameters</th><th>training, s</th><th>seeds</th></tr>\
         </thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n\
         <p class=\"note\">The mean over seeds, and in brackets the least and the largest. The last rows need no network: \
         the exact step, and the best Gaussian of each family: the exact mean with its variance.</p>\n"
    )
}

/// The largest influence of a latent over steps and seeds; `None` for one Gaussian.
fn largest_r(model: &ComparisonModel) -> Option<f64> {
    if model.history.is_empty() {
        return None;
    }
    let runs = model.runs.iter().flat_map(|run| &run.influence);
    runs.map(|(_, r)| *r).reduce(f64::max)
}

/// "0.123 (0.100 - 0.150)": the mean over seeds, the least and the largest, or what all have.
fn spread(model: &ComparisonModel, of: impl Fn(&ComparisonRun) -> f64, digits: usize) -> String {
    let values: Vec<f64> = model.runs.iter().map(of).collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let show = |value: f64| format!("{value:.digits$}");
    let least = show(values.iter().copied().fold(f64::INFINITY, f64::min));
    let largest = show(values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    if least == largest {
        return least;
    }
    format!("{} ({least} - {largest})", show(mean))
}

#[cfg(test)]
mod tests {
    use super::*;
    use smd::denoising_error::{chain::qualities, measure};
    use smd::gmm::GaussianMixture;
    use smd::schedule::{NoiseSchedule, ScheduleConfig};

    fn comparison() -> Comparison {
        let mixture = GaussianMixture::grid_7x7();
        let schedule = NoiseSchedule::new(&ScheduleConfig {
            steps: 4,
            ..ScheduleConfig::default()
        })
        .unwrap();
        let floors = measure(&mixture, &schedule, 300, 0, |_| {});
        let run = |seed, nats| ComparisonRun {
            seed,
            sum: Estimate { nats, se: 0.01 },
            per_t: vec![Estimate { nats, se: 0.01 }; 4],
            influence: vec![(1, 0.5)],
            modes: 49,
            share_within: 0.95,
            swd: 0.01,
            points: vec![[0.0, 0.5]; 3],
            updates: 10,
            seconds: 1.0,
            parameters: 1000,
        };
        let model = |name: &str, runs| ComparisonModel {
            name: name.into(),
            runs,
            history: vec![(0, 0.5), (10, 1.0)],
        };
        Comparison {
            truth: vec![[1.0, -1.0], [0.0, 0.5]],
            chains: vec![ComparisonChain {
                steps: 4,
                qualities: qualities(&mixture, &schedule, &floors, 50, 0, |_| {}),
                floors,
                models: vec![
                    model("one Gaussian", vec![run(0, 3.0)]),
                    model("SMD, as published", vec![run(0, 3.0)]),
                    model("energy score", vec![run(0, 3.0)]),
                    model("mixture", vec![run(0, 0.1), run(1, 0.3)]),
                ],
            }],
            machine: "two cores <fast>".into(),
            version: "1.2.3".into(),
            quick: true,
            seconds: 61.0,
        }
    }

    #[test]
    fn the_page_has_every_model_and_every_floor_and_asks_for_nothing() {
        let page = comparison().to_html();
        for text in [
            "0.200 (0.100 - 0.300)",
            "<td>49</td><td>95.0 %</td>",
            "the exact chain",
            "fixed_large",
            "two cores &lt;fast&gt;",
            "The collapse, seen happening",
            "--quick",
        ] {
            assert!(page.contains(text), "{text}");
        }
        assert!(
            !page.contains("<script") && !page.contains("http://") && !page.contains("https://")
        );
        assert!(comparison().to_text().contains("T = 4: Gaussian floors"));
    }
}
