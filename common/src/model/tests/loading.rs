//! Encoding, loading, and the published names.

use super::*;

#[test]
fn load_takes_everything_or_nothing_and_names_what_is_wrong() {
    let source = Hrm::new(&small(), GRID, 1, Device::Cpu).expect("valid");
    let mut target = model(&small());
    let shared = target.share();
    let before = state::encode(&target);
    type Spoil = fn(&mut Vec<(String, Tensor)>);
    let spoilt: [(&str, Spoil); 5] = [
        ("h.0.mlp.down is missing", |named| {
            named.retain(|(name, _)| name != "h.0.mlp.down")
        }),
        ("left is unknown", |named| {
            named.push(("left".into(), Tensor::from(1.0f32)))
        }),
        ("embed.token occurs twice", |named| {
            let twice = (named[0].0.clone(), named[0].1.shallow_clone());
            named.push(twice);
        }),
        ("l_init has shape [2, 4]", |named| {
            named
                .iter_mut()
                .filter(|(name, _)| name == "l_init")
                .for_each(|(_, tensor)| {
                    *tensor = tensor.view([2, 4]);
                });
        }),
        ("policy holds Int64", |named| {
            named
                .iter_mut()
                .filter(|(name, _)| name == "policy")
                .for_each(|(_, tensor)| {
                    *tensor = tensor.to_kind(Kind::Int64);
                });
        }),
    ];
    for (message, spoil) in spoilt {
        let mut named = source.named_tensors();
        spoil(&mut named);
        let error = target.load(&named).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
        assert_eq!(state::encode(&target), before, "{message}");
    }
    let mut named = source.named_tensors();
    named.reverse();
    target.load(&named).expect("all there, in any order");
    assert_eq!(state::encode(&target), state::encode(&source));
    assert_eq!(state::encode(&shared), state::encode(&source));
    assert!(
        target
            .parameters()
            .iter()
            .all(|leaf| leaf.is_leaf() && leaf.requires_grad())
    );
}

#[test]
fn encoding_is_bit_exact_and_damage_is_noticed() {
    let mut model = model(&paper());
    let odd = [
        f32::MIN_POSITIVE,
        1e-45,
        -0.0,
        f32::MAX,
        0.1,
        1.0 / 3.0,
        -7.5e-20,
        1e30,
    ];
    let named: Vec<_> = model
        .named_tensors()
        .into_iter()
        .map(|(name, tensor)| {
            let odd = if name == "h_init" {
                Tensor::from_slice(&odd)
            } else {
                tensor.copy()
            };
            (name, odd)
        })
        .collect();
    model.load(&named).expect("its own tensors");
    let bytes = state::encode(&model);
    let mut other = self::model(&paper());
    other
        .load(&state::decode(&bytes).expect("just encoded"))
        .expect("the same form");
    assert_eq!(state::encode(&other), bytes);
    for ((name, a), (_, b)) in other.named_tensors().iter().zip(&named) {
        assert_eq!(a.view_dtype(Kind::Int), b.view_dtype(Kind::Int), "{name}");
    }
    assert!(state::decode(&bytes[..bytes.len() - 1]).is_err());
}

proptest! {
    #[test]
    fn bytes_of_any_kind_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = state::decode(&bytes);
    }
}

#[test]
fn published_names_go_out_and_come_back() {
    let source = Hrm::new(&paper(), GRID, 5, Device::Cpu).expect("valid");
    let published = published::to_published(&source).expect("the published form");
    let get = |name: &str| {
        let name = format!("model.inner.{name}");
        let (_, tensor) = published
            .iter()
            .find(|(found, _)| *found == name)
            .expect(&name);
        tensor.shallow_clone()
    };
    let mut names: Vec<&str> = published.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let mut expected: Vec<String> = [
        "embed_tokens.embedding_weight",
        "puzzle_emb.weights",
        "lm_head.weight",
        "value_head.weight",
        "q_head.weight",
        "q_head.bias",
        "H_init",
        "L_init",
    ]
    .map(|name| format!("model.inner.{name}"))
    .into();
    for (module, layers) in [("H", 1), ("L", 2)] {
        for layer in 0..layers {
            for part in [
                "self_attn.qkv_proj",
                "self_attn.o_proj",
                "mlp.gate_up_proj",
                "mlp.down_proj",
            ] {
                expected.push(format!(
                    "model.inner.{module}_level.layers.{layer}.{part}.weight"
                ));
            }
        }
    }
    expected.sort_unstable();
    assert_eq!(names, expected);

    let embedding = get("embed_tokens.embedding_weight");
    assert_eq!(embedding.size(), [131, 8]);
    let ours = &source.parameters()[0];
    for (code, character) in [
        (0, 46),
        (1, 124),
        (1, 45),
        (2, 35),
        (3, 64),
        (4, 62),
        (5, 32),
    ] {
        assert_eq!(embedding.get(character), ours.get(code).detach());
    }
    let used = embedding
        .abs()
        .sum_dim_intlist(1, false, Kind::Float)
        .count_nonzero(0);
    assert_eq!(used.int64_value(&[]), 7, "the other rows are zero");
    assert_eq!(get("lm_head.weight").size(), [131, 8]);
    assert_eq!(
        get("lm_head.weight")
            .narrow(0, 4, 127)
            .abs()
            .max()
            .double_value(&[]),
        0.0
    );

    let mut target = model(&paper());
    published::load_published(&mut target, &published).expect("just written");
    assert_eq!(state::encode(&target), state::encode(&source));
}

#[test]
fn published_weights_are_checked_and_the_value_head_is_optional() {
    let source = Hrm::new(&paper(), GRID, 5, Device::Cpu).expect("valid");
    let published = || published::to_published(&source).expect("the published form");
    let mut target = model(&paper());
    let value = target
        .named_tensors()
        .into_iter()
        .find(|(name, _)| name == "value");
    let value = value.expect("a value head").1.copy();

    let before = state::encode(&target);
    let mut named = published();
    named.retain(|(name, _)| name != "model.inner.H_init");
    let error = published::load_published(&mut target, &named).expect_err("missing");
    assert!(
        error.to_string().contains("model.inner.H_init is missing"),
        "{error}"
    );
    let mut named = published();
    named
        .iter_mut()
        .filter(|(name, _)| name.ends_with("lm_head.weight"))
        .for_each(|(_, tensor)| *tensor = tensor.narrow(0, 0, 4));
    let error = published::load_published(&mut target, &named).expect_err("too short");
    assert!(
        error
            .to_string()
            .contains("lm_head.weight has shape [4, 8]"),
        "{error}"
    );
    let mut named = published();
    named.push(("model.inner.more".into(), Tensor::from(0.0f32)));
    let error = published::load_published(&mut target, &named).expect_err("too many");
    assert!(
        error.to_string().contains("model.inner.more is unknown"),
        "{error}"
    );
    assert_eq!(state::encode(&target), before);

    let mut named = published();
    named.retain(|(name, _)| name != "model.inner.value_head.weight");
    published::load_published(&mut target, &named).expect("the value head is ours alone");
    let loaded = target.named_tensors();
    for ((name, found), (_, expected)) in loaded.iter().zip(source.named_tensors()) {
        let expected = if name == "value" { &value } else { &expected };
        assert_eq!(found, expected, "{name}");
    }

    let mut other = model(&small());
    assert!(published::to_published(&other).is_err());
    assert!(published::load_published(&mut other, &published()).is_err());
}

/// `torch.compile` puts `_orig_mod` into the names of the modules that it wraps: the loss head, its model, or a part.
#[test]
fn names_of_compiled_modules_are_read_as_plain_ones() {
    let source = Hrm::new(&paper(), GRID, 5, Device::Cpu).expect("valid");
    let plain = published::to_published(&source).expect("the published form");
    type Rename = fn(&str) -> String;
    let compiled: [Rename; 4] = [
        |name| format!("_orig_mod.{name}"),
        |name| name.replace("model.", "model._orig_mod."),
        |name| name.replace("model.inner.", "model.inner._orig_mod."),
        |name| {
            format!(
                "_orig_mod.{}",
                name.replace("H_level.", "H_level._orig_mod.")
            )
        },
    ];
    for rename in compiled {
        let named: Vec<(String, Tensor)> = (plain.iter())
            .map(|(name, tensor)| (rename(name), tensor.shallow_clone()))
            .collect();
        let mut target = model(&paper());
        assert_ne!(state::encode(&target), state::encode(&source));
        published::load_published(&mut target, &named).expect("the same tensors");
        assert_eq!(state::encode(&target), state::encode(&source));
    }

    let mut target = model(&paper());
    let before = state::encode(&target);
    let refused = |target: &mut Hrm, name: &str, tensor: &Tensor| {
        let mut named: Vec<_> = plain
            .iter()
            .map(|(n, t)| (n.clone(), t.shallow_clone()))
            .collect();
        named.push((name.to_owned(), tensor.shallow_clone()));
        let error = published::load_published(target, &named).expect_err("one too many");
        error.to_string()
    };
    let (name, tensor) = &plain[0];
    let error = refused(&mut target, &format!("_orig_mod.{name}"), tensor);
    assert_eq!(error, format!("tensor {name} occurs twice"));
    let error = refused(&mut target, "_orig_mod.model.more", tensor);
    assert!(
        error.starts_with("tensor _orig_mod.model.more is unknown"),
        "{error}"
    );
    let error = refused(&mut target, "x_orig_mod.model.inner.H_init", tensor);
    assert!(
        error.contains("is unknown"),
        "only a whole part of a name counts: {error}"
    );
    assert_eq!(state::encode(&target), before);
}
