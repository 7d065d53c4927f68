//! The state-dict names of the authors' checkpoints, and the way to and from ours.
//!
//! Their tokens are the 131 character codes of a MiniHack screen and their head has a row for each; ours
//! are [`VOCABULARY`] kinds of token and four moves. Rows without a counterpart are written as zero and
//! not read.

use std::collections::HashMap;

use tch::{Kind, Tensor};

use super::config::{Mixing, Position};
use super::error::LoadError;
use super::hrm::Hrm;
use crate::env::{ACTIONS, VOCABULARY, token};

/// Rows of the published embedding and head.
const CODES: i64 = 131;

/// The character that stands for each of our token codes. A wall is drawn as `|` (124) or `-` (45): it is
/// read from the first and written to both. Their mazes show everything, so that [`token::UNKNOWN`] has
/// no character of its own; it goes with the blank.
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

/// The part of a name that stands for a compiled PyTorch module, wherever in the module tree that is.
const COMPILED: &str = "_orig_mod";

/// Name of our value head in the published scheme, which has none.
const VALUE_HEAD: &str = "model.inner.value_head.weight";

/// Why weights were not read from or written to the published names.
#[derive(Debug, thiserror::Error)]
pub enum PublishedError {
    /// The model has parts that the published one has not, or lacks some.
    #[error(
        "only models with mixing = \"attention\", position = \"rotary\" and halt_head = true have \
         published names; start from the paper preset"
    )]
    Configuration,
    /// The tensors are not those of such a model.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// All tensors of a model under their published names, f32.
///
/// # Errors
/// When the model is not of the published form.
pub fn to_published(model: &Hrm) -> Result<Vec<(String, Tensor)>, PublishedError> {
    check(model)?;
    let named = model.named_tensors();
    Ok(named
        .iter()
        .map(|(name, tensor)| (published_name(name), widen(name, tensor)))
        .collect())
}

/// Loads tensors with published names into a model; all of them or, on an error, none. A value head that
/// is absent stays as it is. Names of compiled modules are read as those of plain ones.
///
/// # Errors
/// When the model is not of the published form, or a tensor is missing, unknown, there twice or of another
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
        && config.position == Position::Rotary
        && config.halt_head;
    if published {
        Ok(())
    } else {
        Err(PublishedError::Configuration)
    }
}

/// The name without the parts that stand for compiled modules.
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

/// `h.0.mlp.down` to `model.inner.H_level.layers.0.mlp.down_proj.weight`.
fn published_block_name(ours: &str) -> String {
    let mut parts = ours.splitn(3, '.');
    let mut part = || parts.next().unwrap_or_default();
    let (module, layer, rest) = (part().to_uppercase(), part(), part());
    let weight = rest.replace("attention.", "self_attn.");
    let weight = weight.replace("self_attn.out", "self_attn.o");
    format!("model.inner.{module}_level.layers.{layer}.{weight}_proj.weight")
}

/// Shape of our tensor in the published scheme.
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

/// Row of each of our tokens in the published embedding, i64 `[VOCABULARY]` beside `tensor`.
fn characters(tensor: &Tensor) -> Tensor {
    Tensor::from_slice(&CHARACTERS.map(i64::from)).to_device(tensor.device())
}
