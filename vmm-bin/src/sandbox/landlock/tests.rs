//! What a restricted thread can still do. Each test restricts a thread of its own, and that ends.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;

use super::*;

/// A directory that is removed with everything in it.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("vmm-bin-landlock-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Whether this kernel has all of `wanted`; if not, says so.
fn has(test: &str, wanted: &[Restriction]) -> bool {
    let rules = Rules::new(Landlock::On, &Paths::default()).unwrap();
    let achieved = std::thread::spawn(move || rules.restrict_thread().unwrap());
    let achieved = achieved.join().unwrap();
    let has = wanted.iter().all(|it| achieved.restricts.contains(it));
    if !has {
        let line = format!("skipped: {test}: this kernel's Landlock is {achieved}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    has
}

/// What `attempt` gives on a thread to which `paths` are open.
fn restricted<T: Send>(paths: &Paths<'_>, attempt: impl FnOnce() -> T + Send) -> T {
    let rules = Rules::new(Landlock::On, paths).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            rules.restrict_thread().unwrap();
            attempt()
        });
        thread.join().unwrap()
    })
}

fn denied<T>(what: &str, result: std::io::Result<T>) {
    let kind = result.err().map(|error| error.kind());
    assert_eq!(kind, Some(ErrorKind::PermissionDenied), "{what}");
}

#[test]
fn files_are_removed_where_they_are_the_programs_and_nowhere_else() {
    if !has(
        "files_are_removed_where_they_are_the_programs_and_nowhere_else",
        &[Restriction::Files],
    ) {
        return;
    }
    let (own, foreign) = (Directory::new("own"), Directory::new("foreign"));
    let (socket, pidfile) = (own.0.join("socket"), own.0.join("pid"));
    let _listener = UnixListener::bind(&socket).unwrap();
    for path in [&pidfile, &foreign.0.join("pid")] {
        fs::write(path, "1").unwrap();
    }
    let mut paths = Paths::default();
    paths.allow_removal(&socket);
    paths.allow_removal(&pidfile);
    restricted(&paths, || {
        fs::rename(&socket, own.0.join("aside")).unwrap();
        fs::remove_file(own.0.join("aside")).unwrap();
        denied("read", fs::read(&pidfile));
        denied("write", fs::write(&pidfile, "2"));
        denied("make", File::create(own.0.join("new")));
        fs::remove_file(&pidfile).unwrap();
        denied("remove", fs::remove_file(foreign.0.join("pid")));
        denied(
            "rename",
            fs::rename(foreign.0.join("pid"), foreign.0.join("x")),
        );
        denied("make a directory", fs::create_dir(own.0.join("new")));
        denied("list", fs::read_dir(&own.0));
        denied("open a device", File::open("/dev/null"));
    });
    assert!(foreign.0.join("pid").exists());
}

#[test]
fn files_are_written_beneath_a_directory_that_is_allowed() {
    if !has(
        "files_are_written_beneath_a_directory_that_is_allowed",
        &[Restriction::Files],
    ) {
        return;
    }
    let (own, foreign) = (Directory::new("dumps"), Directory::new("others"));
    fs::create_dir(own.0.join("below")).unwrap();
    std::os::unix::fs::symlink(&foreign.0, own.0.join("out")).unwrap();
    let directory = File::open(&own.0).unwrap();
    let mut paths = Paths::default();
    paths.allow_beneath(directory.as_fd());
    restricted(&paths, || {
        for path in ["file", "below/file"] {
            let path = own.0.join(path);
            fs::write(&path, "1").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"1");
        }
        fs::remove_file(own.0.join("file")).unwrap();
        denied("leave it", fs::write(own.0.join("out/file"), "1"));
        denied("go up", fs::write(own.0.join("../others"), "1"));
    });
}

#[test]
fn what_is_open_stays_usable() {
    let own = Directory::new("open");
    let mut file = File::create(own.0.join("file")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    restricted(&Paths::default(), || {
        file.write_all(b"more").unwrap();
        file.set_len(2).unwrap();
        listener.accept().unwrap();
        // A vCPU is kicked this way: the other threads have other restrictions, or none.
        let process = rustix::process::getpid();
        rustix::process::test_kill_process(process).unwrap();
    });
    assert_eq!(fs::read(own.0.join("file")).unwrap(), b"mo");
}

#[test]
fn nobody_else_is_reached() {
    use Restriction::{AbstractSockets, Signals, Tcp};
    if !has("nobody_else_is_reached", &[AbstractSockets, Signals, Tcp]) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = format!("vmm-bin-landlock-{}", std::process::id());
    let name = SocketAddr::from_abstract_name(name).unwrap();
    let _abstract = UnixListener::bind_addr(&name).unwrap();
    restricted(&Paths::default(), || {
        denied(
            "connect",
            TcpStream::connect(listener.local_addr().unwrap()),
        );
        denied("bind", TcpListener::bind("127.0.0.1:0"));
        denied("an abstract socket", UnixStream::connect_addr(&name));
        let parent = rustix::process::getppid().unwrap();
        let signalled = rustix::process::test_kill_process(parent);
        assert_eq!(signalled, Err(rustix::io::Errno::PERM));
    });
}

#[test]
fn each_kernel_restricts_what_it_knows() {
    use Restriction::*;
    for (abi, signals, expected) in [
        (ABI::Unsupported, false, &[][..]),
        (ABI::V1, false, &[Files]),
        (ABI::V2, false, &[Files]),
        (ABI::V4, false, &[Files, Truncation, Tcp]),
        (
            ABI::V6,
            false,
            &[Files, Truncation, Tcp, DeviceRequests, AbstractSockets],
        ),
    ] {
        assert_eq!(restrictions(abi, signals), expected, "{abi:?}");
    }
    assert_eq!(restrictions(NEWEST, true).len(), SINCE.len());
}

#[test]
fn what_is_required_and_missing_is_named_with_what_would_do() {
    let of = |abi, signals| Achieved {
        abi: abi as i32,
        restricts: restrictions(abi, signals),
    };
    check(Landlock::Required, &of(ABI::V7, true)).unwrap();
    check(Landlock::Required, &of(NEWEST, true)).unwrap();
    for (achieved, parts) in [
        (
            of(ABI::V2, false),
            &["(ABI 2)", "restrict truncation, TCP"][..],
        ),
        (of(ABI::V6, false), &["(ABI 6)", "restrict signals;"]),
        (of(ABI::Unsupported, false), &["(none)", "restrict files"]),
    ] {
        check(Landlock::On, &achieved).unwrap();
        check(Landlock::Off, &achieved).unwrap();
        let text = check(Landlock::Required, &achieved)
            .unwrap_err()
            .to_string();
        for part in ["--landlock required: ", "6.15", "--landlock on"]
            .iter()
            .chain(parts)
        {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }
}

#[test]
fn a_directory_that_has_gone_is_named() {
    let mut paths = Paths::default();
    paths.allow_removal(Path::new("/nonexistent/socket"));
    match Rules::new(Landlock::On, &paths) {
        Err(error) => {
            let text = error.to_string();
            for part in ["/nonexistent", "--landlock off"] {
                assert!(text.contains(part), "{text:?} lacks {part:?}");
            }
        }
        Ok(rules) => panic!("{rules:?}"),
    }
}
