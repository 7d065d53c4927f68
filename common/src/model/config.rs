use hrm_kernels::Instructions;
use serde::{Deserialize, Serialize};

use super::segments::Segments;
use crate::invalid_value::InvalidValue;

/// The encoding of token positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionEncoding {
    /// Rotary embedding of queries and keys over the flat position (as published).
    Rotary,
    /// A learned embedding that is added to the token's embedding.
    Learned,
    /// [`PositionEncoding::Learned`], plus a bias of every attention head towards the next cell in a direction of its
    /// own.
    Directional,
}

/// The exchange of information between tokens in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mixing {
    /// Full self-attention (as published).
    Attention,
    /// A 3 x 3 convolution over the grid. The prefix token gets the mean of the result, and every cell gets a linear
    /// map of the prefix token.
    Conv,
}

/// The token whose `zH` the heads read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Readout {
    /// The last cell of the grid (as published).
    Last,
    /// The prefix token.
    Prefix,
    /// The agent's cell, or the prefix token if the observation has no agent.
    Agent,
}

/// The part of `zH` and `zL` that one decision passes to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CarryMode {
    /// The vectors of every token.
    Full,
    /// The vectors of the last token, broadcast over all positions (as in the authors' code).
    Last,
    /// `zH` of every token, from which the heads read. `zL` starts from its initial vector.
    Output,
    /// Nothing. Every decision starts from the initial vectors.
    Reset,
}

/// Precision of the activations. Parameters, gradients and heads are always 32-bit floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// bfloat16, with RMSNorm's and the rotary embedding's arithmetic in 32 bits (as published).
    Bf16,
}

impl Dtype {
    /// Returns the faster dtype on this processor: bfloat16 if it multiplies that faster, otherwise f32.
    pub(crate) fn native() -> Self {
        match Instructions::fastest() {
            Instructions::Avx512Bf16 => Self::Bf16,
            Instructions::Portable | Instructions::Avx2 | Instructions::Avx512 => Self::F32,
        }
    }

    /// Returns the bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// `[model]`: the settings that determine shape and arithmetic of a model on a given grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Width `d` of every token's vector.
    pub hidden: usize,
    /// Attention heads; each has `hidden / heads` dimensions. Unused with `model.mixing` = "conv".
    pub heads: usize,
    /// Blocks in the slow module H.
    pub h_layers: usize,
    /// Blocks in the fast module L.
    pub l_layers: usize,
    /// Calls of H per segment.
    pub h_cycles: usize,
    /// Calls of L before each call of H.
    pub l_cycles: usize,
    /// Segments per decision. With a range such as `{ least = 1, most = 4 }`, every decision of an actor draws its number
    /// from it, and evaluations run the most. With a rule such as `{ least = 1, most = 4, halt = { entropy = 0.1 } }`,
    /// decisions end when it is met.
    pub segments: Segments,
    /// Sets the inner width of SwiGLU: `expansion * hidden * 2 / 3`, rounded up to a multiple of `inter_multiple`.
    pub expansion: f64,
    /// The inner width of SwiGLU is rounded up to a multiple of this number.
    pub inter_multiple: usize,
    /// Position encoding.
    pub position: PositionEncoding,
    /// Token mixing inside a block.
    pub mixing: Mixing,
    /// The token that the heads read.
    pub readout: Readout,
    /// The part of the state that one decision passes to the next.
    pub carry: CarryMode,
    /// Precision of the activations.
    pub dtype: Dtype,
    /// Gives the model the published halt head, which some rules of `model.segments` read. It is trained if one of them
    /// does; otherwise its two tensors exist for import and export only.
    pub halt_head: bool,
}

impl ModelConfig {
    /// Returns the published model, tensor for tensor (arXiv 2510.22832), except that its carry is the full state.
    pub fn paper() -> Self {
        Self {
            hidden: 64,
            heads: 2,
            h_layers: 4,
            l_layers: 4,
            h_cycles: 2,
            l_cycles: 2,
            segments: Segments::new(8),
            expansion: 4.0,
            inter_multiple: 256,
            position: PositionEncoding::Rotary,
            mixing: Mixing::Attention,
            readout: Readout::Last,
            carry: CarryMode::Full,
            dtype: Dtype::Bf16,
            halt_head: true,
        }
    }

    /// Returns the model that learns fastest on a CPU: 37 thousand parameters, convolutions instead of attention, and
    /// the published cycles.
    pub fn small() -> Self {
        Self {
            hidden: 32,
            heads: 1,
            h_layers: 1,
            l_layers: 1,
            h_cycles: 2,
            l_cycles: 2,
            segments: Segments::new(1),
            expansion: 3.0,
            inter_multiple: 32,
            position: PositionEncoding::Learned,
            mixing: Mixing::Conv,
            readout: Readout::Agent,
            carry: CarryMode::Full,
            dtype: Dtype::F32,
            halt_head: false,
        }
    }

    /// Returns the inner width of SwiGLU: `expansion * hidden * 2/3`, rounded up to a multiple of `inter_multiple`.
    pub fn inter(&self) -> usize {
        let width = (self.expansion * self.hidden as f64 * 2.0 / 3.0).round() as usize;
        width.next_multiple_of(self.inter_multiple)
    }

    /// Checks that a model of this configuration can be built.
    ///
    /// # Errors
    ///
    /// The first invalid value, in the order of the fields.
    pub fn validate(&self) -> Result<(), InvalidValue> {
        within("hidden", self.hidden, 4096)?;
        within("heads", self.heads, 4096)?;
        within("h_layers", self.h_layers, 256)?;
        within("l_layers", self.l_layers, 256)?;
        within("h_cycles", self.h_cycles, 256)?;
        within("l_cycles", self.l_cycles, 256)?;
        self.segments.validate()?;
        if self.segments.reads_halt_head() && !self.halt_head {
            return Err(InvalidValue::new(
                "model.halt_head",
                self.halt_head,
                "the rule of model.segments reads the halt head",
                "set it to true, or choose the rule change or entropy",
            ));
        }
        if !(self.expansion > 0.0 && self.expansion <= 64.0) {
            return Err(InvalidValue::new(
                "model.expansion",
                self.expansion,
                "it must be above 0 and at most 64",
                "set it to a number above 0 and at most 64; the published value is 4",
            ));
        }
        within("inter_multiple", self.inter_multiple, 65536)?;
        if self.mixing == Mixing::Attention && !self.hidden.is_multiple_of(self.heads) {
            return Err(InvalidValue::new(
                "model.heads",
                self.heads,
                format!("it does not divide model.hidden = {}", self.hidden),
                "set it to a divisor of model.hidden",
            ));
        }
        let value = match self.position {
            PositionEncoding::Rotary => "rotary",
            PositionEncoding::Learned => return Ok(()),
            PositionEncoding::Directional => "directional",
        };
        if self.mixing == Mixing::Conv {
            return Err(InvalidValue::new(
                "model.position",
                value,
                format!("{value} positions need attention, but model.mixing is \"conv\""),
                "set model.position = \"learned\" or model.mixing = \"attention\"",
            ));
        }
        if self.position == PositionEncoding::Rotary
            && !(self.hidden / self.heads).is_multiple_of(2)
        {
            return Err(InvalidValue::new(
                "model.heads",
                self.heads,
                format!(
                    "rotary positions need pairs of dimensions, but model.hidden / model.heads = {} is odd",
                    self.hidden / self.heads
                ),
                "set it so that model.hidden / model.heads is even",
            ));
        }
        Ok(())
    }
}

fn within(key: &'static str, value: usize, most: usize) -> Result<(), InvalidValue> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(InvalidValue::new(
        format!("model.{key}"),
        value,
        format!("it must be from 1 to {most}"),
        format!("set it to a whole number from 1 to {most}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_valid_and_have_the_documented_inner_widths() {
        for (config, inter) in [(ModelConfig::paper(), 256), (ModelConfig::small(), 64)] {
            assert_eq!(config.validate(), Ok(()));
            assert_eq!(config.inter(), inter);
        }
    }

    #[test]
    fn impossible_values_are_named() {
        type Spoil = fn(&mut ModelConfig);
        let broken: [(&str, Spoil); 9] = [
            ("hidden", |c| c.hidden = 0),
            ("h_layers", |c| c.h_layers = 0),
            ("l_cycles", |c| c.l_cycles = 0),
            ("segments", |c| c.segments = Segments::new(1000)),
            ("expansion", |c| c.expansion = f64::NAN),
            ("heads", |c| c.heads = 3),
            ("heads", |c| c.heads = 64),
            ("position", |c| c.mixing = Mixing::Conv),
            ("position", |c| {
                c.mixing = Mixing::Conv;
                c.position = PositionEncoding::Directional;
            }),
        ];
        for (key, spoil) in broken {
            let mut config = ModelConfig::paper();
            spoil(&mut config);
            let error = config.validate().expect_err(key);
            assert_eq!(error.key, format!("model.{key}"));
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("invalid model.{key} = ")),
                "{error}"
            );
        }
    }

    #[test]
    fn enums_are_kebab_case_and_unknown_fields_are_refused() {
        let mut json = serde_json::to_value(ModelConfig::paper()).expect("plain data");
        assert_eq!(json["readout"], "last");
        assert_eq!(json["dtype"], "bf16");
        json["colour"] = "blue".into();
        assert!(serde_json::from_value::<ModelConfig>(json).is_err());
    }
}
