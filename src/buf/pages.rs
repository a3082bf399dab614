//! Index-addressed storage that grows page by page.
//!
//! A `Vec` that doubles copies a million connections at once, a pause that every one of them feels,
//! and keeps up to half of its memory unused. Here growth adds one page of 256 items; only the
//! table of page pointers is ever copied. Items never move; memory does not shrink.

/// Items a page; a power of two so that an index splits by shift and mask.
const PAGE_ITEMS: usize = 256;
const PAGE_SHIFT: u32 = PAGE_ITEMS.trailing_zeros();

/// Items of type `T` at the indices `0..len()`.
pub(crate) struct Pages<T> {
    pages: Vec<Box<[T; PAGE_ITEMS]>>,
}

impl<T> Pages<T> {
    pub(crate) fn new() -> Self {
        Self { pages: Vec::new() }
    }

    /// Adds pages of default items until `index` is valid.
    pub(crate) fn ensure(&mut self, index: u32)
    where
        T: Default,
    {
        while self.len() <= index as usize {
            self.pages.push(new_page());
        }
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let (page, item) = split(index);
        self.pages.get(page).map(|page| &page[item])
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let (page, item) = split(index);
        self.pages.get_mut(page).map(|page| &mut page[item])
    }

    /// How many items there are: every index below is valid.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.pages.len() * PAGE_ITEMS
    }
}

#[inline]
fn split(index: u32) -> (usize, usize) {
    ((index >> PAGE_SHIFT) as usize, index as usize % PAGE_ITEMS)
}

/// Collected on the heap: an array literal would pass through the stack, and items may be large.
fn new_page<T: Default>() -> Box<[T; PAGE_ITEMS]> {
    let items: Box<[T]> = (0..PAGE_ITEMS).map(|_| T::default()).collect();
    let Ok(page) = items.try_into() else {
        unreachable!("the range above yields exactly PAGE_ITEMS items")
    };
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn new_storage_is_empty_and_answers_none() {
        let mut pages = Pages::<u64>::new();
        assert_eq!(pages.len(), 0);
        assert_eq!(pages.get(0), None);
        assert_eq!(pages.get_mut(u32::MAX), None);
    }

    #[test]
    fn ensure_grows_to_the_end_of_the_page_of_the_index() {
        let mut pages = Pages::<u8>::new();
        pages.ensure(0);
        assert_eq!(pages.len(), 256);
        pages.ensure(255);
        assert_eq!(pages.len(), 256);
        pages.ensure(256);
        assert_eq!(pages.len(), 512);
        assert_eq!(pages.get(511), Some(&0));
        assert_eq!(pages.get(512), None);
    }

    #[test]
    fn growth_keeps_every_item_at_its_address() {
        let mut pages = Pages::<String>::new();
        pages.ensure(300);
        let before: Vec<*const String> =
            (0..512).map(|index| std::ptr::from_ref(pages.get(index).unwrap())).collect();
        pages.ensure(100_000);
        let after: Vec<*const String> =
            (0..512).map(|index| std::ptr::from_ref(pages.get(index).unwrap())).collect();
        assert_eq!(before, after);
    }

    proptest! {
        #[test]
        fn an_index_always_reaches_the_item_that_was_stored_there(
            indices in prop::collection::vec(0_u32..5_000, 1..100),
        ) {
            let mut pages = Pages::<u32>::new();
            let mut model = std::collections::HashMap::new();
            for (value, &index) in (1_u32..).zip(&indices) {
                pages.ensure(index);
                *pages.get_mut(index).unwrap() = value;
                model.insert(index, value);
            }
            for index in 0..u32::try_from(pages.len()).unwrap() {
                let expected = model.get(&index).copied().unwrap_or_default();
                prop_assert_eq!(pages.get(index), Some(&expected));
            }
        }
    }
}
