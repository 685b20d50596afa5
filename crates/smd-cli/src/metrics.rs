//! What a run leaves about its course: lines of JSON, and event files for TensorBoard.
//!
//! Both go on where a run is resumed, as if it had never stopped.

mod jsonl;
mod tensorboard;

pub use jsonl::Metrics;
pub use tensorboard::EventWriter;
