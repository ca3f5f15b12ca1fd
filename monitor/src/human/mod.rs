//! The human monitor: lines of text in, text out, over the same context as the QMP commands.
//!
//! ```text
//!   "info status" ──▶ word by word ──▶ nothing may follow ──▶ handler(&mut C) ──▶ text, CR LF
//!                        │                  │                     │
//!                        ▼                  ▼                     ▼
//!                 unknown command    extraneous characters   Error: why
//! ```
//!
//! A client reaches it with the QMP command `human-monitor-command`, which [`Console::register`]
//! adds. A failure is text too: programs use QMP.
//!
//! The rule that must never be broken: **a line does one thing or nothing**. It is understood to its
//! end before the handler runs.
//!
//! Source: QEMU 7.2 as its user sees it: the names, the help and the texts of the errors.

mod completion;
mod line;
mod usage;

pub use usage::{Parameter, Usage};

pub use completion::Completion;

use crate::registry::{CommandError, Registry};
use line::Words;
use std::fmt;
use usage::Arguments;

type Handler<C> = Box<dyn Fn(&mut C, &Call) -> Result<String, CommandError> + Send + Sync>;

/// What a handler knows of the line that called it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// The CPU that the caller has chosen, by its index; the first one if it has not.
    pub cpu: u32,
    arguments: Arguments,
}

impl Call {
    /// Whether the line has this option: [`Parameter::Flag`].
    #[must_use]
    pub fn has_flag(&self, letter: char) -> bool {
        self.arguments.flags.contains(&letter)
    }

    /// The number in the line, if there is one: [`Parameter::Number`].
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        self.arguments.number
    }

    /// The file that the line names: [`Parameter::File`].
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.arguments.file.as_deref()
    }

    /// One of the numbers of 64 bits in the line, from 0, if there is one: [`Parameter::Wide`].
    #[must_use]
    pub fn wide(&self, index: usize) -> Option<u64> {
        self.arguments.wide.get(index).copied()
    }
}

struct Entry<C> {
    usage: Usage,
    handler: Handler<C>,
}

impl<C> Entry<C> {
    fn answers_to(&self, name: &str) -> bool {
        self.usage.names.split('|').any(|own| own == name)
    }
}

/// What one word of a line stands for.
enum Found<'a, C> {
    Entry(&'a Entry<C>),
    Info,
    Help,
}

/// The built-in commands, as the help shows them.
const HELP: Usage = Usage::new("help|?", "show the help").taking("[cmd]", &[]);
const INFO: Usage = Usage::new("info", "show various information about the system state")
    .taking("[subcommand]", &[]);

/// The commands of the human monitor. `help`, `?` and `info` are built in.
///
/// # Example
///
/// ```
/// use monitor::human::Console;
///
/// let mut console: Console<u32> = Console::new();
/// console.command("count|c", "count on", |counter, _| {
///     *counter += 1;
///     Ok(String::new())
/// });
/// console.info("count", "show the counter", |counter, _| Ok(format!("{counter}\n")));
/// let mut counter = 0;
/// assert_eq!(console.run(&mut counter, "c", 0), "");
/// assert_eq!(console.run(&mut counter, "info count", 0), "1\r\n");
/// assert_eq!(console.run(&mut counter, "foo", 0), "unknown command: 'foo'\r\n");
/// ```
pub struct Console<C> {
    commands: Vec<Entry<C>>,
    infos: Vec<Entry<C>>,
}

impl<C> Console<C> {
    /// A console that can only help.
    #[must_use]
    pub fn new() -> Self {
        Console {
            commands: Vec::new(),
            infos: Vec::new(),
        }
    }

    /// Adds a command. `names` are all its names, divided by `|`. The handler's text is shown, its
    /// error as `Error: ` and the error's text.
    pub fn command<F>(&mut self, names: &'static str, help: &'static str, handler: F) -> &mut Self
    where
        F: Fn(&mut C, &Call) -> Result<String, CommandError> + Send + Sync + 'static,
    {
        self.command_taking(Usage::new(names, help), handler)
    }

    /// Adds a command that takes something after its name.
    pub fn command_taking<F>(&mut self, usage: Usage, handler: F) -> &mut Self
    where
        F: Fn(&mut C, &Call) -> Result<String, CommandError> + Send + Sync + 'static,
    {
        add(&mut self.commands, usage, handler);
        self
    }

    /// Adds a command that follows the word `info`.
    pub fn info<F>(&mut self, name: &'static str, help: &'static str, handler: F) -> &mut Self
    where
        F: Fn(&mut C, &Call) -> Result<String, CommandError> + Send + Sync + 'static,
    {
        self.info_taking(Usage::new(name, help), handler)
    }

    /// Adds a command that follows the word `info` and takes something after its name.
    pub fn info_taking<F>(&mut self, usage: Usage, handler: F) -> &mut Self
    where
        F: Fn(&mut C, &Call) -> Result<String, CommandError> + Send + Sync + 'static,
    {
        add(&mut self.infos, usage, handler);
        self
    }

    /// Runs one line for a caller that has chosen the CPU `cpu`. Returns what there is to show, its
    /// lines ended by carriage return and line feed.
    pub fn run(&self, context: &mut C, line: &str, cpu: u32) -> String {
        let mut text = String::new();
        for shown in self.answer(context, line, cpu).lines() {
            text.push_str(shown);
            text.push_str("\r\n");
        }
        text
    }

    fn answer(&self, context: &mut C, line: &str, cpu: u32) -> String {
        let mut words = Words::new(line);
        let Some(name) = words.command() else {
            return String::new();
        };
        let entry = match self.find(name) {
            Some(Found::Entry(entry)) => entry,
            Some(Found::Help) => return self.help(words.rest()),
            Some(Found::Info) => {
                let Some(name) = words.command() else {
                    return self.list_info();
                };
                match self.infos.iter().find(|entry| entry.answers_to(name)) {
                    Some(entry) => entry,
                    None => return unknown(words.so_far()),
                }
            }
            None => return unknown(words.so_far()),
        };
        let Usage {
            names, parameters, ..
        } = entry.usage;
        let arguments = match usage::read(parameters, words.rest()) {
            Ok(arguments) => arguments,
            Err(fault) => return fault.text(names, words.so_far()),
        };
        match (entry.handler)(context, &Call { cpu, arguments }) {
            Ok(text) => text,
            Err(error) => format!("Error: {error}\n"),
        }
    }

    fn find(&self, name: &str) -> Option<Found<'_, C>> {
        match name {
            "help" | "?" => Some(Found::Help),
            "info" => Some(Found::Info),
            _ => {
                let mut commands = self.commands.iter();
                let entry = commands.find(|entry| entry.answers_to(name))?;
                Some(Found::Entry(entry))
            }
        }
    }

    /// The help for what is named, or for all.
    fn help(&self, asked: &str) -> String {
        let Some(names) = line::words(asked) else {
            // QEMU has nothing to say to a quote without an end either.
            return String::new();
        };
        let mut names = names.iter().map(String::as_str);
        let Some(name) = names.next() else {
            return self.list();
        };
        match (self.find(name), names.next()) {
            (Some(Found::Entry(entry)), _) => entry.usage.line(""),
            (Some(Found::Help), _) => HELP.line(""),
            (Some(Found::Info), None) => self.list_info(),
            (Some(Found::Info), Some(name)) => {
                match self.infos.iter().find(|entry| entry.answers_to(name)) {
                    Some(entry) => entry.usage.line("info "),
                    None => unknown(&format!("info {name}")),
                }
            }
            (None, _) => unknown(name),
        }
    }

    fn list(&self) -> String {
        let own = [HELP, INFO].map(|usage| usage.line(""));
        let others = self.commands.iter();
        let others = others.map(|entry| entry.usage.line(""));
        sorted(own.into_iter().chain(others))
    }

    fn list_info(&self) -> String {
        let infos = self.infos.iter();
        sorted(infos.map(|entry| entry.usage.line("info ")))
    }
}

fn add<C, F>(entries: &mut Vec<Entry<C>>, usage: Usage, handler: F)
where
    F: Fn(&mut C, &Call) -> Result<String, CommandError> + Send + Sync + 'static,
{
    // Of one name, the latest counts, as with QMP's commands.
    entries.retain(|entry| entry.usage.names != usage.names);
    entries.push(Entry {
        usage,
        handler: Box::new(handler),
    });
}

fn sorted(lines: impl Iterator<Item = String>) -> String {
    let mut lines: Vec<_> = lines.collect();
    lines.sort_unstable();
    lines.concat()
}

fn unknown(name: &str) -> String {
    format!("unknown command: '{name}'\n")
}

crate::qapi! {
    /// What `human-monitor-command` takes.
    #[derive(serde::Deserialize)]
    struct HumanMonitorCommand {
        command_line: String,
        cpu_index: Option<i64>,
    }
}

impl<C: 'static> Console<C> {
    /// Adds `human-monitor-command` to a registry. `cpus` lists the indices that a client may choose
    /// from.
    pub fn register<F>(self, registry: &mut Registry<C>, cpus: F)
    where
        F: Fn(&C) -> Vec<u32> + Send + Sync + 'static,
    {
        registry.described(
            "human-monitor-command",
            move |context: &mut C, asked: HumanMonitorCommand| {
                let cpus = cpus(context);
                let cpu = match asked.cpu_index {
                    None => cpus.first().copied().unwrap_or_default(),
                    Some(index) => {
                        let chosen = cpus.into_iter().find(|&cpu| i64::from(cpu) == index);
                        chosen.ok_or_else(|| {
                            CommandError::generic("Parameter 'cpu-index' expects a CPU number")
                        })?
                    }
                };
                Ok(self.run(context, &asked.command_line, cpu))
            },
        );
    }
}

impl<C> Default for Console<C> {
    fn default() -> Self {
        Console::new()
    }
}

impl<C> fmt::Debug for Console<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            |entries: &[Entry<C>]| -> Vec<_> { entries.iter().map(|e| e.usage.names).collect() };
        f.debug_struct("Console")
            .field("commands", &names(&self.commands))
            .field("infos", &names(&self.infos))
            .finish()
    }
}
