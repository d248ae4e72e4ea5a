//! What was logged, as curves over the epochs.

use std::collections::BTreeMap;

use serde_json::Value;

use authoring::plot::{Axis, COLORS, Curve, Plot};

/// Points of a curve; more are averaged.
const POINTS: usize = 400;

type Points = Vec<(f64, f64)>;

/// Curves over epochs that share a scale.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    curves: BTreeMap<String, Points>,
}

/// The charts of a run's scalars; lines that are cut off are left out.
pub(super) fn charts(metrics: &str) -> Vec<Chart> {
    let records: Vec<Value> =
        metrics.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of = |kind: &'static str| records.iter().filter(move |record| record["kind"] == kind);
    let number = |record: &Value, name: &str| record[name].as_f64();
    let last_step = of("train").filter_map(|r| number(r, "iter")).fold(0.0, f64::max);
    let mut loss: BTreeMap<String, Points> = BTreeMap::new();
    let mut rate: BTreeMap<String, Points> = BTreeMap::new();
    let mut found: BTreeMap<String, Points> = BTreeMap::new();
    // A step that was repeated after a stop counts as it went the last time.
    let mut steps: BTreeMap<[u64; 2], &Value> = BTreeMap::new();
    for record in of("train") {
        if let (Some(epoch), Some(step)) = (record["epoch"].as_u64(), record["iter"].as_u64()) {
            steps.insert([epoch, step], record);
        }
    }
    for ([epoch, step], record) in steps {
        let x = epoch as f64 - 1.0 + step as f64 / (last_step + 1.0);
        for (name, value) in record.as_object().into_iter().flatten() {
            let curves = match name.as_str() {
                "kind" | "epoch" | "iter" | "ips" => continue,
                "lr" => &mut rate,
                _ => &mut loss,
            };
            let point = value.as_f64().map(|y| (x, y));
            curves.entry(name.clone()).or_default().extend(point);
        }
    }
    let mut evaluations: BTreeMap<u64, &Value> = BTreeMap::new();
    for record in of("eval") {
        evaluations.extend(record["epoch"].as_u64().map(|epoch| (epoch, record)));
    }
    for (epoch, record) in evaluations {
        for (name, value) in record.as_object().into_iter().flatten() {
            if !["kind", "epoch"].contains(&name.as_str()) {
                let point = value.as_f64().map(|y| (epoch as f64, y));
                found.entry(name.clone()).or_default().extend(point);
            }
        }
    }
    let charts = [("Evaluation", found), ("Loss", loss), ("Learning rate", rate)];
    charts
        .into_iter()
        .filter(|(_, curves)| !curves.is_empty())
        .map(|(title, curves)| Chart { title, curves })
        .collect()
}

/// At most [`POINTS`] points, each the mean of its neighbors.
fn thinned(points: &[(f64, f64)]) -> Points {
    let group = points.len().div_ceil(POINTS).max(1);
    let mean = |points: &[(f64, f64)]| {
        let count = points.len() as f64;
        let sum = points.iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(group).map(mean).collect()
}

impl Chart {
    pub(super) fn plot(&self) -> Plot {
        let all = || self.curves.values().flatten();
        let epochs = |value: f64| format!("epoch {}", figure(value));
        let curves = self.curves.iter().enumerate().map(|(place, (name, points))| Curve {
            name: match points[..] {
                // No line shows how high it is.
                [(_, value)] => format!("{name}: {}", figure(value)),
                _ => name.clone(),
            },
            color: COLORS[place % COLORS.len()],
            points: thinned(points),
        });
        Plot {
            title: format!("{} by epoch", self.title),
            size: [800.0, 260.0],
            background: None,
            x: Axis::over(all().map(|point| point.0), 2, epochs),
            y: Axis::over(all().map(|point| point.1), 3, figure),
            curves: curves.collect(),
            mark: None,
        }
    }
}

/// A number as short as it may be.
fn figure(value: f64) -> String {
    if value != 0.0 && value.abs() < 0.001 { format!("{value:.1e}") } else { trimmed(value) }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_keep_the_last_telling_of_a_step_and_leave_cut_lines_out() {
        let text = r#"{"kind":"train","epoch":1,"iter":0,"loss":3.0,"CELoss":2.0,"lr":0.1,"ips":9}
{"kind":"train","epoch":1,"iter":1,"loss":9.0,"CELoss":2.0,"lr":0.1,"ips":9}
{"kind":"train","epoch":1,"iter":1,"loss":2.0,"CELoss":1.0,"lr":0.05,"ips":9}
{"kind":"eval","epoch":1,"recall1":0.5}
{"kind":"eval","epoch":2,"rec"#;
        let charts = charts(text);
        let titles: Vec<_> = charts.iter().map(|chart| chart.title).collect();
        assert_eq!(titles, ["Evaluation", "Loss", "Learning rate"]);
        assert_eq!(charts[1].curves["loss"], [(0.0, 3.0), (0.5, 2.0)]);
        assert_eq!(charts[0].curves["recall1"], [(1.0, 0.5)]);
        for chart in charts {
            let svg = chart.plot().to_svg();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn a_single_evaluation_is_a_dot_with_its_value() {
        let text = r#"{"kind":"eval","epoch":3,"recall_at_1":0.625,"mAP":0.5}"#;
        let [evaluation] = &charts(text)[..] else { panic!("one chart") };
        let svg = evaluation.plot().to_svg();
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
        assert_eq!(svg.matches("epoch 3").count(), 1, "{svg}");
        assert!(svg.contains("recall_at_1: 0.625") && svg.contains("mAP: 0.5"), "{svg}");
    }

    #[test]
    fn long_curves_are_averaged() {
        let points: Points = (0..5000).map(|i| (f64::from(i), 7.0)).collect();
        let thin = thinned(&points);
        assert!(thin.len() <= POINTS && thin.iter().all(|point| point.1 == 7.0));
    }
}
