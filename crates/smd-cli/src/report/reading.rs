//! What the numbers say, in words; every sentence about a result follows from what was measured.

use super::table::{count, influence, largest_influence, percent};
use super::{GridChain, GridModel, Report, Step, escape};

/// Below this the latent carries nothing: the step is a Gaussian again.
const COLLAPSED: f64 = 0.01;
/// A model follows the data if it reaches all modes with this share of its samples on them.
const ENOUGH: f64 = 0.9;
/// A chain is short below this length.
const SHORT: usize = 50;

/// Why few steps are hard: true whatever was measured.
pub fn why() -> String {
    "<p>A diffusion model learns to undo noise in <i>T</i> steps. With many steps, one step back is \
     small and nearly Gaussian. With few it is a leap: a noisy point may have come from any of \
     several modes, so the true step back is a <em>mixture</em>, and one Gaussian can only spread \
     over the space between them. A soft mixture (SMD) lets a random latent move the Gaussian; an \
     explicit mixture writes down several Gaussians and their weights.</p>\n"
        .into()
}

/// One item a chain: how its models did.
pub fn findings(report: &Report) -> String {
    let mut html = String::new();
    for chain in report.grid.iter().filter(|chain| !chain.models.is_empty()) {
        let sentences: Vec<String> = chain
            .models
            .iter()
            .map(|model| finding(chain, model))
            .collect();
        html += &format!(
            "<dt>T = {}</dt><dd><p>{}</p></dd>\n",
            chain.steps,
            sentences.join("</p><p>")
        );
    }
    if html.is_empty() {
        html
    } else {
        format!("<dl class=\"findings\">\n{html}</dl>\n")
    }
}

/// Why a latent was ignored, if one was.
pub fn why_collapsed(report: &Report) -> String {
    let models = report.grid.iter().flat_map(|chain| &chain.models);
    if models
        .filter_map(largest_influence)
        .any(|(_, r_t)| r_t < COLLAPSED)
    {
        "<p>Why a latent collapses: the paper's loss is the error of the mean prediction plus the \
         variance that the latent adds, so it is lowest when the latent changes nothing, and the \
         network learns to ignore it.</p>\n"
            .into()
    } else {
        String::new()
    }
}

fn finding(chain: &GridChain, model: &GridModel) -> String {
    let score = format!(
        "<b>{}</b> reaches {} of {} modes, with {} of its samples within three standard \
         deviations of one",
        escape(&model.name),
        model.modes_covered,
        model.modes,
        percent(model.share_within)
    );
    let follows = model.modes_covered == model.modes && model.share_within >= ENOUGH;
    match model.step {
        Step::Gaussian => {
            let meaning = match (follows, chain.steps < SHORT) {
                (true, true) => "here even a few Gaussian steps were enough.",
                (true, false) => "with this many steps a Gaussian is enough.",
                (false, true) => "the bottleneck; a Gaussian step cannot follow the mixture.",
                (false, false) => {
                    "at this length the Gaussian is hardly the limit; it may need more training."
                }
            };
            format!("{score}: {meaning}")
        }
        Step::SoftMixture => format!("{score}. {}", latent(model)),
        Step::Codebook | Step::Mixture => format!("{score}{}", beside_gaussian(chain, model)),
    }
}

/// Whether the latent does anything.
fn latent(model: &GridModel) -> String {
    let Some((t, r_t)) = largest_influence(model) else {
        return "The influence of its latent was not measured.".into();
    };
    let largest = format!(
        "at most <i>r<sub>t</sub></i>&nbsp;=&nbsp;{} of the spread it should explain (at <i>t</i>&nbsp;=&nbsp;{t})",
        influence(r_t)
    );
    if r_t < COLLAPSED {
        format!(
            "Its latent carries {largest}: it has collapsed, and the step is one Gaussian again."
        )
    } else {
        format!("Its latent carries {largest}: it is in use, and the step is not one Gaussian.")
    }
}

/// The mixture's share next to that of the best Gaussian of the chain, if there is one.
fn beside_gaussian(chain: &GridChain, model: &GridModel) -> String {
    let gaussians = chain
        .models
        .iter()
        .filter(|other| other.step == Step::Gaussian);
    let best = gaussians.max_by(|a, b| a.share_within.total_cmp(&b.share_within));
    let Some(gaussian) = best else {
        return ".".into();
    };
    let more = model.share_within - gaussian.share_within;
    let noise = 3.0 * model.share_se.hypot(gaussian.share_se);
    let name = escape(&gaussian.name);
    let points = format!("{:.1} percentage points", 100.0 * more.abs());
    if !more.is_finite() || !noise.is_finite() {
        ".".into()
    } else if more > noise {
        let why = if chain.steps < SHORT {
            ". Its step can go to one mode or another"
        } else {
            ""
        };
        format!(": {points} more than {name}{why}.")
    } else if more < -noise {
        format!(": {points} fewer than {name}, so it does no better here.")
    } else {
        format!(": no different from {name} beyond the noise of the samples.")
    }
}

/// How to read the columns.
pub fn columns(report: &Report) -> String {
    let samples = report
        .grid
        .iter()
        .flat_map(|chain| &chain.models)
        .map(|model| model.points.len());
    let samples = samples.max().unwrap_or(0);
    let covered = report.grid_note.as_deref().map(escape).unwrap_or_default();
    format!(
        "<p class=\"note\">Measured on up to {} samples a model; ± is one standard error. {covered} \
         Sliced W is the sliced Wasserstein distance to the data, smaller is better. \
         <i>r<sub>t</sub></i> is the share of the spread of <i>x</i><sub>0</sub> given \
         <i>x<sub>t</sub></i> that the latent carries: 0 means ignored, 1 all of it; – where there \
         is no latent.</p>\n",
        count(samples)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn says_collapsed_only_when_measured() {
        let mut report = example::report();
        assert!(findings(&report).contains("collapsed") && !why_collapsed(&report).is_empty());
        for chain in &mut report.grid {
            chain.models[1].influence = Some(vec![(1, 0.02), (2, 0.4), (3, f64::NAN)]);
        }
        let text = findings(&report);
        assert!(
            !text.contains("collapsed")
                && text.contains("0.4000")
                && text.contains("</i>&nbsp;=&nbsp;2)")
        );
        for chain in &mut report.grid {
            chain.models[1].influence = Some(Vec::new());
        }
        assert!(findings(&report).contains("not measured"));
    }

    #[test]
    fn praises_the_mixture_only_when_better() {
        let mut report = example::report();
        report.grid.remove(0);
        assert!(findings(&report).contains("more than DDPM"));
        let share = report.grid[0].models[0].share_within;
        report.grid[0].models[2].share_within = share + 0.001;
        assert!(findings(&report).contains("no different from DDPM"));
        report.grid[0].models[2].share_within = share - 0.1;
        assert!(findings(&report).contains("fewer than DDPM"));
    }

    #[test]
    fn blames_the_bottleneck_only_on_short_chains() {
        let mut report = example::report();
        let text = findings(&report);
        assert!(text.contains("with this many steps a Gaussian is enough"));
        assert!(text.contains("the bottleneck;"));
        report.grid[0].models[0].modes_covered = 3;
        report.grid[1].models[0].modes_covered = 49;
        report.grid[1].models[0].share_within = 0.99;
        let text = findings(&report);
        assert!(text.contains("more training") && !text.contains("the bottleneck;"));
    }
}
