//! What keeps tens of thousands of sessions small.

use std::collections::VecDeque;

/// Makes room for one more entry without room for others yet: most lists of a session stay short.
pub(crate) fn grow_gently<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() && list.len() < 4 {
        list.reserve_exact(1);
    }
}

/// Appends to a queue that mostly has one entry, without room for others yet.
pub(crate) fn queue_gently<T>(queue: &mut VecDeque<T>, entry: T) {
    if queue.len() == queue.capacity() && queue.len() < 4 {
        queue.reserve_exact(1);
    }
    queue.push_back(entry);
}

/// A part that most nodes are without most of the time. Blank, it is a pointer and no heap.
#[derive(Debug)]
pub(crate) struct Seldom<T>(Option<Box<T>>);

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Default> Seldom<T> {
    pub(crate) fn new(part: T) -> Self {
        Self(Some(Box::new(part)))
    }

    pub(crate) fn into_part(self) -> T {
        self.0.map_or_else(T::default, |part| *part)
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    pub(crate) fn get_or_make(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }

    /// Gives its memory back if there is nothing in it.
    pub(crate) fn drop_if(&mut self, is_blank: impl FnOnce(&T) -> bool) {
        self.0.take_if(|part| is_blank(part));
    }
}

impl<T> Seldom<Vec<T>> {
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.get().map_or(&[][..], Vec::as_slice).iter()
    }

    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.get_mut()
            .map_or(&mut [][..], Vec::as_mut_slice)
            .iter_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.iter().len()
    }

    pub(crate) fn push(&mut self, entry: T) {
        let list = self.get_or_make();
        grow_gently(list);
        list.push(entry);
    }

    /// Takes out the first entry that `is` so; the others keep their order.
    pub(crate) fn take(&mut self, is: impl FnMut(&T) -> bool) -> Option<T> {
        let list = self.get_mut()?;
        let index = list.iter().position(is)?;
        let entry = list.remove(index);
        self.drop_if(Vec::is_empty);
        Some(entry)
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        if let Some(list) = self.get_mut() {
            list.retain(keep);
            self.drop_if(Vec::is_empty);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_without_entries_has_no_heap() {
        let mut list = Seldom::<Vec<u32>>::default();
        assert_eq!((list.len(), size_of_val(&list)), (0, size_of::<usize>()));
        list.push(1);
        list.push(2);
        list.retain(|entry| *entry != 1);
        assert_eq!(list.iter().collect::<Vec<_>>(), [&2]);
        assert_eq!(list.take(|entry| *entry == 3), None);
        assert_eq!(list.take(|entry| *entry == 2), Some(2));
        assert!(list.get().is_none());
    }
}
