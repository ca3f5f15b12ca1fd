//! A command's names, what may follow them, and how that is read.

use super::line::{is_space, word};

/// Something that a command takes after its name. Each may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parameter {
    /// An option of one letter: `-a`.
    Flag(char),
    /// A number of 32 bits: decimal, hexadecimal with `0x`, octal with `0`.
    Number,
    /// A number of 64 bits, in the same forms.
    Wide,
    /// The name of a file: a word, or more in double quotes. It may not be left out.
    File,
}

/// A command's names, and what the help says of it.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// All names, as in `stop|s`.
    pub(super) names: &'static str,
    /// What may follow the name, as the help shows it.
    shown: &'static str,
    help: &'static str,
    pub(super) parameters: &'static [Parameter],
}

impl Usage {
    /// A command that takes nothing after its name. `names` are all its names, divided by `|`.
    #[must_use]
    pub const fn new(names: &'static str, help: &'static str) -> Self {
        Usage {
            names,
            shown: "",
            help,
            parameters: &[],
        }
    }

    /// Lets something follow the name. `shown` is how the help puts it: `[-a|vcpu]`.
    #[must_use]
    pub const fn taking(self, shown: &'static str, parameters: &'static [Parameter]) -> Self {
        Usage {
            shown,
            parameters,
            ..self
        }
    }

    pub(super) fn line(&self, before: &str) -> String {
        let Usage {
            names, shown, help, ..
        } = self;
        format!("{before}{names} {shown} -- {help}\n")
    }
}

/// What followed the name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) flags: Vec<char>,
    pub(super) number: Option<u32>,
    pub(super) wide: Vec<u64>,
    pub(super) file: Option<String>,
}

/// Why that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// An option that the command does not have.
    Option(char),
    /// Where a number must be is this.
    Character(char),
    /// More than 64 bits.
    TooLarge,
    /// More than 32 bits.
    TooWide,
    /// More than the command takes.
    Extraneous,
    /// No name of a file.
    NoFile,
}

impl Fault {
    /// What the caller is told. `name` is the command's name, `called` the words that were used.
    pub(super) fn text(&self, name: &str, called: &str) -> String {
        let what = match self {
            Fault::Option(letter) => format!("{name}: unsupported option -{letter}"),
            Fault::Character(character) => format!("invalid char '{character}' in expression"),
            Fault::TooLarge => "number too large".to_owned(),
            Fault::TooWide => format!("'{name}' has failed: integer is for 32-bit values"),
            Fault::Extraneous => format!("{name}: extraneous characters at the end of line"),
            Fault::NoFile => format!("{name}: filename expected"),
        };
        format!("{what}\nTry \"help {called}\" for more information\n")
    }
}

/// Reads all that follows the name.
pub(super) fn read(parameters: &[Parameter], text: &str) -> Result<Arguments, Fault> {
    let mut arguments = Arguments::default();
    let mut rest = text.trim_start_matches(is_space);
    for parameter in parameters {
        match parameter {
            Parameter::Flag(letter) => {
                let Some(after) = rest.strip_prefix('-') else {
                    continue;
                };
                let option = after.chars().next().unwrap_or('-');
                let Some(after) = after.strip_prefix(*letter) else {
                    // It may be a later one: they come in the order of the usage.
                    if parameters.contains(&Parameter::Flag(option)) {
                        continue;
                    }
                    return Err(Fault::Option(option));
                };
                rest = after;
                arguments.flags.push(*letter);
            }
            Parameter::Number => {
                let Some(first) = rest.chars().next() else {
                    continue;
                };
                let (number, after) = number(rest).ok_or(Fault::Character(first))?;
                let number = number.ok_or(Fault::TooLarge)?;
                arguments.number = Some(u32::try_from(number).map_err(|_| Fault::TooWide)?);
                rest = after;
            }
            Parameter::Wide => {
                let Some(first) = rest.chars().next() else {
                    continue;
                };
                let (number, after) = number(rest).ok_or(Fault::Character(first))?;
                arguments.wide.push(number.ok_or(Fault::TooLarge)?);
                rest = after;
            }
            Parameter::File => {
                let (file, after) = word(rest).ok_or(Fault::NoFile)?;
                arguments.file = Some(file);
                rest = after;
            }
        }
        rest = rest.trim_start_matches(is_space);
    }
    if rest.is_empty() {
        Ok(arguments)
    } else {
        Err(Fault::Extraneous)
    }
}

/// The number at the front, as C reads one, and what follows it. The inner value is missing if 64
/// bits cannot hold it, the outer one if there is no digit.
fn number(text: &str) -> Option<(Option<u64>, &str)> {
    let hexadecimal = ["0x", "0X"].iter().find_map(|p| text.strip_prefix(p));
    let hexadecimal =
        hexadecimal.filter(|digits| digits.starts_with(|c: char| c.is_ascii_hexdigit()));
    let (digits, radix) = match hexadecimal {
        Some(digits) => (digits, 16),
        None if text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let end = digits.find(|c: char| !c.is_digit(radix));
    let (digits, after) = digits.split_at(end.unwrap_or(digits.len()));
    (!digits.is_empty()).then(|| (u64::from_str_radix(digits, radix).ok(), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[Parameter] = &[Parameter::Flag('a'), Parameter::Number];

    fn ok(flags: &[char], number: Option<u32>) -> Result<Arguments, Fault> {
        let flags = flags.to_vec();
        Ok(Arguments {
            flags,
            number,
            ..Arguments::default()
        })
    }

    #[test]
    fn a_file_and_wide_numbers() {
        const ALL: &[Parameter] = &[
            Parameter::Flag('d'),
            Parameter::File,
            Parameter::Wide,
            Parameter::Wide,
        ];
        let arguments = read(ALL, " -d /tmp/x 0x100000000 3").unwrap();
        assert_eq!(arguments.file.as_deref(), Some("/tmp/x"));
        assert_eq!(arguments.wide, [1 << 32, 3]);
        let arguments = read(ALL, "\"two words\"").unwrap();
        assert_eq!(arguments.file.as_deref(), Some("two words"));
        assert_eq!(read(ALL, "-d"), Err(Fault::NoFile));
        let flags: &[_] = &[Parameter::Flag('a'), Parameter::Flag('b')];
        assert_eq!(read(flags, "-b"), ok(&['b'], None));
        assert_eq!(read(flags, "-c"), Err(Fault::Option('c')));
        assert_eq!(read(ALL, "\"open"), Err(Fault::NoFile));
        assert_eq!(read(ALL, "x y"), Err(Fault::Character('y')));
        assert_eq!(read(ALL, "x 1 2 3"), Err(Fault::Extraneous));
    }

    #[test]
    fn all_may_be_left_out_and_none_be_added() {
        assert_eq!(read(BOTH, "  "), ok(&[], None));
        assert_eq!(read(BOTH, " -a"), ok(&['a'], None));
        assert_eq!(read(BOTH, "-a 1"), ok(&['a'], Some(1)));
        assert_eq!(read(BOTH, "0x1F "), ok(&[], Some(31)));
        assert_eq!(read(BOTH, "010"), ok(&[], Some(8)));
        assert_eq!(read(BOTH, "4294967295"), ok(&[], Some(u32::MAX)));
        assert_eq!(read(&[], "x"), Err(Fault::Extraneous));
        assert_eq!(read(BOTH, "1 2"), Err(Fault::Extraneous));
        assert_eq!(read(BOTH, "08"), Err(Fault::Extraneous));
        assert_eq!(read(BOTH, "0x"), Err(Fault::Extraneous));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(read(BOTH, "-b"), Err(Fault::Option('b')));
        assert_eq!(read(BOTH, "-"), Err(Fault::Option('-')));
        assert_eq!(read(BOTH, "foo"), Err(Fault::Character('f')));
        assert_eq!(read(BOTH, "\u{e9}"), Err(Fault::Character('\u{e9}')));
        assert_eq!(read(BOTH, "4294967296"), Err(Fault::TooWide));
        assert_eq!(read(BOTH, "99999999999999999999"), Err(Fault::TooLarge));
    }
}
