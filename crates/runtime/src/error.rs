/// Why an engine did not do what it was asked. The variants are the contract: they say what the caller
/// should do next, see [`Error::retry`].
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No such sandbox, container or image.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken, usually by an earlier attempt that is still being removed.
    #[error("{0}")]
    AlreadyExists(String),
    /// The image could not be fetched.
    #[error("{0}")]
    Pull(String),
    /// The registry could not be reached at all.
    #[error("{0}")]
    RegistryUnavailable(String),
    /// The reference is not an image name.
    #[error("{0}")]
    InvalidImageName(String),
    /// The engine refuses this configuration and will refuse it again.
    #[error("{0}")]
    InvalidConfig(String),
    /// The pod network could not be set up.
    #[error("{0}")]
    Network(String),
    /// The call took longer than allowed.
    #[error("{0}")]
    Timeout(String),
    /// The engine is not there or going away.
    #[error("{0}")]
    Unavailable(String),
    /// The engine cannot do this.
    #[error("{0}")]
    Unsupported(String),
    /// Anything else.
    #[error("{0}")]
    Internal(String),
}

/// What to do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Look again at once: the world differs from what was assumed.
    Now,
    /// Try again with growing delays.
    BackOff,
    /// Wait for the specification to change.
    GiveUp,
}

impl Error {
    /// What to do about it.
    pub fn retry(&self) -> Retry {
        match self {
            Self::NotFound(_) | Self::AlreadyExists(_) => Retry::Now,
            Self::InvalidImageName(_) | Self::Unsupported(_) => Retry::GiveUp,
            _ => Retry::BackOff,
        }
    }

    /// Whether the subject is absent.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }
}
