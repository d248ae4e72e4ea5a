//! How large a gallery may be.

/// Widest embedding that is read.
pub const MAX_DIM: usize = 8192;

/// Most entries that are read: 16 million, beyond which a page could not hold them.
pub const MAX_ENTRIES: usize = 1 << 24;
