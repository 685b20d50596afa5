//! What is measured: from images, samples or files to features.

use super::extractor::Lazy;
use crate::commands::sample::{ChainArgs, SeedRange};
use crate::output;
use crate::progress::Progress;
use crate::say::say;
use anyhow::Context;
use burn::tensor::Device;
use smd::checkpoint::Checkpoint;
use smd::data::{self, Examples, Images, ReadOptions};
use smd::eval::extractor::{Extractor, Rows};
use smd::eval::feature_set::FeatureSet;
use smd::eval::provenance::{Provenance, Source};
use smd::eval::statistics::{Moments, Statistics};
use smd::host;
use smd::noise::NoiseSource;
use smd::npz::{Npz, Numbers};
use smd::sampler;
use std::path::{Path, PathBuf};
use std::str::FromStr;

#[derive(Debug, clap::Args)]
pub struct SetArgs {
    /// What to take.
    #[arg(value_name = "SET", required = true)]
    path: Option<PathBuf>,
    /// Of a checkpoint: seeds of the samples.
    #[arg(long, value_name = "FIRST-LAST", default_value = "0-4999")]
    seeds: SeedRange,
    #[command(flatten)]
    chain: ChainArgs,
    /// Of images: side of the square that they are brought to.
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// Of images: the first so many.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Of images: leave out those that cannot be read, and say how many.
    #[arg(long)]
    skip_bad: bool,
    /// Of images or samples: part I of N, counted from 0; join the files with `smd eval merge`.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
}

/// One of some parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shard([usize; 2]);

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text
            .split_once('/')
            .and_then(|(part, of)| Some([part.parse().ok()?, of.parse().ok()?]));
        match parts {
            Some([part, of]) if part < of => Ok(Self([part, of])),
            _ => Err("write I/N with I from 0 to N - 1, e.g. 0/4".into()),
        }
    }
}

impl Shard {
    /// Its share of `len` things.
    fn range(self, len: usize) -> std::ops::Range<usize> {
        let [part, of] = self.0;
        part * len / of..(part + 1) * len / of
    }
}

impl SetArgs {
    /// All of what is at `path`.
    pub fn plain(path: &Path) -> Self {
        Self {
            path: Some(path.to_owned()),
            seeds: SeedRange(0..=4999),
            chain: ChainArgs::default(),
            size: None,
            limit: None,
            skip_bad: false,
            shard: None,
        }
    }

    /// Where it is; clap sees to it that it was said.
    fn path(&self) -> &Path {
        self.path.as_deref().unwrap_or(Path::new(""))
    }

    /// The features, `what` names the progress bar.
    pub fn read(
        &self,
        extractor: &mut Lazy,
        what: &str,
        device: &Device,
    ) -> anyhow::Result<FeatureSet> {
        if FeatureSet::is_at(self.path())? {
            anyhow::ensure!(
                self.shard.is_none(),
                "{} holds features already; --shard is for images and samples",
                self.path().display()
            );
            return Ok(FeatureSet::read(self.path())?);
        }
        if self.path().join("checkpoints").is_dir()
            || self
                .path()
                .extension()
                .is_some_and(|end| end == "safetensors")
        {
            return self.draw(extractor, what, device);
        }
        let images = self.images()?;
        let range = self
            .shard
            .map_or(0..images.len(), |shard| shard.range(images.len()));
        let source = Source::Images {
            path: self.path().display().to_string(),
            shape: images.shape(),
            skipped: images.skipped.len(),
            identity: Examples::identity_of(&images),
            shard: self.shard.map(|shard| shard.0),
        };
        let (batch, len) = (extractor.batch(), images.shape().iter().product::<usize>());
        let extractor = extractor.get()?;
        let progress = Progress::steps(what, range.len() as u64);
        let mut found = Found::default();
        let bytes = &images.bytes[range.start * len..range.end * len];
        for piece in bytes.chunks(batch * len) {
            found.add(extractor.features(piece, images.shape())?)?;
            progress.step(found.rows.pool.len() as u64, "");
        }
        progress.finish();
        found.finish(extractor, source)
    }

    fn images(&self) -> anyhow::Result<Images> {
        if self.path().extension().is_some_and(|end| end == "npz") {
            let mut images = images_of_npz(self.path())?;
            let len = images.shape().iter().product::<usize>();
            images
                .bytes
                .truncate(self.limit.unwrap_or(usize::MAX).saturating_mul(len));
            return Ok(images);
        }
        let options = ReadOptions {
            size: self.size,
            channels: None,
            skip_bad: self.skip_bad,
            limit: self.limit,
        };
        let images = data::open(self.path(), &options)?;
        if !images.skipped.is_empty() {
            say(format!(
                "{} images could not be read and were left out",
                images.skipped.len()
            ));
        }
        Ok(images)
    }

    /// Samples of a checkpoint, measured as they come.
    fn draw(
        &self,
        extractor: &mut Lazy,
        what: &str,
        device: &Device,
    ) -> anyhow::Result<FeatureSet> {
        let checkpoint = Checkpoint::open(self.path())?;
        let shape = checkpoint.config().shape()?;
        anyhow::ensure!(
            shape[..2] != [1, 1],
            "{} is a model of vectors; `smd diagnose` and `smd sample` measure those",
            self.path().display()
        );
        let (chain, weights) = (self.chain.config(&checkpoint)?, self.chain.weights());
        let batch = extractor.batch();
        let extractor = extractor.get()?;
        let model = checkpoint.denoiser(&weights, device)?;
        let all: Vec<u64> = self.seeds.0.clone().collect();
        let range = self
            .shard
            .map_or(0..all.len(), |shard| shard.range(all.len()));
        let seeds = &all[range];
        anyhow::ensure!(
            seeds.len() >= 2,
            "two samples are the least; see --seeds and --shard"
        );
        let passes = chain.visited(checkpoint.config().schedule.steps).len();
        let source = Source::Samples {
            checkpoint: checkpoint.path().display().to_string(),
            checkpoint_sha256: smd::eval::extractor::sha256(checkpoint.path())
                .with_context(|| format!("cannot read {}", checkpoint.path().display()))?,
            step: checkpoint.step(),
            ema: checkpoint.average(&weights)?.unwrap_or("none".into()),
            chain: serde_json::to_value(&chain)?,
            passes,
            seeds: [seeds[0], seeds[seeds.len() - 1]],
            shape,
        };
        let progress = Progress::steps(what, (seeds.len() * passes) as u64);
        let (mut found, mut done) = (Found::default(), 0);
        for seeds in seeds.chunks(batch) {
            let noise = NoiseSource::new(0, seeds.to_vec(), device);
            let drawn = sampler::sample(&model, &chain, shape, &noise, |step| {
                progress.step((done * passes + step * seeds.len()) as u64, "");
            });
            let images = output::Images::from_unit(&host::numbers(drawn), shape)?;
            found.add(extractor.features(images.bytes(), shape)?)?;
            done += seeds.len();
        }
        progress.finish();
        found.finish(extractor, source)
    }
}

/// guided-diffusion's and our own `arr_0`, uint8 `[images, H, W, C]`.
fn images_of_npz(path: &Path) -> anyhow::Result<Images> {
    let array = Npz::open(path)?.array("arr_0")?;
    let array = array.with_context(|| {
        format!(
            "{} has neither features (mu, sigma) nor images (arr_0)",
            path.display()
        )
    })?;
    match (array.shape.as_slice(), array.numbers) {
        (&[_, height, width, channels @ (1 | 3)], Numbers::Uint8(bytes)) if !bytes.is_empty() => {
            Ok(Images {
                height,
                width,
                channels,
                bytes,
                skipped: vec![],
            })
        }
        (shape, _) => anyhow::bail!(
            "{}: arr_0 has shape {shape:?} or another type, expected uint8 [images, H, W, 1 or 3]",
            path.display()
        ),
    }
}

/// Rows, and the moments of those that are not kept.
#[derive(Default)]
struct Found {
    rows: Rows,
    spatial: Option<Moments>,
}

impl Found {
    fn add(&mut self, mut rows: Rows) -> anyhow::Result<()> {
        let spatial = std::mem::take(&mut rows.spatial);
        if !spatial.is_empty() {
            let moments = self
                .spatial
                .get_or_insert_with(|| Moments::new(spatial.dim()));
            moments.add(spatial.values());
        }
        Ok(self.rows.append(rows)?)
    }

    fn finish(self, extractor: &Extractor, source: Source) -> anyhow::Result<FeatureSet> {
        let Rows { pool, logits, .. } = self.rows;
        Ok(FeatureSet {
            provenance: Provenance {
                smd: env!("CARGO_PKG_VERSION").into(),
                extractor: extractor.id().clone(),
                source,
            },
            statistics: Statistics::of(&pool)?,
            spatial: self
                .spatial
                .map(|moments| moments.statistics())
                .transpose()?,
            pool: Some(pool),
            logits: (!logits.is_empty()).then_some(logits),
        })
    }
}

/// Refuses a part that is not the `part`-th of `of`.
pub fn check_part(set: &FeatureSet, part: usize, of: usize, path: &Path) -> anyhow::Result<()> {
    if let Source::Images { shard, .. } = &set.provenance.source {
        anyhow::ensure!(
            *shard == Some([part, of]),
            "{} is {}, expected part {part} of {of}: name all parts in order",
            path.display(),
            shard.map_or("no part".into(), |[part, of]| format!(
                "part {part} of {of}"
            ))
        );
    }
    Ok(())
}

/// Says that all parts are there.
pub fn make_whole(set: &mut FeatureSet) {
    if let Source::Images { shard, .. } = &mut set.provenance.source {
        *shard = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_a_set_once() {
        for (len, of) in [(10, 3), (2, 4), (7, 1)] {
            let all: Vec<usize> = (0..of)
                .flat_map(|part| Shard([part, of]).range(len))
                .collect();
            assert_eq!(all, (0..len).collect::<Vec<_>>());
        }
        assert_eq!("1/4".parse(), Ok(Shard([1, 4])));
        for bad in ["4/4", "1", "a/2", "-1/2", "0/0"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }
}
