//! The codec: vectors, sizes, the Length rules, refusals, properties, and the fuzz corpus.

mod corpus;
mod display;
mod length;
mod properties;
mod refusals;
mod sizes;
mod vectors;
