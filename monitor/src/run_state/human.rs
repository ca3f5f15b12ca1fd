//! The same commands for people: what `human-monitor-command` takes.

use super::RunStateContext;
use super::commands::{
    cont, inject_nmi, quit, stop, system_powerdown, system_reset, system_wakeup,
};
use crate::human::{Call, Console, Parameter, Usage};
use crate::registry::{CommandError, NoArguments, Version};
use runstate::RunState;
use std::fmt::Write as _;

/// The human monitor's run-state commands. `version` is what `info version` shows.
///
/// [`register`](super::register) makes one of these. A VMM that has more to offer adds to its own
/// and calls [`Console::register`] afterwards: the later one counts.
#[must_use]
pub fn console<C: RunStateContext + 'static>(version: &Version) -> Console<C> {
    let Version {
        major,
        minor,
        micro,
        package,
    } = version;
    let version = format!("{major}.{minor}.{micro}{package}\n");
    let mut console = Console::new();
    console
        .command("stop|s", "stop emulation", quiet(stop))
        .command("cont|c", "resume emulation", quiet(cont))
        .command("system_reset", "reset the system", quiet(system_reset))
        .command(
            "system_powerdown",
            "send system power down event",
            quiet(system_powerdown),
        )
        .command(
            "system_wakeup",
            "wakeup guest from suspend",
            quiet(system_wakeup),
        )
        .command("nmi", "inject an NMI", quiet(inject_nmi))
        .command("quit|q", "quit the emulator", quiet(quit))
        .info(
            "status",
            "show the current VM status (running|paused)",
            info_status,
        )
        .info("version", "show the version of QEMU", move |_, _| {
            Ok(version.clone())
        })
        .info("name", "show the current VM name", info_name)
        .info("uuid", "show the current VM UUID", info_uuid)
        .info("cpus", "show infos for each CPU", info_cpus)
        .info_taking(REGISTERS, info_registers);
    console
}

const REGISTERS: Usage = Usage::new(
    "registers",
    "show the cpu registers (-a: show register info for all cpus; vcpu: specific vCPU to query; \
     show the current CPU's registers if no argument is specified)",
)
.taking("[-a|vcpu]", &[Parameter::Flag('a'), Parameter::Number]);

type Text = Result<String, CommandError>;

/// A QMP command that people use as it is: it says nothing when it has worked.
fn quiet<C>(
    command: fn(&mut C, NoArguments) -> Result<(), CommandError>,
) -> impl Fn(&mut C, &Call) -> Text {
    move |context, _| command(context, NoArguments {}).map(|()| String::new())
}

fn info_status<C: RunStateContext>(context: &mut C, _: &Call) -> Text {
    let status = context.lifecycle().status();
    Ok(match status.status {
        _ if status.running => "VM status: running\n".to_owned(),
        RunState::Paused => "VM status: paused\n".to_owned(),
        other => format!("VM status: paused ({other})\n"),
    })
}

fn info_name<C: RunStateContext>(context: &mut C, _: &Call) -> Text {
    let name = context.identity().name;
    Ok(name.map(|name| format!("{name}\n")).unwrap_or_default())
}

fn info_uuid<C: RunStateContext>(context: &mut C, _: &Call) -> Text {
    Ok(format!("{}\n", context.identity().uuid))
}

fn info_cpus<C: RunStateContext>(context: &mut C, call: &Call) -> Text {
    let mut text = String::new();
    for cpu in context.cpus() {
        let mark = if cpu.index == call.cpu { '*' } else { ' ' };
        // Writing to a string does not fail.
        writeln!(
            text,
            "{mark} CPU #{}: thread_id={}",
            cpu.index, cpu.thread_id
        )
        .ok();
    }
    Ok(text)
}

fn info_registers<C: RunStateContext>(context: &mut C, call: &Call) -> Text {
    let mut cpus: Vec<_> = context.cpus().iter().map(|cpu| cpu.index).collect();
    if !call.has_flag('a') {
        let wanted = call.number().unwrap_or(call.cpu);
        if !cpus.contains(&wanted) {
            return Ok(match call.number() {
                Some(number) => format!("CPU#{number} not available\n"),
                None => "No CPU available\n".to_owned(),
            });
        }
        cpus = vec![wanted];
    }
    let mut text = String::new();
    for cpu in cpus {
        let registers = context.registers(cpu)?;
        let line_end = if registers.ends_with('\n') { "" } else { "\n" };
        // Writing to a string does not fail.
        write!(text, "\nCPU#{cpu}\n{registers}{line_end}").ok();
    }
    Ok(text)
}
