//! What the extension types have in common.

use crate::{Error, Opaque, Value};

/// Whether the other value is equal, if it is of the same type; otherwise they cannot be compared.
pub(super) fn equal<T: Opaque + PartialEq>(mine: &T, other: &dyn Opaque) -> Option<bool> {
    other.downcast_ref::<T>().map(|other| mine == other)
}

/// The text that is the first argument.
pub(super) fn text<'v>(args: &'v [Value<'_>]) -> Result<&'v str, Error> {
    args.first().and_then(Value::as_str).ok_or_else(Error::no_such_overload)
}

/// The receiver as the Rust type `T`.
pub(super) fn receiver<'v, T: 'static>(args: &'v [Value<'_>]) -> Result<&'v T, Error> {
    argument(args, 0)
}

/// The argument at an index as the Rust type `T`.
pub(super) fn argument<'v, T: 'static>(args: &'v [Value<'_>], index: usize) -> Result<&'v T, Error> {
    args.get(index).and_then(|value| value.downcast::<T>()).ok_or_else(Error::no_such_overload)
}
