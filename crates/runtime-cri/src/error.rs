//! gRPC statuses to the trait's error kinds.

use runtime::Error;
use tonic::{Code, Status};

pub(crate) fn from_status(status: Status) -> Error {
    let message = status.message().to_owned();
    match status.code() {
        Code::NotFound => Error::NotFound(message),
        Code::AlreadyExists => Error::AlreadyExists(message),
        Code::DeadlineExceeded => Error::Timeout(message),
        Code::Unavailable => Error::Unavailable(message),
        Code::Unimplemented => Error::Unsupported(message),
        Code::InvalidArgument => Error::InvalidConfig(message),
        Code::Cancelled if message.contains("Timeout expired") => Error::Timeout(message),
        // containerd reports most failures as Unknown; the network plugin's are told by their text.
        _ if message.contains("failed to setup network") => Error::Network(message),
        _ => Error::Internal(message),
    }
}

/// The error of a pull: everything that is not about the engine itself is about the image.
pub(crate) fn pull_error(status: Status) -> Error {
    let message = status.message().to_owned();
    match status.code() {
        Code::Unavailable => Error::Unavailable(message),
        Code::DeadlineExceeded => Error::Timeout(message),
        Code::InvalidArgument => Error::InvalidImageName(message),
        _ if message.contains("failed to parse image reference")
            || message.contains("invalid reference format") =>
        {
            Error::InvalidImageName(message)
        }
        _ if ["dial tcp", "no such host", "connection refused"].iter().any(|s| message.contains(s)) => {
            Error::RegistryUnavailable(message)
        }
        _ => Error::Pull(message),
    }
}
