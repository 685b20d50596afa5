//! Every measure that two sets of features allow, and what has to be said beside the numbers.

use super::feature_set::FeatureSet;
use super::features::Features;
use super::fid_infinity::{FidInfinity, fid_infinity};
use super::frechet::frechet_distance;
use super::inception_score::{InceptionScore, Splits, inception_score};
use super::kid::{Kid, KidOptions, kid};
use super::neighbours::{Neighbours, neighbours};
use super::provenance::{ExtractorId, Provenance};
use crate::error::EvalError;
use serde::{Deserialize, Serialize};

/// Samples that published distances have.
const CUSTOMARY_IMAGES: u64 = 50_000;

/// The fewest images of a set that a line to infinitely many is drawn from.
const INFINITY_IMAGES: u64 = 1000;

/// How the measures are taken that have a choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalOptions {
    /// Subsets of the kernel distance.
    pub kid: KidOptions,
    /// Parts of the inception score.
    pub inception_score: Splits,
    /// First images of each set in which neighbours are looked for.
    pub neighbour_images: usize,
    /// Seeds 0, 1, ... of the distance at infinitely many samples; 0 leaves it out.
    pub infinity_seeds: u32,
}

impl Default for EvalOptions {
    fn default() -> Self {
        Self {
            kid: KidOptions::default(),
            inception_score: Splits::default(),
            neighbour_images: 10_000,
            infinity_seeds: 3,
        }
    }
}

/// A distance at infinitely many samples, over seeds of the subsets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AtInfinity {
    /// Mean over the seeds.
    pub value: f64,
    /// Deviation between seeds; 0 for one.
    pub between_seeds_std: f64,
    /// Standard error of a line's end, mean over the seeds.
    pub std_error: f64,
}

/// What was found; `None` for what these sets cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measures {
    /// The Frechet distance, whose name [`Evaluation::distance`] says.
    pub frechet: f64,
    /// The same of infinitely many samples.
    pub frechet_at_infinity: Option<AtInfinity>,
    /// Of the spatial features (sFID).
    pub spatial_frechet: Option<f64>,
    /// The kernel distance.
    pub kid: Option<Kid>,
    /// Of the samples alone.
    pub inception_score: Option<InceptionScore>,
    /// Precision, recall, density, coverage.
    pub neighbours: Option<Neighbours>,
}

/// A result that can be defended: the numbers and all that they depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Version of this library.
    pub smd: String,
    /// What `frechet` is called in its features.
    pub distance: String,
    /// The numbers.
    pub measures: Measures,
    /// What a reader must know beside them.
    pub notes: Vec<String>,
    /// How they were taken.
    pub options: EvalOptions,
    /// One side.
    pub samples: Side,
    /// The other.
    pub reference: Side,
}

/// A set behind a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// How many, where that is known.
    pub images: Option<u64>,
    /// CRC-32C of mean and covariance.
    pub statistics: String,
    /// Where it is from.
    pub provenance: Provenance,
}

impl Side {
    fn of(set: &FeatureSet) -> Self {
        Self {
            images: set.images(),
            statistics: set.identity(),
            provenance: set.provenance.clone(),
        }
    }
}

/// Takes all measures.
///
/// # Errors
/// Sets of different extractors, or numbers without eigenvalues.
pub fn evaluate(
    samples: &FeatureSet,
    reference: &FeatureSet,
    options: &EvalOptions,
) -> Result<Evaluation, EvalError> {
    let (ours, theirs) = (
        &samples.provenance.extractor,
        &reference.provenance.extractor,
    );
    // A file of another tool does not say what it is of; only its width can be checked.
    let known = !ours.network.is_empty() && !theirs.network.is_empty();
    if known && ours != theirs {
        return Err(EvalError::OtherExtractor);
    }
    let extractor = if known { ours } else { &ExtractorId::default() };
    let mut options = options.clone();
    let mut measures = Measures {
        frechet: frechet_distance(&samples.statistics, &reference.statistics)?,
        frechet_at_infinity: None,
        spatial_frechet: None,
        kid: None,
        inception_score: None,
        neighbours: None,
    };
    if let (Some(ours), Some(theirs)) = (&samples.spatial, &reference.spatial) {
        measures.spatial_frechet = Some(frechet_distance(ours, theirs)?);
    }
    if let (Some(ours), Some(theirs)) = (&samples.pool, &reference.pool) {
        pairwise(ours, theirs, &mut options, &mut measures)?;
    }
    if let Some(logits) = &samples.logits {
        measures.inception_score = inception_score(logits, options.inception_score).ok();
    }
    if let Some(pool) = &samples.pool {
        let lines = (0..options.infinity_seeds)
            .filter(|_| pool.len() as u64 >= INFINITY_IMAGES)
            .map(|seed| fid_infinity(pool, &reference.statistics, seed));
        measures.frechet_at_infinity = over_seeds(&lines.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(Evaluation {
        smd: env!("CARGO_PKG_VERSION").into(),
        distance: extractor.distance_name().into(),
        measures,
        notes: notes(samples, reference, known),
        options,
        samples: Side::of(samples),
        reference: Side::of(reference),
    })
}

/// What needs the rows of both.
fn pairwise(
    ours: &Features,
    theirs: &Features,
    options: &mut EvalOptions,
    measures: &mut Measures,
) -> Result<(), EvalError> {
    let fewest = ours.len().min(theirs.len());
    // Said in the options that travel with the result.
    options.kid.subset_images = options.kid.subset_images.min(fewest);
    options.neighbour_images = options.neighbour_images.min(ours.len().max(theirs.len()));
    if fewest > 5 {
        measures.kid = Some(kid(ours, theirs, &options.kid)?);
        let first = |set: &Features| set.first(options.neighbour_images);
        measures.neighbours = Some(neighbours(&first(ours), &first(theirs))?);
    }
    Ok(())
}

fn over_seeds(lines: &[FidInfinity]) -> Option<AtInfinity> {
    let count = lines.len() as f64;
    let mean = |of: &dyn Fn(&FidInfinity) -> f64| lines.iter().map(of).sum::<f64>() / count;
    let value = mean(&|line| line.value);
    (!lines.is_empty()).then(|| AtInfinity {
        value,
        between_seeds_std: (lines
            .iter()
            .map(|line| (line.value - value).powi(2))
            .sum::<f64>()
            / (count - 1.0).max(1.0))
        .sqrt(),
        std_error: mean(&|line| line.std_error),
    })
}

fn notes(samples: &FeatureSet, reference: &FeatureSet, known: bool) -> Vec<String> {
    let mut notes = vec![];
    let dim = samples.statistics.dim() as u64;
    match samples.images() {
        None => notes.push("the file of the samples does not say how many they are".into()),
        Some(images) if images <= dim => notes.push(format!(
            "{images} samples span fewer directions than the {dim} features have: the distance is far \
             above that of many samples"
        )),
        Some(images) if images < CUSTOMARY_IMAGES => notes.push(format!(
            "{images} samples: published distances take 50,000, and fewer give larger ones"
        )),
        _ => {}
    }
    if reference.images().is_some_and(|images| images <= dim) {
        notes.push(format!(
            "the reference has fewer images than the {dim} features: its covariance is singular"
        ));
    }
    if reference.pool.is_none() {
        notes.push(
            "the reference holds mu and sigma alone: KID, precision, recall, density and coverage need \
             its rows (`smd eval features`)"
                .into(),
        );
    }
    if !known {
        notes.push(
            "a file does not say of which extractor it is: the distance means something only if both are \
             of one"
                .into(),
        );
    }
    notes
}

impl Evaluation {
    /// What disagrees with another result so that their numbers must not be compared: name, here, there.
    pub fn disagreements(&self, other: &Self) -> Vec<(&'static str, String, String)> {
        let pairs = self.terms().into_iter().zip(other.terms());
        let pairs = pairs.filter(|((_, ours), (_, theirs))| ours != theirs);
        pairs
            .map(|((name, ours), (_, theirs))| (name, ours, theirs))
            .collect()
    }

    /// What the numbers depend on besides the samples.
    fn terms(&self) -> Vec<(&'static str, String)> {
        let extractor = &self.samples.provenance.extractor;
        let text = |value: Option<u64>| value.map_or("unknown".into(), |value| value.to_string());
        vec![
            ("distance", self.distance.clone()),
            ("network", extractor.network.clone()),
            ("preparation", extractor.preparation.clone()),
            ("weights_sha256", extractor.weights_sha256.clone()),
            ("reference statistics", self.reference.statistics.clone()),
            ("reference images", text(self.reference.images)),
            ("samples", text(self.samples.images)),
            (
                "options",
                serde_json::to_string(&self.options).unwrap_or_default(),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::statistics::Statistics;

    fn set(count: usize, shift: usize) -> FeatureSet {
        let value = |i: usize| (((i + shift) * 7919) % 1013) as f32 / 1013.0;
        let pool = Features::new(4, (0..count * 4).map(value).collect()).unwrap();
        let provenance = Provenance {
            extractor: ExtractorId {
                network: "efficientnet-lite0".into(),
                published: true,
                ..ExtractorId::default()
            },
            ..Provenance::default()
        };
        FeatureSet {
            provenance,
            statistics: Statistics::of(&pool).unwrap(),
            spatial: None,
            logits: None,
            pool: Some(pool),
        }
    }

    fn found(samples: &FeatureSet, reference: &FeatureSet) -> Evaluation {
        evaluate(samples, reference, &EvalOptions::default()).unwrap()
    }

    #[test]
    fn a_set_against_itself_has_no_distance() {
        let whole = set(1200, 0);
        let evaluation = found(&whole, &whole);
        let measures = evaluation.measures;
        assert_eq!(evaluation.distance, "FD-EffNetLite0");
        assert!(measures.frechet.abs() < 1e-9, "{measures:?}");
        assert!(measures.kid.unwrap().mean.abs() < 1e-2, "{measures:?}");
        assert_eq!(measures.neighbours.unwrap().precision, 1.0);
        assert!(measures.frechet_at_infinity.is_some());
        assert_eq!(measures.spatial_frechet, None);
        assert!(
            evaluation.notes[0].contains("50,000"),
            "{:?}",
            evaluation.notes
        );
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let (reference, other) = (set(200, 0), set(200, 5));
        let ours = found(&set(100, 1), &reference);
        assert!(
            ours.disagreements(&found(&set(100, 2), &reference))
                .is_empty()
        );
        let names = |theirs: Evaluation| -> Vec<&str> {
            ours.disagreements(&theirs)
                .into_iter()
                .map(|(name, ..)| name)
                .collect()
        };
        assert_eq!(names(found(&set(100, 1), &other)), ["reference statistics"]);
        assert_eq!(
            names(found(&set(90, 1), &reference)),
            ["samples", "options"]
        );
    }

    #[test]
    fn other_extractors_and_few_samples_are_told() {
        let mut other = set(30, 0);
        other.provenance.extractor.preparation = "clean".into();
        let error = evaluate(&set(30, 1), &other, &EvalOptions::default()).unwrap_err();
        assert!(error.to_string().contains("one extractor"), "{error}");
        let few = found(&set(3, 0), &set(30, 0));
        assert!(
            few.notes[0].contains("span fewer directions"),
            "{:?}",
            few.notes
        );
        assert_eq!(few.measures.kid, None);
    }

    #[test]
    fn unknown_features_have_no_proud_name() {
        let mut reference = set(30, 0);
        reference.provenance = Provenance::default();
        let evaluation = found(&set(30, 1), &reference);
        assert_eq!(evaluation.distance, "FD of an unknown extractor");
        assert!(
            evaluation
                .notes
                .iter()
                .any(|note| note.contains("does not say"))
        );
    }
}
