//! What the network finds: rates, classes taken for each other, queries with their answers.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use authoring::html::{self, Kind};
use burn::tensor::Device;
use models::model_file::{Architecture, ModelFile};
use rayon::prelude::*;

use super::sureness;
use crate::data::list_file::Samples;
use crate::data::store::read_picture;
use crate::embedding::embed_samples;
use crate::files;
use crate::metric::retrieval::{Embedded, remarks, retrieval_metrics};
use crate::recipe::{Pictures, Recipe, Task};
use crate::terminal::counted;
use authoring::neighbors::{self, inner_products};
use authoring::plot::{escape, put};

/// Neighbors shown of a query.
const NEIGHBORS: usize = 5;
/// Longer side of an image in the page, in pixels.
const IMAGE_SIDE: u32 = 96;
/// Pairs of classes shown that are taken for each other.
const CONFUSIONS: usize = 20;

/// What the exported network answers on the recipe's queries; nothing for a detector or a recipe
/// without queries.
pub(super) fn section(
    run: &Path,
    recipe: &Recipe,
    shown: usize,
    device: &Device,
) -> anyhow::Result<String> {
    let path = run.join("model.safetensors");
    let Task::Extractor(task) = &recipe.task else { return Ok(String::new()) };
    if !path.is_file() {
        return Ok(String::new());
    }
    let Pictures { query: Some(query), gallery: given, notes, .. } = task.pictures(recipe.seed)?
    else {
        return Ok(String::new());
    };
    let bytes = files::read(&path, files::MODEL_LIMIT)?;
    let file = ModelFile::from_vec(bytes).with_context(|| path.display().to_string())?;
    if !matches!(file.description.architecture, Architecture::Extractor(_)) {
        return Ok(String::new());
    }
    let extractor = file.prepare_extractor(device)?;
    let embed = |samples| embed_samples(&extractor, samples);
    let queries = embed(&query)?;
    let searched = match &given {
        Some(gallery) => embed(gallery)?,
        None => queries.clone(),
    };
    let metrics = retrieval_metrics(&queries, &searched, &[1, 5]);
    let said = remarks(&queries, given.as_ref().map(|_| &searched), &metrics);
    let gallery = given.unwrap_or_else(|| query.clone());
    let answers = nearest(&queries, &searched);

    let mut page = format!(
        "<h2>What it finds</h2><p>{} among {} of {}: recall@1 {:.1} %, mAP {:.1} %.</p>",
        counted(metrics.queries, "query", "queries"),
        counted(gallery.samples.len(), "picture", "pictures"),
        counted(gallery.labels.len(), "class", "classes"),
        100.0 * metrics.recall_at_k.first().map_or(0.0, |(_, rate)| *rate),
        100.0 * metrics.mean_average_precision
    );
    for note in notes {
        put(&mut page, format_args!("<p>{}</p>", escape(&note)));
    }
    for remark in said {
        put(&mut page, format_args!("<p>{}.</p>", escape(&remark)));
    }
    page.push_str(&sureness::section((&queries, &query), (&searched, &gallery))?);
    page.push_str(&confusions(&query, &gallery, &answers));
    page.push_str(&rows(&query, &gallery, &answers, shown)?);
    Ok(page)
}

/// Queries with their answers; up to `shown`, wrong ones first.
fn rows(
    query: &Samples,
    gallery: &Samples,
    answers: &[Vec<(usize, f32)>],
    shown: usize,
) -> anyhow::Result<String> {
    let is_right = |index: usize| {
        answers[index]
            .first()
            .is_some_and(|(place, _)| gallery.samples[*place].label == query.samples[index].label)
    };
    let (right, wrong): (Vec<usize>, Vec<usize>) =
        (0..answers.len()).partition(|index| is_right(*index));
    // Both kinds are worth seeing: three wrong ones to a right one, spread over the list.
    let shown_wrong = wrong.len().min(shown - shown / 4);
    let shown_right = right.len().min(shown - shown_wrong);
    let mut page = "<h3>Queries and their nearest pictures</h3>".to_owned();
    for index in spread(&wrong, shown_wrong).chain(spread(&right, shown_right)) {
        let sample = &query.samples[index];
        page.push_str("<div class=\"row\">");
        page.push_str(&figure(&sample.path, &query.labels[sample.label], Kind::Query)?);
        for (place, similarity) in &answers[index] {
            let neighbor = &gallery.samples[*place];
            let kind = if neighbor.label == sample.label { Kind::Right } else { Kind::Wrong };
            let caption = format!("{} {similarity:.2}", gallery.labels[neighbor.label]);
            page.push_str(&figure(&neighbor.path, &caption, kind)?);
        }
        page.push_str("</div>");
    }
    Ok(page)
}

/// An image with its caption.
fn figure(path: &Path, caption: &str, kind: Kind) -> anyhow::Result<String> {
    Ok(html::image(&read_picture(path)?, IMAGE_SIDE, caption, kind)?)
}

/// `count` of the items, evenly spread.
fn spread(items: &[usize], count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| items[i * items.len() / count])
}

/// The best answers to every query: position in the gallery and cosine. A query is no answer to itself.
fn nearest(queries: &Embedded, gallery: &Embedded) -> Vec<Vec<(usize, f32)>> {
    let dim = (gallery.values.len() / gallery.len().max(1)).max(1);
    let answers = |(index, query)| {
        let mut cosines: Vec<f32> =
            inner_products(query, gallery.values.chunks_exact(dim)).collect();
        for place in (0..gallery.len()).filter(|place| gallery.is_itself(*place, queries, index)) {
            cosines[place] = f32::NEG_INFINITY;
        }
        let best = neighbors::best(&cosines, NEIGHBORS).into_iter();
        let answers = best.map(|place| (place, cosines[place]));
        answers.filter(|(_, cosine)| *cosine > f32::NEG_INFINITY).collect()
    };
    queries.values.par_chunks_exact(dim).enumerate().map(answers).collect()
}

/// The classes that are most often taken for others.
fn confusions(query: &Samples, gallery: &Samples, answers: &[Vec<(usize, f32)>]) -> String {
    let mut counts: BTreeMap<[usize; 2], usize> = BTreeMap::new();
    for (sample, answers) in query.samples.iter().zip(answers) {
        if let Some((place, _)) = answers.first() {
            let said = gallery.samples[*place].label;
            if said != sample.label {
                *counts.entry([sample.label, said]).or_default() += 1;
            }
        }
    }
    if counts.is_empty() {
        return String::new();
    }
    let mut pairs: Vec<_> = counts.into_iter().collect();
    pairs.sort_by_key(|(pair, count)| (std::cmp::Reverse(*count), *pair));
    let mut page =
        "<h3>Taken for another</h3><table><tr><th>is</th><th>was called</th><th>times</th></tr>"
            .to_owned();
    for ([is, said], count) in pairs.into_iter().take(CONFUSIONS) {
        let (is, said) = (escape(&query.labels[is]), escape(&gallery.labels[said]));
        put(&mut page, format_args!("<tr><td>{is}</td><td>{said}</td><td>{count}</td></tr>"));
    }
    page.push_str("</table>");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_never_finds_itself() {
        let embedded = Embedded {
            values: vec![1.0, 0.0, 0.0, 1.0, 0.6, 0.8],
            labels: vec![0, 1, 1],
            ids: ["a", "b", "c"].map(str::to_owned).to_vec(),
            ..Embedded::default()
        };
        let answers = nearest(&embedded, &embedded);
        let places: Vec<Vec<usize>> =
            answers.iter().map(|row| row.iter().map(|(place, _)| *place).collect()).collect();
        assert_eq!(places, [vec![2, 1], vec![2, 0], vec![1, 0]]);
    }
}
