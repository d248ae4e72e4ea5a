//! Facts about a class, in the order in which its owner wrote them.

use std::fmt;
use std::ops::Index;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Free-form metadata of a class: link, price, description. Names are told apart by all their letters; each has
/// one text. The order is the owner's, in memory and in files, and counts in comparisons.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata(Vec<(String, String)>);

impl Metadata {
    /// No metadata.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Facts in all.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text of a name.
    pub fn get(&self, name: &str) -> Option<&String> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, text)| text)
    }

    /// Gives a name its text, behind all others where it has none yet; returns the text before.
    pub fn insert(&mut self, name: String, text: String) -> Option<String> {
        if let Some((_, before)) = self.0.iter_mut().find(|(known, _)| *known == name) {
            return Some(std::mem::replace(before, text));
        }
        self.0.push((name, text));
        None
    }

    /// Takes a name out; returns its text.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        let place = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(place).1)
    }

    /// Names with their texts, in the owner's order.
    pub fn iter(&self) -> std::slice::Iter<'_, (String, String)> {
        self.0.iter()
    }
}

impl Index<&str> for Metadata {
    type Output = String;

    /// # Panics
    ///
    /// Where no fact has this name.
    fn index(&self, name: &str) -> &String {
        self.get(name).expect("a fact of this name")
    }
}

impl IntoIterator for Metadata {
    type Item = (String, String);
    type IntoIter = std::vec::IntoIter<(String, String)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Metadata {
    type Item = &'a (String, String);
    type IntoIter = std::slice::Iter<'a, (String, String)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<(String, String)> for Metadata {
    /// Of texts with the same name the last one holds, at the place of the first.
    fn from_iter<I: IntoIterator<Item = (String, String)>>(facts: I) -> Self {
        let mut metadata = Self::new();
        for (name, text) in facts {
            metadata.insert(name, text);
        }
        metadata
    }
}

impl<const N: usize> From<[(String, String); N]> for Metadata {
    fn from(facts: [(String, String); N]) -> Self {
        facts.into_iter().collect()
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(name, text)| (name, text)))
    }
}

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Facts;

        impl<'de> Visitor<'de> for Facts {
            type Value = Metadata;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map of names to texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut facts = Metadata::new();
                while let Some((name, text)) = map.next_entry()? {
                    facts.insert(name, text);
                }
                Ok(facts)
            }
        }

        deserializer.deserialize_map(Facts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"price":"3 €","aisle":"7","link":"https://example.org"}"#;

    #[test]
    fn facts_stay_in_the_order_in_which_they_were_written() {
        let mut facts: Metadata = serde_json::from_str(TEXT).expect("facts");
        assert_eq!(serde_json::to_string(&facts).expect("JSON"), TEXT);
        let names = |facts: &Metadata| -> Vec<String> {
            facts.iter().map(|(name, _)| name.clone()).collect()
        };
        // A fact that changes stays where it is; a new one comes last.
        assert_eq!(facts.insert("price".to_owned(), "4 €".to_owned()).as_deref(), Some("3 €"));
        assert_eq!(facts.insert("about".to_owned(), "sour".to_owned()), None);
        assert_eq!(names(&facts), ["price", "aisle", "link", "about"]);
        assert_eq!(facts.remove("aisle").as_deref(), Some("7"));
        assert_eq!(names(&facts), ["price", "link", "about"]);
        assert_eq!(facts["price"], "4 €");
    }

    #[test]
    fn of_a_name_that_is_written_twice_the_last_text_holds() {
        let facts: Metadata = serde_json::from_str(r#"{"a":"1","b":"2","a":"3"}"#).expect("facts");
        assert_eq!(serde_json::to_string(&facts).expect("JSON"), r#"{"a":"3","b":"2"}"#);
    }
}
