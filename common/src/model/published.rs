//! Converts between our tensor names and the state-dict names of the authors' checkpoints.
//!
//! Their tokens are the 131 character codes of a MiniHack screen, and their head has a row for each. Ours are
//! [`VOCABULARY`] token codes and four moves. Rows without a counterpart are written as zero and not read.

use std::collections::HashMap;

use tch::{Kind, Tensor};

use super::config::{Mixing, PositionEncoding};
use super::error::LoadError;
use super::hrm::Hrm;
use crate::env::{ACTIONS, VOCABULARY, token};

/// The number of rows of the published embedding and head.
const CODES: i64 = 131;

/// The character of each of our token codes. A wall is drawn as `|` (124) or `-` (45). Its row is read from the first
/// and written to both. Their mazes are fully observed, so [`token::UNKNOWN`] uses the blank.
const CHARACTERS: [u8; VOCABULARY] = {
    let mut characters = [0; VOCABULARY];
    characters[token::FLOOR as usize] = b'.';
    characters[token::WALL as usize] = b'|';
    characters[token::CLOSED_DOOR as usize] = b'#';
    characters[token::AGENT as usize] = b'@';
    characters[token::GOAL as usize] = b'>';
    characters[token::UNKNOWN as usize] = b' ';
    characters
};

const SECOND_WALL: u8 = b'-';

/// The part of a name that marks a compiled PyTorch module. It can occur at any level of the module tree.
const COMPILED: &str = "_orig_mod";

/// The name of our value head, in the style of the published names, which have no value head.
const VALUE_HEAD: &str = "model.inner.value_head.weight";

/// The error for weights that cannot be converted from or to the published names.
#[derive(Debug, thiserror::Error)]
pub enum PublishedError {
    /// The model's parts differ from the published model's.
    #[error(
        "only models with model.mixing = \"attention\", model.position = \"rotary\" and model.halt_head = true have \
         published names; start from model.preset = \"paper\""
    )]
    Configuration,
    /// The tensors do not fit the model.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Returns all tensors of a model under their published names, f32.
///
/// # Errors
///
/// Fails when the model does not have the published form.
pub fn to_published(model: &Hrm) -> Result<Vec<(String, Tensor)>, PublishedError> {
    check(model)?;
    let named = model.named_tensors();
    Ok(named
        .iter()
        .map(|(name, tensor)| (published_name(name), widen(name, tensor)))
        .collect())
}

/// Loads tensors with published names into a model, all of them or, on an error, none. Keeps the value head of the
/// model if the tensors have none. Accepts the names of compiled modules.
///
/// # Errors
///
/// Fails when the model does not have the published form, or a tensor is missing, unknown, duplicate or of another
/// shape.
pub fn load_published(
    model: &mut Hrm,
    published: &[(String, Tensor)],
) -> Result<(), PublishedError> {
    check(model)?;
    let mut plain = HashMap::new();
    for (name, tensor) in published {
        let name = plain_name(name);
        if plain.contains_key(&name) {
            return Err(LoadError::Twice { name }.into());
        }
        plain.insert(name, tensor);
    }
    let mut ours = Vec::new();
    for (name, tensor) in model.named_tensors() {
        let theirs = published_name(&name);
        let Some(source) = plain.remove(&theirs) else {
            if theirs != VALUE_HEAD {
                return Err(LoadError::Missing { name: theirs }.into());
            }
            ours.push((name, tensor));
            continue;
        };
        let expected = widened(&name, &tensor.size());
        if source.size() != expected {
            return Err(LoadError::Shape {
                name: theirs,
                expected,
                found: source.size(),
            }
            .into());
        }
        let source = narrow(&name, source);
        ours.push((name, source));
    }
    if let Some((name, _)) =
        (published.iter()).find(|(name, _)| plain.contains_key(&plain_name(name)))
    {
        return Err(LoadError::Unknown { name: name.clone() }.into());
    }
    Ok(model.load(&ours)?)
}

fn check(model: &Hrm) -> Result<(), PublishedError> {
    let config = model.config();
    let published = config.mixing == Mixing::Attention
        && config.position == PositionEncoding::Rotary
        && config.halt_head;
    if published {
        Ok(())
    } else {
        Err(PublishedError::Configuration)
    }
}

/// Returns the name without the marks of compiled modules.
fn plain_name(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').filter(|&part| part != COMPILED).collect();
    parts.join(".")
}

fn published_name(ours: &str) -> String {
    let name = match ours {
        "embed.token" => "embed_tokens.embedding_weight",
        "embed.prefix" => "puzzle_emb.weights",
        "policy" => "lm_head.weight",
        "value" => return VALUE_HEAD.to_owned(),
        "halt.weight" => "q_head.weight",
        "halt.bias" => "q_head.bias",
        "h_init" => "H_init",
        "l_init" => "L_init",
        block => return published_block_name(block),
    };
    format!("model.inner.{name}")
}

/// Converts `h.0.mlp.down` to `model.inner.H_level.layers.0.mlp.down_proj.weight`.
fn published_block_name(ours: &str) -> String {
    let mut parts = ours.splitn(3, '.');
    let mut part = || parts.next().unwrap_or_default();
    let (module, layer, rest) = (part().to_uppercase(), part(), part());
    let weight = rest.replace("attention.", "self_attn.");
    let weight = weight.replace("self_attn.out", "self_attn.o");
    format!("model.inner.{module}_level.layers.{layer}.{weight}_proj.weight")
}

/// Returns the shape of our tensor in the published form.
fn widened(name: &str, shape: &[i64]) -> Vec<i64> {
    match name {
        "embed.token" | "policy" => vec![CODES, shape[1]],
        _ => shape.to_vec(),
    }
}

fn widen(name: &str, tensor: &Tensor) -> Tensor {
    let empty = || Tensor::zeros([CODES, tensor.size()[1]], (Kind::Float, tensor.device()));
    match name {
        "embed.token" => {
            let wide = empty().index_copy(0, &characters(tensor), tensor);
            let wall = tensor.get(i64::from(token::WALL));
            wide.get(i64::from(SECOND_WALL)).copy_(&wall);
            wide
        }
        "policy" => {
            let wide = empty();
            wide.narrow(0, 0, ACTIONS as i64).copy_(tensor);
            wide
        }
        _ => tensor.shallow_clone(),
    }
}

fn narrow(name: &str, tensor: &Tensor) -> Tensor {
    match name {
        "embed.token" => tensor.index_select(0, &characters(tensor)),
        "policy" => tensor.narrow(0, 0, ACTIONS as i64),
        _ => tensor.shallow_clone(),
    }
}

/// Returns the row of each of our tokens in the published embedding, i64 `[VOCABULARY]` on the device of `tensor`.
fn characters(tensor: &Tensor) -> Tensor {
    Tensor::from_slice(&CHARACTERS.map(i64::from)).to_device(tensor.device())
}
