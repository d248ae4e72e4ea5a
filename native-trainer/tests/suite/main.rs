//! The `magpie` command from outside, in small made-up worlds.

mod bad_input;
mod bad_weights;
mod detection_data;
mod durability;
mod ends;
mod examples;
mod figures;
mod folders;
mod gallery;
mod gallery_entries;
mod gallery_words;
mod path;
mod postgres;
mod replicas;
mod resume;
mod runs;
mod serve;
mod sites;
mod stranger;
mod teacher;
mod tools;
mod words;
mod world;
