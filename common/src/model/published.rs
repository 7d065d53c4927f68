//! Converts between our tensor names and the state-dict names of the authors' checkpoints.
//!
//! Their tokens are the 131 character codes of a MiniHack screen, and their head has a row for each. Ours are
//! [`VOCABULARY`] tile codes and four moves. Rows without a counterpart are written as zero and not read.

use std::collections::HashMap;

use super::{
    config::{Mixing, PositionEncoding},
    error::LoadError,
    parameters::{NamedTensor, Parameters},
};
use crate::env::{ACTIONS, VOCABULARY, tile};

/// The number of rows of the published embedding and head.
const CODES: usize = 131;

/// The character of each of our tile codes. A wall is drawn as `|` (124) or `-` (45). Its row is read from the first
/// and written to both. Their mazes are fully observed, so [`tile::UNKNOWN`] uses the blank.
const CHARACTERS: [u8; VOCABULARY] = {
    let mut characters = [0; VOCABULARY];
    characters[tile::FLOOR as usize] = b'.';
    characters[tile::WALL as usize] = b'|';
    characters[tile::CLOSED_DOOR as usize] = b'#';
    characters[tile::AGENT as usize] = b'@';
    characters[tile::GOAL as usize] = b'>';
    characters[tile::UNKNOWN as usize] = b' ';
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

/// Returns all tensors of a model under their published names.
///
/// # Errors
///
/// Fails when the model does not have the published form.
pub fn to_published(parameters: &Parameters) -> Result<Vec<NamedTensor>, PublishedError> {
    check(parameters)?;
    let named = parameters.named();
    Ok(named.into_iter().map(widen).collect())
}

/// Loads tensors with published names into a model, all of them or, on an error, none. Keeps the value head of the
/// model if the tensors have none. Accepts the names of compiled modules.
///
/// # Errors
///
/// Fails when the model does not have the published form, or a tensor is missing, unknown, duplicate or of another
/// shape.
pub fn load_published(
    parameters: &mut Parameters,
    published: &[NamedTensor],
) -> Result<(), PublishedError> {
    check(parameters)?;
    let mut plain = HashMap::new();
    for tensor in published {
        let name = plain_name(&tensor.name);
        if plain.contains_key(&name) {
            return Err(LoadError::Twice { name }.into());
        }
        plain.insert(name, tensor);
    }
    let mut ours = Vec::new();
    for tensor in parameters.named() {
        let theirs = published_name(&tensor.name);
        let Some(source) = plain.remove(&theirs) else {
            if theirs != VALUE_HEAD {
                return Err(LoadError::Missing { name: theirs }.into());
            }
            ours.push(tensor);
            continue;
        };
        let expected = widened(&tensor.name, &tensor.shape);
        if source.shape != expected {
            return Err(LoadError::Shape {
                name: theirs,
                expected,
                found: source.shape.clone(),
            }
            .into());
        }
        ours.push(narrow(tensor, source));
    }
    if let Some(tensor) = published
        .iter()
        .find(|tensor| plain.contains_key(&plain_name(&tensor.name)))
    {
        return Err(LoadError::Unknown {
            name: tensor.name.clone(),
        }
        .into());
    }
    Ok(parameters.load(&ours)?)
}

fn check(parameters: &Parameters) -> Result<(), PublishedError> {
    let config = parameters.config();
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
fn widened(name: &str, shape: &[usize]) -> Vec<usize> {
    match name {
        "embed.token" | "policy" => vec![CODES, shape[1]],
        _ => shape.to_vec(),
    }
}

/// Returns the row of each of our tensor's rows in the published form, if they differ.
fn published_rows(name: &str) -> Option<Vec<usize>> {
    match name {
        "embed.token" => Some(CHARACTERS.map(usize::from).into()),
        "policy" => Some((0..ACTIONS).collect()),
        _ => None,
    }
}

/// Returns our tensor in the published form.
fn widen(ours: NamedTensor) -> NamedTensor {
    let shape = widened(&ours.name, &ours.shape);
    let name = published_name(&ours.name);
    let Some(mut rows) = published_rows(&ours.name) else {
        return NamedTensor { name, ..ours };
    };
    let width = shape[1];
    let mut values = vec![0.0; CODES * width];
    let mut sources: Vec<&[f32]> = ours.values.chunks_exact(width).collect();
    if ours.name == "embed.token" {
        rows.push(usize::from(SECOND_WALL));
        sources.push(sources[usize::from(tile::WALL)]);
    }
    for (row, source) in rows.into_iter().zip(sources) {
        values[row * width..(row + 1) * width].copy_from_slice(source);
    }
    NamedTensor {
        name,
        shape,
        values,
    }
}

/// Returns our tensor with the values of the published one.
fn narrow(ours: NamedTensor, published: &NamedTensor) -> NamedTensor {
    let values = match published_rows(&ours.name) {
        None => published.values.clone(),
        Some(rows) => {
            let width = ours.shape[1];
            let row = |row: usize| &published.values[row * width..(row + 1) * width];
            rows.into_iter().flat_map(row).copied().collect()
        }
    };
    NamedTensor { values, ..ours }
}
