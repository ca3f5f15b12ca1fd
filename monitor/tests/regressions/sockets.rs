//! Bugs of the field around a control socket's file: who may open it, and what is removed for it.

use crate::support::{PATIENCE, Scratch};
use monitor::{Error, MonitorSocket};
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

// CVE-2013-2007 (qemu-ga under umask 0), CVE-2019-10132 and CVE-2020-15708 (libvirt): control
// sockets that anybody could connect to.
#[test]
fn a_control_socket_is_open_to_other_users() {
    let scratch = Scratch::new();
    let path = scratch.path("private.sock");
    let socket = MonitorSocket::bind(&path).expect("a socket");
    let mode = fs::metadata(socket.path())
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

// The same under the widest and the usual umask. The umask belongs to the process, so a child sets
// it and this program is run again for the test above.
#[test]
fn a_control_socket_obeys_the_umask_instead() {
    let program = std::env::current_exe().expect("this program");
    for umask in ["000", "022"] {
        let status = std::process::Command::new("sh")
            .args(["-c", "umask \"$0\" && exec \"$@\"", umask])
            .arg(&program)
            .args([
                "--exact",
                "sockets::a_control_socket_is_open_to_other_users",
            ])
            .stdout(std::process::Stdio::null())
            .status()
            .expect("a shell");
        assert!(status.success(), "with umask {umask}");
    }
}

// QEMU unlinks whatever has the socket's name before it binds; CVE-2026-1386 (Firecracker's jailer)
// followed a symbolic link in such a place.
#[test]
fn a_foreign_file_is_removed_to_make_room_for_the_socket() {
    let scratch = Scratch::new();
    let (file, link, gone) = (
        scratch.path("file"),
        scratch.path("link"),
        scratch.path("gone"),
    );
    fs::write(&file, "precious").expect("a file");
    symlink(&file, &link).expect("a link");
    symlink(scratch.path("nowhere"), &gone).expect("a dangling link");
    for path in [&file, &link, &gone] {
        let error = MonitorSocket::bind(path).expect_err("it is not ours");
        assert!(matches!(error, Error::NotASocket { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().expect("ASCII")));
    }
    assert_eq!(
        fs::read_to_string(&link).expect("it is still there"),
        "precious"
    );
    assert!(fs::symlink_metadata(&gone).is_ok());
}

#[test]
fn a_socket_in_use_is_taken_over() {
    let scratch = Scratch::new();
    let path = scratch.path("busy.sock");
    let listener = UnixListener::bind(&path).expect("a listener");
    let error = MonitorSocket::bind(&path).expect_err("somebody listens");
    assert!(matches!(error, Error::PathInUse { .. }), "{error}");
    UnixStream::connect(&path).expect("it still listens");
    drop(listener);
    // Now it is stale.
    let socket = MonitorSocket::bind(&path).expect("nobody listens");
    UnixStream::connect(socket.path()).expect("we listen");
}

#[test]
fn the_end_of_an_old_server_removes_the_socket_of_a_new_one() {
    let scratch = Scratch::new();
    let path = scratch.path("shared.sock");
    let old = MonitorSocket::bind(&path).expect("a socket");
    fs::remove_file(&path).expect("somebody cleans up");
    let new = MonitorSocket::bind(&path).expect("the path is free");
    drop(old);
    assert!(
        fs::metadata(&path)
            .expect("the new one's")
            .file_type()
            .is_socket()
    );
    drop(new);
    assert!(fs::metadata(&path).is_err(), "the last one cleans up");
    assert_eq!(
        fs::read_dir(scratch.path("")).expect("a directory").count(),
        0
    );
}

#[test]
fn a_path_that_cannot_work_is_reported_as_a_number() {
    let scratch = Scratch::new();
    let long = scratch.path(&"x".repeat(120));
    let cases = [
        (long, "too long: at most 107 bytes"),
        (
            scratch.path("missing/qmp.sock"),
            "its directory does not exist",
        ),
        (scratch.path(".."), "cannot name a socket"),
        ("/".into(), "cannot name a socket"),
        (scratch.path("qmp.sock/"), "cannot name a socket"),
    ];
    for (path, text) in cases {
        let error = MonitorSocket::bind(&path)
            .expect_err("it cannot work")
            .to_string();
        assert!(error.contains(text), "{error}");
    }
}

// The race behind CVE-2026-1386's class: between the look at the path and its removal, another
// process puts a file of its own there.
#[test]
fn a_file_swapped_in_at_the_wrong_moment_is_removed() {
    let scratch = Scratch::new();
    let path = scratch.path("target.sock");
    let (stale, precious) = (scratch.path("stale"), scratch.path("precious"));
    fs::write(&precious, "precious").expect("a file");
    let swaps = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            for swap in 1..=2_000 {
                // A stale socket, then the only name of the file, under the name of the socket.
                drop(UnixListener::bind(&stale).expect("a socket"));
                fs::rename(&stale, &path).expect("it is put there");
                for _ in 0..swap % 64 {
                    std::hint::spin_loop();
                }
                fs::rename(&precious, &path).expect("it is put there");
                // Taken aside for a look it may be, but not for long.
                let until = Instant::now() + PATIENCE;
                while fs::read(&path).is_err() || fs::rename(&path, &precious).is_err() {
                    assert!(Instant::now() < until, "the file is gone");
                }
                swaps.store(swap, Ordering::Relaxed);
            }
        });
        let (mut bound, mut refused) = (0, 0);
        while !swapper.is_finished() {
            match MonitorSocket::bind(&path) {
                Ok(_) => bound += 1,
                Err(Error::NotASocket { .. }) => refused += 1,
                Err(_) => {}
            }
        }
        assert!(bound > 0 && refused > 0, "{bound} bound, {refused} refused");
    });
    assert_eq!(swaps.into_inner(), 2_000);
    assert_eq!(
        fs::read_to_string(&precious).expect("it is still there"),
        "precious"
    );
}
