//! The commands, one function each.

use super::types::{
    CpuReply, CurrentMachineReply, KvmReply, NameReply, StatusReply, TargetReply, UuidReply,
};
use super::{RunStateContext, events};
use crate::registry::{Command, CommandError, CommandInfo, NoArguments, Registry};
use lifecycle::{ActionChange, Compat, Machine, ShutdownCause, WatchdogAction};
use runstate::RunState;
use serde::de::{Deserialize, Deserializer, Error as _};
use std::str::FromStr;

/// Registers the commands and events, and the check that refuses most commands while the machine
/// is not initialised.
pub fn register<C: RunStateContext + 'static>(registry: &mut Registry<C>) {
    for name in events::NAMES {
        registry.event(name);
    }
    registry
        .add(Command::new("query-status", query_status).allow_preconfig())
        .add(Command::new("query-name", query_name).allow_preconfig())
        .add(Command::new("query-uuid", query_uuid).allow_preconfig())
        .command("query-kvm", query_kvm)
        .command("query-target", query_target)
        .command("query-cpus-fast", query_cpus_fast)
        .command("query-current-machine", query_current_machine)
        .command("stop", stop)
        .command("cont", cont)
        .command("system_reset", system_reset)
        .command("system_powerdown", system_powerdown)
        .command("system_wakeup", system_wakeup)
        .command("inject-nmi", inject_nmi)
        .command("watchdog-set-action", watchdog_set_action)
        .add(Command::new("set-action", set_action).allow_preconfig())
        .add(Command::new("quit", quit).allow_preconfig())
        .admission(admit);
}

type Reply<T = ()> = Result<T, CommandError>;

fn admit<C: RunStateContext>(context: &C, command: &CommandInfo) -> Reply {
    if command.allowed_in_preconfig() || !context.in_preconfig() {
        return Ok(());
    }
    Err(CommandError::generic(format!(
        "The command '{}' is permitted only after machine initialization has completed",
        command.name()
    )))
}

/// A refusal by the lifecycle, whose texts are QEMU's.
fn refused(error: lifecycle::Error) -> CommandError {
    CommandError::generic(error.to_string())
}

fn query_status<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply<StatusReply> {
    let lifecycle = context.lifecycle();
    let mut status = lifecycle.status();
    if lifecycle.compat() == Compat::Qemu7_2 {
        status = status.with_singlestep(false);
    }
    Ok(StatusReply {
        running: status.running,
        singlestep: status.singlestep,
        status: status.status.as_str(),
    })
}

fn query_name<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply<NameReply> {
    Ok(NameReply {
        name: context.identity().name,
    })
}

fn query_uuid<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply<UuidReply> {
    Ok(UuidReply {
        uuid: context.identity().uuid,
    })
}

fn query_kvm<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply<KvmReply> {
    let enabled = context.identity().kvm;
    Ok(KvmReply {
        enabled,
        present: enabled,
    })
}

fn query_target<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply<TargetReply> {
    Ok(TargetReply {
        arch: context.identity().target,
    })
}

fn query_cpus_fast<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply<Vec<CpuReply>> {
    let target = context.identity().target;
    Ok(context
        .cpus()
        .iter()
        .map(|cpu| CpuReply::new(cpu, &target))
        .collect())
}

fn query_current_machine<C: RunStateContext>(
    context: &mut C,
    _: NoArguments,
) -> Reply<CurrentMachineReply> {
    let wakeup_suspend_support = context.lifecycle().requests().wakeup_support();
    Ok(CurrentMachineReply {
        wakeup_suspend_support,
    })
}

fn no_dump<C: RunStateContext>(context: &C) -> Reply {
    if context.dump_in_progress() {
        return Err(CommandError::generic(
            "There is a dump in process, please wait.",
        ));
    }
    Ok(())
}

fn stop<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply {
    no_dump(context)?;
    context.lifecycle().pause().map(drop).map_err(refused)
}

fn cont<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply {
    no_dump(context)?;
    let lifecycle = context.lifecycle();
    lifecycle.admit_cont().map_err(refused)?;
    // A suspended guest is left alone, so its storage is too. An incoming machine's images are
    // activated when it is complete.
    if !matches!(lifecycle.state(), RunState::Suspended | RunState::InMigrate) {
        context.prepare_cont()?;
    }
    lifecycle.cont().map(drop).map_err(refused)
}

fn system_reset<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply {
    // The posting thread is the main loop's own: it has no vCPU to hold.
    let _ = context
        .lifecycle()
        .request_reset(ShutdownCause::HostQmpSystemReset);
    Ok(())
}

fn system_powerdown<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply {
    let _ = context.lifecycle().requests().powerdown();
    Ok(())
}

fn system_wakeup<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply {
    context.lifecycle().system_wakeup().map_err(refused)
}

fn quit<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply {
    let _ = context.lifecycle().requests().quit();
    Ok(())
}

fn inject_nmi<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply {
    context.lifecycle().machine().inject_nmi().map_err(refused)
}

#[derive(serde::Deserialize)]
struct SetAction {
    reboot: Option<Named<lifecycle::RebootAction>>,
    panic: Option<Named<lifecycle::PanicAction>>,
    watchdog: Option<Named<WatchdogAction>>,
    shutdown: Option<Named<lifecycle::ShutdownAction>>,
}

fn set_action<C: RunStateContext>(context: &mut C, asked: SetAction) -> Reply {
    // All arguments were understood before the first of them takes effect.
    context.lifecycle().policy().change(ActionChange {
        reboot: asked.reboot.map(|action| action.0),
        shutdown: asked.shutdown.map(|action| action.0),
        panic: asked.panic.map(|action| action.0),
        watchdog: asked.watchdog.map(|action| action.0),
    });
    Ok(())
}

#[derive(serde::Deserialize)]
struct WatchdogSetAction {
    action: Named<WatchdogAction>,
}

fn watchdog_set_action<C: RunStateContext>(context: &mut C, asked: WatchdogSetAction) -> Reply {
    context.lifecycle().policy().set_watchdog(asked.action.0);
    Ok(())
}

/// An enum of `lifecycle`, read by its QAPI spelling.
struct Named<T>(T);

impl<'de, T: FromStr> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse()
            .map(Named)
            .map_err(|_| D::Error::unknown_variant(&name, &[]))
    }
}
