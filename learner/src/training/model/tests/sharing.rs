//! Shares of one parameter vector on several threads.

use super::*;

/// Adds one to every trainable parameter, as an optimiser does.
fn update(model: &Hrm) {
    let mut flat = model.flat_parameters().shallow_clone();
    no_grad(|| {
        let _ = flat.g_add_scalar_(1.0);
    });
}

#[test]
fn an_update_of_the_flat_vector_is_seen_by_every_share() {
    let model = model(&small());
    let shared = model.share();
    let before = model.parameters()[0].copy();
    update(&model);
    for model in [&model, &shared] {
        assert_eq!(model.parameters()[0], &before + 1.0);
        assert!(
            model
                .parameters()
                .iter()
                .all(|leaf| leaf.is_leaf() && leaf.requires_grad())
        );
    }
    let flat: Vec<Tensor> = model
        .parameters()
        .iter()
        .map(|leaf| leaf.view(-1))
        .collect();
    assert_eq!(
        Tensor::cat(&flat, 0),
        *model.flat_parameters(),
        "in order, without gaps"
    );
}

#[test]
fn threads_with_shares_get_the_same_gradients() {
    let model = model(&small());
    let of = |model: &Hrm| {
        let decision = model.forward(&tokens(), &some_carry(model), Gradient::OneStep);
        gradients(model, loss(&decision.segments))
    };
    let expected = of(&model);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let shared = model.share();
            std::thread::spawn(move || of(&shared))
        })
        .collect();
    for thread in threads {
        let found = thread.join().expect("no panic");
        assert_same_gradients(&model, &found, &expected);
    }
}
