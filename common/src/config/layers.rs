//! The layers of a configuration, and the source of each value.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use config::{Map, Source, ValueKind};
use toml::{Table, Value};

use super::{error::ConfigError, keys, rules, saved::Saved};
use crate::invalid_value::InvalidValue;

/// The prefix of environment variables that belong to the configuration: `HRM__SECTION__KEY`.
pub const ENVIRONMENT_PREFIX: &str = "HRM__";
const ENVIRONMENT_SEPARATOR: &str = "__";

/// The source of a value that no layer sets.
pub(super) const DEFAULT: &str = "default";

/// A value given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The flag, as on the command line: `--seed`.
    pub flag: String,
    /// The key, as `section.key`.
    pub key: String,
    /// The value in TOML notation, but strings without quotes.
    pub value: String,
}

impl Override {
    /// Returns the override of a key by its own flag, such as `--seed 7`.
    pub fn new(flag: impl Into<String>, key: impl Into<String>, value: impl ToString) -> Self {
        Self {
            flag: flag.into(),
            key: key.into(),
            value: value.to_string(),
        }
    }

    /// Returns the override of a key by a path.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] when the path is not UTF-8, because a configuration file could not name it.
    pub fn path(flag: &str, key: &str, path: &Path) -> Result<Self, ConfigError> {
        match path.to_str() {
            Some(path) => Ok(Self::new(flag, key, path)),
            None => {
                let shown = format!("{path:?}");
                let fault =
                    InvalidValue::new(key, shown, "it is not UTF-8", "set it to a UTF-8 path");
                Err(fault.from_origin(flag).into())
            }
        }
    }

    /// Parses `section.key=value`, the argument of a flag that can set any key.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NotASetting`] without an equals sign.
    pub fn parse(flag: &str, text: &str) -> Result<Self, ConfigError> {
        match text.split_once('=') {
            // In `key = value` spaces only separate; in `key=value` they are part of the value.
            Some((key, value)) if key.ends_with(char::is_whitespace) => {
                Ok(Self::new(flag, key.trim(), value.trim()))
            }
            Some((key, value)) => Ok(Self::new(flag, key.trim(), value)),
            None => Err(ConfigError::NotASetting {
                flag: flag.to_owned(),
                text: text.to_owned(),
            }),
        }
    }
}

/// The layers over the defaults, lowest first: a checkpoint, a file, the subcommand, the environment, the command line.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    /// The configuration of a checkpoint. A key that no higher layer sets keeps its value.
    pub checkpoint: Option<Saved>,
    /// A TOML file.
    pub file: Option<PathBuf>,
    /// A value that the subcommand sets.
    pub subcommand: Option<Override>,
    /// Environment variables. Only those that begin with [`ENVIRONMENT_PREFIX`] count.
    pub environment: Vec<(OsString, OsString)>,
    /// Values from the command line; a later one overrides an earlier one.
    pub command_line: Vec<Override>,
}

impl Layers {
    /// Returns the layers of this process: a file, if given, the environment, the `--set` flags, and the flags of
    /// single keys.
    ///
    /// # Errors
    ///
    /// Fails when the argument of a `--set` is not a setting.
    pub fn from_process(
        file: Option<PathBuf>,
        set: &[String],
        flags: impl IntoIterator<Item = Option<Override>>,
    ) -> Result<Self, ConfigError> {
        let mut command_line = set
            .iter()
            .map(|text| Override::parse("--set", text))
            .collect::<Result<Vec<_>, _>>()?;
        command_line.extend(flags.into_iter().flatten());
        Ok(Self {
            checkpoint: None,
            file,
            subcommand: None,
            environment: std::env::vars_os().collect(),
            command_line,
        })
    }

    /// Merges all layers over the defaults.
    pub(super) fn merge(&self, defaults: &Table) -> Result<Merged, ConfigError> {
        let mut builder = config::Config::builder().add_source(Layer::from_toml(defaults, DEFAULT));
        if let Some(saved) = &self.checkpoint {
            builder = builder.add_source(Layer::from_toml(saved.tree(), saved.origin()));
        }
        if let Some(path) = &self.file {
            let name = path.display().to_string();
            let text = fs::read_to_string(path).map_err(|reason| ConfigError::Unreadable {
                path: name.clone(),
                reason,
            })?;
            let table = text
                .parse::<Table>()
                .map_err(|reason| ConfigError::Malformed {
                    path: name.clone(),
                    remedy: rules::toml_remedy(&text, &reason),
                    reason: Box::new(reason),
                })?;
            builder = builder.add_source(Layer::from_toml(&table, &name));
        }
        if let Some(Override { flag, key, value }) = &self.subcommand {
            builder = builder.add_source(Layer::single(key, &keys::parse(key, value), flag));
        }
        for (key, value, origin) in self.variables()? {
            builder = builder.add_source(Layer::single(&key, &value, &origin));
        }
        for Override { flag, key, value } in &self.command_line {
            builder = builder.add_source(Layer::single(key, &keys::parse(key, value), flag));
        }

        let mut merged = Merged {
            tree: Table::new(),
            origins: HashMap::new(),
        };
        if let ValueKind::Table(cache) = builder.build().map_err(ConfigError::merge)?.cache.kind {
            merged.tree = merged.record("", cache);
        }
        Ok(merged)
    }

    /// Returns key, value and name of every environment variable of the configuration, sorted by name.
    fn variables(&self) -> Result<Vec<(String, Value, String)>, ConfigError> {
        let mut found = Vec::new();
        for (name, value) in &self.environment {
            let name = name.to_string_lossy().into_owned();
            let Some(path) = name.strip_prefix(ENVIRONMENT_PREFIX) else {
                continue;
            };
            let key = path.replace(ENVIRONMENT_SEPARATOR, ".").to_lowercase();
            let Some(text) = value.to_str() else {
                let remedy = format!("set {name} to UTF-8 text, or unset it");
                let fault = InvalidValue::new(key, format!("{value:?}"), "it is not UTF-8", remedy);
                return Err(fault.from_origin(name).into());
            };
            found.push((key.clone(), keys::parse(&key, text), name));
        }
        found.sort_by(|a, b| a.2.cmp(&b.2));
        Ok(found)
    }
}

/// The merged layers as one tree, and the source of each value.
#[derive(Debug)]
pub(super) struct Merged {
    pub(crate) tree: Table,
    /// The sources, by dotted key.
    pub(crate) origins: HashMap<String, String>,
}

impl Merged {
    /// Converts the merged values of the config crate to TOML, and records the source of each.
    fn record(&mut self, prefix: &str, table: Map<String, config::Value>) -> Table {
        let mut entries: Vec<_> = table.into_iter().collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let mut out = Table::new();
        for (name, value) in entries {
            let key = if prefix.is_empty() {
                name.clone()
            } else {
                format!("{prefix}.{name}")
            };
            let origin = origin(&value).unwrap_or(DEFAULT).to_owned();
            let value = match value.kind {
                ValueKind::Table(keys) if prefix.is_empty() => {
                    Value::Table(self.record(&key, keys))
                }
                kind => to_toml(kind),
            };
            self.origins.insert(key, origin);
            out.insert(name, value);
        }
        out
    }
}

/// Returns the source of a value. The config crate merges tables, and knows only the sources of what they hold.
fn origin(value: &config::Value) -> Option<&str> {
    match &value.kind {
        ValueKind::Table(table) => table.values().find_map(origin),
        _ => value.origin(),
    }
}

/// One layer, in the form of the config crate.
#[derive(Debug, Clone)]
struct Layer(Map<String, config::Value>);

impl Layer {
    fn from_toml(table: &Table, origin: &str) -> Self {
        let origin = origin.to_owned();
        Self(
            table
                .iter()
                .map(|(name, value)| (name.clone(), from_toml(value, &origin)))
                .collect(),
        )
    }

    /// Returns a layer with one value.
    fn single(key: &str, value: &Value, origin: &str) -> Self {
        Self(Map::from_iter([(
            key.to_owned(),
            from_toml(value, &origin.to_owned()),
        )]))
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, config::Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

fn from_toml(value: &Value, origin: &String) -> config::Value {
    let kind = match value {
        Value::String(text) => ValueKind::String(text.clone()),
        Value::Integer(number) => ValueKind::I64(*number),
        Value::Float(number) => ValueKind::Float(*number),
        Value::Boolean(flag) => ValueKind::Boolean(*flag),
        Value::Datetime(time) => ValueKind::String(time.to_string()),
        Value::Array(items) => {
            ValueKind::Array(items.iter().map(|item| from_toml(item, origin)).collect())
        }
        Value::Table(table) => ValueKind::Table(
            table
                .iter()
                .map(|(name, value)| (name.clone(), from_toml(value, origin)))
                .collect(),
        ),
    };
    config::Value::new(Some(origin), kind)
}

/// Converts the kinds that [`from_toml`] makes back to TOML.
fn to_toml(kind: ValueKind) -> Value {
    match kind {
        ValueKind::I64(number) => Value::Integer(number),
        ValueKind::Float(number) => Value::Float(number),
        ValueKind::Boolean(flag) => Value::Boolean(flag),
        ValueKind::Array(items) => {
            Value::Array(items.into_iter().map(|item| to_toml(item.kind)).collect())
        }
        ValueKind::Table(table) => Value::Table(
            table
                .into_iter()
                .map(|(name, value)| (name, to_toml(value.kind)))
                .collect(),
        ),
        other => Value::String(other.to_string()),
    }
}
