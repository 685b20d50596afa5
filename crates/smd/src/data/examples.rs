//! The examples of a training: images in memory, or draws of a distribution.

use super::{Images, Order, flip};
use crate::gmm::GaussianMixture;
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use std::ops::Range;

/// Where examples come from.
#[derive(Debug, Clone)]
pub enum Examples {
    /// A finite set, visited in a new order in each epoch.
    Images(Images),
    /// Endless draws.
    Mixture(GaussianMixture),
}

impl Examples {
    /// `[H, W, C]` of one example.
    pub fn shape(&self) -> [usize; 3] {
        match self {
            Self::Images(images) => images.shape(),
            Self::Mixture(mixture) => [1, 1, mixture.dim()],
        }
    }

    /// The examples at some positions of a training, counted from its start.
    ///
    /// # Shapes
    /// - returns: `[B, H, W, C]` in `[-1, 1]` for images
    pub fn batch(
        &self,
        positions: Range<u64>,
        order: &mut Order,
        seed: u64,
        flips: bool,
        device: &Device,
    ) -> Tensor<4> {
        let [height, width, channels] = self.shape();
        let len = height * width * channels;
        let count = (positions.end - positions.start) as usize;
        let mut values = vec![0.0; count * len];
        match self {
            Self::Images(images) => {
                let chosen: Vec<(usize, bool)> = positions
                    .map(|position| (order.index(position), flips && flip(seed, position)))
                    .collect();
                values
                    .par_chunks_mut(len)
                    .zip(chosen)
                    .for_each(|(out, (index, flip))| images.write_example(index, flip, out));
            }
            Self::Mixture(mixture) => values
                .par_chunks_mut(len)
                .enumerate()
                .with_min_len(64)
                .for_each(|(i, out)| mixture.sample_into(seed, positions.start + i as u64, out)),
        }
        Tensor::from_data(
            TensorData::new(values, [count, height, width, channels]),
            device,
        )
    }

    /// What tells a set from others: its number of images and the CRC-32C of their bytes; `None` for
    /// endless draws, which a config holds.
    pub fn identity(&self) -> Option<String> {
        match self {
            Self::Images(images) => Some(Self::identity_of(images)),
            Self::Mixture(_) => None,
        }
    }

    /// [`identity`](Self::identity) of some images.
    pub fn identity_of(images: &Images) -> String {
        let crc = crc32c::crc32c(&images.bytes);
        format!("{} images (crc32c {crc:08x})", images.len())
    }

    /// How many different examples there are; `None` for endless draws.
    pub fn len(&self) -> Option<usize> {
        match self {
            Self::Images(images) => Some(images.len()),
            Self::Mixture(_) => None,
        }
    }

    /// Whether there is no example at all.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}
