//! Where features are from: what has to agree before two distances may be compared.

use serde::{Deserialize, Serialize};

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of this library; empty for files of other tools.
    pub smd: String,
    /// What made the features.
    pub extractor: ExtractorId,
    /// Of what.
    pub source: Source,
}

/// A network, its weights, and how pictures come to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtractorId {
    /// "inception-2015-12-05" or "efficientnet-lite0"; empty where a file does not say it.
    pub network: String,
    /// The name of the tool whose resizing it reproduces; empty where a file does not say it.
    pub preparation: String,
    /// SHA-256 of the file of weights; empty where a file does not say it.
    pub weights_sha256: String,
    /// Whether these are the published weights.
    pub published: bool,
}

impl ExtractorId {
    /// What a Frechet distance in its features is called. "FID" is kept for the published Inception.
    pub fn distance_name(&self) -> &'static str {
        match (self.network.as_str(), self.published) {
            ("inception-2015-12-05", true) => "FID",
            ("inception-2015-12-05", false) => "FD-Inception, unchecked weights",
            ("efficientnet-lite0", true) => "FD-EffNetLite0",
            ("efficientnet-lite0", false) => "FD-EffNetLite0, unchecked weights",
            _ => "FD of an unknown extractor",
        }
    }
}

/// What features were made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Source {
    /// A file of features that does not say it.
    #[default]
    Unknown,
    /// Images from the disk.
    Images {
        /// Where they were.
        path: String,
        /// Count and CRC-32C of the bytes, as trainings keep it.
        identity: String,
        /// `[H, W, C]`.
        shape: [usize; 3],
        /// Images left out because they could not be read.
        skipped: usize,
        /// Parts, from 0, of how many, where it is not all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shard: Option<[usize; 2]>,
    },
    /// Samples that were drawn for it.
    Samples {
        /// The checkpoint's file.
        checkpoint: String,
        /// SHA-256 of it.
        checkpoint_sha256: String,
        /// Updates behind it.
        step: u64,
        /// Decay of the average of the weights, or "none".
        ema: String,
        /// The chain.
        chain: serde_json::Value,
        /// Steps of the chain: passes of the network for an image.
        passes: usize,
        /// First and last seed; one sample each.
        seeds: [u64; 2],
        /// `[H, W, C]`.
        shape: [usize; 3],
    },
}

impl Source {
    /// In a few words.
    pub fn describe(&self) -> String {
        match self {
            Self::Unknown => "a file that does not say of what".into(),
            Self::Images {
                path,
                identity,
                shard,
                ..
            } => {
                let shard = shard.map(|[part, of]| format!(", part {part} of {of}"));
                format!("{path}, {identity}{}", shard.unwrap_or_default())
            }
            Self::Samples {
                checkpoint,
                step,
                passes,
                seeds: [first, last],
                ..
            } => format!("{checkpoint} (step {step}), {passes} passes, seeds {first}-{last}"),
        }
    }
}
