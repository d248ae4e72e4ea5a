//! The recipes that come inside the program, by name.

/// Name and text of a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shipped {
    /// As it is given in the place of a file.
    pub name: &'static str,
    /// TOML.
    pub text: &'static str,
}

/// A recipe of the folder `recipes`.
macro_rules! shipped {
    ($name:literal) => {
        Shipped { name: $name, text: include_str!(concat!("../../recipes/", $name, ".toml")) }
    };
}

/// All of them, by name.
pub const SHIPPED: [Shipped; 21] = [
    shipped!("binary-codes"),
    shipped!("caltech"),
    shipped!("cub-mobilenet-v1"),
    shipped!("distil-pp-lcnet-v2"),
    shipped!("emoji-detector"),
    shipped!("emoji-extractor"),
    shipped!("general"),
    shipped!("general-recognition-v1"),
    shipped!("general-recognition-v2"),
    shipped!("grocery"),
    shipped!("hashing-dshsd"),
    shipped!("logo"),
    shipped!("mainbody"),
    shipped!("mainbody-detector"),
    shipped!("mainbody-detector-small"),
    shipped!("person-re-identification"),
    shipped!("photos"),
    shipped!("photos-detector"),
    shipped!("sop-resnet50-vd"),
    shipped!("sop-xbm-resnet50"),
    shipped!("vehicle-re-identification"),
];

impl Shipped {
    /// The one of a name, which may end with `.toml`.
    pub fn find(name: &str) -> Option<Self> {
        let name = name.strip_suffix(".toml").unwrap_or(name);
        SHIPPED.into_iter().find(|recipe| recipe.name == name)
    }

    /// What it is for: the first sentence of its first comment.
    pub fn summary(&self) -> String {
        let comment = self.text.lines().map_while(|line| line.strip_prefix('#'));
        let words: Vec<&str> = comment.map(str::trim).take_while(|line| !line.is_empty()).collect();
        let text = words.join(" ");
        match text.split_once(". ") {
            Some((first, _)) => first.to_owned(),
            None => text.trim_end_matches(['.', ':']).to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn they_are_those_of_the_folder_and_say_what_they_are_for() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let mut names: Vec<String> =
            SHIPPED.iter().map(|recipe| format!("{}.toml", recipe.name)).collect();
        names.sort();
        assert_eq!(files, names);
        for recipe in SHIPPED {
            let summary = recipe.summary();
            assert!(summary.len() > 20 && summary.len() < 140, "{}: {summary}", recipe.name);
            assert_eq!(Shipped::find(&format!("{}.toml", recipe.name)), Some(recipe));
        }
        let photos = Shipped::find("photos").unwrap();
        assert_eq!(
            photos.summary(),
            "Your own photographs: a folder with one sub-folder per class, or a list file"
        );
        assert_eq!(Shipped::find("photo"), None);
    }
}
