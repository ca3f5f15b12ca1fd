//! QEMU's commands that the tables call, with QEMU's arguments.

use super::{Runs, count, nothing};
use monitor::{NoArguments, Registry};
use serde::Deserialize;

/// Structs of arguments.
macro_rules! arguments {
    ($($name:ident { $($member:ident: $type:ty),* })*) => {
        $(monitor::qapi! {
            #[derive(Deserialize)]
            struct $name { $($member: $type),* }
        })*
    };
}

/// Enumerations.
macro_rules! choices {
    ($($name:ident { $($choice:ident),* })*) => {
        $(monitor::qapi! {
            #[derive(Deserialize)]
            enum $name { $($choice),* }
        })*
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
    SetLink { name: String, up: bool }
    DeviceListProperties { typename: String }
    QueryCommandLineOptions { option: Option<String> }
}

/// Registers them. Only `query-name` does anything, and that is nothing.
pub(super) fn register(registry: &mut Registry<Runs>) {
    registry
        .command("query-name", nothing)
        .described("set-action", count::<SetAction>)
        .described("watchdog-set-action", count::<WatchdogSetAction>)
        .described("human-monitor-command", count::<HumanMonitorCommand>)
        .described("memsave", count::<Memsave>)
        .described("set_link", count::<SetLink>)
        .described("qom-list-types", count::<QomListTypes>)
        .described("device-list-properties", count::<DeviceListProperties>)
        .described(
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
