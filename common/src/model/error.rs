/// The error for named tensors that do not fit a model. The model stays unchanged.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A tensor of the model is missing.
    #[error("tensor {name} is missing; use weights of a model of the same configuration")]
    Missing {
        /// The name of the tensor.
        name: String,
    },
    /// A tensor does not exist in the model.
    #[error("tensor {name} is unknown; use weights of a model of the same configuration")]
    Unknown {
        /// The name of the tensor.
        name: String,
    },
    /// Two tensors have the same name.
    #[error("tensor {name} occurs twice")]
    Twice {
        /// The name of the tensor.
        name: String,
    },
    /// The shape of a tensor differs from the model's.
    #[error(
        "tensor {name} has shape {found:?}, expected {expected:?}; use weights of a model of the same \
         configuration and grid"
    )]
    Shape {
        /// The name of the tensor.
        name: String,
        /// The model's shape.
        expected: Vec<usize>,
        /// The shape of the given tensor.
        found: Vec<usize>,
    },
}
