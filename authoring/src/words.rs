//! Words of sentences.

/// A number of things with their word: `1 picture`, `2 pictures`.
pub fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
