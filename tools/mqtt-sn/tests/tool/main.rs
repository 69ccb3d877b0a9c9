//! The tool as its user meets it.

mod end_to_end;
mod serial;
mod sim;
mod support;
mod usage;
mod wire;
mod world;
