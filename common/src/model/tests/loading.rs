//! Encoding, loading, and the published names.

use super::*;

/// Gives a tensor another shape and number of values.
fn reshape(named: &mut [NamedTensor], name: &str, shape: Vec<usize>, values: usize) {
    for tensor in named.iter_mut().filter(|tensor| tensor.name == name) {
        tensor.shape = shape.clone();
        tensor.values.truncate(values);
    }
}

#[test]
fn load_takes_everything_or_nothing_and_names_what_is_wrong() {
    let source = Parameters::new(&small(), GRID, 1).expect("valid");
    let mut target = model(&small());
    let before = state::encode(&target);
    type Spoil = fn(&mut Vec<NamedTensor>);
    let spoilt: [(&str, Spoil); 5] = [
        ("h.0.mlp.down is missing", |named| {
            named.retain(|tensor| tensor.name != "h.0.mlp.down")
        }),
        ("left is unknown", |named| {
            named.push(NamedTensor {
                name: "left".into(),
                shape: vec![],
                values: vec![1.0],
            })
        }),
        ("embed.token occurs twice", |named| {
            named.push(named[0].clone());
        }),
        ("l_init has shape [2, 4]", |named| {
            reshape(named, "l_init", vec![2, 4], 8)
        }),
        // As many values as another shape says.
        ("policy has shape", |named| {
            reshape(named, "policy", vec![4, 8], 31)
        }),
    ];
    for (message, spoil) in spoilt {
        let mut named = source.named();
        spoil(&mut named);
        let error = target.load(&named).expect_err(message).to_string();
        assert!(error.contains(message), "{error}");
        assert_eq!(state::encode(&target), before, "{message}");
    }
    let mut named = source.named();
    named.reverse();
    target.load(&named).expect("all there, in any order");
    assert_eq!(state::encode(&target), state::encode(&source));
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
    let mut named = model.named();
    for tensor in named.iter_mut().filter(|tensor| tensor.name == "h_init") {
        tensor.values = odd.into();
    }
    model.load(&named).expect("its own tensors");
    let bytes = state::encode(&model);
    let mut other = self::model(&paper());
    other
        .load(&state::decode(&bytes).expect("just encoded"))
        .expect("the same form");
    assert_eq!(state::encode(&other), bytes);
    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for (a, b) in other.named().iter().zip(&named) {
        assert_eq!(bits(&a.values), bits(&b.values), "{}", a.name);
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
fn published_names_survive_export_and_import() {
    let source = Parameters::new(&paper(), GRID, 5).expect("valid");
    let published = published::to_published(&source).expect("the published form");
    let get = |name: &str| {
        let name = format!("model.inner.{name}");
        let found = published.iter().find(|tensor| tensor.name == name);
        found.expect(&name).clone()
    };
    let mut names: Vec<&str> = published
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect();
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
    assert_eq!(embedding.shape, [131, 8]);
    let row = |tensor: &NamedTensor, row: usize| tensor.values[row * 8..(row + 1) * 8].to_vec();
    let ours = &source.named()[0];
    for (code, character) in [
        (0, 46),
        (1, 124),
        (1, 45),
        (2, 35),
        (3, 64),
        (4, 62),
        (5, 32),
    ] {
        assert_eq!(row(&embedding, character), row(ours, code));
    }
    let used = (0..131).filter(|&at| row(&embedding, at).iter().any(|&x| x != 0.0));
    assert_eq!(used.count(), 7, "the other rows are zero");
    let head = get("lm_head.weight");
    assert_eq!(head.shape, [131, 8]);
    assert!(head.values[4 * 8..].iter().all(|&x| x == 0.0));
    assert!(head.values[..4 * 8].iter().all(|&x| x != 0.0));

    let mut target = model(&paper());
    published::load_published(&mut target, &published).expect("just written");
    assert_eq!(state::encode(&target), state::encode(&source));
}

#[test]
fn published_weights_are_checked_and_the_value_head_is_optional() {
    let source = Parameters::new(&paper(), GRID, 5).expect("valid");
    let published = || published::to_published(&source).expect("the published form");
    let mut target = model(&paper());
    let value = target
        .named()
        .into_iter()
        .find(|tensor| tensor.name == "value");
    let value = value.expect("a value head");

    let before = state::encode(&target);
    let mut named = published();
    named.retain(|tensor| tensor.name != "model.inner.H_init");
    let error = published::load_published(&mut target, &named).expect_err("missing");
    assert!(
        error.to_string().contains("model.inner.H_init is missing"),
        "{error}"
    );
    let mut named = published();
    reshape(&mut named, "model.inner.lm_head.weight", vec![4, 8], 32);
    let error = published::load_published(&mut target, &named).expect_err("too short");
    assert!(
        error
            .to_string()
            .contains("lm_head.weight has shape [4, 8]"),
        "{error}"
    );
    let mut named = published();
    named.push(NamedTensor {
        name: "model.inner.more".into(),
        ..value.clone()
    });
    let error = published::load_published(&mut target, &named).expect_err("too many");
    assert!(
        error.to_string().contains("model.inner.more is unknown"),
        "{error}"
    );
    assert_eq!(state::encode(&target), before);

    let mut named = published();
    named.retain(|tensor| tensor.name != "model.inner.value_head.weight");
    published::load_published(&mut target, &named).expect("the value head is ours alone");
    for (found, expected) in target.named().iter().zip(&source.named()) {
        let expected = if found.name == "value" {
            &value
        } else {
            expected
        };
        assert_eq!(found, expected);
    }

    let mut other = model(&small());
    assert!(published::to_published(&other).is_err());
    assert!(published::load_published(&mut other, &published()).is_err());
}

/// `torch.compile` puts `_orig_mod` into the names of the modules that it wraps: the loss head, its model, or a part.
#[test]
fn names_of_compiled_modules_are_read_as_plain_ones() {
    let source = Parameters::new(&paper(), GRID, 5).expect("valid");
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
        let mut named = plain.clone();
        for tensor in &mut named {
            tensor.name = rename(&tensor.name);
        }
        let mut target = model(&paper());
        assert_ne!(state::encode(&target), state::encode(&source));
        published::load_published(&mut target, &named).expect("the same tensors");
        assert_eq!(state::encode(&target), state::encode(&source));
    }

    let mut target = model(&paper());
    let before = state::encode(&target);
    let refused = |target: &mut Parameters, name: &str, tensor: &NamedTensor| {
        let mut named = plain.clone();
        named.push(NamedTensor {
            name: name.to_owned(),
            ..tensor.clone()
        });
        let error = published::load_published(target, &named).expect_err("one too many");
        error.to_string()
    };
    let (name, tensor) = (&plain[0].name, &plain[0]);
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
