//! The file that a model is held against.

use crate::config::RunConfig;
use crate::error::ImportError;
use crate::import::TensorFile;
use burn::tensor::{Device, Tensor, TensorData};
use std::path::Path;

/// An opened reference that suits examples of one shape.
pub(super) struct Reference<'a> {
    file: TensorFile,
    /// `[B, C, H, W]`.
    shape: [usize; 4],
    device: &'a Device,
}

impl<'a> Reference<'a> {
    /// Opens a reference for a model of `config`.
    pub fn open(path: &Path, config: &RunConfig, device: &'a Device) -> Result<Self, ImportError> {
        let file = TensorFile::open(path)?;
        let [height, width, channels] = config.shape().map_err(|source| ImportError::Config {
            path: path.into(),
            source,
        })?;
        let missing = || ImportError::Reference {
            path: path.into(),
            problem: "has neither input.x_0 nor input.x_t".into(),
        };
        let (name, found) = ["input.x_0", "input.x_t"]
            .into_iter()
            .find_map(|name| Some((name, file.shape(name)?)))
            .ok_or_else(missing)?;
        let batch = found.first().copied().unwrap_or(0);
        let shape = [batch, channels, height, width];
        if batch == 0 || found != shape {
            return Err(ImportError::Shape {
                path: path.into(),
                name: name.into(),
                found: found.to_vec(),
                expected: format!("[B, {channels}, {height}, {width}] for this model"),
            });
        }
        Ok(Self {
            file,
            shape,
            device,
        })
    }

    /// The steps, from 1; the file counts from 0.
    pub fn steps(&self, steps: usize) -> Result<Vec<usize>, ImportError> {
        let name = "input.t";
        self.check_shape(name, &self.shape[..1])?;
        let one = |t: i64| {
            let t = usize::try_from(t).ok().filter(|&t| t < steps);
            t.map(|t| t + 1)
        };
        let found = self.file.whole_numbers(name)?;
        let all: Option<Vec<usize>> = found.iter().map(|&t| one(t)).collect();
        all.ok_or_else(|| {
            let last = steps - 1;
            self.refuse(format!(
                "has steps {found:?} in {name}, expected 0 to {last}"
            ))
        })
    }

    /// `x_0` in [-1, 1], if the file has it.
    pub fn x_0(&self) -> Result<Option<Tensor<4>>, ImportError> {
        if self.file.shape("input.x_0").is_none() {
            return Ok(None);
        }
        let x_0 = self.image("input.x_0")?;
        let is_unit = self
            .file
            .text("x_0")
            .is_some_and(|text| text.starts_with("in [0,1]"));
        Ok(Some(if is_unit { x_0 * 2.0 - 1.0 } else { x_0 }))
    }

    /// An input.
    ///
    /// # Shapes
    /// - returns: `[B, H, W, C]`
    pub fn image(&self, name: &str) -> Result<Tensor<4>, ImportError> {
        self.check_shape(name, &self.shape)?;
        let data = TensorData::new(self.file.numbers(name)?, self.shape);
        Ok(Tensor::<4>::from_data(data, self.device).permute([0, 2, 3, 1]))
    }

    /// Whether the file has `expected.name`.
    pub fn expects(&self, name: &str) -> bool {
        self.file.shape(&format!("expected.{name}")).is_some()
    }

    /// The numbers of `expected.name`.
    pub fn expected(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ImportError> {
        let name = format!("expected.{name}");
        // A loss is one number, whether as `[]` or `[1]`.
        if shape != [1] || self.file.shape(&name) != Some(&[]) {
            self.check_shape(&name, shape)?;
        }
        self.file.numbers(&name)
    }

    /// Refuses a file that expects what this model does not compute.
    pub fn refuse_others(
        &self,
        known: &[&str],
        found: &[(&str, Tensor<4>)],
        prediction: &str,
    ) -> Result<(), ImportError> {
        for name in self.file.names() {
            let Some(name) = name.strip_prefix("expected.") else {
                continue;
            };
            let is_computed = name == "loss" || found.iter().any(|(other, _)| *other == name);
            if is_computed {
                continue;
            }
            let why = match name {
                "z_t" => "the model has no latent".to_owned(),
                "x_t" => "there is no input.x_0 to make it from".to_owned(),
                "eps" | "x_0" | "v" => format!("the model predicts {prediction}"),
                _ => format!("only {} are known", known.join(", ")),
            };
            return Err(self.refuse(format!("has expected.{name}, but {why}")));
        }
        Ok(())
    }

    /// The error that says what does not suit.
    pub fn refuse(&self, problem: impl Into<String>) -> ImportError {
        ImportError::Reference {
            path: self.file.path().into(),
            problem: problem.into(),
        }
    }

    fn check_shape(&self, name: &str, expected: &[usize]) -> Result<(), ImportError> {
        match self.file.shape(name) {
            None => Err(ImportError::Missing {
                path: self.file.path().into(),
                name: name.into(),
            }),
            Some(found) if found != expected => Err(ImportError::Shape {
                path: self.file.path().into(),
                name: name.into(),
                found: found.to_vec(),
                expected: format!("{expected:?}"),
            }),
            Some(_) => Ok(()),
        }
    }
}
