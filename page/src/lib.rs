//! What the pages of a site share: typed access to elements, sentences in the visitor's language, questions.

pub mod dialog;
pub mod dom;
pub mod language;
