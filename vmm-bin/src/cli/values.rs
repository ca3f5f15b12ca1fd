//! The values of options, read and checked.

use std::path::PathBuf;
use std::time::Duration;

use super::address::{self, Address, Side};
use super::error::UsageError;
use super::{Accel, ExitCodes, Gdb, Landlock, Seccomp, SerialTarget};
use crate::gdb::Description;
use crate::platform::Backing;

/// The most vCPUs: local APIC ids have 8 bits, and two of their values are taken.
const MOST_CPUS: u8 = 254;

/// `--accel`: what it is, and the descriptor of KVM's device if that is open already.
pub(super) fn accel(text: &str) -> Result<(Accel, Option<i32>), UsageError> {
    let bad = |problem, remedy| UsageError::value("--accel", text, problem, remedy);
    match text.split_once(',') {
        None if text == "kvm" => Ok((Accel::Kvm, None)),
        None if text == "qtest" => Ok((Accel::Qtest, None)),
        Some(("kvm", option)) => {
            let number = option.strip_prefix("fd=");
            let number = number.ok_or_else(|| bad("has an unknown part", "use kvm,fd=N"))?;
            match address::descriptor(number) {
                Some(number) => Ok((Accel::Kvm, Some(number))),
                None => Err(bad(
                    "is no descriptor",
                    "give kvm,fd=N, the number from 3 on of /dev/kvm that is inherited",
                )),
            }
        }
        _ => Err(bad("is not known", "use kvm, kvm,fd=N or qtest")),
    }
}

/// Whether a test client at `qtest` can play the guest.
pub(super) fn check_qtest(accel: Accel, qtest: Option<&Address>) -> Result<(), UsageError> {
    match qtest {
        Some(_) if accel != Accel::Qtest => Err(UsageError::contradiction(
            "--qtest is for a machine that executes nothing",
            "add --accel qtest",
        )),
        Some(Address::Stdio) => Err(UsageError::contradiction(
            "--qtest cannot have the standard streams",
            "use unix:PATH, tcp:HOST:PORT or fd:N",
        )),
        _ => Ok(()),
    }
}

/// `--memory`: bytes, and where they come from.
pub(super) fn memory(text: &str) -> Result<(u64, Backing), UsageError> {
    let bad = |problem: &str, remedy: &str| UsageError::value("--memory", text, problem, remedy);
    let (mut size, mut shared, mut huge_pages) = (None, None, None);
    for (position, part) in text.split(',').enumerate() {
        match part.split_once('=') {
            None if position == 0 => size = Some(part),
            Some(("size", value)) => size = Some(value),
            Some(("shared", value)) => shared = Some(on_or_off("--memory", text, "shared", value)?),
            Some(("hugepages", value)) => {
                huge_pages = Some(on_or_off("--memory", text, "hugepages", value)?);
            }
            _ => {
                let remedy = "use SIZE[,shared=on|off][,hugepages=on|off]";
                return Err(bad("has an unknown part", remedy));
            }
        }
    }
    let size = size.ok_or_else(|| bad("has no size", "begin with one, such as 512M"))?;
    let backing = match (shared, huge_pages.unwrap_or(false)) {
        (None | Some(false), false) => Backing::Private,
        (Some(true), false) => Backing::Shared,
        (None | Some(true), true) => Backing::HugePages,
        (Some(false), true) => {
            let remedy = "leave shared=off out";
            return Err(bad("asks for huge pages, which are always shared", remedy));
        }
    };
    Ok((bytes(size, &bad)?, backing))
}

/// A size, in bytes; `bad` makes the error of a problem and its remedy.
fn bytes(text: &str, bad: &dyn Fn(&str, &str) -> UsageError) -> Result<u64, UsageError> {
    let bad = |problem| {
        bad(
            problem,
            "give MiB, or a number with K, M or G, such as 512M",
        )
    };
    let (number, shift) = match text.as_bytes().last().map(u8::to_ascii_uppercase) {
        Some(b'K') => (text.get(..text.len().saturating_sub(1)), 10),
        Some(b'M') => (text.get(..text.len().saturating_sub(1)), 20),
        Some(b'G') => (text.get(..text.len().saturating_sub(1)), 30),
        _ => (Some(text), 20_u32),
    };
    let number = number.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
    let number = number.filter(|digits| !digits.is_empty());
    let number = number.ok_or_else(|| bad("is no size"))?;
    let number: u64 = number.parse().map_err(|_| bad("is too large"))?;
    match number.checked_mul(1 << shift) {
        Some(0) => Err(bad("is no memory at all")),
        Some(bytes) => Ok(bytes),
        None => Err(bad("is too large")),
    }
}

/// A part of `option`'s value that is a switch.
fn on_or_off(
    option: &'static str,
    text: &str,
    switch: &str,
    value: &str,
) -> Result<bool, UsageError> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => {
            let problem = format!("has an unknown value for {switch}");
            Err(UsageError::value(option, text, &problem, "use on or off"))
        }
    }
}

/// `--cpus`.
pub(super) fn cpus(text: &str) -> Result<u8, UsageError> {
    match text.parse() {
        Ok(count) if (1..=MOST_CPUS).contains(&count) => Ok(count),
        _ => {
            let problem = "is no number of vCPUs";
            Err(UsageError::value(
                "--cpus",
                text,
                problem,
                &format!("give 1 to {MOST_CPUS}"),
            ))
        }
    }
}

/// `--serial`: the target, and whether its input wakes a sleeping guest.
pub(super) fn serial_line(text: &str) -> Result<(SerialTarget, bool), UsageError> {
    let (target, wakeup) = match text.rsplit_once(",wakeup=") {
        None => return Ok((serial(text)?, false)),
        Some((target, value)) => (
            serial(target)?,
            on_or_off("--serial", text, "wakeup", value)?,
        ),
    };
    if wakeup && matches!(target, SerialTarget::File(_) | SerialTarget::Null) {
        let problem = "has no input that could wake the guest";
        let remedy = "use wakeup=on with stdio or a socket";
        return Err(UsageError::value("--serial", text, problem, remedy));
    }
    Ok((target, wakeup))
}

/// The target of `--serial`.
fn serial(text: &str) -> Result<SerialTarget, UsageError> {
    match text.split_once(':') {
        None if text == "stdio" => Ok(SerialTarget::Stdio),
        None if text == "none" => Ok(SerialTarget::Null),
        Some(("mon", "stdio")) => Ok(SerialTarget::StdioWithMonitor),
        Some(("unix" | "tcp" | "fd", _)) => {
            let address = Address::parse("--serial", text, Side::Server)?;
            Ok(SerialTarget::Socket(address))
        }
        Some(("file", path)) => Ok(SerialTarget::File(file("--serial", text, path)?)),
        _ => {
            let remedy = "use stdio, mon:stdio, unix:PATH, tcp:HOST:PORT, fd:N, file:PATH or none";
            Err(UsageError::value("--serial", text, "is not known", remedy))
        }
    }
}

/// `--gdb`; the description of an embedded guest is another one.
pub(super) fn gdb(text: &str, embedded: bool) -> Result<Gdb, UsageError> {
    let bad = |problem: &str, remedy: &str| UsageError::value("--gdb", text, problem, remedy);
    let (address, description) = match text.rsplit_once(",arch=") {
        None if embedded => (text, Description::I386),
        None => (text, Description::X86_64),
        Some((address, "i386")) => (address, Description::I386),
        Some((address, "x86-64")) => (address, Description::X86_64),
        Some(_) => return Err(bad("has an unknown value for arch", "use i386 or x86-64")),
    };
    let address = Address::parse("--gdb", address, Side::Server)?;
    let waits = matches!(
        address,
        Address::Unix {
            side: Side::Server,
            ..
        } | Address::Tcp {
            side: Side::Server,
            ..
        }
    );
    if !waits {
        let remedy = "use tcp:HOST:PORT or unix:PATH";
        return Err(bad("is no place where this program waits for gdb", remedy));
    }
    Ok(Gdb {
        address,
        description,
    })
}

/// `--debugcon`.
pub(super) fn debugcon(text: &str) -> Result<PathBuf, UsageError> {
    match text.split_once(':') {
        Some(("file", path)) => file("--debugcon", text, path),
        _ => Err(UsageError::value(
            "--debugcon",
            text,
            "is not known",
            "use file:PATH",
        )),
    }
}

/// The longest time that a guest may be waited for: who gives more means for ever.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// `--shutdown-timeout`.
pub(super) fn shutdown_timeout(text: &str) -> Result<Duration, UsageError> {
    let option = "--shutdown-timeout";
    let remedy = "give a number with its unit, such as 30s or 2m, up to 24h";
    match humantime::parse_duration(text) {
        Ok(time) if time <= LONGEST_TIMEOUT => Ok(time),
        Ok(_) => Err(UsageError::value(option, text, "is too long", remedy)),
        Err(_) => Err(UsageError::value(option, text, "is no time", remedy)),
    }
}

/// `--exit-codes`.
pub(super) fn exit_codes(text: &str) -> Result<ExitCodes, UsageError> {
    match text {
        "qemu" => Ok(ExitCodes::Qemu),
        "cause" => Ok(ExitCodes::Cause),
        _ => {
            let remedy = "use qemu or cause";
            Err(UsageError::value(
                "--exit-codes",
                text,
                "is not known",
                remedy,
            ))
        }
    }
}

/// `--seccomp`.
pub(super) fn seccomp(text: &str) -> Result<Seccomp, UsageError> {
    match text {
        "on" => Ok(Seccomp::On),
        "off" => Ok(Seccomp::Off),
        "log" => Ok(Seccomp::Log),
        _ => {
            let remedy = "use on, off or log";
            Err(UsageError::value("--seccomp", text, "is not known", remedy))
        }
    }
}

/// `--landlock`.
pub(super) fn landlock(text: &str) -> Result<Landlock, UsageError> {
    match text {
        "on" => Ok(Landlock::On),
        "off" => Ok(Landlock::Off),
        "required" => Ok(Landlock::Required),
        _ => {
            let remedy = "use on, off or required";
            Err(UsageError::value(
                "--landlock",
                text,
                "is not known",
                remedy,
            ))
        }
    }
}

/// `--uuid`, in lower case.
pub(super) fn uuid(text: &str) -> Result<String, UsageError> {
    let lower = text.to_ascii_lowercase();
    let mut lengths = Vec::new();
    for group in lower.split('-') {
        let hexadecimal = group.bytes().all(|digit| digit.is_ascii_hexdigit());
        lengths.push(if hexadecimal { group.len() } else { 0 });
    }
    if lengths == [8, 4, 4, 4, 12] {
        return Ok(lower);
    }
    let remedy = "give xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx in hexadecimal digits";
    Err(UsageError::value("--uuid", text, "is no UUID", remedy))
}

fn file(option: &'static str, given: &str, path: &str) -> Result<PathBuf, UsageError> {
    if path.is_empty() {
        return Err(UsageError::value(
            option,
            given,
            "lacks the path",
            "give file:PATH",
        ));
    }
    Ok(path.into())
}
