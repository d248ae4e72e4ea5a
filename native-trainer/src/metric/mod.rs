//! Figures of merit.

pub mod board;
pub mod detection;
pub mod re_ranking;
pub mod reliability;
pub mod retrieval;
pub mod verdict;
