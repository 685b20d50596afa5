//! What can go wrong, one enum for each boundary.
//!
//! A message names the place, what was found and what was expected, and the fix where there is one.
//! The text of the source error is not repeated: a caller prints the whole chain.

use crate::npz::NpzError;
use std::path::PathBuf;

/// Why a set of examples could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder could not be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },

    /// An option of the reader is outside its range.
    #[error("`{field}` is {found}, expected {expected}")]
    Option {
        /// Dotted path in the config file.
        field: &'static str,
        /// The value given.
        found: usize,
        /// The range.
        expected: &'static str,
    },

    /// A folder holds nothing that can be read.
    #[error(
        "{} holds no images: files ending in {extensions} are read, in sub-folders too, hidden \
         ones are not; so are such files in a .zip or in .tar files, CIFAR-10's data_batch_*.bin and IDX \
         files (*idx3-ubyte, *.gz)",
        .path.display()
    )]
    NoImages {
        /// The folder.
        path: PathBuf,
        /// The endings that are read.
        extensions: String,
    },

    /// An archive, or an entry of one, cannot be read.
    #[error("{} is damaged or cut short; copy or make it again", .path.display())]
    Archive {
        /// The archive, or the archive and the entry.
        path: PathBuf,
        /// What its reader said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A file is not an image, or is damaged.
    #[error("{} is not a readable image", .path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        #[source]
        source: image::ImageError,
    },

    /// A file of a folder is bad, and such files are not left out.
    #[error(
        "an image cannot be used; replace it, or leave such files out with `data.skip_bad = true`"
    )]
    Bad {
        /// Which, and why.
        #[source]
        source: Box<DataError>,
    },

    /// Every file of a folder was bad and left out.
    #[error("{}: none of the {files} images could be read, the first because", .path.display())]
    AllBad {
        /// The folder.
        path: PathBuf,
        /// How many files were tried.
        files: usize,
        /// Why the first was left out.
        #[source]
        source: Box<DataError>,
    },

    /// The images of a folder differ in size and no size is set.
    #[error(
        "{} is {}x{} (width x height), but {} is {}x{}: set `data.size` to bring all to one size",
        .path.display(), .found[1], .found[0], .first.display(), .expected[1], .expected[0]
    )]
    Size {
        /// The first image of another size, in path order.
        path: PathBuf,
        /// Its height and width.
        found: [usize; 2],
        /// The first image.
        first: PathBuf,
        /// The first image's height and width.
        expected: [usize; 2],
    },

    /// A folder mixes grey and colour images and no number of channels is set.
    #[error(
        "{} is grey, but {} is in colour: set `data.channels` to 1 or 3",
        .grey.display(), .colour.display()
    )]
    MixedChannels {
        /// A grey image.
        grey: PathBuf,
        /// A colour image.
        colour: PathBuf,
    },

    /// The set does not fit into memory.
    #[error(
        "{}: {images} images need {bytes} bytes of memory: set a smaller `data.size` or \
         `data.limit`",
        .path.display()
    )]
    Memory {
        /// The folder or file.
        path: PathBuf,
        /// How many images.
        images: usize,
        /// What they need.
        bytes: usize,
        /// What the allocator said.
        #[source]
        source: std::collections::TryReserveError,
    },

    /// A CIFAR-10 binary is no whole number of records.
    #[error(
        "CIFAR-10 file {} has {found} bytes, expected a multiple of 3073, say {expected}: it is \
         cut short or not CIFAR-10, fetch it again",
        .path.display()
    )]
    CifarLength {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
        /// The nearest length that is right, in bytes.
        expected: u64,
    },

    /// A CIFAR-10 record has a label that CIFAR-10 does not have.
    #[error(
        "CIFAR-10 file {}: record {record} has label {found}, expected 0 to 9: is this a CIFAR-10 \
         file?",
        .path.display()
    )]
    CifarLabel {
        /// The file.
        path: PathBuf,
        /// The record, from 0.
        record: usize,
        /// Its first byte.
        found: u8,
    },

    /// A file does not begin like an IDX file of images.
    #[error(
        "{} begins with {found:#010x}, expected {expected:#010x} of IDX images: a single file is \
         read as IDX, or as CIFAR-10 if it ends in .bin; give pictures as a folder",
        .path.display()
    )]
    IdxMagic {
        /// The file.
        path: PathBuf,
        /// Its first four bytes, after decompression.
        found: u32,
        /// The magic number of images.
        expected: u32,
    },

    /// An IDX file holds labels.
    #[error(
        "{} is the labels file (magic number 0x00000801): give the images, *-images-idx3-ubyte",
        .path.display()
    )]
    IdxLabels {
        /// The file.
        path: PathBuf,
    },

    /// An IDX file announces no pixels.
    #[error(
        "IDX file {} announces {images} images of {width}x{height}, expected at least one pixel",
        .path.display()
    )]
    IdxEmpty {
        /// The file.
        path: PathBuf,
        /// Number of images in the header.
        images: u32,
        /// Height in the header.
        height: u32,
        /// Width in the header.
        width: u32,
    },

    /// An IDX file ends too early.
    #[error(
        "IDX file {} has {found} bytes (uncompressed), expected {expected}: it is cut short, \
         fetch it again",
        .path.display()
    )]
    IdxShort {
        /// The file.
        path: PathBuf,
        /// Its length in bytes, uncompressed.
        found: u64,
        /// The length that its header announces, in bytes.
        expected: u64,
    },

    /// An IDX file goes on after its last image.
    #[error(
        "IDX file {} goes on after the {expected} bytes (uncompressed) that its header announces: \
         it is damaged, fetch it again",
        .path.display()
    )]
    IdxLong {
        /// The file.
        path: PathBuf,
        /// The length that its header announces, in bytes.
        expected: u64,
    },
}

/// Why a config does not describe a Gaussian mixture.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MixtureError {
    /// There is no component.
    #[error("`means` is empty, expected one list of numbers per component")]
    NoComponents,
    /// The components have no axes.
    #[error("`means` has empty lists, expected one number per dimension")]
    NoDimensions,
    /// The spread is given twice or not at all.
    #[error("found {found} of `stds`, `variances` and `covariances`, expected exactly one of them")]
    Spread {
        /// `none` or `several`.
        found: &'static str,
    },
    /// A matrix is no covariance.
    #[error("`covariances[{component}]` {problem}")]
    Covariance {
        /// The component, from 0.
        component: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A list does not have one entry per component.
    #[error(
        "`{field}` has length {found}, expected {expected}, one entry per component of `means`"
    )]
    Count {
        /// The list.
        field: &'static str,
        /// Its length.
        found: usize,
        /// The number of components.
        expected: usize,
    },
    /// A component has another number of dimensions than the first mean.
    #[error("`{field}[{component}]` has length {found}, expected {expected} as in `means[0]`")]
    Dimensions {
        /// The list of lists.
        field: &'static str,
        /// The component, from 0.
        component: usize,
        /// The length of its list.
        found: usize,
        /// The length of the first mean.
        expected: usize,
    },
    /// A number is outside of its range.
    #[error("`{field}[{component}]` is {found}, expected {expected}")]
    Number {
        /// The list.
        field: &'static str,
        /// The component, from 0.
        component: usize,
        /// The number.
        found: f64,
        /// The range.
        expected: &'static str,
    },
}

/// Why an exact denoising error cannot be found.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TheoryError {
    /// A component is a point to numbers of this precision.
    #[error(
        "at t = {t} component {component} is {std:.1e} wide among numbers up to {reach:.1e}, whose precision \
         tells no width below {least:.0e} of them: widen it, or move the data nearer to 0"
    )]
    Narrow {
        /// The component, from 0.
        component: usize,
        /// The step, from 1; 0 are the data.
        t: usize,
        /// Its least deviation.
        std: f64,
        /// The largest number near by.
        reach: f64,
        /// The least ratio of the two that is told.
        least: f64,
    },
    /// Squares of the numbers would overflow or vanish.
    #[error(
        "component {component} has numbers of size {found:.1e}, expected sizes from {least:.0e} to \
         {most:.0e}: rescale the data"
    )]
    Size {
        /// The component, from 0.
        component: usize,
        /// A mean or a deviation.
        found: f64,
        /// The least deviation.
        least: f64,
        /// The largest mean or deviation.
        most: f64,
    },
    /// A number of nats would need more coordinates than can be counted.
    #[error(
        "more than {nats:e} nats at every step of this chain need more than {most_dim:e} coordinates; up to \
         {most:.1e} nats can be exceeded"
    )]
    TooMany {
        /// The number.
        nats: f64,
        /// Coordinates that are too many.
        most_dim: f64,
        /// A number of nats that needs fewer.
        most: f64,
    },
}

/// Why a run's configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value is outside its documented range.
    #[error("{field} {problem}")]
    Invalid {
        /// Dotted path in the config.
        field: String,
        /// What is wrong with it and what would be right.
        problem: String,
    },

    /// The text is not TOML, has a field that does not exist, or a value of the wrong type.
    #[error("{origin}: {problem}")]
    Parse {
        /// The file, preset or flag it came from.
        origin: String,
        /// Line, field and the nearest name that exists.
        problem: String,
    },

    /// The data of a config could not be read.
    #[error("data.path")]
    Data(#[from] DataError),

    /// The mixture of a config is not one.
    #[error("data.mixture")]
    Mixture(#[from] MixtureError),
}

impl ConfigError {
    pub(crate) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// The same error of a table that stands elsewhere: `from` becomes `to` wherever it is named.
    pub(crate) fn renamed(self, from: &str, to: &str) -> Self {
        match self {
            Self::Invalid { field, problem } => Self::Invalid {
                field: field.replace(from, to),
                problem: problem.replace(from, to),
            },
            other => other,
        }
    }
}

/// Why a checkpoint could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file could not be read at all.
    #[error("cannot read checkpoint {}", .path.display())]
    Read {
        /// The checkpoint.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },

    /// A folder was given that holds no run.
    #[error(
        "{} is no run and no checkpoint: it has no checkpoints/; name a run's folder or a \
         .safetensors file",
        .path.display()
    )]
    NoRun {
        /// The folder.
        path: PathBuf,
    },

    /// The file could not be written; an older one of that name is as it was.
    #[error("cannot write checkpoint {}; check space and permission of its folder", .path.display())]
    Write {
        /// The checkpoint.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },

    /// The file is no safetensors file, or ends before its tensors do.
    #[error(
        "checkpoint {} is cut off or no checkpoint; use an older one of the same run",
        .path.display()
    )]
    Damaged {
        /// The checkpoint.
        path: PathBuf,
        /// What its reader said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The file comes from a later version of this program.
    #[error(
        "checkpoint {} has format {found}, this program reads up to {expected}; update smd",
        .path.display()
    )]
    Newer {
        /// The checkpoint.
        path: PathBuf,
        /// The format of the file.
        found: u32,
        /// The newest format that can be read.
        expected: u32,
    },

    /// The file lacks something that every checkpoint has.
    #[error("checkpoint {}: {what} is missing", .path.display())]
    Missing {
        /// The checkpoint.
        path: PathBuf,
        /// A tensor's or a field's name.
        what: String,
    },

    /// A parameter exists but does not fit: the config is not the one of the training run.
    #[error(
        "checkpoint {}: {name} has shape {found:?}, this model needs {expected:?}",
        .path.display()
    )]
    Shape {
        /// The checkpoint.
        path: PathBuf,
        /// The parameter's dotted path.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape of the model.
        expected: Vec<usize>,
    },

    /// The average that was asked for is not in the file.
    #[error(
        "checkpoint {} has no EMA \"{found}\"; it has {}",
        .path.display(),
        .available.join(", ")
    )]
    Ema {
        /// The checkpoint.
        path: PathBuf,
        /// The name asked for.
        found: String,
        /// The names there are.
        available: Vec<String>,
    },

    /// The config inside the checkpoint was refused.
    #[error("checkpoint {}: its config", .path.display())]
    Config {
        /// The checkpoint.
        path: PathBuf,
        /// Why.
        #[source]
        source: ConfigError,
    },
}

/// Why a training run stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The loss became NaN or infinite; the step was not made.
    #[error(
        "the loss is {loss} at step {step}; lower train.lr, raise train.warmup_steps, or set \
         train.clip"
    )]
    NonFinite {
        /// The step, from 1.
        step: u64,
        /// The loss.
        loss: f64,
    },

    /// A run would go on with other examples than it began with.
    #[error(
        "the run was trained on {was}, this data has {is}; resume with the same data, or start a \
         new run"
    )]
    OtherData {
        /// What the checkpoint says.
        was: String,
        /// What was found.
        is: String,
    },

    /// The checkpoint could not be written or read.
    #[error("a checkpoint failed")]
    Checkpoint(#[from] CheckpointError),

    /// The metrics could not be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },

    /// The configuration was refused.
    #[error("the configuration was refused")]
    Config(#[from] ConfigError),
}

/// Why a set of images could not be measured.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A number is NaN or infinite.
    #[error("{what}: row {row} has {found}, expected finite numbers: make the file again")]
    NotFinite {
        /// What the number belongs to.
        what: &'static str,
        /// Its row, from 0.
        row: usize,
        /// The number.
        found: f64,
    },
    /// Two sets of features are of different extractors.
    #[error(
        "one side has {samples} numbers a row, the other {reference}: take both from one extractor"
    )]
    Dim {
        /// Of one side.
        samples: usize,
        /// Of the other.
        reference: usize,
    },
    /// There are fewer images than the measure needs.
    #[error("{what} needs at least {expected} images, found {found}")]
    TooFew {
        /// The measure.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many it needs.
        expected: u64,
    },
    /// Mean and covariance do not belong together.
    #[error("mu has {mu} numbers and sigma {sigma}, expected the square of {mu}")]
    Covariance {
        /// Length of the mean.
        mu: usize,
        /// Numbers of the covariance.
        sigma: usize,
    },
    /// Statistics of another tool were to be merged.
    #[error("these statistics do not say of how many images they are, so they cannot be merged")]
    NoCount,
    /// Parts of different sets.
    #[error("the parts are not of one extractor, or some lack their rows: make all of them alike")]
    OtherExtractor,
    /// The eigenvalues of a covariance were not found.
    #[error(
        "a covariance of {dim} features has no eigenvalues: are its numbers of a sensible size?"
    )]
    Eigenvalues {
        /// Features.
        dim: usize,
    },
}

/// Why a file of features was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureFileError {
    /// Its arrays cannot be read.
    #[error(transparent)]
    Npz(#[from] NpzError),
    /// Its numbers are of no use.
    #[error("{} cannot be used", .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: EvalError,
    },
    /// `manifest.json` is not ours.
    #[error("{}: manifest.json is not that of a file of features", .path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// There is no mean or no covariance.
    #[error(
        "{} has no mu and sigma: make it with `smd eval features DATA --out FILE.npz` or pytorch-fid \
         --save-stats",
        .path.display()
    )]
    NoStatistics {
        /// The file.
        path: PathBuf,
    },
    /// A table of another shape.
    #[error("{}: the array {name} has shape {found:?}, expected [images, features]", .path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The array.
        name: &'static str,
        /// Its shape.
        found: Vec<usize>,
    },
}

/// Why another program's file could not be used: a checkpoint to import, or a reference.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file could not be read at all.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },

    /// The file is of no kind that is read, or ends before its tensors do.
    #[error(
        "{} is cut off, or neither a PyTorch file nor safetensors; copy it again",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What its reader said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A tensor that is needed is not in the file.
    #[error("{} has no tensor {name}", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor's dotted path.
        name: String,
    },

    /// The file is not from the authors' code.
    #[error(
        "{} is no checkpoint of the authors' code: it has no tensor {name}, nor that of a \
         model-*.pt of their trainer",
        .path.display()
    )]
    NotTheAuthors {
        /// The file.
        path: PathBuf,
        /// The first tensor that is missing.
        name: String,
    },

    /// The network has a part that the published code does not switch on.
    #[error(
        "{}: {name} belongs to no part of the U-Net that the authors' main.py builds; the model was \
         changed and cannot be imported",
        .path.display()
    )]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The tensor's dotted path.
        name: String,
    },

    /// A tensor does not fit the others.
    #[error("{}: {name} has shape {found:?}, expected {expected}", .path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor's dotted path.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that would fit, and why.
        expected: String,
    },

    /// A tensor holds another kind of numbers.
    #[error("{}: {name} holds {found}, expected {expected}", .path.display())]
    Type {
        /// The file.
        path: PathBuf,
        /// The tensor's dotted path.
        name: String,
        /// Its type.
        found: String,
        /// The types that can be read.
        expected: &'static str,
    },

    /// A size that tensors do not tell was not given, or contradicts them.
    #[error("{}: {problem}", .path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// What is wrong, and which options set it right.
        problem: String,
    },

    /// The model in the file cannot be built.
    #[error("{}: the model in it", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ConfigError,
    },

    /// A reference does not suit the model.
    #[error("reference {}: {problem}", .path.display())]
    Reference {
        /// The file.
        path: PathBuf,
        /// What does not suit, and what would.
        problem: String,
    },
}

impl ImportError {
    pub(crate) fn damaged(
        path: &std::path::Path,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Damaged {
            path: path.into(),
            source: source.into(),
        }
    }
}
