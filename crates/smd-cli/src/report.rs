//! The page that `smd quickstart` leaves behind: one HTML file that needs nothing beside it.
//!
//! [`Report`] is plain data and [`Report::to_html`] a pure function of it. Pictures are inlined as
//! PNG, curves as SVG, there is no script, and the page's own content policy forbids any request.

mod comparison;
mod curves;
#[cfg(test)]
mod example;
mod page;
mod picture;
mod reading;
mod scatter;
mod table;

pub use comparison::{Comparison, ComparisonChain, ComparisonModel, ComparisonRun, MODELS};
pub use picture::COLOURS;
pub use scatter::{Frame, scatter};

use image::RgbImage;

/// What a model's backward step is; the words of the report depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// One Gaussian (DDPM).
    Gaussian,
    /// A Gaussian that a latent moves (SMD): a mixture only as far as the latent is used.
    SoftMixture,
    /// A weighted sum of Gaussians, each selected by a learned latent.
    Codebook,
    /// A weighted sum of Gaussians (Eq. 10).
    Mixture,
}

/// Everything that the page shows.
#[derive(Debug, Clone)]
pub struct Report {
    /// The heading, and the name of the browser's tab.
    pub title: String,
    /// Cores and processor.
    pub machine: String,
    /// Version of `smd`.
    pub version: String,
    /// The command line that was run.
    pub command: String,
    /// Wall time of the whole run.
    pub total_seconds: f64,
    /// Whether this was the short run of `--quick`; the page says so.
    pub quick: bool,
    /// The models on the grid, one entry a chain length.
    pub grid: Vec<GridChain>,
    /// When a mode counts as covered, one or two plain sentences under the table.
    pub grid_note: Option<String>,
    /// The models on images.
    pub images: Vec<ImageModel>,
    /// Samples of the grid itself, shown first in every row of scatter plots.
    pub truth_points: Vec<[f32; 2]>,
}

/// The models that share one chain length.
#[derive(Debug, Clone)]
pub struct GridChain {
    /// `T`, the length of the chain.
    pub steps: usize,
    /// The models, in the order in which they are shown.
    pub models: Vec<GridModel>,
}

/// One model of the grid, with what was measured on its samples.
#[derive(Debug, Clone)]
pub struct GridModel {
    /// What the reader sees; the same name has the same colour everywhere.
    pub name: String,
    /// What its backward step is.
    pub step: Step,
    /// Its samples.
    pub points: Vec<[f32; 2]>,
    /// Modes of the data that its samples reach.
    pub modes_covered: usize,
    /// Modes of the data.
    pub modes: usize,
    /// Share of samples within three standard deviations of a mode, in `0..=1`.
    pub share_within: f64,
    /// Standard error of `share_within`.
    pub share_se: f64,
    /// Sliced Wasserstein distance to the data.
    pub swd: f64,
    /// `(t, r_t)`: share of the spread of `x_0` given `x_t` that the latent carries; `None`
    /// without a latent.
    pub influence: Option<Vec<(usize, f64)>>,
    /// Time of the training.
    pub train_seconds: f64,
    /// Time of drawing `points`.
    pub sample_seconds: f64,
    /// Numbers in its networks.
    pub parameters: usize,
    /// Optimiser steps.
    pub train_steps: usize,
    /// What `losses` measures, with its unit; equal names share one chart.
    pub loss_name: String,
    /// `(optimiser step, loss)`; values that are not finite are left out of the chart, and counted.
    pub losses: Vec<(usize, f64)>,
}

/// One model of images.
#[derive(Debug, Clone)]
pub struct ImageModel {
    /// What the reader sees; the same name has the same colour everywhere.
    pub name: String,
    /// `(sampling steps, sampler, tiled samples)` at their natural size.
    pub grids: Vec<(usize, String, RgbImage)>,
    /// Tiled images of the data at their natural size.
    pub truth: Option<RgbImage>,
    /// What `losses` measures, with its unit; equal names share one chart.
    pub loss_name: String,
    /// `(optimiser step, loss)`.
    pub losses: Vec<(usize, f64)>,
    /// Images a second in training.
    pub images_per_second: f64,
    /// Time of the training.
    pub train_seconds: f64,
    /// Numbers in its networks.
    pub parameters: usize,
    /// Optimiser steps.
    pub train_steps: usize,
    /// A sentence under the model's name.
    pub note: Option<String>,
}

impl Report {
    /// The whole page.
    pub fn to_html(&self) -> String {
        page::page(self)
    }

    /// The place of `name` among the models' names: its colour.
    fn colour(&self, name: &str) -> usize {
        let on_grid = self
            .grid
            .iter()
            .flat_map(|chain| &chain.models)
            .map(|model| &model.name);
        let mut names: Vec<&String> = Vec::new();
        for known in on_grid.chain(self.images.iter().map(|model| &model.name)) {
            if !names.contains(&known) {
                names.push(known);
            }
        }
        names.iter().position(|known| *known == name).unwrap_or(0) % picture::COLOURS.len()
    }
}

/// `text` with the five characters that HTML gives a meaning written as entities.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that a browser would load: the values of `src`, and of `href` outside the sources.
    fn resources(html: &str) -> Vec<&str> {
        let body = html.split("<footer>").next().unwrap();
        let values = |text: &'static str, html| -> Vec<&str> {
            str::split(html, text)
                .skip(1)
                .map(|rest| rest.split('"').next().unwrap())
                .collect()
        };
        [
            values("src=\"", html),
            values("href=\"", body),
            values("url(", html),
        ]
        .concat()
    }

    #[test]
    fn shows_every_model_and_chain() {
        let report = example::report();
        let html = report.to_html();
        for chain in &report.grid {
            assert!(html.contains(&format!("T = {}", chain.steps)));
            for model in &chain.models {
                assert!(html.contains(&escape(&model.name)), "{}", model.name);
            }
        }
        for model in &report.images {
            assert!(html.contains(&escape(&model.name)), "{}", model.name);
        }
        assert!(
            html.contains("12.1\u{202f}% ± 0.3"),
            "the share with its standard error"
        );
        if let Ok(path) = std::env::var("SMD_EXAMPLE_REPORT") {
            std::fs::write(path, html).unwrap();
        }
    }

    #[test]
    fn loads_nothing_and_stays_small() {
        let html = example::report().to_html();
        let resources = resources(&html);
        assert!(resources.len() > 10);
        for resource in resources {
            assert!(resource.starts_with("data:image/png;base64,"), "{resource}");
        }
        assert!(!html.contains("<script") && !html.contains("@import"));
        assert!(html.len() < 4_000_000, "{} bytes", html.len());
    }

    #[test]
    fn every_picture_has_a_text() {
        let html = example::report().to_html();
        for tag in html.split("<img ").skip(1) {
            let tag = tag.split('>').next().unwrap();
            assert!(
                tag.contains("alt=\"") && !tag.contains("alt=\"\""),
                "{}",
                &tag[..80]
            );
        }
        assert_eq!(
            html.matches("<svg ").count(),
            html.matches("role=\"img\"").count()
        );
    }

    #[test]
    fn escapes_text() {
        let mut report = example::report();
        report.title = "<b>title</b>".into();
        report.command = "smd quickstart --out \"a&b\"".into();
        report.grid[0].models[0].name = "<i>DDPM</i>".into();
        report.grid[0].models[0].loss_name = "<u>loss</u>".into();
        report.images[0].note = Some("<em>note</em>".into());
        let html = report.to_html();
        for raw in ["<b>title", "<i>DDPM", "<u>loss", "<em>note", "\"a&b\""] {
            assert!(!html.contains(raw), "{raw}");
        }
        assert!(html.contains("&lt;i&gt;DDPM&lt;/i&gt;") && html.contains("a&amp;b"));
    }

    #[test]
    fn survives_nothing_and_nonsense() {
        let mut report = example::report();
        report.truth_points.clear();
        let model = &mut report.grid[0].models[0];
        model.points = vec![[f32::NAN, 0.0], [f32::INFINITY, 1e30]];
        model.losses = vec![(0, f64::NAN), (1, f64::INFINITY)];
        (model.share_within, model.share_se, model.swd) = (f64::NAN, f64::NAN, f64::INFINITY);
        let model = &mut report.grid[0].models[1];
        model.points.clear();
        model.losses.clear();
        model.influence = Some(vec![(1, f64::NAN)]);
        report.images[0].grids[0].2 = RgbImage::new(0, 0);
        report.images[0].losses = vec![(7, 1.0)];
        report.images[0].images_per_second = f64::NAN;
        let html = report.to_html();
        // Base64 may spell anything.
        let text: String = html
            .split("base64,")
            .map(|part| part.split_once('"').map_or(part, |p| p.1))
            .collect();
        assert!(!text.contains("NaN") && !text.contains(">inf"));

        (report.grid, report.images) = (Vec::new(), Vec::new());
        assert!(report.to_html().contains("</html>"));
    }
}
