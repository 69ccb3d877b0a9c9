//! Descriptors in tokio's event loop.

use std::io;
use std::os::fd::AsRawFd;

use tokio::io::unix::AsyncFd;

use super::port::Port;

/// Owners that return the same descriptor for as long as they live, and close it when they are dropped.
pub(super) trait Owner: AsRawFd {}

impl Owner for Port {}
impl Owner for std::os::fd::OwnedFd {}

/// Watches a descriptor for input and for room. Must be called within a tokio runtime.
#[expect(
    unsafe_code,
    reason = "tokio cannot know that the descriptor stays open"
)]
pub(super) fn watch<T: Owner>(owner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `Owner` promises one descriptor, open for the owner's life, and `AsyncFd` owns the owner.
    Ok(unsafe { AsyncFd::register(owner) }?)
}
