use super::*;
use smd::ops::parts::Part;

/// Every part there is, from long to below a tenth of a per cent; the first takes no time.
fn picture() -> Picture {
    let names = Part::ALL.into_iter().map(Part::name);
    let ms = [0.0, 0.2, 4.0, 300.0, 80.0, 31.5, 7.0, 20.0, 560.0, 150.0];
    let parts: Vec<_> = names.chain(["everything else"]).zip(ms).collect();
    let short = parts.iter().map(|&(name, ms)| (name, ms / 1e3)).collect();
    Picture {
        title: "authors-dim64, SMD, batch 16, f32".into(),
        notes: vec!["2 cores, <a processor>, kernels avx2".into()],
        steps: vec![
            Step {
                heading: "Training".into(),
                parts,
            },
            Step {
                heading: "Sampling".into(),
                parts: short,
            },
        ],
    }
}

/// The lines of text, in the order in which they are drawn.
fn texts(svg: &str) -> Vec<&str> {
    let texts = svg.split("<text ").skip(1);
    texts
        .map(|text| text.split(['>', '<']).nth(1).unwrap().trim())
        .collect()
}

#[test]
fn names_every_part_that_took_time_longest_first() {
    let svg = picture().to_svg();
    let texts = texts(&svg);
    let first = [
        "authors-dim64, SMD, batch 16, f32",
        "2 cores, &lt;a processor&gt;, kernels avx2",
        "Training",
        "optimiser",
        "560.0 ms",
        "48.6 %",
        "RMS norm",
        "300.0 ms",
        "26.0 %",
    ];
    assert_eq!(texts[..first.len()], first);
    let sampling = texts.iter().position(|text| *text == "Sampling").unwrap();
    assert_eq!(
        texts[sampling - 3..][..6],
        [
            "linear",
            "0.2 ms",
            "&lt; 0.1 %",
            "Sampling",
            "optimiser",
            "0.560 ms"
        ]
    );
    assert!(!texts.contains(&"convolution"), "it took no time");
}

#[test]
fn a_part_has_one_colour_and_bars_add_up() {
    let mut picture = picture();
    picture.steps[1].parts[9].1 = -0.001;
    let [training, sampling] = [0, 1].map(|i| picture.steps[i].shown());
    assert_eq!(training.len(), sampling.len() + 1, "one is below nothing");
    for part in &sampling {
        let same = training.iter().find(|other| other.name == part.name);
        assert_eq!(same.unwrap().colour, part.colour);
    }
    for (i, part) in training.iter().enumerate() {
        let shares = training[..i]
            .iter()
            .find(|other| other.colour == part.colour);
        assert!(shares.is_none(), "{} has another's colour", part.name);
    }
    for step in [&training, &sampling] {
        let share: f64 = step.iter().map(|part| part.share).sum();
        assert!((share - 1.0).abs() < 1e-12);
    }
    let pixels = picture.to_pixels();
    for part in training {
        let RGBColor(r, g, b) = part.colour;
        let inked = pixels.pixels().filter(|pixel| pixel.0 == [r, g, b]).count();
        // Its share of the bar that is the whole step, and a line beside its name.
        let whole = part.share * FINE * (WIDTH - 2.0 * MARGIN) * FINE * WHOLE;
        let least = whole + FINE * ROW;
        assert!(inked as f64 >= least, "{}: {inked} of {least}", part.name);
    }
}

#[test]
fn columns_do_not_meet() {
    let width = |text: &str| f64::from(sans_serif(units(ROW)).box_size(text).unwrap().0) / FINE;
    let names = Part::ALL.into_iter().map(Part::name);
    let longest = names
        .chain(["everything else"])
        .map(width)
        .fold(0.0, f64::max);
    assert!(MARGIN + longest + 8.0 < MS_END - width("100000.0 ms"));
    assert!(MS_END + 8.0 < SHARE_END - width("100.0 %"));
    assert!(MS_END + 8.0 < SHARE_END - width("< 0.1 %"));
}

#[test]
fn a_long_line_is_cut_off_inside_the_picture() {
    let mut long = picture();
    long.title = "net.dim=64 ".repeat(30);
    let svg = long.to_svg();
    let title = texts(&svg)[0];
    assert!(
        title.starts_with("net.dim=64") && title.ends_with('…'),
        "{title}"
    );
    let pixels = long.to_pixels();
    let margin = (FINE * (WIDTH - MARGIN)) as u32 + 1;
    let white = |x| (0..pixels.height()).all(|y| pixels.get_pixel(x, y).0 == [255; 3]);
    assert!((margin + 1..pixels.width()).all(white));
    assert_eq!(fitted("", 16.0, 100.0), "");
    assert_eq!(fitted("wide", 16.0, 0.0), "");
}
