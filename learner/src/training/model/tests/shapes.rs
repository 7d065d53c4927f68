//! Shapes, kinds and names.

use super::*;

#[test]
fn shapes_kinds_and_names_are_as_documented() {
    for config in [ModelConfig::paper(), ModelConfig::small()] {
        let model = model(&config);
        let decision = model.forward(&tokens(), &model.initial_carry(3), Gradient::OneStep);
        assert_eq!(decision.segments.len(), config.segments.most);
        for heads in &decision.segments {
            assert_eq!(heads.logits.size(), [BATCH, 4]);
            assert_eq!(heads.value.size(), [BATCH]);
            assert_eq!(heads.logits.kind(), Kind::Float);
            assert_eq!(heads.value.kind(), Kind::Float);
        }
        assert_eq!(
            decision.carry.size(),
            [2, BATCH, CELLS + 1, config.hidden as i64]
        );
        assert_eq!(decision.carry.size(), model.carry_shape(3));
        assert_eq!(decision.carry.kind(), model.kind());
        assert!(!decision.carry.requires_grad());
        // The graph contains every parameter, with every preset.
        let gradients = gradients(&model, loss(&decision.segments));
        assert!(gradients.iter().all(Tensor::defined));
    }
    let names = |config| -> Vec<String> {
        let named = model(&config).named_tensors();
        named.into_iter().map(|(name, _)| name).collect()
    };
    let h = [
        "h.0.conv.kernel",
        "h.0.conv.prefix",
        "h.0.mlp.gate_up",
        "h.0.mlp.down",
    ];
    let l = [
        "l.0.conv.kernel",
        "l.0.conv.prefix",
        "l.0.mlp.gate_up",
        "l.0.mlp.down",
    ];
    let first = ["embed.token", "embed.prefix", "embed.position"];
    let last = ["policy", "value", "h_init", "l_init"];
    assert_eq!(names(small()), [&first[..], &h, &l, &last].concat());
    assert!(names(paper()).contains(&"l.1.attention.qkv".to_owned()));
    assert_eq!(
        names(paper())[names(paper()).len() - 2..],
        ["halt.weight", "halt.bias"]
    );
}
