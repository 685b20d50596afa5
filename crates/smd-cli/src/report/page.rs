//! The page: sections in the order in which they are read.

use super::curves::{Series, curves};
use super::picture::{COLOURS, TRUTH, compact, img};
use super::scatter::{Frame, scatter};
use super::table::{self, count, duration, key, percent};
use super::{GridChain, ImageModel, Report, escape, reading};

/// The whole page.
pub fn page(report: &Report) -> String {
    let title = escape(&report.title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n\
         <header>\n<h1>{title}</h1>\n{}</header>\n<main>\n{}{}</main>\n{}</body>\n</html>\n",
        include_str!("style.css"),
        opening(report),
        grid(report),
        images(report),
        footer(report)
    )
}

fn opening(report: &Report) -> String {
    let quick = if report.quick {
        "<p class=\"note\">This was the quick run: training was cut short, and the numbers are \
         rough. Without <code>--quick</code> it takes a few minutes and they settle.</p>\n"
    } else {
        ""
    };
    format!(
        "<p class=\"lead\">Below are diffusion models that were trained on this machine in the \
         last {}, each beside the data it learned from. Look for what happens when the steps \
         become few: first on a grid of Gaussians in the plane, then on real images.</p>\n{quick}",
        duration(report.total_seconds)
    )
}

fn grid(report: &Report) -> String {
    let Some(modes) = report
        .grid
        .iter()
        .flat_map(|chain| &chain.models)
        .map(|m| m.modes)
        .max()
    else {
        return String::new();
    };
    let frame = Frame::around(&report.truth_points);
    let side = modes.isqrt();
    let name = if side * side == modes {
        format!("{side}×{side} grid")
    } else {
        "grid".into()
    };
    let rows: String = report
        .grid
        .iter()
        .map(|chain| scatters(report, chain, frame))
        .collect();
    let charts: Vec<String> = report
        .grid
        .iter()
        .flat_map(|chain| grid_curves(report, chain))
        .collect();
    format!(
        "<section>\n<h2>The bottleneck on the {name}</h2>\n{}\
         <p class=\"note\">Every picture shows the same square, from −{reach} to {reach} on both \
         axes. The darker, the more samples.</p>\n{rows}\
         <h3>What was measured</h3>\n{}{}{}{}<h3>Training</h3>\n{}</section>\n",
        reading::why(),
        reading::findings(report),
        reading::why_collapsed(report),
        table::grid(report),
        reading::columns(report),
        chart_grid(&charts),
        reach = frame.reach,
    )
}

/// The data and every model of the chain, side by side.
fn scatters(report: &Report, chain: &GridChain, frame: Frame) -> String {
    let picture = |points: &[[f32; 2]], colour, alt: &str| {
        img(&scatter(points, frame, colour), "scatter", alt)
    };
    let steps = chain.steps;
    let truth = figure(
        &picture(&report.truth_points, TRUTH, "Samples of the data"),
        "<span class=\"key truth\">The data</span>",
        &format!("{} samples", count(report.truth_points.len())),
    );
    let models = chain.models.iter().map(|model| {
        let result = format!(
            "{} of {} modes<br>{} within 3 std",
            model.modes_covered,
            model.modes,
            percent(model.share_within)
        );
        let outside = match frame.count_outside(&model.points) {
            0 => String::new(),
            outside => format!("<br>{} outside the picture", count(outside)),
        };
        let alt = format!(
            "Samples of {} at T = {steps}: {} of {} modes",
            model.name, model.modes_covered, model.modes
        );
        figure(
            &picture(&model.points, COLOURS[report.colour(&model.name)], &alt),
            &key(report, &model.name),
            &format!("{result}{outside}"),
        )
    });
    let figures: String = std::iter::once(truth).chain(models).collect();
    format!("<h3>T = {steps}</h3>\n<div class=\"pictures\">\n{figures}</div>\n")
}

fn figure(picture: &str, name: &str, text: &str) -> String {
    format!("<figure>{picture}<figcaption>{name}<span>{text}</span></figcaption></figure>\n")
}

/// One chart for each kind of loss: unlike losses have no common axis.
fn grid_curves(report: &Report, chain: &GridChain) -> Vec<String> {
    let models = chain.models.iter();
    let losses: Vec<Losses> = models
        .map(|model| (&*model.name, &*model.loss_name, &*model.losses))
        .collect();
    charts(report, &format!("T = {}", chain.steps), &losses)
}

/// A model's name, the name of its loss, and the losses.
type Losses<'a> = (&'a str, &'a str, &'a [(usize, f64)]);

fn charts(report: &Report, heading: &str, losses: &[Losses]) -> Vec<String> {
    let mut kinds: Vec<&str> = Vec::new();
    for (_, kind, _) in losses {
        if !kinds.contains(kind) {
            kinds.push(kind);
        }
    }
    kinds
        .into_iter()
        .map(|kind| {
            let members: Vec<&Losses> = losses.iter().filter(|member| member.1 == kind).collect();
            let series: Vec<Series> = members
                .iter()
                .map(|(name, _, losses)| Series {
                    colour: report.colour(name),
                    losses,
                })
                .collect();
            let names: Vec<&str> = members.iter().map(|member| member.0).collect();
            let alt = escape(&format!(
                "{heading}, {kind}: loss curves of {}",
                names.join(", ")
            ));
            let chart = match curves(&series, kind) {
                Some(svg) => format!("<div role=\"img\" aria-label=\"{alt}\">{svg}</div>"),
                None => "<p class=\"nothing\">no finite loss to draw</p>".into(),
            };
            let keys: Vec<String> = members.iter().map(|member| key(report, member.0)).collect();
            let lost = members
                .iter()
                .flat_map(|member| member.2)
                .filter(|l| !l.1.is_finite())
                .count();
            let lost = match lost {
                0 => String::new(),
                lost => format!(" · {} values were not finite", count(lost)),
            };
            let (heading, keys) = (escape(heading), keys.join(" "));
            let caption = format!("<figcaption>{heading} {keys}{lost}</figcaption>");
            format!("<figure class=\"chart\">{chart}{caption}</figure>\n")
        })
        .collect()
}

fn chart_grid(charts: &[String]) -> String {
    format!(
        "<div class=\"charts\">\n{}</div>\n<p class=\"note\">Loss over optimiser steps: each value \
         faint, their running mean over a fortieth of the curve in full.</p>\n",
        charts.concat()
    )
}

fn images(report: &Report) -> String {
    if report.images.is_empty() {
        return String::new();
    }
    let losses: Vec<Losses> = report
        .images
        .iter()
        .map(|m| (&*m.name, &*m.loss_name, &*m.losses))
        .collect();
    let models: String = report
        .images
        .iter()
        .map(|model| image_model(report, model))
        .collect();
    format!(
        "<section>\n<h2>Real images</h2>\n{models}<h3>What was measured</h3>\n{}\
         <h3>Training</h3>\n{}</section>\n",
        table::images(report),
        chart_grid(&charts(report, "Images", &losses))
    )
}

fn image_model(report: &Report, model: &ImageModel) -> String {
    let truth = model.truth.iter().map(|truth| {
        let picture = img(&compact(truth), "pixels", "Images of the data");
        figure(&picture, "<span class=\"key truth\">The data</span>", "")
    });
    let grids = model.grids.iter().map(|(steps, sampler, grid)| {
        let s = if *steps == 1 { "" } else { "s" };
        let alt = format!("Samples of {} in {steps} step{s}, {sampler}", model.name);
        let name = format!("<span>{} step{s}</span>", count(*steps));
        figure(
            &img(&compact(grid), "pixels", &alt),
            &name,
            &escape(sampler),
        )
    });
    let note = model.note.as_deref().map(escape);
    let note = note.map_or(String::new(), |note| {
        format!("<p class=\"note\">{note}</p>\n")
    });
    format!(
        "<h3>{}</h3>\n{note}<div class=\"pictures\">\n{}</div>\n",
        key(report, &model.name),
        truth.chain(grids).collect::<String>()
    )
}

fn footer(report: &Report) -> String {
    format!(
        "<footer>\n<dl>\n<dt>Command</dt><dd><code>{}</code></dd>\n<dt>Version</dt><dd>smd {}</dd>\n\
         <dt>Machine</dt><dd>{}</dd>\n<dt>Time</dt><dd>{}</dd>\n\
         <dt>Method</dt><dd>Yangming Li, Boris van Breugel, Mihaela van der Schaar: \
         <a href=\"https://arxiv.org/abs/2309.14068\">Soft Mixture Denoising: Beyond the Expressive \
         Bottleneck of Diffusion Models</a>, ICLR 2024 (arXiv:2309.14068)</dd>\n\
         <dt>Images</dt><dd><a href=\"https://github.com/zalandoresearch/fashion-mnist\">\
         Fashion-MNIST</a>, © 2017 Zalando SE, MIT licence</dd>\n</dl>\n</footer>\n",
        escape(&report.command),
        escape(&report.version),
        escape(&report.machine),
        duration(report.total_seconds)
    )
}
