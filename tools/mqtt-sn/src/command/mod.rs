//! The commands: a file a verb, each with its options and its `run`.

pub(crate) mod bridge;
pub(crate) mod decode;
pub(crate) mod dump;
pub(crate) mod input;
pub(crate) mod node;
pub(crate) mod ping;
pub(crate) mod proxy;
pub(crate) mod publish;
pub(crate) mod search;
pub(crate) mod station;
pub(crate) mod subscribe;
