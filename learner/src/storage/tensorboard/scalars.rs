//! The scalars of a record: each number under its name in `metrics.jsonl`.

use std::io;

use serde::Serialize;
use serde_json::Value;

use super::protocol::TaggedValue;

/// The step itself, and what is the same in every record.
const LEFT_OUT: [&str; 2] = ["frames", "seed"];

/// Returns the numbers of a record, with names such as `train/success` and `eval/success_ci95/0`. Absent numbers have
/// no scalar.
///
/// # Errors
///
/// Returns an error when the record is not one of JSON.
pub(super) fn of(prefix: &str, record: &impl Serialize) -> io::Result<Vec<TaggedValue>> {
    let mut scalars = Vec::new();
    if let Value::Object(fields) = serde_json::to_value(record)? {
        for (name, value) in &fields {
            if !LEFT_OUT.contains(&name.as_str()) {
                collect(format!("{prefix}/{name}"), value, &mut scalars);
            }
        }
    }
    Ok(scalars)
}

fn collect(tag: String, value: &Value, scalars: &mut Vec<TaggedValue>) {
    match value {
        Value::Number(number) => {
            scalars.extend(
                number
                    .as_f64()
                    .map(|number| TaggedValue::scalar(tag, number)),
            );
        }
        Value::Array(values) => {
            for (i, value) in values.iter().enumerate() {
                collect(format!("{tag}/{i}"), value, scalars);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                collect(format!("{tag}/{name}"), value, scalars);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
