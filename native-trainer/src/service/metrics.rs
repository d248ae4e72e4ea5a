//! Figures for Prometheus, in its text format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of a histogram of times, in seconds.
const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Everything that is counted.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, String, u16), u64>>,
    times: Mutex<BTreeMap<&'static str, Times>>,
    images: AtomicU64,
    batches: AtomicU64,
    /// In microseconds.
    busy: AtomicU64,
    refused: AtomicU64,
    changes: AtomicU64,
    corrections: AtomicU64,
    corrections_refused: AtomicU64,
}

#[derive(Default, Clone)]
struct Times {
    /// Up to each of [`SECONDS`], and all.
    counts: [u64; SECONDS.len() + 1],
    sum: f64,
}

/// What stands at this moment.
pub(crate) struct Now {
    pub(crate) waiting: usize,
    pub(crate) working: usize,
    pub(crate) classes: usize,
    pub(crate) entries: usize,
    pub(crate) version: u64,
    pub(crate) journal: u64,
    pub(crate) corrections: usize,
    pub(crate) up: Duration,
}

impl Metrics {
    /// A request was answered.
    pub(crate) fn answered(&self, route: &'static str, method: &str, status: u16, took: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route, method.to_owned(), status)).or_default() += 1;
        drop(requests);
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let times = times.entry(route).or_default();
        let seconds = took.as_secs_f64();
        let place = SECONDS.iter().position(|bound| seconds <= *bound).unwrap_or(SECONDS.len());
        times.counts[place] += 1;
        times.sum += seconds;
    }

    /// Images went through the networks together.
    pub(crate) fn batch(&self, images: usize, took: Duration) {
        self.images.fetch_add(images as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.busy.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    /// The queue was full.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The gallery was changed.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// A visitor has said what a thing is.
    pub(crate) fn correction(&self) {
        self.corrections.fetch_add(1, Ordering::Relaxed);
    }

    /// More corrections came than are taken.
    pub(crate) fn corrections_refused(&self) {
        self.corrections_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// All of it as text.
    pub(crate) fn text(&self, now: &Now) -> String {
        let mut text = String::new();
        let mut line = |line: std::fmt::Arguments<'_>| {
            // A string takes every text.
            let _ = writeln!(text, "{line}");
        };
        line(format_args!(
            "# HELP magpie_requests_total Requests that were answered.\n# TYPE magpie_requests_total counter"
        ));
        for ((route, method, status), count) in
            &*self.requests.lock().unwrap_or_else(PoisonError::into_inner)
        {
            line(format_args!(
                "magpie_requests_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}} {count}"
            ));
        }
        let name = "magpie_request_seconds";
        line(format_args!(
            "# HELP {name} From a request's head to its answer.\n# TYPE {name} histogram"
        ));
        for (route, times) in &*self.times.lock().unwrap_or_else(PoisonError::into_inner) {
            let mut sum = 0;
            for (place, count) in times.counts.iter().enumerate() {
                sum += count;
                let bound = SECONDS.get(place).map_or("+Inf".to_owned(), f64::to_string);
                line(format_args!("{name}_bucket{{route=\"{route}\",le=\"{bound}\"}} {sum}"));
            }
            line(format_args!("{name}_sum{{route=\"{route}\"}} {}", times.sum));
            line(format_args!("{name}_count{{route=\"{route}\"}} {sum}"));
        }
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        for (name, kind, help, value) in [
            (
                "images_total",
                "counter",
                "Images that were given to the networks.",
                get(&self.images),
            ),
            ("batches_total", "counter", "Batches that they came in.", get(&self.batches)),
            ("network_seconds_total", "counter", "Time of these batches.", get(&self.busy) / 1e6),
            (
                "queue_refused_total",
                "counter",
                "Requests that found the queue full.",
                get(&self.refused),
            ),
            ("changes_total", "counter", "Changes of the gallery.", get(&self.changes)),
            ("corrections_total", "counter", "Corrections that were kept.", get(&self.corrections)),
            (
                "corrections_refused_total",
                "counter",
                "Corrections that came too fast.",
                get(&self.corrections_refused),
            ),
            (
                "corrections_waiting",
                "gauge",
                "Corrections that wait for the owner.",
                now.corrections as f64,
            ),
            ("queue_length", "gauge", "Images and searches that wait.", now.waiting as f64),
            ("requests_working", "gauge", "Requests that are worked on.", now.working as f64),
            ("gallery_classes", "gauge", "Classes of the gallery.", now.classes as f64),
            ("gallery_entries", "gauge", "Entries of the gallery.", now.entries as f64),
            ("gallery_version", "gauge", "Version of the gallery.", now.version as f64),
            ("journal_bytes", "gauge", "Bytes of the journal.", now.journal as f64),
            ("up_seconds", "gauge", "Time since the start.", now.up.as_secs_f64()),
        ] {
            line(format_args!(
                "# HELP magpie_{name} {help}\n# TYPE magpie_{name} {kind}\nmagpie_{name} {value}"
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_as_prometheus_reads_them() {
        let metrics = Metrics::default();
        for milliseconds in [3, 7, 7, 90_000] {
            metrics.answered("/v1/search", "POST", 200, Duration::from_millis(milliseconds));
        }
        metrics.batch(3, Duration::from_millis(1500));
        let now = Now {
            waiting: 2,
            working: 1,
            classes: 3,
            entries: 4,
            version: 5,
            journal: 6,
            corrections: 7,
            up: Duration::ZERO,
        };
        let text = metrics.text(&now);
        for line in [
            "magpie_requests_total{route=\"/v1/search\",method=\"POST\",status=\"200\"} 4",
            "magpie_request_seconds_bucket{route=\"/v1/search\",le=\"0.005\"} 1",
            "magpie_request_seconds_bucket{route=\"/v1/search\",le=\"0.01\"} 3",
            "magpie_request_seconds_bucket{route=\"/v1/search\",le=\"30\"} 3",
            "magpie_request_seconds_bucket{route=\"/v1/search\",le=\"+Inf\"} 4",
            "magpie_request_seconds_count{route=\"/v1/search\"} 4",
            "magpie_images_total 3",
            "magpie_network_seconds_total 1.5",
            "magpie_corrections_waiting 7",
            "magpie_queue_length 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
