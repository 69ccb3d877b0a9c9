//! Where packets are written before they are sent.

use bytes::{Bytes, BytesMut};

/// Octets taken from the allocator at once; many packets are cut from one piece.
const PIECE: usize = 16 * 1024;

/// A buffer that packets are appended to and cut off from.
#[derive(Debug, Default)]
pub struct Scratch {
    piece: BytesMut,
    text: String,
}

impl Scratch {
    /// Returns what `write` appended; nothing stays behind when it fails.
    ///
    /// # Errors
    /// That of `write`.
    pub fn cut<T, E>(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> Result<T, E>,
    ) -> Result<Bytes, E> {
        self.make_room();
        match write(&mut self.piece) {
            Ok(_) => Ok(self.piece.split().freeze()),
            Err(error) => {
                self.piece.clear();
                Err(error)
            }
        }
    }

    /// Returns a copy that is to be dropped soon: it holds on to the piece it is a part of.
    pub fn copy(&mut self, octets: &[u8]) -> Bytes {
        self.make_room();
        self.piece.extend_from_slice(octets);
        self.piece.split().freeze()
    }

    /// Lends an empty text that has room already.
    pub fn take_text(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    /// Takes the text back for the next one.
    pub fn give_back_text(&mut self, mut text: String) {
        text.clear();
        self.text = text;
    }

    fn make_room(&mut self) {
        if self.piece.capacity() < PIECE / 16 {
            self.piece = BytesMut::with_capacity(PIECE);
        }
    }
}
