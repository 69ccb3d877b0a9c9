//! The codec: vectors, sizes, the Length rules, properties, and the fuzz corpus.

mod display;
mod length;
mod properties;
mod refusals;
mod sizes;
mod vectors;
