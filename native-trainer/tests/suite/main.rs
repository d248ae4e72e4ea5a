//! The `magpie` command from outside, in small made-up worlds.
//!
//! Snapshots are those of Unix: other systems have other words for a missing file, and `magpie.exe` for the command.

mod authoring;
mod bad_input;
mod bad_weights;
mod calibration;
mod crops;
mod database;
mod detection_data;
mod detectors;
mod durability;
mod embed;
mod ends;
mod examples;
mod figures;
mod folders;
mod gallery;
mod gallery_adapted;
mod gallery_entries;
mod gallery_words;
#[cfg(unix)]
mod help;
mod known;
mod networks;
mod onnx;
mod paddle;
mod path;
mod postgres;
mod postgres_adapted;
mod postgres_indexes;
mod quality;
mod replicas;
mod replicas_limits;
mod resume;
mod runs;
mod scenes;
#[cfg(unix)]
mod sentences;
mod serve;
mod service;
mod service_changes;
mod service_corrections;
mod service_described;
mod service_refusals;
mod service_shared;
mod service_shared_corrections;
mod service_shared_tables;
mod service_shared_tls;
mod service_slow;
mod service_tls;
mod site;
mod site_edits;
mod sites;
#[cfg(unix)]
mod snapshots;
mod stranger;
mod teacher;
mod texts;
mod tools;
mod words;
mod world;
