//! What a thread holds during a forward pass alone.

use std::cell::RefCell;
use std::thread::LocalKey;

/// Runs a forward pass while the thread holds `value`.
pub(super) fn within<T: 'static, R>(
    held: &'static LocalKey<RefCell<T>>,
    value: T,
    forward: impl FnOnce() -> R,
) -> R {
    let _restored = Restored { held, before: Some(held.replace(value)) };
    forward()
}

/// Sets the thread back when a forward pass ends, by a panic too.
struct Restored<T: 'static> {
    held: &'static LocalKey<RefCell<T>>,
    before: Option<T>,
}

impl<T> Drop for Restored<T> {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            self.held.set(before);
        }
    }
}
