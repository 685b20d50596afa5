//! Numbers as words, and tables of them.

use super::{GridModel, Report, escape};

/// What stands where a number is missing.
const NONE: &str = "–";
/// A narrow space that keeps a number and its unit on one line.
const THIN: char = '\u{202f}';

/// `value` with so many decimals.
pub fn fixed(value: f64, decimals: usize) -> String {
    if value.is_finite() {
        format!("{value:.decimals$}")
    } else {
        NONE.into()
    }
}

/// A share of one as a percentage, with one decimal.
pub fn percent(share: f64) -> String {
    if share.is_finite() {
        format!("{:.1}{THIN}%", 100.0 * share)
    } else {
        NONE.into()
    }
}

/// A number of things, with its thousands set apart.
pub fn count(value: usize) -> String {
    let digits = value.to_string();
    let mut spaced = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            spaced.push(',');
        }
        spaced.push(digit);
    }
    spaced
}

/// A duration.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        NONE.into()
    } else if seconds < 9.95 {
        format!("{seconds:.1}{THIN}s")
    } else if seconds < 59.5 {
        format!("{seconds:.0}{THIN}s")
    } else {
        let seconds = seconds.round() as u64;
        format!("{}{THIN}min {:02}{THIN}s", seconds / 60, seconds % 60)
    }
}

/// A number for an axis, short enough for its margin.
pub fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 10_000.0 {
        format!("{}k", short(value / 1000.0))
    } else if size == 0.0 || size >= 0.0005 {
        let text = format!("{value:.4}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        if text.len() > 6 {
            format!("{value:.2}")
        } else {
            text.into()
        }
    } else {
        format!("{value:.0e}")
    }
}

/// `r_t` as the page writes it.
pub fn influence(r_t: f64) -> String {
    if r_t.abs() < 0.000_05 {
        fixed(r_t.abs(), 4)
    } else {
        fixed(r_t, 4)
    }
}

/// The largest `(t, r_t)`, if one is finite.
pub fn largest_influence(model: &GridModel) -> Option<(usize, f64)> {
    let finite = model
        .influence
        .iter()
        .flatten()
        .copied()
        .filter(|(_, r_t)| r_t.is_finite());
    finite.max_by(|a, b| a.1.total_cmp(&b.1))
}

/// One chain's rows of a table: a heading, and a row a model.
type Group = (Option<String>, Vec<Vec<String>>);

/// A table in a frame that scrolls sideways on a narrow screen. All cells are HTML already.
fn table(caption: &str, head: &[&str], groups: &[Group]) -> String {
    let head: String = head
        .iter()
        .map(|cell| format!("<th scope=\"col\">{cell}</th>"))
        .collect();
    let mut body = String::new();
    for (heading, rows) in groups {
        body += "<tbody>";
        if let Some(heading) = heading {
            body += &format!("<tr class=\"group\"><th scope=\"rowgroup\">{heading}</th></tr>");
        }
        for row in rows {
            body += &format!("<tr><th scope=\"row\">{}</th>", row[0]);
            body.extend(row[1..].iter().map(|cell| format!("<td>{cell}</td>")));
            body += "</tr>\n";
        }
        body += "</tbody>\n";
    }
    format!(
        "<div class=\"table\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table>\
         <caption>{caption}</caption><thead><tr>{head}</tr></thead>\n{body}</table></div>\n"
    )
}

/// The models of the grid, one group a chain.
pub fn grid(report: &Report) -> String {
    let head = [
        "Model",
        "Modes",
        "Within 3 std",
        "Sliced W",
        "<i>r</i><sub>1</sub>",
        "<i>r</i><sub>2</sub>",
        "<i>r</i><sub>3</sub>",
        "Largest <i>r<sub>t</sub></i>",
        "Parameters",
        "Updates",
        "Training",
        "Sampling",
    ];
    let groups: Vec<Group> = report
        .grid
        .iter()
        .map(|chain| {
            let models = &chain.models;
            let rows = models.iter().map(|model| {
                let mut row = vec![
                    key(report, &model.name),
                    best(
                        models,
                        model,
                        |m| m.modes_covered as f64,
                        |m| format!("{} of {}", m.modes_covered, m.modes),
                    ),
                    best(
                        models,
                        model,
                        |m| m.share_within,
                        |m| percent(m.share_within),
                    ),
                    best(models, model, |m| -m.swd, |m| fixed(m.swd, 4)),
                ];
                row[2] += &format!(" ± {}", fixed(100.0 * model.share_se, 1));
                row.extend((1..=3).map(|t| influence_at(model, t)));
                row.push(largest_influence(model).map_or(NONE.into(), |(t, r_t)| {
                    format!("{} <small>t&nbsp;=&nbsp;{t}</small>", influence(r_t))
                }));
                row.push(count(model.parameters));
                row.push(count(model.train_steps));
                row.push(duration(model.train_seconds));
                row.push(duration(model.sample_seconds));
                row
            });
            (Some(format!("T = {}", chain.steps)), rows.collect())
        })
        .collect();
    table(
        "The models of the grid; the best of each chain in bold",
        &head,
        &groups,
    )
}

fn influence_at(model: &GridModel, t: usize) -> String {
    let at = model.influence.iter().flatten().find(|(at, _)| *at == t);
    match at {
        Some((_, r_t)) => influence(*r_t),
        None => NONE.into(),
    }
}

/// The model's cell, bold if no other one has more `merit`, as far as the cell shows it.
fn best(
    models: &[GridModel],
    model: &GridModel,
    merit: impl Fn(&GridModel) -> f64,
    cell: impl Fn(&GridModel) -> String,
) -> String {
    let finite = models.iter().filter(|other| merit(other).is_finite());
    let winner = finite.max_by(|a, b| merit(a).total_cmp(&merit(b)));
    let text = cell(model);
    // Bold tells nothing where all are equal.
    let differ = models.iter().any(|other| cell(other) != text);
    match winner {
        Some(winner) if differ && cell(winner) == text => format!("<b>{text}</b>"),
        _ => text,
    }
}

/// The models of images.
pub fn images(report: &Report) -> String {
    let head = [
        "Model",
        "Images / s",
        "Parameters",
        "Updates",
        "Training",
        "Last loss",
    ];
    let rows = report.images.iter().map(|model| {
        let finite: Vec<f64> = model
            .losses
            .iter()
            .map(|l| l.1)
            .filter(|l| l.is_finite())
            .collect();
        let tail = &finite[finite.len() - finite.len().div_ceil(10)..];
        vec![
            key(report, &model.name),
            fixed(model.images_per_second, 0),
            count(model.parameters),
            count(model.train_steps),
            duration(model.train_seconds),
            fixed(tail.iter().sum::<f64>() / tail.len() as f64, 4),
        ]
    });
    let caption = "The models of images; the last loss is the mean of the last tenth of the curve";
    table(caption, &head, &[(None, rows.collect())])
}

/// A model's name behind a patch of its colour.
pub fn key(report: &Report, name: &str) -> String {
    format!(
        "<span class=\"key c{}\">{}</span>",
        report.colour(name),
        escape(name)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(percent(0.9314), "93.1\u{202f}%");
        assert_eq!(duration(3.21), "3.2\u{202f}s");
        assert_eq!(duration(72.4), "1\u{202f}min 12\u{202f}s");
        assert_eq!(
            (short(0.05), short(20_000.0), short(2.0)),
            ("0.05".into(), "20k".into(), "2".into())
        );
        assert_eq!(influence(-0.000_01), "0.0000");
        assert_eq!(fixed(f64::NAN, 2), NONE);
    }

    #[test]
    fn bold_marks_the_best_that_is_shown() {
        let models = &crate::report::example::report().grid[1].models;
        let cells: Vec<String> = models
            .iter()
            .map(|model| {
                best(
                    models,
                    model,
                    |m| m.modes_covered as f64,
                    |m| m.modes_covered.to_string(),
                )
            })
            .collect();
        assert_eq!(
            cells.iter().filter(|cell| cell.starts_with("<b>")).count(),
            1
        );
        assert!(cells[2].starts_with("<b>"));
    }
}
