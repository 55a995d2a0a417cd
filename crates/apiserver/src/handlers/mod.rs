//! What each verb does.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod delete_collection;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod options;
pub(crate) mod update;
pub(crate) mod watch;
