//! What keeps tens of thousands of sessions small.

/// Makes room for one more entry without room for others yet: most lists of a session stay short.
pub(crate) fn grow_gently<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() && list.len() < 4 {
        list.reserve_exact(1);
    }
}
