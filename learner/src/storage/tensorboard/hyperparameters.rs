//! The hyperparameters of a run, for TensorBoard's tab *HParams*.

use std::collections::BTreeMap;

use prost::Message;
use toml::{Table, Value};

use super::protocol::TaggedValue;

/// The sections of the configuration whose keys are hyperparameters.
const SECTIONS: [&str; 6] = ["env", "curriculum", "model", "rollout", "loss", "optimizer"];
/// Hyperparameters in other sections.
const KEYS: [&str; 5] = [
    "run.seed",
    "learner.batch_unrolls",
    "learner.max_policy_lag_batches",
    "learner.total_frames",
    "learner.max_minutes",
];
/// Scalars beside the hyperparameters in the table of runs.
const RESULTS: [&str; 7] = [
    "final/greedy/success",
    "final/greedy/path_ratio",
    "final/greedy/versus_oracle/on_all/ratio",
    "final/sampled/success",
    "final/oracle/path_ratio",
    "eval/success",
    "train/seconds",
];

/// `DataType` of the plugin.
const TEXT: i32 = 1;
const FLAG: i32 = 2;
const NUMBER: i32 = 3;
/// `Status` of the plugin.
const SUCCESS: i32 = 1;

/// `HParamsPluginData`; the numbers of the fields are those of the plugin's `plugin_data.proto` and `api.proto`.
#[derive(Clone, PartialEq, Message)]
struct HyperparameterData {
    #[prost(message, optional, tag = "2")]
    experiment: Option<Columns>,
    #[prost(message, optional, tag = "3")]
    begin: Option<SessionBegin>,
    #[prost(message, optional, tag = "4")]
    end: Option<SessionEnd>,
}

/// `Experiment`: the columns of the table of runs.
#[derive(Clone, PartialEq, Message)]
struct Columns {
    #[prost(message, repeated, tag = "4")]
    hyperparameters: Vec<HyperparameterColumn>,
    #[prost(message, repeated, tag = "5")]
    results: Vec<ResultColumn>,
}

#[derive(Clone, PartialEq, Message)]
struct HyperparameterColumn {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "4")]
    data_type: i32,
}

#[derive(Clone, PartialEq, Message)]
struct ResultColumn {
    #[prost(message, optional, tag = "1")]
    name: Option<ResultName>,
}

#[derive(Clone, PartialEq, Message)]
struct ResultName {
    #[prost(string, tag = "2")]
    tag: String,
}

/// `SessionStartInfo`.
#[derive(Clone, PartialEq, Message)]
struct SessionBegin {
    #[prost(btree_map = "string, message", tag = "1")]
    hyperparameters: BTreeMap<String, Hyperparameter>,
    #[prost(double, tag = "5")]
    seconds: f64,
}

/// `SessionEndInfo`.
#[derive(Clone, PartialEq, Message)]
struct SessionEnd {
    #[prost(int32, tag = "1")]
    status: i32,
    #[prost(double, tag = "2")]
    seconds: f64,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
struct Hyperparameter {
    #[prost(double, optional, tag = "2")]
    number: Option<f64>,
    #[prost(string, optional, tag = "3")]
    text: Option<String>,
    #[prost(bool, optional, tag = "4")]
    flag: Option<bool>,
}

impl From<&Value> for Hyperparameter {
    fn from(value: &Value) -> Self {
        match value {
            Value::Integer(whole) => Self {
                number: Some(*whole as f64),
                ..Self::default()
            },
            Value::Float(number) => Self {
                number: Some(*number),
                ..Self::default()
            },
            Value::Boolean(flag) => Self {
                flag: Some(*flag),
                ..Self::default()
            },
            Value::String(text) => Self {
                text: Some(text.clone()),
                ..Self::default()
            },
            other => Self {
                text: Some(other.to_string()),
                ..Self::default()
            },
        }
    }
}

impl Hyperparameter {
    fn data_type(&self) -> i32 {
        match self {
            Self {
                number: Some(_), ..
            } => NUMBER,
            Self { flag: Some(_), .. } => FLAG,
            _ => TEXT,
        }
    }
}

/// Returns the columns of the table of runs, and the hyperparameters of the run with this configuration.
pub(super) fn begin(config: &Table, seconds: f64) -> Vec<TaggedValue> {
    let hyperparameters = of(config);
    let columns = Columns {
        hyperparameters: hyperparameters
            .iter()
            .map(|(name, value)| HyperparameterColumn {
                name: name.clone(),
                data_type: value.data_type(),
            })
            .collect(),
        results: RESULTS
            .map(|tag| ResultColumn {
                name: Some(ResultName {
                    tag: tag.to_owned(),
                }),
            })
            .into(),
    };
    let begin = SessionBegin {
        hyperparameters,
        seconds,
    };
    vec![
        TaggedValue::hyperparameters(
            "_hparams_/experiment",
            &HyperparameterData {
                experiment: Some(columns),
                ..HyperparameterData::default()
            },
        ),
        TaggedValue::hyperparameters(
            "_hparams_/session_start_info",
            &HyperparameterData {
                begin: Some(begin),
                ..HyperparameterData::default()
            },
        ),
    ]
}

/// Returns the mark of a complete run.
pub(super) fn end(seconds: f64) -> TaggedValue {
    let end = SessionEnd {
        status: SUCCESS,
        seconds,
    };
    TaggedValue::hyperparameters(
        "_hparams_/session_end_info",
        &HyperparameterData {
            end: Some(end),
            ..HyperparameterData::default()
        },
    )
}

/// Returns the hyperparameters in a configuration, by key.
fn of(config: &Table) -> BTreeMap<String, Hyperparameter> {
    let mut found = BTreeMap::new();
    for (section, keys) in config {
        for (name, value) in keys.as_table().into_iter().flatten() {
            let key = format!("{section}.{name}");
            if SECTIONS.contains(&section.as_str()) || KEYS.contains(&key.as_str()) {
                found.insert(key, value.into());
            }
        }
    }
    found
}
