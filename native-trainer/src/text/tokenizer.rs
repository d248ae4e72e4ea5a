//! CLIP's tokenizer: a text becomes numbers of words and of parts of words, by byte-pair encoding.
//!
//! Source: R. Sennrich, B. Haddow, A. Birch, "Neural Machine Translation of Rare Words with Subword Units",
//! <https://arxiv.org/abs/1508.07909>. Agrees with `CLIPTokenizer` of `transformers`.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use authoring::label::composed;
use regex::Regex;
use serde_json::Value;
use thiserror::Error;

/// What stands behind the last letter of a word.
const END_OF_WORD: &str = "</w>";
/// Tokens that are single bytes, within a word and at its end.
const BYTES: u32 = 512;
/// Stands before a text, and behind it.
const MARKS: [&str; 2] = ["<|startoftext|>", "<|endoftext|>"];
/// Words of a text, its marks among them.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+";

/// Why files describe no tokenizer of CLIP's.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The text is no JSON.
    #[error("no JSON: {reason}; fetch the file again")]
    Json {
        /// What the reader found.
        reason: String,
    },
    /// A tokenizer of another kind.
    #[error("{what}: no tokenizer as CLIP has it, which is the only one that is read")]
    Kind {
        /// What it is.
        what: String,
    },
    /// A line that is no pair.
    #[error("merge {number} is not two parts with a blank between them; fetch the file again")]
    Pair {
        /// From 1.
        number: usize,
    },
    /// A pair of what does not exist.
    #[error(
        "merge {number} joins \"{part}\", which no merge before it makes; fetch the file again"
    )]
    Unknown {
        /// From 1.
        number: usize,
        /// The part.
        part: String,
    },
    /// A pair that makes what is there already.
    #[error("merge {number} makes \"{word}\", which is there already; fetch the file again")]
    Twice {
        /// From 1.
        number: usize,
        /// What it makes.
        word: String,
    },
    /// A vocabulary with other numbers.
    #[error(
        "its vocabulary and its merges differ: \"{word}\" should be number {wanted}; give both files of one network"
    )]
    Number {
        /// The word.
        word: String,
        /// Its number by the merges.
        wanted: u32,
    },
}

/// Splits texts.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    /// The rank of two tokens that become one; the lowest first. It makes the token of number `BYTES` + rank.
    ranks: HashMap<(u32, u32), u32>,
    /// Pairs in the order of their ranks, a line each.
    merges: String,
    /// The token of each byte within a word.
    of_byte: [u32; 256],
    words: Regex,
}

/// Bytes in the order of their tokens, each with the letter that stands for it in the files: those that can be seen
/// stand for themselves, the others for letters from number 256 on.
fn letters() -> Vec<(u8, char)> {
    let is_seen = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=255_u8).filter(|byte| !is_seen(byte)).zip('\u{100}'..);
    let seen = (0..=255).filter(is_seen).map(|byte| (byte, char::from(byte)));
    seen.chain(others).collect()
}

fn json(bytes: &[u8]) -> Result<Value, TokenizerError> {
    serde_json::from_slice(bytes)
        .map_err(|error| TokenizerError::Json { reason: error.to_string() })
}

impl Tokenizer {
    /// Of the text of `merges.txt`: two parts a line, those that are joined first in front.
    ///
    /// # Errors
    ///
    /// [`TokenizerError`]: lines that are no such pairs.
    pub fn from_merges(text: &str) -> Result<Self, TokenizerError> {
        let lines = text.lines().filter(|line| !line.starts_with("#version") && !line.is_empty());
        Self::of(lines.map(|line| line.split_once(' ')))
    }

    /// Of `tokenizer.json`, as Hugging Face's libraries write it.
    ///
    /// # Errors
    ///
    /// [`TokenizerError`]
    pub fn from_json(bytes: &[u8]) -> Result<Self, TokenizerError> {
        let file = json(bytes)?;
        let model = &file["model"];
        let (kind, end) = (model["type"].as_str(), model["end_of_word_suffix"].as_str());
        let Some(merges) = model["merges"].as_array().filter(|_| end == Some(END_OF_WORD)) else {
            let what = format!("a tokenizer of kind {}", kind.unwrap_or("unknown"));
            return Err(TokenizerError::Kind { what });
        };
        // Older files have a blank between the two, newer ones a list of two.
        let tokenizer = Self::of(merges.iter().map(|merge| match merge {
            Value::String(pair) => pair.split_once(' '),
            pair => Some((pair[0].as_str()?, pair[1].as_str()?)),
        }))?;
        tokenizer.check_vocabulary(&model["vocab"])?;
        Ok(tokenizer)
    }

    fn of<'a>(
        pairs: impl Iterator<Item = Option<(&'a str, &'a str)>>,
    ) -> Result<Self, TokenizerError> {
        let letters = letters();
        let within = letters.iter().map(|(_, letter)| letter.to_string());
        let last = letters.iter().map(|(_, letter)| format!("{letter}{END_OF_WORD}"));
        let mut numbers: HashMap<String, u32> = within.chain(last).zip(0..).collect();
        let (mut ranks, mut merges) = (HashMap::new(), String::new());
        for (pair, rank) in pairs.zip(0_u32..) {
            let number = rank as usize + 1;
            let (left, right) = pair.ok_or(TokenizerError::Pair { number })?;
            let token = |part: &str| {
                let unknown = || TokenizerError::Unknown { number, part: part.to_owned() };
                numbers.get(part).copied().ok_or_else(unknown)
            };
            ranks.insert((token(left)?, token(right)?), rank);
            let word = format!("{left}{right}");
            if numbers.insert(word.clone(), BYTES + rank).is_some() {
                return Err(TokenizerError::Twice { number, word });
            }
            merges.extend([left, " ", right, "\n"]);
        }
        let mut of_byte = [0; 256];
        for ((byte, _), token) in letters.iter().zip(0..) {
            of_byte[usize::from(*byte)] = token;
        }
        let words =
            Regex::new(WORDS).map_err(|error| TokenizerError::Kind { what: error.to_string() })?;
        Ok(Self { ranks, merges, of_byte, words })
    }

    /// Whether the bytes of `vocab.json` give every token the number that it has here.
    ///
    /// # Errors
    ///
    /// [`TokenizerError::Number`] of the first that has another one.
    pub fn check(&self, vocabulary: &[u8]) -> Result<(), TokenizerError> {
        self.check_vocabulary(&json(vocabulary)?)
    }

    fn check_vocabulary(&self, vocabulary: &Value) -> Result<(), TokenizerError> {
        let letters = letters();
        let within = letters.iter().map(|(_, letter)| letter.to_string());
        let last = letters.iter().map(|(_, letter)| format!("{letter}{END_OF_WORD}"));
        let merged = self.merges.lines().map(|line| line.replacen(' ', "", 1));
        let marks = MARKS.into_iter().map(str::to_owned);
        for (word, wanted) in within.chain(last).chain(merged).chain(marks).zip(0_u32..) {
            if vocabulary[&word].as_u64() != Some(u64::from(wanted)) {
                return Err(TokenizerError::Number { word, wanted });
            }
        }
        Ok(())
    }

    /// The pairs, as [`Self::from_merges`] reads them.
    pub fn merges(&self) -> &str {
        &self.merges
    }

    /// How many tokens there are, marks among them.
    pub fn vocabulary(&self) -> usize {
        BYTES as usize + self.ranks.len() + MARKS.len()
    }

    /// The token of a text's end; that of its beginning is one less.
    pub fn end(&self) -> u32 {
        BYTES + self.ranks.len() as u32 + 1
    }

    /// The tokens of a text between the marks of its beginning and its end, at most so many; whether it was cut for
    /// that, as the original cuts it.
    pub fn tokens(&self, text: &str, most: usize) -> (Vec<u32>, bool) {
        let mut tokens = vec![self.end() - 1];
        let marks = || MARKS.into_iter().zip([self.end() - 1, self.end()]);
        let mut rest = 0;
        for (at, _) in text.match_indices("<|") {
            let is_it = |(mark, _): &(&str, u32)| at >= rest && text[at..].starts_with(mark);
            // What is cut off needs no tokens.
            if let Some((mark, token)) = marks().find(is_it).filter(|_| tokens.len() < most) {
                self.split(&text[rest..at], &mut tokens);
                tokens.push(token);
                rest = at + mark.len();
            }
        }
        self.split(&text[rest..], &mut tokens);
        let is_cut = tokens.len() + 1 > most;
        tokens.truncate(most.saturating_sub(1));
        tokens.push(self.end());
        (tokens, is_cut)
    }

    /// Adds the tokens of a text without marks.
    fn split(&self, text: &str, tokens: &mut Vec<u32>) {
        // Letter by letter: a text's last sigma is one like others.
        let small: String = composed(text).chars().flat_map(char::to_lowercase).collect();
        for word in self.words.find_iter(&small) {
            match word.as_str() {
                // What looks like a mark only now is none.
                mark if MARKS.contains(&mark) => {
                    let (inner, close) = mark[2..].split_at(mark.len() - 4);
                    ["<|", inner, close].into_iter().for_each(|part| self.word(part, tokens));
                }
                word => self.word(word, tokens),
            }
        }
    }

    /// Adds the tokens of a word: of all pairs, the one of lowest rank becomes one, until there is none.
    fn word(&self, word: &str, tokens: &mut Vec<u32>) {
        let mut parts: Vec<u32> =
            word.bytes().map(|byte| self.of_byte[usize::from(byte)]).collect();
        let Some(last) = parts.last_mut() else { return };
        *last += BYTES / 2;
        let count = parts.len();
        // Neighbors of each part that is still one; a part that went into another has none behind it.
        let mut next: Vec<usize> = (1..=count).collect();
        let mut before: Vec<usize> = (0..count).map(|at| at.wrapping_sub(1)).collect();
        let mut wanted = BinaryHeap::new();
        let rank = |parts: &[u32], at: usize, behind: usize| {
            self.ranks.get(&(*parts.get(at)?, *parts.get(behind)?)).copied()
        };
        for at in 0..count {
            wanted.extend(rank(&parts, at, at + 1).map(|rank| Reverse((rank, at))));
        }
        let mut is_gone = vec![false; count];
        while let Some(Reverse((wanted_rank, at))) = wanted.pop() {
            let behind = next[at];
            if is_gone[at] || rank(&parts, at, behind) != Some(wanted_rank) {
                continue;
            }
            parts[at] = BYTES + wanted_rank;
            is_gone[behind] = true;
            next[at] = next[behind];
            if let Some(back) = before.get_mut(next[at]) {
                *back = at;
            }
            wanted.extend(rank(&parts, at, next[at]).map(|rank| Reverse((rank, at))));
            let front = before[at];
            wanted.extend(rank(&parts, front, at).map(|rank| Reverse((rank, front))));
        }
        tokens
            .extend(parts.into_iter().zip(is_gone).filter(|(_, gone)| !gone).map(|(part, _)| part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MERGES: &str = "#version: 0.2\nc a\nca t</w>\nd o\ndo g</w>\na t</w>\nc at</w>\n";

    fn tokenizer() -> Tokenizer {
        Tokenizer::from_merges(MERGES.trim_end_matches("c at</w>\n")).unwrap()
    }

    /// Joins the pair of lowest rank, the first of those, until there is none.
    fn plainly(tokenizer: &Tokenizer, word: &str) -> Vec<u32> {
        let mut parts: Vec<u32> =
            word.bytes().map(|byte| tokenizer.of_byte[usize::from(byte)]).collect();
        *parts.last_mut().unwrap() += 256;
        loop {
            let pairs = parts.windows(2).enumerate();
            let ranked = pairs
                .filter_map(|(at, pair)| Some((*tokenizer.ranks.get(&(pair[0], pair[1]))?, at)));
            let Some((rank, at)) = ranked.min() else { return parts };
            parts.splice(at..at + 2, [512 + rank]);
        }
    }

    #[test]
    fn words_are_joined_from_bytes() {
        let tokenizer = tokenizer();
        let end = tokenizer.end();
        assert_eq!((tokenizer.vocabulary(), end), (519, 518));
        let tokens = |text: &str| tokenizer.tokens(text, 77).0;
        assert_eq!(tokens(""), [517, 518]);
        assert_eq!(tokens("  CAT \t dog\n"), [517, 513, 515, 518]);
        // A byte of its own: `!` is the first, and the last letter of a word has another number.
        assert_eq!(tokens("cat!"), [517, 513, 256, 518]);
        assert_eq!(tokens("!!"), [517, 0, 256, 518]);
        assert_eq!(tokens("cat<|endoftext|>dog"), [517, 513, 518, 515, 518]);
        let written = tokens("<|ENDOFTEXT|>");
        assert!(!written[1..written.len() - 1].contains(&end), "{written:?}");
        let composed = tokens("\u{e4}");
        assert_eq!(composed, tokens("a\u{308}"));
        assert_eq!(composed.len(), 4);
    }

    #[test]
    fn long_texts_are_cut_before_the_mark_of_their_end() {
        let tokenizer = tokenizer();
        let (tokens, is_cut) = tokenizer.tokens(&"cat ".repeat(75), 77);
        assert_eq!((tokens.len(), is_cut), (77, false));
        let (cut, is_cut) = tokenizer.tokens(&"cat ".repeat(76), 77);
        assert_eq!((&cut, is_cut), (&tokens, true));
        // A word of a million letters takes no time that grows by its square.
        let (cut, is_cut) = tokenizer.tokens(&"c".repeat(1_000_000), 77);
        assert_eq!((cut.len(), is_cut), (77, true));
    }

    #[test]
    fn marks_in_a_text_are_one_token_each_and_many_are_cut() {
        let tokenizer = tokenizer();
        let end = tokenizer.end();
        let (tokens, is_cut) =
            tokenizer.tokens("<|endoftext|><|startoftext|><|end<|endoftext|>", 77);
        assert_eq!((tokens[..3].to_vec(), is_cut), (vec![end - 1, end, end - 1], false));
        assert_eq!(tokens[tokens.len() - 2..], [end, end]);
        // Each is looked at once: a search through the rest for each would take minutes.
        let (tokens, is_cut) = tokenizer.tokens(&"<|endoftext|>".repeat(1 << 20), 77);
        assert_eq!((tokens.len(), is_cut), (77, true));
    }

    #[test]
    fn damaged_files_are_told() {
        let told = |merges: &str| Tokenizer::from_merges(merges).unwrap_err();
        assert_eq!(told("c a\nab"), TokenizerError::Pair { number: 2 });
        let unknown = TokenizerError::Unknown { number: 1, part: "ca".to_owned() };
        assert_eq!(told("ca t</w>"), unknown);
        let twice = TokenizerError::Twice { number: 6, word: "cat</w>".to_owned() };
        assert_eq!(told(MERGES), twice);
        let other = Tokenizer::from_json(br#"{"model": {"type": "Unigram"}}"#).unwrap_err();
        assert!(other.to_string().contains("a tokenizer of kind Unigram"), "{other}");
        assert!(matches!(Tokenizer::from_json(b"{"), Err(TokenizerError::Json { .. })));
        let numbers = tokenizer().check(b"{}").unwrap_err();
        assert_eq!(numbers, TokenizerError::Number { word: "!".to_owned(), wanted: 0 });
    }

    #[test]
    fn both_forms_of_the_files_are_the_same_tokenizer() {
        let tokenizer = tokenizer();
        let numbers = |letters: Vec<(u8, char)>| -> serde_json::Map<String, Value> {
            let within = letters.iter().map(|(_, letter)| letter.to_string());
            let last = letters.iter().map(|(_, letter)| format!("{letter}</w>"));
            let merged = ["ca", "cat</w>", "do", "dog</w>", "at</w>", MARKS[0], MARKS[1]];
            let words = within.chain(last).chain(merged.map(str::to_owned));
            words.zip(0..).map(|(word, number)| (word, Value::from(number))).collect()
        };
        let vocabulary = numbers(letters());
        tokenizer.check(&serde_json::to_vec(&vocabulary).unwrap()).unwrap();
        let old: Vec<Value> = tokenizer.merges().lines().map(Value::from).collect();
        let new: Vec<Value> = tokenizer
            .merges()
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>().into())
            .collect();
        for merges in [old, new] {
            let model = serde_json::json!({
                "type": "BPE", "end_of_word_suffix": "</w>", "vocab": vocabulary, "merges": merges,
            });
            let file = serde_json::json!({ "model": model }).to_string();
            let read = Tokenizer::from_json(file.as_bytes()).unwrap();
            assert_eq!(read.merges(), tokenizer.merges());
        }
    }

    proptest! {
        #[test]
        fn every_text_has_tokens_that_are_there(text in any::<String>(), most in 2..90_usize) {
            let tokenizer = tokenizer();
            let (tokens, is_cut) = tokenizer.tokens(&text, most);
            prop_assert!(tokens.len() <= most && (!is_cut || tokens.len() == most));
            prop_assert_eq!((tokens[0], tokens.last().copied()), (517, Some(518)));
            prop_assert!(tokens.iter().all(|token| (*token as usize) < tokenizer.vocabulary()));
        }

        #[test]
        fn words_are_joined_as_a_plain_loop_joins_them(word in "[catdog]{1,40}") {
            let tokenizer = tokenizer();
            let mut tokens = Vec::new();
            tokenizer.word(&word, &mut tokens);
            prop_assert_eq!(tokens, plainly(&tokenizer, &word));
        }

        #[test]
        fn bytes_of_a_text_come_back(text in "\\PC{0,30}") {
            let plain = Tokenizer::from_merges("").unwrap();
            let (tokens, _) = plain.tokens(&text, 10_000);
            let of_token: HashMap<u32, u8> =
                letters().iter().zip(0..).map(|((byte, _), token)| (token, *byte)).collect();
            let bytes: Vec<u8> =
                tokens[1..tokens.len() - 1].iter().map(|token| of_token[&(token % 256)]).collect();
            let small: String = composed(&text).chars().flat_map(char::to_lowercase).collect();
            let seen: String = small.chars().filter(|c| !c.is_whitespace()).collect();
            prop_assert_eq!(String::from_utf8(bytes).unwrap(), seen);
        }
    }
}
