//! The commands, one function each.

use super::human::console;
use super::types::{
    CpuReply, CurrentMachineReply, KvmReply, NameReply, Named, StatusReply, TargetReply, UuidReply,
};
use super::{RunStateContext, events};
use crate::registry::{Command, CommandError, CommandInfo, NoArguments, Registry};
use lifecycle::{ActionChange, Compat, Machine, ShutdownCause, WatchdogAction};
use runstate::RunState;

/// Registers the commands and events, `human-monitor-command` with the same commands for people, and the check that refuses most commands while the machine
/// is not initialised.
pub fn register<C: RunStateContext + 'static>(registry: &mut Registry<C>) {
    for event in events::specs() {
        registry.event(event);
    }
    registry
        .add(Command::described("query-status", query_status).allow_preconfig())
        .add(Command::described("query-name", query_name).allow_preconfig())
        .add(Command::described("query-uuid", query_uuid).allow_preconfig())
        .described("query-kvm", query_kvm)
        .described("query-target", query_target)
        .described("query-cpus-fast", query_cpus_fast)
        .described("query-current-machine", query_current_machine)
        .described("stop", stop)
        .described("cont", cont)
        .described("system_reset", system_reset)
        .described("system_powerdown", system_powerdown)
        .described("system_wakeup", system_wakeup)
        .described("inject-nmi", inject_nmi)
        .described("watchdog-set-action", watchdog_set_action)
        .add(Command::described("set-action", set_action).allow_preconfig())
        .add(Command::described("quit", quit).allow_preconfig())
        .admission(admit);
    let console = console(registry.version());
    console.register(registry, |context: &C| {
        context.cpus().iter().map(|cpu| cpu.index).collect()
    });
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
        status: Named(status.status),
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

pub(super) fn stop<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply {
    no_dump(context)?;
    context.lifecycle().pause().map(drop).map_err(refused)
}

pub(super) fn cont<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply {
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

pub(super) fn system_reset<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply {
    // QEMU does not ask, and dies of it.
    no_dump(context)?;
    // The posting thread is the main loop's own: it has no vCPU to hold.
    let _ = context
        .lifecycle()
        .request_reset(ShutdownCause::HostQmpSystemReset);
    Ok(())
}

pub(super) fn system_powerdown<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply {
    let _ = context.lifecycle().requests().powerdown();
    Ok(())
}

pub(super) fn system_wakeup<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply {
    context.lifecycle().system_wakeup().map_err(refused)
}

pub(super) fn quit<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply {
    let _ = context.lifecycle().requests().quit();
    Ok(())
}

pub(super) fn inject_nmi<C: RunStateContext>(context: &mut C, _: NoArguments) -> Reply {
    context.lifecycle().machine().inject_nmi().map_err(refused)
}

crate::qapi! {
    #[derive(serde::Deserialize)]
    struct SetAction {
        reboot: Option<Named<lifecycle::RebootAction>>,
        shutdown: Option<Named<lifecycle::ShutdownAction>>,
        panic: Option<Named<lifecycle::PanicAction>>,
        watchdog: Option<Named<WatchdogAction>>,
    }
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

crate::qapi! {
    #[derive(serde::Deserialize)]
    struct WatchdogSetAction {
        action: Named<WatchdogAction>,
    }
}

fn watchdog_set_action<C: RunStateContext>(context: &mut C, asked: WatchdogSetAction) -> Reply {
    context.lifecycle().policy().set_watchdog(asked.action.0);
    Ok(())
}
