//! The tool as its user meets it.

mod support;
mod usage;
mod wire;
