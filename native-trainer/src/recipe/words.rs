//! What is wrong with a recipe's text, in words of recipes: no type of the program is named.

use toml::{Table, Value};

use super::file::RecipeFile;
use authoring::label::is_slip;

/// The message of an error that shows its line of the file.
pub(super) fn in_file(message: &str) -> String {
    let line = |line: &str| match Mismatch::of(line) {
        Some(Mismatch { given, takes }) => format!("takes {takes}, not {given}"),
        None => line.to_owned(),
    };
    with_nearest(&message.lines().map(line).collect::<Vec<_>>().join("\n"))
}

/// The message of an error after overrides; `file` is the recipe without them.
pub(super) fn in_override(message: &str, file: &Table) -> String {
    let key = message.lines().find_map(|line| line.strip_prefix("in "));
    let Some((Mismatch { given, takes }, key)) =
        message.lines().find_map(Mismatch::of).zip(key.and_then(|key| quoted(key).pop()))
    else {
        return with_nearest(message);
    };
    let before = key
        .split('.')
        .try_fold(&Value::Table(file.clone()), |value, part| value.get(part))
        .cloned();
    let example = match before {
        Some(Value::Table(_)) => None,
        Some(value) => Some(value.to_string()),
        None => example(takes).map(str::to_owned),
    };
    let example = example.map_or(String::new(), |value| format!(", for example -o {key}={value}"));
    format!("{key} is {given}; it takes {takes}{example}")
}

/// A value of a type that its key does not take.
struct Mismatch {
    given: String,
    takes: &'static str,
}

impl Mismatch {
    /// Of a line as serde words it.
    fn of(line: &str) -> Option<Self> {
        let rest =
            ["invalid type: ", "invalid value: "].iter().find_map(|at| line.strip_prefix(at));
        let (given, expected) = rest?.split_once(", expected ")?;
        let given = match given.split_once(' ') {
            Some(("string", text)) => text.to_owned(),
            Some((_, _)) => quoted(given).pop().unwrap_or_else(|| given.to_owned()),
            None if given == "sequence" => "a list".to_owned(),
            None => "a table".to_owned(),
        };
        Some(Self { given, takes: takes(expected)? })
    }
}

/// What a key takes whose type has this name; `None` for words that need no other.
fn takes(expected: &str) -> Option<&'static str> {
    Some(match expected.trim() {
        "u8" | "u16" | "u32" | "u64" | "usize" => "an integer, at least 0",
        "a nonzero usize" | "a nonzero u32" | "a nonzero u64" => "an integer, at least 1",
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer",
        "f32" | "f64" => "a number",
        "a boolean" | "bool" => "true or false",
        "a string" | "path string" | "string" | "str" => "a text",
        text if text.starts_with("a sequence") => "a list",
        text if text.starts_with("an array of length") || text.starts_with("a tuple of size") => {
            "a list"
        }
        text if text.contains("struct ") || text.contains("enum ") || text == "a map" => "a table",
        _ => return None,
    })
}

/// A value of this kind.
fn example(takes: &str) -> Option<&'static str> {
    match takes {
        "true or false" => Some("true"),
        "a number" => Some("0.5"),
        "a text" => Some("name"),
        takes if takes.starts_with("an integer") => Some("10"),
        _ => None,
    }
}

/// The texts of a message between back-ticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Names the one that was probably meant behind a message that lists what is allowed.
fn with_nearest(message: &str) -> String {
    let Some(line) = message.lines().find(|line| line.starts_with("unknown ")) else {
        return message.to_owned();
    };
    let names = quoted(line);
    let Some((given, allowed)) = names.split_first() else { return message.to_owned() };
    // A key in a table that the recipe itself has.
    let is_of_recipe = |message: String| {
        quoted(&message).split_first().is_some_and(|(_, all)| all.contains(given))
    };
    if !allowed.contains(given)
        && toml::from_str::<RecipeFile>("\"\" = 1")
            .is_err_and(|error| is_of_recipe(error.to_string()))
    {
        return format!("{}\ndid you mean `{given}`, outside of any table?", message.trim_end());
    }
    let distance = |name: &&String| strsim::damerau_levenshtein(given, name);
    match allowed.iter().min_by_key(distance) {
        Some(nearest) if is_slip(given, nearest) => {
            format!("{}\ndid you mean `{nearest}`?", message.trim_end())
        }
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_type_of_the_program_is_named() {
        let file: Table = "epochs = 20\n[schedule]\nlearning_rate = 0.02".parse().unwrap();
        for (message, told) in [
            (
                "invalid type: string \"many\", expected usize\nin `epochs`\n",
                "epochs is \"many\"; it takes an integer, at least 0, for example -o epochs=20",
            ),
            (
                "invalid value: integer `-1`, expected u64\nin `seed`\n",
                "seed is -1; it takes an integer, at least 0, for example -o seed=10",
            ),
            (
                "invalid type: boolean `true`, expected f64\nin `schedule.learning_rate`\n",
                "schedule.learning_rate is true; it takes a number, for example -o schedule.learning_rate=0.02",
            ),
            (
                "invalid type: sequence, expected struct Schedule\nin `schedule`\n",
                "schedule is a list; it takes a table",
            ),
        ] {
            assert_eq!(in_override(message, &file), told);
        }
        let message = "TOML parse error at line 2, column 10\n  |\n2 | epochs = \"many\"\n  |          ^^^^^^\n\
                       invalid type: string \"many\", expected usize\n";
        let told = in_file(message);
        assert!(told.ends_with("\ntakes an integer, at least 0, not \"many\""), "{told}");
        assert!(told.contains("2 | epochs"), "{told}");
    }
}
