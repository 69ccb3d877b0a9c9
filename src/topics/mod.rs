//! Topic names, ids and filters: what a node calls a topic, and what the broker calls it.

mod name;
mod predefined;
mod registry;
mod trie;

pub use name::{filter_matches, is_valid_filter, is_valid_name};
pub use predefined::{Pattern, Predefined};
pub use registry::{Registration, Registry, RegistryFull};
pub use trie::FilterTrie;
