//! What keeps tens of thousands of sessions small.

use std::collections::VecDeque;

/// Makes room for one more entry without room for others yet: most lists of a session stay short.
pub(crate) fn grow_gently<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() && list.len() < 4 {
        list.reserve_exact(1);
    }
}

/// A queue that mostly has one entry: the first needs no memory of its own.
#[derive(Debug)]
pub(crate) struct ShortQueue<T> {
    first: Option<T>,
    /// Empty when there is no first.
    others: VecDeque<T>,
}

impl<T> Default for ShortQueue<T> {
    fn default() -> Self {
        Self {
            first: None,
            others: VecDeque::new(),
        }
    }
}

impl<T> ShortQueue<T> {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn front_mut(&mut self) -> Option<&mut T> {
        self.first.as_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.others)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.first.iter_mut().chain(&mut self.others)
    }

    pub(crate) fn push_back(&mut self, entry: T) {
        if self.first.is_none() {
            self.first = Some(entry);
        } else {
            self.others.push_back(entry);
        }
    }

    pub(crate) fn push_front(&mut self, entry: T) {
        if let Some(second) = self.first.replace(entry) {
            self.others.push_front(second);
        }
    }

    pub(crate) fn pop_front(&mut self) -> Option<T> {
        std::mem::replace(&mut self.first, self.others.pop_front())
    }

    /// Takes out the entry at `index`, 0 the first; the others keep their order.
    pub(crate) fn remove(&mut self, index: usize) -> Option<T> {
        match index.checked_sub(1) {
            None => self.pop_front(),
            Some(index) => self.others.remove(index),
        }
    }

    /// Keeps the entries that are to stay, in their order.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.first.take_if(|first| !keep(first));
        self.others.retain(keep);
        if self.first.is_none() {
            self.first = self.others.pop_front();
        }
    }
}

impl<T> Extend<T> for ShortQueue<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, entries: I) {
        entries.into_iter().for_each(|entry| self.push_back(entry));
    }
}

impl<T> IntoIterator for ShortQueue<T> {
    type Item = T;
    type IntoIter =
        std::iter::Chain<std::option::IntoIter<T>, std::collections::vec_deque::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.first.into_iter().chain(self.others)
    }
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

    #[test]
    fn a_queue_of_one_has_no_heap() {
        let mut queue = ShortQueue::default();
        queue.push_back(1);
        assert_eq!((queue.len(), queue.others.capacity()), (1, 0));
        assert_eq!(queue.pop_front(), Some(1));
        assert_eq!((queue.pop_front(), queue.is_empty()), (None, true));
    }

    proptest::proptest! {
        /// Whatever is done to it, it is what a queue of the standard library is.
        #[test]
        fn a_short_queue_is_a_queue(acts in proptest::collection::vec((0..7_u8, 0..6_usize), 0..40)) {
            let mut queue = ShortQueue::default();
            let mut model = VecDeque::new();
            for (step, (act, index)) in acts.into_iter().enumerate() {
                match act {
                    0 | 1 => {
                        queue.push_back(step);
                        model.push_back(step);
                    }
                    2 => {
                        queue.push_front(step);
                        model.push_front(step);
                    }
                    3 => assert_eq!(queue.pop_front(), model.pop_front()),
                    4 => assert_eq!(queue.remove(index), model.remove(index)),
                    5 => {
                        queue.retain(|entry| entry % 6 != index);
                        model.retain(|entry| entry % 6 != index);
                    }
                    _ => {
                        queue.iter_mut().for_each(|entry| *entry += 1);
                        model.iter_mut().for_each(|entry| *entry += 1);
                    }
                }
                assert!(queue.iter().eq(&model));
                assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
                assert_eq!(queue.front_mut(), model.front_mut());
            }
            assert!(queue.into_iter().eq(model));
        }
    }
}
