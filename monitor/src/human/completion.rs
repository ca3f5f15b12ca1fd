//! What a line may go on with.

use super::Console;

/// How a line may go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Completion {
    /// What there is only one choice for. It ends with a space when it completes a word.
    pub added: String,
    /// The words that fit, in order, each once.
    pub words: Vec<&'static str>,
}

impl<C> Console<C> {
    /// Completes the last word of `line`, which ends where the word is to go on: the name of a command,
    /// or what follows `info` and `help`.
    #[must_use]
    pub fn complete(&self, line: &str) -> Completion {
        let (before, word) = match line.rfind(|c: char| c.is_ascii_whitespace()) {
            // The character is one byte long.
            Some(at) => line.split_at(at.saturating_add(1)),
            None => ("", line),
        };
        let before: Vec<_> = before.split_ascii_whitespace().collect();
        let usages = |entries: &[super::Entry<C>]| -> Vec<&'static str> {
            entries
                .iter()
                .flat_map(|e| e.usage.names.split('|'))
                .collect()
        };
        let mut words = match before.as_slice() {
            [] | ["help" | "?"] => {
                let mut names = usages(&self.commands);
                names.extend(["help", "?", "info"]);
                names
            }
            ["info"] | ["help" | "?", "info"] => usages(&self.infos),
            _ => Vec::new(),
        };
        words.retain(|name| name.starts_with(word));
        words.sort_unstable();
        words.dedup();
        let mut added = common(&words)
            .get(word.len()..)
            .unwrap_or_default()
            .to_owned();
        if words.len() == 1 {
            added.push(' ');
        }
        Completion { added, words }
    }
}

/// What all words begin with.
fn common(words: &[&'static str]) -> &'static str {
    let Some((&first, rest)) = words.split_first() else {
        return "";
    };
    let length = |word: &&str| {
        let same = first.bytes().zip(word.bytes()).take_while(|(a, b)| a == b);
        same.count()
    };
    let shortest = rest.iter().map(length).min().unwrap_or(first.len());
    first.get(..shortest).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(line: &str) -> (String, Vec<&'static str>) {
        let mut console: Console<()> = Console::new();
        for names in [
            "stop|s",
            "cont|c",
            "system_reset",
            "system_wakeup",
            "quit|q",
        ] {
            console.command(names, "", |(), _| Ok(String::new()));
        }
        for name in ["status", "cpus", "registers"] {
            console.info(name, "", |(), _| Ok(String::new()));
        }
        let Completion { added, words } = console.complete(line);
        (added, words)
    }

    #[test]
    fn what_is_unique_is_added() {
        assert_eq!(completed("qu"), ("it ".to_owned(), vec!["quit"]));
        assert_eq!(completed("quit"), (" ".to_owned(), vec!["quit"]));
        assert_eq!(
            completed("info r"),
            ("egisters ".to_owned(), vec!["registers"])
        );
        assert_eq!(completed("  help  info c").0, "pus ");
        assert_eq!(completed("? i").0, "nfo ");
    }

    #[test]
    fn what_is_not_is_listed_and_added_as_far_as_it_is() {
        let both = vec!["system_reset", "system_wakeup"];
        assert_eq!(completed("sy"), ("stem_".to_owned(), both.clone()));
        assert_eq!(completed("system_"), (String::new(), both));
        assert_eq!(completed("info ").1, ["cpus", "registers", "status"]);
    }

    #[test]
    fn what_leads_nowhere_adds_nothing() {
        for line in [
            "x",
            "stop ",
            "stop s",
            "info status ",
            "INFO ",
            "caf\u{e9}",
            "\u{2003}",
        ] {
            assert_eq!(completed(line), (String::new(), vec![]), "{line:?}");
        }
    }
}
