//! Which classes a request is about.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use authoring::label::{label, nearest, quoted};
use models::gallery::{Class, Gallery};

use super::change::class_of;
use super::problem::{Answered, Kind, Problem, shown};

/// Metadata that classes must have, and labels that they may have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    class: HashSet<Option<String>>,
    metadata: BTreeMap<String, String>,
}

impl Filter {
    /// Lets in classes of these labels, of all where there is none, with these metadata.
    ///
    /// # Errors
    ///
    /// [`Kind::NotFound`] for a label that no class has, and for metadata of which no class has the name: who asks by
    /// them expects that there are some.
    pub(crate) fn new(
        gallery: &Gallery,
        class: &[String],
        metadata: &BTreeMap<String, String>,
    ) -> Answered<Self> {
        let wanted: HashSet<Option<String>> = class.iter().map(|text| label(text)).collect();
        if !wanted.is_empty() {
            let there: HashSet<Option<String>> =
                gallery.classes().iter().map(|class| label(&class.label)).collect();
            if let Some(text) = class.iter().find(|text| !there.contains(&label(text))) {
                class_of(gallery, text)?;
            }
        }
        if !metadata.is_empty() {
            let names = gallery.classes().iter().flat_map(|class| class.metadata.iter());
            let there: BTreeSet<&str> = names.map(|(name, _)| name.as_str()).collect();
            if let Some(name) = metadata.keys().find(|name| !there.contains(name.as_str())) {
                let help = match nearest(name, there.iter().copied()) {
                    Some(near) => format!("did you mean {}?", quoted(near)),
                    None => "GET /v1/classes lists what classes have".to_owned(),
                };
                let detail = format!("no class has metadata {}; {help}", shown(name));
                return Err(Problem::new(Kind::NotFound, detail));
            }
        }
        Ok(Self { class: wanted, metadata: metadata.clone() })
    }

    /// Whether it lets every class in.
    pub(crate) fn is_open(&self) -> bool {
        self.class.is_empty() && self.metadata.is_empty()
    }

    /// Whether it lets a class in.
    pub(crate) fn admits(&self, class: &Class) -> bool {
        let has =
            |(name, text): (&String, &String)| class.metadata.get(name.as_str()) == Some(text);
        (self.class.is_empty() || self.class.contains(&label(&class.label)))
            && self.metadata.iter().all(has)
    }
}

#[cfg(test)]
mod tests {
    use models::gallery::Metadata;

    use super::*;

    fn gallery() -> Gallery {
        let mut gallery = Gallery::new(4, "m");
        for (name, price) in [("Käse", Some("9")), ("Mug", Some("7")), ("Plate", None)] {
            let mut metadata = Metadata::default();
            price.into_iter().for_each(|price| drop(metadata.insert("price".into(), price.into())));
            let class = Class { label: name.to_owned(), metadata, ..Class::default() };
            gallery.add_class(class, Vec::new());
        }
        gallery
    }

    fn admitted(class: &[&str], metadata: &[(&str, &str)]) -> Answered<Vec<String>> {
        let gallery = gallery();
        let class: Vec<String> = class.iter().map(|text| (*text).to_owned()).collect();
        let pairs = metadata.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let filter = Filter::new(&gallery, &class, &pairs.collect())?;
        let classes = gallery.classes().iter().filter(|class| filter.admits(class));
        Ok(classes.map(|class| class.label.clone()).collect())
    }

    #[test]
    fn classes_are_let_in_by_label_and_metadata() {
        assert_eq!(admitted(&[], &[]).unwrap(), ["Käse", "Mug", "Plate"]);
        assert_eq!(admitted(&[" Ka\u{308}se", "Plate"], &[]).unwrap(), ["Käse", "Plate"]);
        assert_eq!(admitted(&["Mug", "Plate"], &[("price", "7")]).unwrap(), ["Mug"]);
        assert!(admitted(&[], &[("price", "8")]).unwrap().is_empty(), "a text that no class has");
    }

    #[test]
    fn what_names_nothing_is_told() {
        for (class, metadata, sentence) in [
            (&["Mug", "Mgu"][..], &[][..], "there is no class \"Mgu\"; did you mean \"Mug\"?"),
            (&[" "], &[], "there is no class \" \"; GET /v1/classes lists those that there are"),
            (&[], &[("prices", "7")], "no class has metadata \"prices\"; did you mean \"price\"?"),
            (
                &[],
                &[("x", "7")],
                "no class has metadata \"x\"; GET /v1/classes lists what classes have",
            ),
        ] {
            let problem = admitted(class, metadata).unwrap_err();
            assert_eq!((problem.kind, problem.detail.as_str()), (Kind::NotFound, sentence));
        }
    }
}
