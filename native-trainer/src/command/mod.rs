//! One file or folder per command; each reads its arguments, calls the library, prints what a person needs.

pub mod bench;
pub mod data;
pub mod detect;
pub mod embed;
pub mod eval;
pub mod export;
pub mod extract;
pub mod gallery;
pub mod import;
pub mod publish;
pub mod recognize;
pub mod report;
pub mod scene;
pub mod serve;
pub mod site;
pub mod studio;
pub mod train;
pub mod verify;
pub mod worker;
