//! Memory for the keys that are kept: locked, so that it is not swapped out, and zeroized.
//!
//! A system locks whole pages, without counting, so keys share pages that hold nothing else. Where locking is
//! not permitted the keys are kept all the same, and the log says so once.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use scaivault_kms::SecretKey;
use zeroize::Zeroize as _;

use super::seal::Aead;
use crate::{Error, Result};

type Lock = fn(*const u8, usize) -> region::Result<region::LockGuard>;

/// Where kept keys lie. Cheap to clone.
#[derive(Clone)]
pub(super) struct KeyMemory(Arc<Pages>);

struct Pages {
    pages: Mutex<Vec<Weak<Page>>>,
    lock: Lock,
    warned: AtomicBool,
}

/// One page of keys. The lock ends before the memory is given back, and after it was zeroized.
struct Page {
    _lock: Option<region::LockGuard>,
    slots: Mutex<Slots>,
}

struct Slots {
    /// Twice a page, of which one that is aligned is used.
    bytes: Box<[u8]>,
    free: Vec<usize>,
}

impl KeyMemory {
    pub(super) fn new() -> Self {
        Self::locked_by(region::lock)
    }

    fn locked_by(lock: Lock) -> Self {
        Self(Arc::new(Pages { pages: Mutex::default(), lock, warned: AtomicBool::new(false) }))
    }

    /// Keeps a key until the answer is dropped.
    pub(super) fn keep(&self, key: &SecretKey) -> KeptKey {
        let mut pages = held(&self.0.pages);
        pages.retain(|page| page.strong_count() > 0);
        for page in pages.iter().filter_map(Weak::upgrade) {
            if let Some(kept) = KeptKey::on(&page, key) {
                return kept;
            }
        }
        loop {
            let page = Arc::new(self.0.new_page());
            if let Some(kept) = KeptKey::on(&page, key) {
                pages.push(Arc::downgrade(&page));
                return kept;
            }
        }
    }
}

impl Pages {
    fn new_page(&self) -> Page {
        let size = region::page::size();
        let bytes = vec![0; 2 * size].into_boxed_slice();
        let first = bytes.as_ptr().align_offset(size).min(size);
        let lock = (self.lock)(bytes[first..].as_ptr(), size);
        if let Err(error) = &lock
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "memory for keys cannot be locked and may be swapped out: raise RLIMIT_MEMLOCK");
        }
        let free = (0..size / SecretKey::LEN).map(|slot| first + slot * SecretKey::LEN).collect();
        Page { _lock: lock.ok(), slots: Mutex::new(Slots { bytes, free }) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        self.slots.get_mut().unwrap_or_else(PoisonError::into_inner).bytes.zeroize();
    }
}

/// A key in that memory, zeroized when it is dropped.
pub(super) struct KeptKey {
    page: Arc<Page>,
    at: usize,
}

impl KeptKey {
    fn on(page: &Arc<Page>, key: &SecretKey) -> Option<Self> {
        let mut slots = held(&page.slots);
        let at = slots.free.pop()?;
        slots.bytes[at..at + SecretKey::LEN].copy_from_slice(key.expose());
        Some(Self { page: Arc::clone(page), at })
    }

    /// The key, made ready for one use: what that takes lies in common memory until it is dropped.
    pub(super) fn aead(&self) -> Result<Aead> {
        let key = SecretKey::from_slice(&held(&self.page.slots).bytes[self.at..self.at + SecretKey::LEN]);
        Aead::new(key.ok_or_else(|| Error::internal("a kept key has 32 bytes"))?)
    }
}

impl Drop for KeptKey {
    fn drop(&mut self) {
        let mut slots = held(&self.page.slots);
        slots.bytes[self.at..self.at + SecretKey::LEN].zeroize();
        slots.free.push(self.at);
    }
}

/// Nothing panics while it holds one of these.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for KeyMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyMemory(..)")
    }
}

impl fmt::Debug for KeptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemRandom;

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_slice(&[byte; 32]).unwrap()
    }

    fn opens(kept: &KeptKey, byte: u8) -> bool {
        let sealed = Aead::new(key(byte)).unwrap().seal(b"", b"x", &SystemRandom).unwrap();
        kept.aead().unwrap().open(b"", &sealed).is_some()
    }

    #[test]
    fn keys_fill_pages_and_leave_zeros_behind() {
        let memory = KeyMemory::new();
        let slots = region::page::size() / SecretKey::LEN;
        let mut kept: Vec<_> = (0..=slots).map(|n| memory.keep(&key(n as u8))).collect();
        assert_eq!(held(&memory.0.pages).len(), 2);
        for (n, kept) in kept.iter().enumerate() {
            assert!(opens(kept, n as u8), "{n}");
        }
        let page = kept[3].page.clone();
        let at = kept.remove(3).at;
        assert_eq!(held(&page.slots).bytes[at..at + 32], [0; 32]);
        kept.push(memory.keep(&key(200)));
        assert_eq!(held(&memory.0.pages).len(), 2, "what was freed is used");
        drop((kept, page));
        drop(memory.keep(&key(1)));
        assert_eq!(held(&memory.0.pages).len(), 1, "empty pages are given back");
    }

    #[test]
    fn only_whole_pages_of_ours_are_locked() {
        fn checked(at: *const u8, size: usize) -> region::Result<region::LockGuard> {
            assert_eq!((at.align_offset(region::page::size()), size), (0, region::page::size()));
            region::lock(at, size)
        }
        let memory = KeyMemory::locked_by(checked);
        let kept = memory.keep(&key(7));
        // The first key lies at the end of the page that is locked.
        let slots = held(&kept.page.slots);
        assert_eq!(slots.bytes[kept.at + SecretKey::LEN..].as_ptr().align_offset(region::page::size()), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_counts_a_page_of_keys_as_locked() {
        let memory = KeyMemory::new();
        let kept = memory.keep(&key(7));
        let at = held(&kept.page.slots).bytes[kept.at..].as_ptr().addr();
        if kept.page._lock.is_none() {
            return; // Not permitted here; the next test is about that.
        }
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        let mut locked = 0;
        for line in maps.lines() {
            if let Some((from, to)) = line.split_once(' ').and_then(|(range, _)| range.split_once('-')) {
                let number = |text| usize::from_str_radix(text, 16);
                if let (Ok(from), Ok(to)) = (number(from), number(to)) {
                    inside = (from..to).contains(&at);
                }
            }
            if inside && let Some(rest) = line.strip_prefix("Locked:") {
                locked = rest.trim().trim_end_matches(" kB").parse().unwrap();
            }
        }
        assert!(locked >= region::page::size() / 1024, "{locked} kB");
    }

    #[test]
    fn keys_are_kept_where_nothing_may_be_locked() {
        let memory = KeyMemory::locked_by(|_, _| Err(region::Error::UnmappedRegion));
        let kept = memory.keep(&key(7));
        assert!(opens(&kept, 7) && kept.page._lock.is_none());
        assert!(memory.0.warned.load(Ordering::Relaxed));
        assert!(!format!("{kept:?} {memory:?}").contains('7'));
    }
}
