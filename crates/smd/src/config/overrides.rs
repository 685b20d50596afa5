//! Reading a config, settings from the command line on top, and messages that help.

use super::RunConfig;
use crate::error::ConfigError;
use toml::{Table, Value};

/// Reads `text`; `origin` names it in messages.
pub(super) fn parse(text: &str, origin: &str) -> Result<RunConfig, ConfigError> {
    toml::from_str(text).map_err(|error| refuse(&error, text, origin))
}

/// Reads `text` with `settings` (`key=value`, dotted keys) on top.
///
/// A value is TOML, or a string where it is not: `train.lr=1e-4`, `data.path=/images`.
///
/// # Errors
/// As [`RunConfig::from_toml`]; a setting that is not `key=value`.
pub fn set(text: &str, origin: &str, settings: &[String]) -> Result<RunConfig, ConfigError> {
    let config = parse(text, origin)?;
    if settings.is_empty() {
        return Ok(config);
    }
    let mut table: Table = toml::from_str(text).map_err(|error| refuse(&error, text, origin))?;
    for setting in settings {
        let refused = |problem: String| ConfigError::Parse {
            origin: format!("--set {setting}"),
            problem,
        };
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| refused("must be key=value".into()))?;
        insert(&mut table, key.trim(), value_of(value.trim())).map_err(refused)?;
    }
    let text = toml::to_string(&table).expect("a table is plain data");
    parse(&text, &format!("{origin} with --set"))
}

fn value_of(text: &str) -> Value {
    let parsed: Result<Table, _> = toml::from_str(&format!("value = {text}"));
    let value = parsed.ok().and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

fn insert(table: &mut Table, key: &str, value: Value) -> Result<(), String> {
    match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
            Ok(())
        }
        Some((head, rest)) => {
            let inner = table
                .entry(head)
                .or_insert_with(|| Value::Table(Table::new()));
            match inner {
                Value::Table(inner) => insert(inner, rest, value),
                _ => Err(format!("`{head}` is a value, not a table")),
            }
        }
    }
}

/// One line: where, what, and the nearest name.
fn refuse(error: &toml::de::Error, text: &str, origin: &str) -> ConfigError {
    let line = error
        .span()
        .map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let place = line.map_or(String::new(), |line| format!("line {line}: "));
    let message = error.message().replace('\n', " ");
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
