//! A result as a person reads it.

use smd::eval::evaluate::Evaluation;
use std::io::{self, Write};

pub fn print(out: &mut impl Write, evaluation: &Evaluation) -> io::Result<()> {
    let side = |side: &smd::eval::evaluate::Side| {
        let images = side
            .images
            .map_or("unknown".into(), |images| images.to_string());
        format!("{images} images, {}", side.provenance.source.describe())
    };
    writeln!(out, "samples    {}", side(&evaluation.samples))?;
    writeln!(out, "reference  {}\n", side(&evaluation.reference))?;
    for (name, value) in rows(evaluation) {
        writeln!(out, "{name:28} {value}")?;
    }
    for note in &evaluation.notes {
        writeln!(out, "\nnote: {note}")?;
    }
    Ok(())
}

/// Names and values, of what was measured.
pub fn rows(evaluation: &Evaluation) -> Vec<(String, String)> {
    let (measures, name) = (&evaluation.measures, &evaluation.distance);
    let mut rows = vec![(name.clone(), format!("{:.4}", measures.frechet))];
    let mut add =
        |name: String, value: Option<String>| rows.extend(value.map(|value| (name, value)));
    add(
        format!("{name} at infinity"),
        measures.frechet_at_infinity.map(|end| {
            format!(
                "{:.4} ± {:.4} (line), ± {:.4} (between seeds)",
                end.value, end.std_error, end.between_seeds_std
            )
        }),
    );
    add(
        format!("s{name}"),
        measures.spatial_frechet.map(|x| format!("{x:.4}")),
    );
    add(
        "KID x 1000".into(),
        measures
            .kid
            .map(|kid| format!("{:.4} ± {:.4}", 1e3 * kid.mean, 1e3 * kid.std)),
    );
    add(
        "inception score".into(),
        measures
            .inception_score
            .map(|score| format!("{:.4} ± {:.4}", score.mean, score.std)),
    );
    let neighbours = measures.neighbours;
    for (name, share) in [
        ("precision", neighbours.map(|found| found.precision)),
        ("recall", neighbours.map(|found| found.recall)),
        ("density", neighbours.map(|found| found.density)),
        ("coverage", neighbours.map(|found| found.coverage)),
    ] {
        add(name.into(), share.map(|share| format!("{share:.4}")));
    }
    rows
}
