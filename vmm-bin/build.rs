//! How a release is linked, so that it starts fast and little of it is resident in each VM: rare code
//! apart, and the C library inside.

use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

/// What a program without an interpreter starts from.
const START: &str = "rcrt1.o";

/// The C library's parts. Most are empty today, and the standard library names them all.
const LIBC: [&str; 6] = ["c", "m", "rt", "pthread", "util", "dl"];

/// Functions that the standard library does without where there are none. An archive's member is not
/// taken for such a use, and optimisation across crates makes others' calls of them no better.
const WEAK: [&str; 4] = ["gettid", "statx", "getrandom", "__cxa_thread_atexit_impl"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=rare.ld");
    let is = |name, value| env::var(name).is_ok_and(|found| found == value);
    if !is("PROFILE", "release") || !is("CARGO_CFG_TARGET_OS", "linux") {
        return Ok(());
    }
    if let Ok(folder) = env::var("CARGO_MANIFEST_DIR") {
        link_arg(&format!("-Wl,-T,{folder}/rare.ld"));
    }
    if is("CARGO_CFG_TARGET_ENV", "gnu") {
        // The unwinder, for backtraces, from the compiler's own archive: its shared library takes 100 KiB
        // of each process.
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
        take_libc_in()?;
    }
    Ok(())
}

/// Has the C library linked statically, if its archives are installed: a shared one takes a megabyte of
/// each process, and the time to find and relocate it.
///
/// Cargo has no switch for this that holds for one program in one profile, and so the compiler is told to
/// link with shared libraries. The linker then finds these scripts first, which send it to the archives.
fn take_libc_in() -> io::Result<()> {
    let Ok(scripts) = env::var("OUT_DIR") else {
        return Ok(());
    };
    if installed(START).is_none() || installed("libc.a").is_none() {
        return Ok(());
    }
    let write = |library: &str, text: &str| {
        fs::write(Path::new(&scripts).join(format!("lib{library}.so")), text)
    };
    // The unwinder and the C library need each other.
    write("gcc_s", "GROUP(-lgcc_eh -lgcc)\n")?;
    for library in LIBC {
        if let Some(archive) = installed(&format!("lib{library}.a")) {
            write(library, &format!("GROUP(\"{archive}\" -lgcc_eh -lgcc)\n"))?;
        }
    }
    link_arg(&format!("-L{scripts}"));
    link_arg("-static-pie");
    // What is not there is not looked for at run time: there is nobody to do it.
    link_arg("-Wl,-z,nodynamic-undefined-weak");
    for function in WEAK {
        link_arg(&format!("-Wl,-u,{function}"));
    }
    Ok(())
}

fn link_arg(argument: &str) {
    println!("cargo::rustc-link-arg-bins={argument}");
}

/// Where the compiler that links has a file, if it does.
fn installed(name: &str) -> Option<String> {
    let linker = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let output = Command::new(linker)
        .arg(format!("-print-file-name={name}"))
        .output()
        .ok()?;
    let path = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    // It repeats the name of what it does not have.
    Path::new(&path).is_absolute().then_some(path)
}
