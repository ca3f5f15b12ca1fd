//! QEMU's commands that the tables call, with QEMU's arguments.

use super::{Runs, count, nothing};
use monitor::{NoArguments, Registry};
use serde::Deserialize;

/// A struct of arguments, with QAPI's spelling.
macro_rules! arguments {
    ($($name:ident { $($member:ident: $type:ty),* })*) => {
        $(#[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[expect(dead_code, reason = "what is read is not looked at")]
        struct $name { $($member: $type),* })*
    };
}

/// An enumeration, with QAPI's spelling.
macro_rules! choices {
    ($($name:ident { $($choice:ident),* })*) => {
        $(#[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        enum $name { $($choice),* })*
    };
}

choices! {
    RebootAction { Reset, Shutdown }
    ShutdownAction { Poweroff, Pause }
    PanicAction { Pause, Shutdown, ExitFailure, None }
    WatchdogAction { Reset, Shutdown, Poweroff, Pause, Debug, None, InjectNmi }
}

arguments! {
    SetAction {
        reboot: Option<RebootAction>,
        shutdown: Option<ShutdownAction>,
        panic: Option<PanicAction>,
        watchdog: Option<WatchdogAction>
    }
    WatchdogSetAction { action: WatchdogAction }
    HumanMonitorCommand { command_line: String, cpu_index: Option<i64> }
    Memsave { val: i64, size: i64, filename: String, cpu_index: Option<i64> }
    QomListTypes { implements: Option<String>, r#abstract: Option<bool> }
    DeviceListProperties { typename: String }
    QueryCommandLineOptions { option: Option<String> }
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is read is not looked at")]
struct SetLink {
    name: String,
    up: bool,
}

/// Registers them. Only `query-name` does anything, and that is nothing.
pub(super) fn register(registry: &mut Registry<Runs>) {
    registry
        .command("query-name", nothing)
        .command("set-action", count::<SetAction>)
        .command("watchdog-set-action", count::<WatchdogSetAction>)
        .command("human-monitor-command", count::<HumanMonitorCommand>)
        .command("memsave", count::<Memsave>)
        .command("set_link", count::<SetLink>)
        .command("qom-list-types", count::<QomListTypes>)
        .command("device-list-properties", count::<DeviceListProperties>)
        .command(
            "query-command-line-options",
            count::<QueryCommandLineOptions>,
        );
    for name in [
        "query-status",
        "stop",
        "cont",
        "quit",
        "system_reset",
        "system_powerdown",
    ] {
        registry.command(name, count::<NoArguments>);
    }
}
