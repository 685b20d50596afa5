//! Writing a checkpoint.

use super::{FORMAT, State};
use crate::config::RunConfig;
use crate::files;
use crate::nn::params::Info;
use safetensors::{Dtype, View};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

/// The numbers of one parameter.
struct Part<'a> {
    info: &'a Info,
    numbers: &'a [f32],
}

impl View for Part<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.info.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.numbers.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    fn data_len(&self) -> usize {
        4 * self.numbers.len()
    }
}

pub(super) fn write(
    path: &Path,
    config: &RunConfig,
    infos: &[Info],
    state: &State,
) -> io::Result<()> {
    let mut rows: Vec<(String, &[f32])> = vec![("weights/".into(), &state.weights)];
    for (decay, row) in config.train.ema.iter().zip(&state.emas) {
        rows.push((format!("ema/{decay}/"), row));
    }
    if let Some([m, v]) = &state.moments {
        rows.extend([
            ("adam/m/".into(), m.as_slice()),
            ("adam/v/".into(), v.as_slice()),
        ]);
    }
    let mut parts = Vec::new();
    for (prefix, mut row) in rows {
        for info in infos {
            let (numbers, rest) = row.split_at(info.len());
            parts.push((format!("{prefix}{}", info.name), Part { info, numbers }));
            row = rest;
        }
        assert!(row.is_empty(), "one number for each parameter");
    }
    let mut metadata = HashMap::from([
        ("smd.format".to_owned(), FORMAT.to_string()),
        ("smd.step".to_owned(), state.step.to_string()),
        ("smd.config".to_owned(), config.to_toml()),
    ]);
    if !state.influence.is_empty() {
        let pairs = state.influence.iter().map(|(t, r)| format!("{t}:{r}"));
        metadata.insert(
            "smd.influence".to_owned(),
            pairs.collect::<Vec<_>>().join(" "),
        );
    }
    if let Some(data) = &state.data {
        metadata.insert("smd.data".to_owned(), data.clone());
    }

    files::replace(path, |scratch| -> io::Result<()> {
        // Not `serialize_to_file`: it has a scratch file of its own, which nobody would clear away.
        let bytes = safetensors::serialize(parts, Some(metadata)).map_err(io::Error::other)?;
        fs::write(scratch, bytes)
    })?;
    // Older checkpoints are removed after this: by then the name of the new one must last.
    files::sync_folder_of(path)
}
