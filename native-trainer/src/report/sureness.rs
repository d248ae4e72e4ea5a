//! How sure the network's answers are, and whether that comes true.

use std::collections::HashSet;

use models::gallery::{Class, ContentId, Gallery, LearnedBy, Question, RULES, VectorType};

use crate::data::list_file::Samples;
use crate::metric::reliability::Reliability;
use crate::metric::retrieval::Embedded;
use crate::terminal::counted;
use authoring::plot::put;

/// Share of unknown things that may be named.
const FALSE_ACCEPT: f64 = 0.05;

/// What the searched pictures say of known and unknown things, each left out, and how their probabilities come true:
/// on the queries where these are others, else on the pictures that were left out. Empty for too few pictures.
pub(super) fn section(
    (queries, query): (&Embedded, &Samples),
    (searched, samples): (&Embedded, &Samples),
) -> anyhow::Result<String> {
    let Some(mut gallery) = gallery(searched, samples)? else { return Ok(String::new()) };
    let learned = gallery.calibrate_itself(&RULES, FALSE_ACCEPT, None)?;
    let Some(LearnedBy { rule, trials, fitted }) = learned else { return Ok(String::new()) };
    let calibration = fitted.calibration.clone();
    gallery.keep_learned(rule, fitted.min_similarity, calibration.clone())?;
    let asked = asked(&gallery, (queries, query), &Question { rule, ..Question::best(1) })?;
    let (answers, of) = if asked.is_empty() {
        (&fitted.held, "pictures that were left out")
    } else {
        (&asked, "queries")
    };
    let Some(reliability) = Reliability::of(answers) else { return Ok(String::new()) };
    let known = trials.iter().filter(|trial| trial.known.is_some()).count();
    let right = fitted.right.iter().filter(|right| **right).count();
    let mut page = "<h3>How sure it is</h3>".to_owned();
    put(
        &mut page,
        format_args!(
            "<p>Of {}, each asked without itself, {:.1} % get their own name if {:.0} % of unknown things may be \
             named by mistake; what is known is told by {}. Probabilities are off by {:.1} % on average, over {} \
             {of}.</p>{}",
            counted(known, "known picture", "known pictures"),
            100.0 * right as f64 / known.max(1) as f64,
            100.0 * FALSE_ACCEPT,
            calibration.test().name(),
            100.0 * reliability.error,
            answers.len(),
            reliability.plot().to_svg()
        ),
    );
    Ok(page)
}

/// The searched pictures as a gallery; `None` without any.
fn gallery(searched: &Embedded, samples: &Samples) -> anyhow::Result<Option<Gallery>> {
    let dim = searched.values.len() / searched.len().max(1);
    if dim == 0 {
        return Ok(None);
    }
    let mut gallery = Gallery::with_type(dim, "report", VectorType::F32);
    for label in &samples.labels {
        gallery.add_class(Class { label: label.clone(), ..Class::default() }, Vec::new());
    }
    let pictures = searched.labels.iter().zip(searched.values.chunks_exact(dim));
    for (place, (class, embedding)) in pictures.enumerate() {
        gallery.add_image(*class, embedding, content(searched, place))?;
    }
    Ok(Some(gallery))
}

/// Content of a picture; zeros where nobody knows.
fn content(embedded: &Embedded, place: usize) -> ContentId {
    embedded.contents.get(place).copied().unwrap_or_default()
}

/// Probabilities of the answers to queries of known classes that are not in the gallery themselves, and whether these
/// are right.
fn asked(
    gallery: &Gallery,
    (queries, samples): (&Embedded, &Samples),
    question: &Question<'_>,
) -> anyhow::Result<Vec<(f32, bool)>> {
    let inside: HashSet<ContentId> = gallery.entries().map(|e| gallery.content_id(e)).collect();
    let mut answers = Vec::new();
    let pictures = queries.labels.iter().zip(queries.values.chunks_exact(gallery.dim()));
    for (place, (label, embedding)) in pictures.enumerate() {
        let Some(class) = gallery.class_by_label(&samples.labels[*label]) else { continue };
        if inside.contains(&content(queries, place)) {
            continue;
        }
        let answer = gallery.answer(embedding, question)?;
        if let (Some(best), Some(probability)) = (answer.best(), answer.probability) {
            answers.push((probability, best.class == class));
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::list_file::Samples;

    /// Pictures of classes on a circle, numbered from some number on.
    fn pictures(classes: usize, each: usize, first: usize) -> (Embedded, Samples) {
        let mut embedded = Embedded::default();
        for number in 0..classes * each {
            let (class, own) = (number % classes, first + number);
            let angle = class as f32 + 0.3 * ((own * 37 % 101) as f32 / 101.0 - 0.5);
            embedded.labels.push(class);
            embedded.ids.push(own.to_string());
            embedded.contents.push(ContentId::of(&own.to_le_bytes()));
            embedded.values.extend([angle.cos(), angle.sin()]);
        }
        let labels = (0..classes).map(|class| class.to_string()).collect();
        (embedded, Samples { labels, ..Samples::default() })
    }

    #[test]
    fn queries_are_asked_where_they_are_others() {
        let (searched, samples) = pictures(5, 10, 0);
        let (queries, query) = pictures(5, 6, 1000);
        let page = section((&queries, &query), (&searched, &samples)).unwrap();
        assert!(page.contains("Of 50 known pictures, each asked without itself, "), "{page}");
        assert!(page.contains("over 30 queries") && page.contains("<svg"), "{page}");
        let page = section((&searched, &samples), (&searched, &samples)).unwrap();
        assert!(page.contains("over 50 pictures that were left out"), "{page}");
        // Too few say nothing.
        let (searched, samples) = pictures(3, 2, 0);
        assert_eq!(section((&searched, &samples), (&searched, &samples)).unwrap(), "");
        let none = (Embedded::default(), Samples::default());
        assert_eq!(section((&none.0, &none.1), (&none.0, &none.1)).unwrap(), "");
    }
}
