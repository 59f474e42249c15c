//! Bytes of members in cells of a few sizes, named by 32-bit handles.
//!
//! A cell is `[length: u8 | owner's bytes: H | member]`, rounded up to eight; cells of one size
//! fill pages of 1,024. A member thus costs no allocation and no pointer, and dropping a million
//! of them frees a thousand pages. Longer members have an allocation each. A freed cell holds
//! the index of the next free one of its page; an empty page is given back.

/// Names a cell; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Handle(pub(super) u32);

/// Cells are multiples of this size.
const STEP: usize = 8;
/// Class `n` holds cells of `n` steps; class 0 the members with an allocation each.
const CLASSES: usize = 1 << (32 - INDEX_BITS);
/// Bits of a handle that count within its class.
const INDEX_BITS: u32 = 27;
/// Cells of a page.
const PAGE_CELLS: usize = 1 << PAGE_BITS;
const PAGE_BITS: u32 = 10;
/// Pages of a class.
const PAGES_MAX: usize = 1 << (INDEX_BITS - PAGE_BITS);
/// Ends the list of a page's free cells.
const NO_CELL: u16 = u16::MAX;

impl Handle {
    /// The name of no cell.
    pub(crate) const NONE: Self = Self(0);

    fn new(class: usize, index: usize) -> Self {
        Self((class as u32) << INDEX_BITS | index as u32)
    }

    #[inline]
    fn class(self) -> usize {
        (self.0 >> INDEX_BITS) as usize
    }

    #[inline]
    fn index(self) -> usize {
        (self.0 & ((1 << INDEX_BITS) - 1)) as usize
    }
}

/// Members with `H` bytes of their owner's each.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cells<const H: usize> {
    /// By number of steps; index 0 stays empty.
    classes: Vec<Class>,
    /// `[owner's bytes | member]` of those too long for a cell; index 0 is never used.
    long: Vec<Box<[u8]>>,
    long_free: Vec<u32>,
    long_len: usize,
}

/// The cells of one size.
#[derive(Debug, Clone, Default)]
struct Class {
    pages: Vec<Page>,
    /// Invariant: exactly the pages with a free cell or with room for one.
    open: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Page {
    bytes: Vec<u8>,
    live: u16,
    free: u16,
}

impl Page {
    fn is_open(&self, size: usize) -> bool {
        self.free != NO_CELL || self.bytes.len() < PAGE_CELLS * size
    }
}

impl Class {
    /// A cell of `size` bytes; nothing when the class is full.
    fn take(&mut self, size: usize) -> Option<usize> {
        let number = match self.open.last() {
            Some(number) => *number as usize,
            None => self.add_page(size)?,
        };
        let page = &mut self.pages[number];
        let cell = if page.free == NO_CELL {
            let cell = page.bytes.len() / size;
            page.bytes.resize((cell + 1) * size, 0);
            cell
        } else {
            let cell = usize::from(page.free);
            let at = cell * size;
            page.free = u16::from_le_bytes([page.bytes[at], page.bytes[at + 1]]);
            cell
        };
        page.live += 1;
        if !page.is_open(size) {
            self.open.pop();
        }
        Some(number << PAGE_BITS | cell)
    }

    #[cold]
    fn add_page(&mut self, size: usize) -> Option<usize> {
        let number = self.pages.len();
        if number == PAGES_MAX {
            return None;
        }
        let mut bytes = Vec::new();
        if number > 0 {
            // The first page grows with a small set; whoever fills one will fill the next.
            bytes.reserve_exact(PAGE_CELLS * size);
        }
        self.pages.push(Page {
            bytes,
            live: 0,
            free: NO_CELL,
        });
        self.open.push(number as u32);
        Some(number)
    }

    fn give_back(&mut self, index: usize, size: usize) {
        let (number, cell) = (index >> PAGE_BITS, index % PAGE_CELLS);
        let page = &mut self.pages[number];
        if !page.is_open(size) {
            self.open.push(number as u32);
        }
        page.live -= 1;
        if page.live == 0 {
            page.bytes = Vec::new();
            page.free = NO_CELL;
            return;
        }
        let at = cell * size;
        page.bytes[at..at + 2].copy_from_slice(&page.free.to_le_bytes());
        page.free = cell as u16;
    }

    #[inline]
    fn cell(&self, index: usize, size: usize) -> &[u8] {
        &self.pages[index >> PAGE_BITS].bytes[index % PAGE_CELLS * size..][..size]
    }

    fn cell_mut(&mut self, index: usize, size: usize) -> &mut [u8] {
        &mut self.pages[index >> PAGE_BITS].bytes[index % PAGE_CELLS * size..][..size]
    }
}

impl<const H: usize> Cells<H> {
    /// Keeps a member.
    pub(super) fn insert(&mut self, member: &[u8], owned: [u8; H]) -> Handle {
        let smallest = (1 + H + member.len()).div_ceil(STEP);
        // A class that is full, after 2^27 members of one size, passes on to the next.
        for class in smallest..CLASSES {
            if self.classes.len() <= class {
                self.classes.resize_with(class + 1, Class::default);
            }
            let size = class * STEP;
            if let Some(index) = self.classes[class].take(size) {
                let cell = self.classes[class].cell_mut(index, size);
                cell[0] = member.len() as u8;
                cell[1..=H].copy_from_slice(&owned);
                cell[1 + H..1 + H + member.len()].copy_from_slice(member);
                return Handle::new(class, index);
            }
        }
        self.insert_long(member, owned)
    }

    #[cold]
    fn insert_long(&mut self, member: &[u8], owned: [u8; H]) -> Handle {
        let mut bytes = Vec::with_capacity(H + member.len());
        bytes.extend_from_slice(&owned);
        bytes.extend_from_slice(member);
        self.long_len += bytes.len();
        if let Some(index) = self.long_free.pop() {
            self.long[index as usize] = bytes.into();
            return Handle::new(0, index as usize);
        }
        if self.long.is_empty() {
            self.long.push(Box::default());
        }
        let index = self.long.len();
        assert!(
            index < 1 << INDEX_BITS,
            "Invariant: fewer than 2^27 members are longer than a cell"
        );
        self.long.push(bytes.into());
        Handle::new(0, index)
    }

    /// Forgets a member.
    pub(super) fn remove(&mut self, handle: Handle) {
        let (class, index) = (handle.class(), handle.index());
        if class == 0 {
            self.long_len -= self.long[index].len();
            self.long[index] = Box::default();
            self.long_free.push(index as u32);
        } else {
            self.classes[class].give_back(index, class * STEP);
        }
    }

    /// A member's bytes.
    #[inline]
    pub(super) fn member(&self, handle: Handle) -> &[u8] {
        let class = handle.class();
        if class == 0 {
            return &self.long[handle.index()][H..];
        }
        let cell = self.classes[class].cell(handle.index(), class * STEP);
        &cell[1 + H..][..usize::from(cell[0])]
    }

    /// Its owner's bytes.
    #[inline]
    pub(super) fn owned(&self, handle: Handle) -> [u8; H] {
        let class = handle.class();
        let bytes = if class == 0 {
            &self.long[handle.index()][..H]
        } else {
            &self.classes[class].cell(handle.index(), class * STEP)[1..=H]
        };
        let mut owned = [0; H];
        owned.copy_from_slice(bytes);
        owned
    }

    #[inline]
    pub(super) fn set_owned(&mut self, handle: Handle, owned: [u8; H]) {
        let class = handle.class();
        let bytes = if class == 0 {
            &mut self.long[handle.index()][..H]
        } else {
            &mut self.classes[class].cell_mut(handle.index(), class * STEP)[1..=H]
        };
        bytes.copy_from_slice(&owned);
    }

    /// Bytes on the heap, about.
    pub(super) fn memory_len(&self) -> usize {
        let pages: usize = self
            .classes
            .iter()
            .map(|class| {
                class.pages.capacity() * size_of::<Page>()
                    + class
                        .pages
                        .iter()
                        .map(|page| page.bytes.capacity())
                        .sum::<usize>()
            })
            .sum();
        pages
            + self.classes.capacity() * size_of::<Class>()
            + self.long.capacity() * size_of::<Box<[u8]>>()
            + self.long_len
    }
}
