//! Features of a set in one file that numpy and pytorch-fid read.
//!
//! An `.npz` with `mu` and `sigma`, as pytorch-fid writes them; `mu_s` and `sigma_s` of the spatial features, as
//! the evaluator of ADM names them; the rows, `pool` and `logits`, for the measures that need each image;
//! and `manifest.json`, where all of it is from. A file of another tool with `mu` and `sigma` serves
//! Frechet distances; a `.npy` of rows `[N, D]` of any extractor serves all but sFID and the inception
//! score.

use super::features::Features;
use super::provenance::Provenance;
use super::statistics::{Moments, Statistics};
use crate::error::FeatureFileError;
use crate::npz::{self, Array, Npz, NpzError, NpzWriter};
use serde::{Deserialize, Serialize};
use std::io::{self, Seek, Write};
use std::path::Path;

/// What is known of a set.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureSet {
    /// Where it is from.
    pub provenance: Provenance,
    /// Of the rows of `pool`.
    pub statistics: Statistics,
    /// Of the spatial features, for sFID.
    pub spatial: Option<Statistics>,
    /// A row for each image.
    pub pool: Option<Features>,
    /// A row for each image, for the inception score.
    pub logits: Option<Features>,
}

/// `manifest.json` in a file of features.
#[derive(Serialize, Deserialize)]
struct Manifest {
    images: u64,
    #[serde(flatten)]
    provenance: Provenance,
}

impl FeatureSet {
    /// Whether `path` is named like a file of features or statistics; an `.npz` may hold images instead.
    ///
    /// # Errors
    /// A file that is named so and cannot be read.
    pub fn is_at(path: &Path) -> Result<bool, NpzError> {
        Ok(match path.extension().and_then(|end| end.to_str()) {
            Some("npy") => true,
            Some("npz") => Npz::open(path)?.has("mu.npy"),
            _ => false,
        })
    }

    /// Reads what [`write`](Self::write) wrote, statistics of pytorch-fid or of ADM, or rows of any extractor.
    ///
    /// # Errors
    /// A file that is damaged, or holds numbers that are not finite.
    pub fn read(path: &Path) -> Result<Self, FeatureFileError> {
        if path.extension().is_some_and(|end| end == "npy") {
            return Self::from_rows(path);
        }
        let refused = |source| FeatureFileError::Refused {
            path: path.to_owned(),
            source,
        };
        let mut npz = Npz::open(path)?;
        let manifest: Option<Manifest> =
            match npz.text("manifest.json")? {
                None => None,
                Some(text) => Some(serde_json::from_str(&text).map_err(|source| {
                    FeatureFileError::Manifest {
                        path: path.to_owned(),
                        source,
                    }
                })?),
            };
        let count = manifest.as_ref().map(|manifest| manifest.images);
        let mut statistics =
            |mu: &str, sigma: &str| -> Result<Option<Statistics>, FeatureFileError> {
                let (Some(mu), Some(sigma)) = (npz.array(mu)?, npz.array(sigma)?) else {
                    return Ok(None);
                };
                let statistics = Statistics {
                    count,
                    mu: mu.into_f64(),
                    sigma: sigma.into_f64(),
                };
                statistics.validate().map_err(refused)?;
                Ok(Some(statistics))
            };
        let pool_statistics = statistics("mu", "sigma")?;
        let spatial = statistics("mu_s", "sigma_s")?;
        let mut table = |name: &'static str| -> Result<Option<Features>, FeatureFileError> {
            npz.array(name)?
                .map(|array| rows(path, name, array))
                .transpose()
        };
        let (pool, logits) = (table("pool")?, table("logits")?);
        Ok(Self {
            provenance: manifest
                .map(|manifest| manifest.provenance)
                .unwrap_or_default(),
            statistics: pool_statistics.ok_or_else(|| FeatureFileError::NoStatistics {
                path: path.to_owned(),
            })?,
            spatial,
            pool,
            logits,
        })
    }

    /// Rows of any extractor.
    fn from_rows(path: &Path) -> Result<Self, FeatureFileError> {
        let pool = rows(path, "of it", npz::read_npy(path)?)?;
        let statistics = Statistics::of(&pool).map_err(|source| FeatureFileError::Refused {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            provenance: Provenance::default(),
            statistics,
            spatial: None,
            pool: Some(pool),
            logits: None,
        })
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// What the writer below said.
    pub fn write(&self, file: impl Write + Seek) -> io::Result<()> {
        let mut npz = NpzWriter::new(file);
        let pairs = [
            ("mu", "sigma", Some(&self.statistics)),
            ("mu_s", "sigma_s", self.spatial.as_ref()),
        ];
        for (mu, sigma, statistics) in pairs {
            if let Some(statistics) = statistics {
                let dim = statistics.dim();
                npz.array(mu, &[dim], &statistics.mu)?;
                npz.array(sigma, &[dim, dim], &statistics.sigma)?;
            }
        }
        for (name, table) in [("pool", &self.pool), ("logits", &self.logits)] {
            if let Some(table) = table {
                npz.array(name, &[table.len(), table.dim()], table.values())?;
            }
        }
        let manifest = Manifest {
            images: self.statistics.count.unwrap_or(0),
            provenance: self.provenance.clone(),
        };
        npz.text("manifest.json", &serde_json::to_string_pretty(&manifest)?)?;
        npz.finish()
    }

    /// Images behind it, where that is known.
    pub fn images(&self) -> Option<u64> {
        self.statistics.count
    }

    /// CRC-32C of mean and covariance: what tells a reference from others, whichever file it is in.
    pub fn identity(&self) -> String {
        let numbers = self.statistics.mu.iter().chain(&self.statistics.sigma);
        let crc = numbers.fold(0, |crc, x| crc32c::crc32c_append(crc, &x.to_le_bytes()));
        format!("{crc:08x}")
    }

    /// Adds another part of the same set.
    ///
    /// # Errors
    /// Parts of different extractors, or without the same rows.
    pub fn append(&mut self, more: Self) -> Result<(), crate::error::EvalError> {
        let (own, other) = (&self.provenance.extractor, &more.provenance.extractor);
        if own != other || self.pool.is_some() != more.pool.is_some() {
            return Err(crate::error::EvalError::OtherExtractor);
        }
        self.spatial = match (self.spatial.take(), &more.spatial) {
            (Some(own), Some(more)) => Some(merged(&own, more)?),
            _ => None,
        };
        self.statistics = match (&mut self.pool, more.pool) {
            // Not by merging: so parts give the very numbers of the whole.
            (Some(own), Some(more)) => {
                own.append(more)?;
                Statistics::of(own)?
            }
            _ => merged(&self.statistics, &more.statistics)?,
        };
        match (&mut self.logits, more.logits) {
            (Some(own), Some(more)) => own.append(more)?,
            _ => self.logits = None,
        }
        Ok(())
    }
}

fn merged(a: &Statistics, b: &Statistics) -> Result<Statistics, crate::error::EvalError> {
    let mut moments = Moments::from_statistics(a)?;
    moments.merge(&Moments::from_statistics(b)?)?;
    moments.statistics()
}

/// A table `[N, D]`.
fn rows(path: &Path, name: &'static str, array: Array) -> Result<Features, FeatureFileError> {
    let dim = match *array.shape.as_slice() {
        [_, dim] if dim > 0 => dim,
        _ => {
            return Err(FeatureFileError::Shape {
                path: path.to_owned(),
                name,
                found: array.shape,
            });
        }
    };
    Features::new(dim, array.into_f32()).map_err(|source| FeatureFileError::Refused {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::provenance::{ExtractorId, Source};
    use std::fs::File;

    fn features(count: usize, dim: usize, shift: usize) -> Features {
        let value = |i: usize| (((i + shift) * 7919) % 1013) as f32 / 1013.0;
        Features::new(dim, (0..count * dim).map(value).collect()).unwrap()
    }

    fn set(count: usize, shift: usize) -> FeatureSet {
        let pool = features(count, 4, shift);
        FeatureSet {
            provenance: Provenance {
                smd: "0".into(),
                extractor: ExtractorId {
                    network: "efficientnet-lite0".into(),
                    ..ExtractorId::default()
                },
                source: Source::Unknown,
            },
            statistics: Statistics::of(&pool).unwrap(),
            spatial: Some(Statistics::of(&features(count, 3, shift)).unwrap()),
            pool: Some(pool),
            logits: Some(features(count, 5, shift)),
        }
    }

    fn written(fill: impl FnOnce(File)) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.npz");
        fill(File::create(&path).unwrap());
        (folder, path)
    }

    #[test]
    fn a_set_comes_back() {
        let whole = set(20, 0);
        let (_folder, path) = written(|file| whole.write(file).unwrap());
        assert!(FeatureSet::is_at(&path).unwrap());
        assert_eq!(FeatureSet::read(&path).unwrap(), whole);
    }

    #[test]
    fn parts_are_the_whole() {
        let whole = set(30, 0);
        let mut parts = set(30, 0);
        let part = |range: std::ops::Range<usize>| {
            let rows: Vec<usize> = range.collect();
            let table = |features: &Features| features.select(&rows);
            let spatial = features(30, 3, 0).select(&rows);
            let pool = whole.pool.as_ref().map(table).unwrap();
            FeatureSet {
                statistics: Statistics::of(&pool).unwrap(),
                spatial: Some(Statistics::of(&spatial).unwrap()),
                pool: Some(pool),
                logits: whole.logits.as_ref().map(table),
                ..whole.clone()
            }
        };
        for (i, range) in [0..11, 11..13, 13..30].into_iter().enumerate() {
            match i {
                0 => parts = part(range),
                _ => parts.append(part(range)).unwrap(),
            }
        }
        assert_eq!(parts.statistics, whole.statistics);
        assert_eq!(parts.logits, whole.logits);
        let [found, expected] = [&parts, &whole].map(|set| set.spatial.clone().unwrap());
        assert_eq!(found.count, expected.count);
        for (a, b) in found.sigma.iter().zip(&expected.sigma) {
            assert!((a - b).abs() < 1e-12, "{a} {b}");
        }
        let mut other = set(9, 1);
        other.provenance.extractor.network = "inception-2015-12-05".into();
        let error = parts.append(other).unwrap_err().to_string();
        assert!(error.contains("one extractor"), "{error}");
    }

    #[test]
    fn statistics_of_other_tools_are_read_and_checked() {
        let write = |mu: &[f64], sigma: &[f64]| {
            written(|file| {
                let mut npz = NpzWriter::new(file);
                npz.array("mu", &[mu.len()], mu).unwrap();
                npz.array("sigma", &[sigma.len()], sigma).unwrap();
                npz.finish().unwrap();
            })
        };
        let (_folder, path) = write(&[0.0, 1.0], &[1.0, 0.0, 0.0, 1.0]);
        let set = FeatureSet::read(&path).unwrap();
        assert_eq!((set.images(), set.pool), (None, None));
        assert_eq!(set.provenance, Provenance::default());
        for (sigma, said) in [
            (vec![1.0, 0.0, f64::NAN, 1.0], "NaN"),
            (vec![1.0; 3], "square"),
        ] {
            let (_folder, path) = write(&[0.0, 1.0], &sigma);
            let error = FeatureFileError::to_string(&FeatureSet::read(&path).unwrap_err());
            let cause = std::error::Error::source(&FeatureSet::read(&path).unwrap_err())
                .unwrap()
                .to_string();
            assert!(
                error.contains("set.npz") && cause.contains(said),
                "{error}: {cause}"
            );
        }
    }
}
