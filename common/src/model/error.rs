use tch::Kind;

/// Why a set of named tensors was not loaded. The model is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A tensor of the model is not among them.
    #[error("tensor {name} is missing; use weights of a model of the same configuration")]
    Missing {
        /// Its name.
        name: String,
    },
    /// One of them is no tensor of the model.
    #[error("tensor {name} is unknown; use weights of a model of the same configuration")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// Two of them have the same name.
    #[error("tensor {name} occurs twice")]
    Twice {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape than the model's.
    #[error(
        "tensor {name} has shape {found:?}, not {expected:?}; use weights of a model of the same \
         configuration and grid"
    )]
    Shape {
        /// Its name.
        name: String,
        /// The model's shape.
        expected: Vec<i64>,
        /// The shape that was offered.
        found: Vec<i64>,
    },
    /// A tensor does not hold floating-point numbers.
    #[error("tensor {name} holds {found:?}, not floating-point numbers")]
    Kind {
        /// Its name.
        name: String,
        /// What it holds.
        found: Kind,
    },
}
