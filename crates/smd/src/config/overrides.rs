//! Reading a config, settings from the command line on top, and messages that help.

use super::RunConfig;
use crate::error::ConfigError;
use toml::{Table, Value};

/// Reads `text`; `origin` names it in messages.
pub(super) fn parse(text: &str, origin: &str) -> Result<RunConfig, ConfigError> {
    toml::from_str(text).map_err(|error| refuse(&error, text, origin))
}

/// Reads `text` with `settings` (`key=value`, dotted keys) on top, in any order.
///
/// A value is TOML, or a string where it is not: `train.lr=1e-4`, `data.path=/images`. Another kind of
/// network or kernel drops the fields that `text` gives the old one.
///
/// # Errors
/// As [`RunConfig::from_toml`]; a setting that is not `key=value`, or one that is wrong, by its text.
pub fn set(text: &str, origin: &str, settings: &[String]) -> Result<RunConfig, ConfigError> {
    let read = parse(text, origin)?;
    // With every default, kinds included, so that each field has its place.
    let mut table = Table::try_from(&read).expect("a config is plain data");
    let mut config = Ok(read);
    let mut settings = settings
        .iter()
        .map(|setting| Setting::read(setting))
        .collect::<Result<Vec<_>, _>>()?;
    settings.sort_by_key(Setting::order);
    for setting in settings {
        setting.apply(&mut table)?;
        let next: Result<RunConfig, toml::de::Error> = table.clone().try_into();
        // A setting may need one that follows. The first after which nothing was right is to blame.
        if next.is_ok() || config.is_ok() {
            config = next.map_err(|error| refuse(&error, "", &setting.origin));
        }
    }
    config
}

/// Fields that decide which others stand beside them.
const KINDS: [&str; 3] = ["net.kind", "kernel.kind", "kernel.net.kind"];

/// `key=value` of a command line.
struct Setting<'a> {
    /// What it is called in messages.
    origin: String,
    key: &'a str,
    value: Value,
}

impl<'a> Setting<'a> {
    fn read(text: &'a str) -> Result<Self, ConfigError> {
        let origin = format!("--set {text}");
        let Some((key, value)) = text.split_once('=') else {
            let problem = "must be key=value".into();
            return Err(ConfigError::Parse { origin, problem });
        };
        Ok(Self {
            origin,
            key: key.trim(),
            value: value_of(value.trim()),
        })
    }

    /// Its place among others: a table before its fields, a kind before what belongs to it.
    fn order(&self) -> (usize, bool) {
        (self.key.matches('.').count(), !KINDS.contains(&self.key))
    }

    fn apply(&self, mut table: &mut Table) -> Result<(), ConfigError> {
        let (path, name) = self.key.rsplit_once('.').unwrap_or(("", self.key));
        for part in path.split('.').filter(|part| !part.is_empty()) {
            let inner = table
                .entry(part)
                .or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(inner) = inner else {
                return Err(ConfigError::Parse {
                    origin: self.origin.clone(),
                    problem: format!("`{part}` is a value, not a table"),
                });
            };
            table = inner;
        }
        if KINDS.contains(&self.key) && table.get(name) != Some(&self.value) {
            // The other fields are those of the old kind.
            table.clear();
        }
        table.insert(name.to_owned(), self.value.clone());
        Ok(())
    }
}

fn value_of(text: &str) -> Value {
    let parsed: Result<Table, _> = toml::from_str(&format!("value = {text}"));
    let value = parsed.ok().and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// One line: where, what, and the nearest name.
fn refuse(error: &toml::de::Error, text: &str, origin: &str) -> ConfigError {
    let line = error
        .span()
        .map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let place = line.map_or(String::new(), |line| format!("line {line}: "));
    let mut message = error.message().replace('\n', " ");
    if message == "missing field `kind`" {
        message.push_str(": a table [net], [kernel] or [kernel.net] must say of which kind it is");
    }
    let problem = match nearest(&message) {
        Some((what, name)) => format!("{place}{what}; did you mean `{name}`?"),
        None => format!("{place}{message}"),
    };
    ConfigError::Parse {
        origin: origin.to_owned(),
        problem,
    }
}

/// From "unknown field `a`, expected one of `b`, `c`": the first half, and the name nearest to `a`.
fn nearest(message: &str) -> Option<(String, String)> {
    let (what, expected) = message.split_once(", expected ")?;
    if !what.starts_with("unknown ") {
        return None;
    }
    let quoted = |text: &str| -> Vec<String> {
        text.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    let found = quoted(what).into_iter().next()?;
    let best = quoted(expected)
        .into_iter()
        .max_by(|a, b| strsim::jaro(a, &found).total_cmp(&strsim::jaro(b, &found)))?;
    Some((what.to_owned(), best))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::preset;
    use crate::denoise::{KernelConfig, MixtureKernelConfig};
    use crate::nn::{MlpConfig, NetConfig};

    fn set_all(file: &str, settings: &[&str]) -> Result<RunConfig, ConfigError> {
        let settings: Vec<String> = settings.iter().map(|&setting| setting.into()).collect();
        set(file, "file", &settings)
    }

    fn refusal(file: &str, settings: &[&str]) -> String {
        set_all(file, settings).unwrap_err().to_string()
    }

    #[test]
    fn the_setting_at_fault_is_named() {
        let message = refusal("", &["train.lr=1e-3", "train.btach=3", "train.steps=5"]);
        assert_eq!(
            message,
            "--set train.btach=3: unknown field `btach`; did you mean `batch`?"
        );
        let message = refusal("", &["train.batch=abc", "train.steps=5"]);
        assert!(
            message.starts_with("--set train.batch=abc: invalid type: string \"abc\""),
            "{message}"
        );
        let message = refusal("", &["net.kind=mpl"]);
        assert!(
            message.starts_with("--set net.kind=mpl: ") && message.contains("did you mean `mlp`?"),
            "{message}"
        );
        let message = refusal("", &["train.batch.size=3", "train.batch=3"]);
        assert_eq!(
            message,
            "--set train.batch.size=3: `batch` is a value, not a table"
        );
        assert_eq!(refusal("", &["train"]), "--set train: must be key=value");
    }

    #[test]
    fn a_field_of_the_default_kind_can_be_set() {
        let config = set_all("", &["net.dim=64"]).unwrap();
        let NetConfig::DdpmUnet(net) = config.net else {
            panic!("{:?}", config.net);
        };
        assert_eq!(net.dim, 64);
    }

    #[test]
    fn settings_that_need_each_other_come_in_any_order() {
        let mut settings = [
            "kernel.components=4",
            "kernel.kind=mixture",
            "data.mixture.stds=[0.1]",
            "data.mixture.means=[[0.0]]",
        ];
        let config = set_all("", &settings).unwrap();
        let kernel = MixtureKernelConfig {
            components: 4,
            ..MixtureKernelConfig::default()
        };
        assert_eq!(config.kernel, KernelConfig::Mixture(kernel));
        settings.reverse();
        assert_eq!(set_all("", &settings).unwrap(), config);
    }

    #[test]
    fn another_kind_drops_the_fields_of_the_old_one() {
        let file = preset("ddpm-cifar10").unwrap();
        let mut settings = ["net.blocks=5", "net.kind=mlp", "kernel.kind=mixture"];
        let config = set_all(file, &settings).unwrap();
        let net = MlpConfig {
            blocks: 5,
            ..MlpConfig::default()
        };
        assert_eq!(config.net, NetConfig::Mlp(net));
        settings.reverse();
        assert_eq!(set_all(file, &settings).unwrap(), config);

        let latent =
            r#"kernel = { kind = "soft-mixture", net = { kind = "mlp", frequencies = 2 } }"#;
        set_all(latent, &["kernel.net.kind=ddpm-unet"]).unwrap();
        set_all(latent, &["kernel.kind=gaussian"]).unwrap();
    }

    #[test]
    fn what_kinds_share_stays() {
        let file = preset("ddpm-fashion-mnist").unwrap();
        let config = set_all(file, &["net.kind=ddpm-unet"]).unwrap();
        assert_eq!(config.net, set_all(file, &[]).unwrap().net);
        let file = "schedule.kind = \"linear\"\nschedule.steps = 500";
        let config = set_all(file, &["schedule.kind=cosine"]).unwrap();
        assert_eq!(config.schedule.steps, 500);
    }
}
