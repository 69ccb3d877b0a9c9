//! Where packets are written before they are sent.

use bytes::{Bytes, BytesMut};

/// Octets taken from the allocator at once; many packets are cut from one piece.
const PIECE: usize = 16 * 1024;

/// A buffer that packets are appended to and cut off from.
#[derive(Debug, Default)]
pub struct Scratch(BytesMut);

impl Scratch {
    /// Returns what `write` appended; nothing stays behind when it fails.
    ///
    /// # Errors
    /// That of `write`.
    pub fn cut<T, E>(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> Result<T, E>,
    ) -> Result<Bytes, E> {
        if self.0.capacity() < PIECE / 16 {
            self.0 = BytesMut::with_capacity(PIECE);
        }
        match write(&mut self.0) {
            Ok(_) => Ok(self.0.split().freeze()),
            Err(error) => {
                self.0.clear();
                Err(error)
            }
        }
    }
}
