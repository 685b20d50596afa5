//! Foreign checkpoints into ours.
//!
//! - [`TensorFile`]: named tensors of a `.pt` or a safetensors file, read without executing anything;
//! - [`authors`]: checkpoints of the authors' code, vanderschaarlab/smd.

pub mod authors;
mod tensor_file;

pub use tensor_file::TensorFile;
