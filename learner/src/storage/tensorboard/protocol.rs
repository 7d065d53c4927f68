//! The format of event files: the parts of TensorFlow's protocol buffers that TensorBoard needs, in the frames of a
//! TFRecord file.
//!
//! ```text
//!   length: u64 | masked CRC-32C of the length | event | masked CRC-32C of the event     (little-endian)
//! ```
//!
//! The numbers of the fields are those of `event.proto`, `summary.proto` and `tensor.proto` in TensorBoard. A crate
//! with the whole contract would need protoc, and an older prost beside ours.

use prost::Message;

/// The version of the format.
const VERSION: &str = "brain.Event:2";
/// `SessionLog.START`: what readers hold from this step on is outdated.
const START: i32 = 1;
/// `DATA_CLASS_TENSOR`.
const TENSOR: i32 = 2;
/// `DT_FLOAT` and `DT_STRING`.
const FLOAT: i32 = 1;
const TEXT: i32 = 7;

/// One entry of an event file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    pub(super) wall_time: f64,
    #[prost(int64, tag = "2")]
    pub(super) step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    pub(super) summary: Option<TaggedValues>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionMark>,
}

/// `Summary`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TaggedValues {
    #[prost(message, repeated, tag = "1")]
    pub(super) values: Vec<TaggedValue>,
}

/// `Summary.Value`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TaggedValue {
    #[prost(string, tag = "1")]
    pub(super) tag: String,
    #[prost(float, optional, tag = "2")]
    pub(super) simple_value: Option<f32>,
    #[prost(message, optional, tag = "8")]
    tensor: Option<PlainTensor>,
    #[prost(message, optional, tag = "9")]
    metadata: Option<ValueMetadata>,
}

/// `SummaryMetadata`.
#[derive(Clone, PartialEq, Message)]
struct ValueMetadata {
    #[prost(message, optional, tag = "1")]
    plugin: Option<PluginData>,
    #[prost(int32, tag = "4")]
    data_class: i32,
}

#[derive(Clone, PartialEq, Message)]
struct PluginData {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", tag = "2")]
    content: Vec<u8>,
}

/// `TensorProto`: a text, or an empty row of numbers.
#[derive(Clone, PartialEq, Message)]
struct PlainTensor {
    #[prost(int32, tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShape>,
    #[prost(string, repeated, tag = "8")]
    text: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShape {
    #[prost(message, repeated, tag = "2")]
    dimensions: Vec<TensorDimension>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorDimension {
    #[prost(int64, tag = "1")]
    size: i64,
}

#[derive(Clone, PartialEq, Message)]
struct SessionMark {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl TaggedValue {
    /// Returns a number for the tab *Scalars*.
    pub(super) fn scalar(tag: String, value: f64) -> Self {
        Self {
            tag,
            // TensorBoard keeps 32 bits of every scalar.
            simple_value: Some(value as f32),
            ..Self::default()
        }
    }

    /// Returns a text for the tab *Text*, in Markdown.
    pub(super) fn text(tag: &str, markdown: String) -> Self {
        let tensor = PlainTensor {
            dtype: TEXT,
            shape: Some(TensorShape::default()),
            text: vec![markdown],
        };
        Self::of_plugin(tag, "text", Vec::new(), tensor)
    }

    /// Returns a message of the hyperparameter plugin, which reads the metadata and not the value.
    pub(super) fn hyperparameters(tag: &str, content: &impl Message) -> Self {
        let dimensions = vec![TensorDimension { size: 0 }];
        let tensor = PlainTensor {
            dtype: FLOAT,
            shape: Some(TensorShape { dimensions }),
            text: Vec::new(),
        };
        Self::of_plugin(tag, "hparams", content.encode_to_vec(), tensor)
    }

    fn of_plugin(tag: &str, plugin: &str, content: Vec<u8>, tensor: PlainTensor) -> Self {
        Self {
            tag: tag.to_owned(),
            simple_value: None,
            tensor: Some(tensor),
            metadata: Some(ValueMetadata {
                plugin: Some(PluginData {
                    name: plugin.to_owned(),
                    content,
                }),
                data_class: TENSOR,
            }),
        }
    }
}

impl Event {
    /// Returns the event that must be a file's first.
    pub(super) fn version(wall_time: f64) -> Self {
        Self {
            wall_time,
            file_version: Some(VERSION.to_owned()),
            ..Self::default()
        }
    }

    /// Returns the event after which readers forget what they have read of the run: this file repeats it.
    pub(super) fn start(wall_time: f64) -> Self {
        Self {
            wall_time,
            session_log: Some(SessionMark { status: START }),
            ..Self::default()
        }
    }

    /// Returns values of the run at `frames`.
    pub(super) fn values(wall_time: f64, frames: u64, values: Vec<TaggedValue>) -> Self {
        Self {
            wall_time,
            step: frames as i64,
            summary: Some(TaggedValues { values }),
            ..Self::default()
        }
    }

    /// Returns the event as a record of the file.
    pub(super) fn framed(&self) -> Vec<u8> {
        let event = self.encode_to_vec();
        let length = (event.len() as u64).to_le_bytes();
        let mut framed = Vec::with_capacity(event.len() + 16);
        for part in [&length[..], &event] {
            framed.extend_from_slice(part);
            framed.extend_from_slice(&masked(crc32c::crc32c(part)).to_le_bytes());
        }
        framed
    }
}

/// Returns a checksum as TFRecord files store it. The checksum of data that contains checksums is weak otherwise.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_has_the_bytes_that_tensorboard_writes() {
        // Of PyPI's tensorboard: RecordWriter and Event(wall_time=1.5, file_version="brain.Event:2").
        let expected =
            "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c";
        let framed = Event::version(1.5).framed();
        let hex: String = framed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }
}
