//! `dump-guest-memory` and what belongs to it, for a VMM that can write its guest's memory to a file.
//!
//! ```text
//!   what a client asks ──▶ check: what cannot be, in QEMU's words ──▶ DumpContext::dump ──▶ DUMP_COMPLETED
//! ```
//!
//! | command | what it gives |
//! |---|---|
//! | `dump-guest-memory` | has the memory written, with `detach` behind the client's back |
//! | `query-dump` | how far it is |
//! | `query-dump-guest-memory-capability` | the formats: `elf` |
//! | `dump-guest-memory`, `info dump` | the same for people: [`add_commands`] |
//!
//! The rule that must never be broken: what is refused has changed nothing.
//!
//! Source: QEMU 7.2, `qapi/dump.json`, and what it answers.

mod check;
mod types;

use crate::human::{Call, Console, Parameter, Usage};
use crate::registry::{CommandError, EventSpec, NoArguments, Registry};
use types::{Capability, Completed, DumpGuestMemory};

pub use check::DumpRequest;
pub use types::{DumpFormat, DumpQueryResult, DumpStatus};

/// The event that tells of the end of a dump, whichever it is.
pub const DUMP_COMPLETED: &str = "DUMP_COMPLETED";

/// What the commands need of a VMM.
pub trait DumpContext {
    /// Stops the VM if it runs and writes its memory to a file; at the end the event is sent
    /// ([`dump_completed`]), and the VM goes on if it was stopped for this.
    ///
    /// With [`DumpRequest::detach`] it returns when the work has begun.
    ///
    /// # Errors
    ///
    /// The command is refused with this error: the work has not begun, or has failed.
    fn dump(&mut self, request: &DumpRequest) -> Result<(), CommandError>;

    /// Why there can be no dump now, if there cannot: QEMU's `There is a dump in process, please
    /// wait.` and `Dump not allowed during incoming migration.`
    ///
    /// # Errors
    ///
    /// The refusal.
    fn admit_dump(&self) -> Result<(), CommandError>;

    /// How far the dump is, or how the last one ended.
    fn dump_progress(&self) -> DumpQueryResult;
}

/// The data of [`DUMP_COMPLETED`]. `error` is why the dump has failed, if it has.
#[must_use]
pub fn dump_completed(result: DumpQueryResult, error: Option<String>) -> impl serde::Serialize {
    Completed { result, error }
}

/// Registers the commands and the event.
pub fn register<C: DumpContext + 'static>(registry: &mut Registry<C>) {
    registry
        .event(EventSpec::new(DUMP_COMPLETED).data::<Completed>())
        .described("dump-guest-memory", dump)
        .described("query-dump", |context: &mut C, _: NoArguments| {
            Ok(context.dump_progress())
        })
        .described(
            "query-dump-guest-memory-capability",
            |_: &mut C, _: NoArguments| {
                Ok(Capability {
                    formats: vec![DumpFormat::Elf],
                })
            },
        );
}

fn dump<C: DumpContext>(context: &mut C, asked: DumpGuestMemory) -> Result<(), CommandError> {
    context.admit_dump()?;
    context.dump(&check::check(asked)?)
}

/// The options are QEMU's, those that are refused included.
const USAGE: Usage = Usage::new(
    "dump-guest-memory",
    "dump guest memory into file 'filename'.\n\t\t\t\
     -p: do paging to get guest's memory mapping (refused).\n\t\t\t\
     -d: return immediately (do not wait for completion).\n\t\t\t\
     -z, -l, -s, -w: other formats than ELF (refused).\n\t\t\t\
     begin: the starting physical address.\n\t\t\t\
     length: the memory size, in bytes.",
)
.taking(
    "[-p] [-d] [-z|-l|-s|-w] filename [begin length]",
    &[
        Parameter::Flag('p'),
        Parameter::Flag('d'),
        Parameter::Flag('z'),
        Parameter::Flag('l'),
        Parameter::Flag('s'),
        Parameter::Flag('w'),
        Parameter::File,
        Parameter::Wide,
        Parameter::Wide,
    ],
);

/// What each option of the human monitor's command stands for.
const FORMATS: [(char, DumpFormat); 4] = [
    ('z', DumpFormat::KdumpZlib),
    ('l', DumpFormat::KdumpLzo),
    ('s', DumpFormat::KdumpSnappy),
    ('w', DumpFormat::WinDmp),
];

/// Adds `dump-guest-memory` and `info dump` to the commands for people.
pub fn add_commands<C: DumpContext + 'static>(console: &mut Console<C>) {
    console
        .command_taking(USAGE, |context: &mut C, call| {
            let format = FORMATS.iter().find(|(letter, _)| call.has_flag(*letter));
            let asked = DumpGuestMemory {
                paging: call.has_flag('p'),
                protocol: format!("file:{}", call.file().unwrap_or_default()),
                detach: Some(call.has_flag('d')),
                begin: call.wide(0).map(u64::cast_signed),
                length: call.wide(1).map(u64::cast_signed),
                format: format.map(|(_, format)| *format),
            };
            dump(context, asked).map(|()| String::new())
        })
        .info("dump", "Display the latest dump status", info_dump);
}

fn info_dump<C: DumpContext>(context: &mut C, _: &Call) -> Result<String, CommandError> {
    let result = context.dump_progress();
    let mut text = format!("Status: {}\n", result.status.as_str());
    if result.status == DumpStatus::Active {
        // In hundredths of a percent.
        let done = u128::from(result.completed).saturating_mul(10_000);
        let done = done.checked_div(u128::from(result.total)).unwrap_or(0);
        let (whole, rest) = (done / 100, done % 100);
        text.push_str(&format!("Finished: {whole}.{rest:02} %\n"));
    }
    Ok(text)
}
