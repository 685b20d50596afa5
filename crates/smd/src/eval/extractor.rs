//! Networks whose features stand for images.
//!
//! - [`Inception`]: that of FID, from the file that pytorch-fid brings
//! - [`EfficientNetLite0`]: free to use and small; its distance is `FD-EffNetLite0`, never FID
//! - [`Preparation`]: how pictures are brought to a network's size, by the name of the tool

mod efficientnet_lite0;
mod folded;
mod inception;
mod prepare;

pub use efficientnet_lite0::{EfficientNetLite0, SIDE as EFFICIENTNET_SIDE};
pub use inception::{Answers, Inception, SIDE as INCEPTION_SIDE};
pub use prepare::Preparation;

use super::features::Features;
use super::provenance::ExtractorId;
use crate::error::{EvalError, ImportError};
use crate::host;
use crate::import::TensorFile;
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io;
use std::path::Path;

/// SHA-256 of the published weights, or how it begins where the name of their file says only that.
const PUBLISHED: [(&str, &str); 3] = [
    ("inception-2015-12-05", "6726825d"),
    ("efficientnet-lite0", "57934424"),
    // The same numbers as safetensors.
    (
        "efficientnet-lite0",
        "bbe923198d2c84a7fd0938c400eaa78ebe861b832d9cd885e3afc731264cb798",
    ),
];

/// SHA-256 of a file, in hexadecimal digits.
///
/// # Errors
/// A file that cannot be read.
pub fn sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hash)?;
    Ok(format!("{:x}", hash.finalize()))
}

/// A network, and how pictures come to it.
#[derive(Debug)]
pub struct Extractor {
    network: Network,
    preparation: Preparation,
    id: ExtractorId,
    device: Device,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one of it in a program")]
enum Network {
    Inception(Inception),
    EfficientNetLite0(EfficientNetLite0),
}

/// What an extractor says of images.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// For Frechet and kernel distances, and neighbours.
    pub pool: Features,
    /// For sFID; empty where the network has none.
    pub spatial: Features,
    /// For the inception score; empty where the network has none.
    pub logits: Features,
}

impl Rows {
    /// Adds the rows of more images behind its own.
    ///
    /// # Errors
    /// Rows of another network.
    pub fn append(&mut self, more: Self) -> Result<(), EvalError> {
        self.pool.append(more.pool)?;
        if !more.spatial.is_empty() {
            self.spatial.append(more.spatial)?;
            self.logits.append(more.logits)?;
        }
        Ok(())
    }
}

impl Extractor {
    /// Reads a network's weights.
    ///
    /// # Errors
    /// A file that cannot be read, or lacks a tensor.
    pub fn open(
        preparation: Preparation,
        weights: &Path,
        device: &Device,
    ) -> Result<Self, ImportError> {
        let file = TensorFile::open(weights)?;
        let weights_sha256 = sha256(weights).map_err(|source| ImportError::Read {
            path: weights.to_owned(),
            source,
        })?;
        let name = preparation.network();
        let published = PUBLISHED
            .iter()
            .any(|(network, digest)| *network == name && weights_sha256.starts_with(digest));
        let network = match preparation {
            Preparation::Lite0 => {
                Network::EfficientNetLite0(EfficientNetLite0::read(&file, device)?)
            }
            _ => Network::Inception(Inception::read(&file, device)?),
        };
        Ok(Self {
            network,
            preparation,
            id: ExtractorId {
                network: name.into(),
                preparation: preparation.name().into(),
                weights_sha256,
                published,
            },
            device: device.clone(),
        })
    }

    /// What has to agree before two distances may be compared.
    pub fn id(&self) -> &ExtractorId {
        &self.id
    }

    fn side(&self) -> usize {
        match self.network {
            Network::Inception(_) => INCEPTION_SIDE,
            Network::EfficientNetLite0(_) => EFFICIENTNET_SIDE,
        }
    }

    /// Features of some pictures of one size, in one pass.
    ///
    /// # Shapes
    /// - `pixels`: `[B, height, width, channels]`, 1 or 3 channels
    ///
    /// # Errors
    /// Features that are not finite: weights that are damaged.
    ///
    /// # Panics
    /// If `pixels` are no whole pictures of `shape`, or none.
    pub fn features(&self, pixels: &[u8], shape: [usize; 3]) -> Result<Rows, EvalError> {
        let (len, side) = (shape.iter().product::<usize>(), self.side());
        assert!(
            !pixels.is_empty() && pixels.len().is_multiple_of(len),
            "whole pictures"
        );
        let batch = pixels.len() / len;
        let mut prepared = vec![0.0; batch * side * side * 3];
        prepared
            .par_chunks_exact_mut(side * side * 3)
            .zip(pixels.par_chunks_exact(len))
            .for_each(|(out, pixels)| self.preparation.write(pixels, shape, side, out));
        let x = TensorData::new(prepared, [batch, side, side, 3]);
        self.forward(Tensor::from_data(x, &self.device))
    }

    fn forward(&self, x: Tensor<4>) -> Result<Rows, EvalError> {
        let rows = |x: Tensor<2>| Features::new(x.dims()[1], host::numbers(x));
        Ok(match &self.network {
            Network::Inception(network) => {
                let answers = network.forward(x);
                Rows {
                    pool: rows(answers.pool)?,
                    spatial: rows(answers.spatial)?,
                    logits: rows(answers.logits)?,
                }
            }
            Network::EfficientNetLite0(network) => Rows {
                pool: rows(network.forward(x))?,
                ..Rows::default()
            },
        })
    }
}
