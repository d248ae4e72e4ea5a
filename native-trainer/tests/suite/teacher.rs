//! A network taught by another on pictures that nobody labeled.

use std::ops::RangeInclusive;
use std::path::Path;

use crate::world::{World, fail, succeed};

/// Changes the small world's recipe to learn from a teacher alone, by these losses.
fn taught(teacher: &Path, losses: &[&str]) -> Vec<String> {
    let teacher = teacher.display();
    let losses: Vec<String> =
        losses.iter().map(|kind| format!("{{ kind = \"{kind}\" }}")).collect();
    [
        "-o".to_owned(),
        format!("extractor.losses=[{}]", losses.join(", ")),
        "-o".to_owned(),
        format!("extractor.teacher={{ weights = \"{teacher}\" }}"),
        "-o".to_owned(),
        "extractor.sampler={ kind = \"shuffle\" }".into(),
    ]
    .to_vec()
}

fn recall(model: &Path, pictures: &Path) -> f64 {
    let json = succeed(&[&"eval", &"--extractor", &model, &"--query", &pictures, &"--json"]);
    let metrics: serde_json::Value = serde_json::from_str(json.trim()).expect("JSON");
    metrics["recall1"].as_f64().expect("a number")
}

/// The mean of a term's averages over some epochs, from the log.
fn mean(log: &str, epochs: RangeInclusive<usize>, name: &str) -> f64 {
    let count = epochs.clone().count() as f64;
    epochs.map(|epoch| term(log, epoch, name)).sum::<f64>() / count
}

/// The average of a term over an epoch, from the log.
fn term(log: &str, epoch: usize, name: &str) -> f64 {
    let line = log
        .lines()
        .find(|line| line.contains(&format!("[Train][Epoch {epoch}/")) && line.contains("[Avg]"))
        .expect("an epoch's averages");
    let (_, after) = line.split_once(&format!("{name}: ")).expect("the term");
    after.split(',').next().expect("a value").parse().expect("a number")
}

#[test]
fn a_student_learns_classes_that_it_was_never_told() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 5);
    let recipe = world.recipe(&pictures, 8);
    let teacher = world.path("teacher");
    succeed(&[&"train", &"-c", &recipe, &"--output", &teacher]);
    let teacher = teacher.join("model.safetensors");

    // The same pictures without their classes.
    let list: String = (0..4)
        .flat_map(|class| {
            (0..5).map(move |number| format!("pictures/class {class} 类/{number}.png\t0\n"))
        })
        .collect();
    let unlabeled = world.write("unlabeled.txt", list);
    let train = format!("extractor.train={}", unlabeled.display());
    let (both, relations) = (["teacher_cosine", "teacher_relations"], ["teacher_relations"]);
    // A batch of eight pictures has relations of its own, so that single epochs say little of them, and a cosine
    // that is learned beside them outweighs them.
    for (run, losses, name, share) in [
        ("student", &both[..], "DistanceLoss", 0.6),
        ("of relations", &relations[..], "RKDLoss", 0.85),
    ] {
        let student = world.path(run);
        let changes = taught(&teacher, losses);
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![
            &"train",
            &"-c",
            &recipe,
            &"--output",
            &student,
            &"-o",
            &"epochs=60",
            &"-o",
            &train,
            &"-o",
            &"schedule.learning_rate=0.2",
        ];
        arguments.extend(changes.iter().map(|change| change as &dyn AsRef<std::ffi::OsStr>));
        let log = succeed(&arguments);
        let (first, last) = (mean(&log, 1..=5, name), mean(&log, 41..=60, name));
        assert!(last < share * first, "{name} went from {first} to {last}");
        let recall = recall(&student.join("model.safetensors"), &pictures);
        assert!(recall > 0.8, "{run}: {recall}");
    }

    // What it has learned begins another run, by the name of its folder.
    let next = world.path("next");
    let begin = format!("extractor.pretrained={}", world.path("student").display());
    succeed(&[&"train", &"-c", &recipe, &"--output", &next, &"-o", &"epochs=1", &"-o", &begin]);
}

#[test]
fn an_ensemble_teaches_like_its_one_network_twice() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 5);
    let recipe = world.recipe(&pictures, 1);
    let teacher = world.model();
    let losses = "extractor.losses=[{ kind = \"teacher_relations\" }]";
    let one = format!("extractor.teacher={{ weights = \"{}\" }}", teacher.display());
    let two = format!("extractor.teacher={{ weights = [\"{0}\", \"{0}\"] }}", teacher.display());
    let mut terms = Vec::new();
    for (name, change) in [("one", &one), ("two", &two)] {
        let run = world.path(name);
        let log =
            succeed(&[&"train", &"-c", &recipe, &"--output", &run, &"-o", &losses, &"-o", change]);
        terms.push(term(&log, 1, "RKDLoss"));
    }
    // Distances and angles of a vector and of itself twice are the same, but for rounding.
    assert!((terms[0] - terms[1]).abs() <= 1e-4 * terms[0], "{terms:?}");
    let none = "extractor.teacher={ weights = [] }";
    let run = world.path("none");
    let error = fail(&[&"train", &"-c", &recipe, &"--output", &run, &"-o", &losses, &"-o", &none]);
    assert!(error.contains("extractor.teacher.weights is an empty list"), "{error}");
}

#[test]
fn a_teacher_that_does_not_fit_is_refused_before_anything_is_written() {
    let world = World::new();
    let pictures = world.pictures("pictures", 4, 5);
    let recipe = world.recipe(&pictures, 1);
    // Embeddings of 16 values, where the student's have 32.
    let other = world.model();
    let absent = world.path("absent.safetensors");
    let no_model = world.write("none.safetensors", "no model");
    for (teacher, said) in [
        (&other, "take \"teacher_relations\""),
        (&absent, "absent.safetensors"),
        (&no_model, "none.safetensors"),
    ] {
        let run = world.path("run");
        let changes = taught(teacher, &["teacher_cosine", "teacher_relations"]);
        let mut arguments: Vec<&dyn AsRef<std::ffi::OsStr>> =
            vec![&"train", &"-c", &recipe, &"--output", &run];
        arguments.extend(changes.iter().map(|change| change as &dyn AsRef<std::ffi::OsStr>));
        let error = fail(&arguments);
        assert!(error.contains(said), "{error}");
        assert!(!run.exists());
    }
    let run = world.path("run");
    for (change, said) in [
        ("extractor.losses=[{ kind = \"teacher_cosine\" }]", "a loss looks at a teacher"),
        ("extractor.teacher={ weights = \"t\" }", "no loss looks at extractor.teacher"),
    ] {
        let error = fail(&[&"train", &"-c", &recipe, &"--output", &run, &"-o", &change]);
        assert!(error.contains(said), "{error}");
    }
}
