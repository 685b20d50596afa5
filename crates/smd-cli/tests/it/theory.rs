//! `smd theory`: numbers that agree with each other, files that are read, and Theorem 3.1.

use crate::{assert_says, refusal, smd};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Each with more choices than the one before; `fixed_small` is on no line with the others.
const FAMILIES: [&str; 5] = ["fixed_large", "isotropic", "per_x", "diagonal", "full"];

/// `smd theory` with these words.
fn theory(folder: &Path, words: &str) -> assert_cmd::Command {
    let mut command = smd(folder);
    command.arg("theory").args(words.split_whitespace());
    command
}

/// The object that it prints.
#[track_caller]
fn report(folder: &Path, words: &str) -> Value {
    let mut command = theory(folder, words);
    let output = command.arg("--json").assert().success();
    serde_json::from_slice(&output.get_output().stdout).unwrap()
}

/// A number of nats and its standard error.
#[track_caller]
fn estimate(object: &Value, name: &str) -> [f64; 2] {
    let number = |name: &str| object[name].as_f64().unwrap();
    [number(name), number(&format!("{name}_se"))]
}

fn add(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    [a[0] + b[0], a[1].hypot(b[1])]
}

#[track_caller]
fn assert_close(a: [f64; 2], b: [f64; 2]) {
    let off = (a[0] - b[0]).abs() + (a[1] - b[1]).abs();
    assert!(off < 1e-9, "{a:?} and {b:?}");
}

/// Two independent estimates of one number.
#[track_caller]
fn assert_same_law(a: [f64; 2], b: [f64; 2]) {
    let off = (a[0] - b[0]).abs();
    assert!(off <= 5.0 * a[1].hypot(b[1]) + 1e-9, "{a:?} and {b:?}");
}

/// The example of docs/theory.md.
fn documented_mixture() -> &'static str {
    let page = include_str!("../../../../docs/theory.md");
    let block = page.split("```toml").nth(1).unwrap();
    block.split("```").next().unwrap()
}

#[test]
fn the_documented_fields_are_there_and_agree() {
    let folder = tempfile::tempdir().unwrap();
    let words = "grid-7x7 --steps 3 --draws 300 --samples 1000";
    let found = report(folder.path(), words);
    let per_t = found["per_t"].as_array().unwrap();
    assert_eq!(per_t.len(), 3);
    let mut alpha_bar = 1.0;
    for (i, step) in per_t.iter().enumerate() {
        assert_eq!(step["t"], i + 1);
        alpha_bar *= 1.0 - step["beta"].as_f64().unwrap();
        assert_close([step["alpha_bar"].as_f64().unwrap(), 0.0], [alpha_bar, 0.0]);
        assert!(step["isotropic_var"].as_f64().unwrap() > 0.0);
    }
    let kl_start = estimate(&found, "kl_T");
    for family in FAMILIES {
        let errors = per_t.iter().map(|step| estimate(step, family));
        let sum = errors.fold([0.0; 2], add);
        assert_close(estimate(&found["sum_M"], family), sum);
        assert_close(estimate(&found["E"], family), add(sum, kl_start));
    }
    for family in FAMILIES.iter().chain(&["fixed_small"]) {
        let errors = per_t[1..].iter().map(|step| estimate(step, family));
        let sum = errors.fold([0.0; 2], add);
        assert_close(estimate(&found["sum_M_from_2"], family), sum);
    }
    // What was asked for.
    for (field, value) in [
        ("mixture", Value::from("grid-7x7")),
        ("schedule", "cosine".into()),
        ("dim", 2.into()),
        ("steps", 3.into()),
        ("draws", 300.into()),
        ("samples", 1000.into()),
        ("seed", 0.into()),
        ("chains_left_out", Value::Null),
    ] {
        assert_eq!(found[field], value, "{field}");
    }

    // A variance of 0 has no density: at t = 1, and so in no sum.
    for object in [&per_t[0], &found["sum_M"], &found["E"]] {
        for name in ["fixed_small", "fixed_small_se"] {
            assert!(object.get(name).is_some_and(Value::is_null), "{object}");
        }
    }
    assert!(estimate(&per_t[1], "fixed_small")[0] > 0.1);
}

#[test]
fn the_exact_chain_has_the_modes_and_a_gaussian_one_has_not() {
    let folder = tempfile::tempdir().unwrap();
    let words = "grid-7x7 --steps 3 --draws 300 --samples";
    let found = report(folder.path(), &format!("{words} 1000"));
    let chains = found["chains"].as_array().unwrap();
    for chain in chains {
        let number = |field: &str| chain[field].as_f64().unwrap();
        let (share, se) = (number("share_within_3_std"), number("share_se"));
        let binomial = (share * (1.0 - share) / 1000.0).sqrt();
        assert!((se - binomial).abs() < 1e-9, "{chain}");
        assert_eq!(chain["modes"], 49);
        assert!(number("sliced_wasserstein") > 0.0);
        if chain["step"] == "exact" {
            assert_eq!(chain["modes_covered"], 49);
            // The truth has 1 - exp(-9 / 2).
            assert!((share - 0.9889).abs() < 5.0 * se, "{chain}");
            assert!((number("within_std_ratio") - 1.0).abs() < 0.1, "{chain}");
        } else {
            assert!(share < 0.3 && number("modes_covered") < 25.0, "{chain}");
            assert!(number("within_std_ratio") > 2.0, "{chain}");
        }
    }
    let mut names: Vec<&str> = chains.iter().map(|c| c["step"].as_str().unwrap()).collect();
    assert_eq!(names.remove(0), "exact");
    assert_eq!(names.remove(1), "fixed_small");
    assert_eq!(names, FAMILIES);

    let found = report(folder.path(), &format!("{words} 0"));
    assert_eq!(found["chains"], serde_json::json!([]));
}

/// At every draw, not only on average: all families are measured on the same ones.
#[test]
fn a_family_with_more_choices_loses_no_more() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("documented.toml"), documented_mixture()).unwrap();
    for mixture in ["grid-7x7", "documented.toml"] {
        let words = format!("{mixture} --steps 4 --draws 500 --samples 0");
        let found = report(folder.path(), &words);
        let steps = found["per_t"].as_array().unwrap();
        for object in steps.iter().chain([&found["sum_M"], &found["E"]]) {
            for pair in FAMILIES.windows(2) {
                let [more, _] = estimate(object, pair[0]);
                let [less, _] = estimate(object, pair[1]);
                assert!(less <= more + 1e-9, "{mixture}, {pair:?}: {object}");
            }
            let [full, se] = estimate(object, "full");
            assert!(full > -5.0 * se, "{mixture}: {object}");
        }
        for step in &steps[1..] {
            let [isotropic, _] = estimate(step, "isotropic");
            assert!(isotropic <= estimate(step, "fixed_small")[0] + 1e-9);
        }
    }
}

#[test]
fn each_way_to_write_the_spread_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let read = |means: &str, spread: &str| {
        let text = format!("[mixture]\nweights = [1, 3]\nmeans = {means}\n{spread}\n");
        fs::write(folder.path().join("mixture.toml"), text).unwrap();
        let words = "mixture.toml --steps 3 --draws 1000 --samples 0";
        report(folder.path(), words)
    };
    let means = "[[-1.0, 0.0], [0.8, 0.3]]";
    let round = read(means, "stds = [0.25, 0.5]");
    let rows = "variances = [[0.0625, 0.0625], [0.25, 0.25]]";
    assert_eq!(round, read(means, rows));
    let matrices = "covariances = [[[0.0625, 0], [0, 0.0625]], [[0.25, 0], [0, 0.25]]]";
    let matrices = read(means, matrices);
    for family in FAMILIES {
        let of = |found: &Value| estimate(&found["E"], family);
        assert_same_law(of(&round), of(&matrices));
    }

    // Turned by (0.8, 0.6): only the families that know the coordinates lose more.
    let straight = read(means, "variances = [[0.25, 0.0625], [0.25, 0.0625]]");
    let turned = "covariances = [[[0.1825, 0.09], [0.09, 0.13]], [[0.1825, 0.09], [0.09, 0.13]]]";
    let turned = read("[[-0.8, -0.6], [0.46, 0.72]]", turned);
    for family in ["fixed_large", "isotropic", "per_x", "full"] {
        let of = |found: &Value| estimate(&found["E"], family);
        assert_same_law(of(&straight), of(&turned));
    }
    let diagonal = |found: &Value| estimate(&found["E"], "diagonal")[0];
    assert!(diagonal(&turned) > diagonal(&straight) + 0.1);
}

#[test]
fn a_long_chain_is_shown_at_some_of_its_steps() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = theory(folder.path(), "grid-7x7 --steps 64 --draws 2 --samples 0");
    let output = command.assert().success().get_output().stdout.clone();
    let text = String::from_utf8(output).unwrap();
    assert_says(&text, &["grid-7x7, cosine, T = 64", "E = KL_T"]);
    let first = |line: &str| -> Option<usize> { line.split_whitespace().next()?.parse().ok() };
    let steps: Vec<usize> = text.lines().filter_map(first).collect();
    assert!(steps.len() <= 20 && steps.is_sorted(), "{steps:?}");
    assert_eq!((steps[0], steps[steps.len() - 1]), (1, 64));
}

/// At most 120 columns, all where the heading says.
#[test]
fn a_table_fits_a_terminal_and_its_columns_hold() {
    let folder = tempfile::tempdir().unwrap();
    for steps in [1, 4, 300] {
        let words = format!("grid-7x7 --steps {steps} --draws 100 --samples 0");
        let output = theory(folder.path(), &words).assert().success();
        let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
        let mut lines = text
            .lines()
            .skip(2)
            .take_while(|line| !line.starts_with("KL_T"));
        let heading: Vec<char> = lines.next().unwrap().chars().collect();
        assert_eq!(heading.len(), 120);
        for line in lines {
            assert!(
                !line.contains("0.00000 ±") && !line.contains("± 0.00000"),
                "{line}"
            );
            let line: Vec<char> = line.chars().collect();
            assert_eq!(line.len(), 120, "{line:?}");
            // Between columns of 15.
            for place in (24..120).step_by(16) {
                assert_eq!(line[place], ' ', "{line:?}");
            }
        }
    }
}

/// Narrow against the plane: what f64 tells is measured, what samples do not tell is left out, and what f64
/// does not tell is refused.
#[test]
fn a_narrow_mixture_is_measured_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let write = |std: &str| {
        let means = "[[-0.4, -0.4], [0.4, 0.4]]";
        let text = format!("[mixture]\nmeans = {means}\nstds = [{std}, {std}]\n");
        fs::write(folder.path().join("narrow.toml"), text).unwrap();
    };
    write("1e-9");
    let words = "narrow.toml --steps 4 --draws 1000 --samples 100";
    let found = report(folder.path(), words);
    // Nearly a choice between two points: log of distance over width, in each direction that has one.
    let [full, se] = estimate(&found["per_t"][0], "full");
    assert!((full - 18.6).abs() < 0.1 + 5.0 * se, "{full} {se}");
    let why = found["chains_left_out"].as_str().unwrap();
    assert_says(why, &["component 0 is 1.0e-9 wide"]);
    assert_eq!(found["chains"], serde_json::json!([]));
    let output = theory(folder.path(), words).assert().success();
    let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    assert_says(&text, &["No samples", "32-bit", "widen it"]);

    write("1e-15");
    let message = refusal(&mut theory(folder.path(), words));
    assert_says(
        &message,
        &["narrow.toml: [mixture]: at t = 0 component 0", "widen it"],
    );
}

#[test]
fn a_schedule_that_needs_more_steps_says_how_many() {
    let folder = tempfile::tempdir().unwrap();
    let few = "--draws 10 --samples 0";
    for (schedule, works) in [("linear", 21), ("scaled-linear", 20)] {
        for what in ["grid-7x7", "exceed 1"] {
            let words = format!("{what} --schedule {schedule} --steps {}", works - 1);
            let message = refusal(&mut theory(folder.path(), &words));
            let steps = format!("--steps is {}", works - 1);
            let from = format!("from {works} steps on");
            assert_says(&message, &[&steps, &from, "--schedule cosine"]);
        }
        let words = format!("grid-7x7 --schedule {schedule} --steps {works} {few}");
        theory(folder.path(), &words).assert().success();
    }
    let message = refusal(&mut theory(folder.path(), "grid-7x7 --steps 0"));
    assert_says(&message, &["--steps is 0", "at least 1"]);
    let message = refusal(&mut theory(folder.path(), "exceed 1 --steps 9999999999999"));
    assert_says(&message, &["--steps is 9999999999999", "at most 1000000"]);
    let words = "grid-7x7 --steps 2 --samples 9999999999999";
    let message = refusal(&mut theory(folder.path(), words));
    assert_says(&message, &["--samples is 9999999999999", "at most"]);
}

#[test]
fn a_bad_mixture_names_the_file_and_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[&str]); 9] = [
        ("[mixture]\nmeans = [[0.0]", &["mine.toml: line 2: "]),
        (
            "[mixture]\nmeans = [[0.0]]\nstd = [1.0]",
            &["`std`", "`stds`"],
        ),
        (
            "[mixture]\nmeans = [[0.0, 0.0]]\ncovariances = [[[1, 2], [2, 1]]]",
            &[
                "mine.toml: [mixture]: `covariances[0]`",
                "expected a positive one",
            ],
        ),
        (
            "[mixture]\nmeans = [[0.0, 0.0]]\ncovariances = [[[1, 0.5], [0.4, 1]]]",
            &["`covariances[0]`", "not symmetric"],
        ),
        (
            "[mixture]\nmeans = [[0.0], [1.0]]\nstds = [0.1]",
            &["`stds` has length 1, expected 2"],
        ),
        (
            "[mixture]\nmeans = [[0.0]]",
            &["none of `stds`, `variances` and `covariances`"],
        ),
        (
            "mixture = \"grid-8x8\"",
            &["grid-8x8", "the built-in mixture is \"grid-7x7\""],
        ),
        ("means = [[0.0]]\nstds = [1.0]", &["[mixture]"]),
        (
            "seed = 1\n[mixture]\nmeans = [[0.0]]\nstds = [1.0]",
            &["unknown field `seed`"],
        ),
    ];
    for (text, says) in cases {
        fs::write(folder.path().join("mine.toml"), text).unwrap();
        let message = refusal(&mut theory(folder.path(), "mine.toml --steps 2"));
        assert_says(&message, &["mine.toml"]);
        assert_says(&message, says);
        assert!(!message.contains("data.mixture"), "{message}");
    }
    let message = refusal(&mut theory(folder.path(), "missing.toml --steps 2"));
    assert_says(
        &message,
        &[
            "cannot read the mixture missing.toml: No such file",
            "grid-7x7",
        ],
    );
}

#[test]
fn numbers_without_a_meaning_are_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    for words in [
        "--steps 4",
        "grid-7x7",
        "grid-7x7 --steps 4 --draws 1",
        "grid-7x7 exceed 1 --steps 4",
        "exceed --steps 4",
        "exceed 0 --steps 4",
        "exceed inf --steps 4",
        "exceed nan --steps 4",
    ] {
        theory(folder.path(), words).assert().code(2);
    }
    for words in ["--steps 4 exceed 5", "--seed 1 --steps 4 exceed"] {
        let output = theory(folder.path(), words).assert().code(2);
        let text = String::from_utf8(output.get_output().stderr.clone()).unwrap();
        assert_says(
            &text,
            &["options of `exceed` stand behind it", "smd theory exceed"],
        );
    }
}

fn numbers(found: &Value, name: &str) -> Vec<f64> {
    let list = found[name].as_array().unwrap();
    list.iter().map(|number| number.as_f64().unwrap()).collect()
}

/// Theorem 3.1: the data of one ladder, written out as the mixture of 2^D Gaussians that they are.
#[test]
fn what_exceed_prints_exceeds() {
    let folder = tempfile::tempdir().unwrap();
    let printed = report(folder.path(), "exceed 1 --steps 2");
    let (scales, stds) = (numbers(&printed, "scales"), numbers(&printed, "stds"));
    let dim = scales.len();
    assert_eq!(printed["copies"], 1);
    assert_eq!(printed["dim"], dim);
    for (field, value) in [
        ("nats", Value::from(1.0)),
        ("schedule", "cosine".into()),
        ("steps", 2.into()),
    ] {
        assert_eq!(printed[field], value, "{field}");
    }

    let sign = |k: usize, i: usize| if (k >> i) & 1 == 1 { 1.0 } else { -1.0 };
    let mean = |k: usize| -> Vec<f64> { (0..dim).map(|i| sign(k, i) * scales[i]).collect() };
    let means: Vec<Vec<f64>> = (0..1_usize << dim).map(mean).collect();
    let one: Vec<f64> = stds.iter().map(|std| std * std).collect();
    let variances = vec![one; means.len()];
    // Lists of numbers are written alike in Rust and in TOML.
    let text = format!("[mixture]\nmeans = {means:?}\nvariances = {variances:?}\n");
    fs::write(folder.path().join("data.toml"), text).unwrap();

    let words = "data.toml --steps 2 --draws 1000 --samples 0";
    let found = report(folder.path(), words);
    let pairs = |of: &Value| of["per_t"].as_array().unwrap().clone();
    let (printed, found) = (pairs(&printed), pairs(&found));
    assert_eq!(printed.len(), found.len());
    for (printed, found) in printed.iter().zip(&found) {
        // Of every Gaussian; and what is printed is a lower bound.
        let [nats, se] = estimate(found, "full");
        assert!(nats + 5.0 * se > 1.0, "{found}");
        for (bound, family) in [("per_coordinate", "isotropic"), ("full", "full")] {
            let bound = printed[bound].as_f64().unwrap();
            let [nats, se] = estimate(found, family);
            assert!(bound > 1.0 && nats > bound - 5.0 * se, "{family}: {found}");
        }
    }
}

/// More nats by copies of the ladder: a coordinate at a time, because 2^D is too many Gaussians.
#[test]
fn copies_of_the_ladder_add_up() {
    let folder = tempfile::tempdir().unwrap();
    let printed = report(folder.path(), "exceed 5 --steps 4");
    let (scales, stds) = (numbers(&printed, "scales"), numbers(&printed, "stds"));
    let copies = printed["copies"].as_f64().unwrap();
    let dim = printed["dim"].as_f64().unwrap();
    assert_eq!(dim, copies * scales.len() as f64);
    const COLUMNS: [(&str, &str); 2] = [("per_coordinate", "isotropic"), ("full", "full")];
    let mut sums = [[[0.0; 2]; 4]; 2];
    for (u, s) in scales.iter().zip(&stds) {
        let text = format!("[mixture]\nmeans = [[{u:?}], [-{u:?}]]\nstds = [{s:?}, {s:?}]\n");
        fs::write(folder.path().join("coordinate.toml"), text).unwrap();
        let words = "coordinate.toml --steps 4 --draws 20000 --samples 0";
        let found = report(folder.path(), words);
        for (sums, (_, family)) in sums.iter_mut().zip(COLUMNS) {
            for (sum, step) in sums.iter_mut().zip(found["per_t"].as_array().unwrap()) {
                *sum = add(*sum, estimate(step, family).map(|x| copies * x));
            }
        }
    }
    for (sums, (column, _)) in sums.iter().zip(COLUMNS) {
        for ([nats, se], step) in sums.iter().zip(printed["per_t"].as_array().unwrap()) {
            let bound = step[column].as_f64().unwrap();
            // Coordinates that are left out have a little.
            let off = (nats - bound).abs();
            assert!(
                bound > 5.0 && off < 0.02 * bound + 5.0 * se,
                "{sums:?}, {step}"
            );
        }
    }

    let mut command = theory(folder.path(), "exceed 5 --steps 4");
    let output = command.assert().success().get_output().stdout.clone();
    let text = String::from_utf8(output).unwrap();
    let dim = format!("D = {dim} ");
    assert_says(
        &text,
        &["5 nats", "of every Gaussian step", "cosine, T = 4", &dim],
    );
    assert_says(&text, &["one variance for each t and coordinate"]);
}

/// A short chain, a long one, and a number that is too large.
#[test]
fn exceed_needs_no_patience_and_knows_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let one = report(folder.path(), "exceed 5 --steps 1");
    assert_eq!(numbers(&one, "scales").len(), 1);
    let long = report(folder.path(), "exceed 5 --steps 100");
    let steps = long["per_t"].as_array().unwrap();
    let full = |step: &Value| step["full"].as_f64().unwrap();
    assert_eq!(steps.len(), 100);
    assert!(steps.iter().map(full).all(|nats| nats > 5.0), "{long}");

    let message = refusal(&mut theory(folder.path(), "exceed 1e30 --steps 4"));
    assert_says(&message, &["1e30 nats", "coordinates", "can be exceeded"]);
    let up_to = message.split("up to ").nth(1).unwrap();
    let most = up_to.split_whitespace().next().unwrap();
    let found = report(folder.path(), &format!("exceed {most} --steps 4"));
    let steps = found["per_t"].as_array().unwrap();
    assert!(steps.iter().all(|step| full(step) > most.parse().unwrap()));
}

#[test]
fn the_errors_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let words = "grid-7x7 --steps 3 --draws 50 --samples 0 --plot";
    let plot = |file: &str| theory(folder.path(), &format!("{words} {file}"));
    plot("errors.png").assert().success();
    let picture = image::open(folder.path().join("errors.png")).unwrap();
    assert!(picture.width() > picture.height() && picture.height() > 500);
    plot("errors.svg").assert().success();
    let svg = fs::read_to_string(folder.path().join("errors.svg")).unwrap();
    assert_says(&svg, &["grid-7x7, cosine, T = 3", "fixed_small"]);
    assert_says(&svg, &FAMILIES);

    let message = refusal(&mut plot("none/errors.png"));
    assert_says(&message, &["none/errors.png", "folder does not exist"]);
    plot("errors.jpg").assert().code(2);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}
